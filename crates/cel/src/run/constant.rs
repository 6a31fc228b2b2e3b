//! What is known before an expression is evaluated, and then costs nothing.

use super::plan::{CallPlan, Plan};
use crate::error::EvalError;
use crate::value::{Key, List, Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The functions that are evaluated at once if their argument is constant.
const CONVERSIONS: [&str; 10] =
    ["bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"];

/// A conversion of a constant.
pub(super) fn fold_conversion(call: &CallPlan) -> Result<Option<Plan>, EvalError> {
    let [Plan::Constant(arg)] = &*call.args else { return Ok(None) };
    if !CONVERSIONS.contains(&call.function.as_str()) {
        return Ok(None);
    }
    let args = std::slice::from_ref(arg);
    match call.overloads.iter().find(|o| o.takes(args)) {
        Some(overload) => (overload.call)(args).map(|value| Some(Plan::Constant(value))),
        None => Ok(None),
    }
}

/// The constants among which `in` looks; the inner none if there are none at all, the outer none if they are not all
/// simple.
pub(super) fn membership(call: &CallPlan) -> Option<Option<Vec<Value<'static>>>> {
    let [_, Plan::Constant(Value::List(List::Values(values)))] = &*call.args else { return None };
    if values.is_empty() {
        return Some(None);
    }
    let simple = |v: &Value<'_>| {
        matches!(v, Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::String(_))
    };
    values.iter().all(simple).then(|| Some(values.to_vec()))
}

/// A map literal; constant if all in it is.
pub(super) fn map(entries: Vec<(Plan, Plan, bool)>) -> Result<Plan, EvalError> {
    let mut constants = BTreeMap::new();
    for entry in &entries {
        let (Plan::Constant(key), Plan::Constant(value), false) = entry else { return Ok(Plan::Map(entries)) };
        constants.insert(key_of(key)?, value.clone());
    }
    Ok(Plan::Constant(Value::Map(Map::Values(Arc::new(constants)))))
}

/// The value as a key of a map literal.
pub(super) fn key_of<'a>(value: &Value<'a>) -> Result<Key<'a>, EvalError> {
    match value {
        Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::String(_) => {
            Key::lookup(value).ok_or_else(EvalError::no_such_overload)
        }
        other => Err(EvalError::new(format!("unsupported key type: {}", other.type_of().name()))),
    }
}
