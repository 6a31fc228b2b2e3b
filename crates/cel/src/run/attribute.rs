//! Reading from a place: a variable and the fields, keys and indices that lead from it.

use super::eval::{Evaluation, Result};
use super::plan::{Attribute, Qualifier, QualifierKey, Root};
use crate::error::EvalError;
use crate::value::{List, Value};

impl<'a> Evaluation<'a, '_, '_> {
    /// The value at a place, and its price: what the steps cost, and one for the place itself unless the choice between
    /// two places has been paid already, or nothing but a presence has been asked for.
    pub(super) fn attribute(&mut self, attribute: &'a Attribute) -> Result<'a> {
        let value = self.resolve(attribute);
        let free = attribute.test || matches!(attribute.root, Root::Conditional(..));
        if !free && !matches!(&value, Err(error) if error.is_final()) {
            self.budget.charge(1)?;
        }
        match value? {
            Value::Optional(value) if attribute.test => Ok(Value::Bool(value.is_some())),
            value => Ok(value),
        }
    }

    fn resolve(&mut self, attribute: &'a Attribute) -> Result<'a> {
        let value = match &attribute.root {
            Root::Slot(slot) => self.read_slot(*slot)?,
            Root::Variable(name) => {
                if let Some(found) = self.lazy_field(name, attribute) {
                    return found;
                }
                self.activation
                    .variable(name)?
                    .ok_or_else(|| EvalError::new(format!("no such attribute(s): {name}")))?
            }
            Root::Plan(plan) => self.eval(plan)?,
            Root::Conditional(condition, branches) => match self.eval(condition)? {
                Value::Bool(true) => self.resolve(&branches[0])?,
                Value::Bool(false) => self.resolve(&branches[1])?,
                _ => return Err(EvalError::no_such_overload()),
            },
        };
        if attribute.way.is_empty() {
            return Ok(value);
        }
        match value {
            Value::Optional(Some(inner)) => self.walk((*inner).clone(), attribute, 0, true),
            Value::Optional(None) => Ok(value),
            value => self.walk(value, attribute, 0, false),
        }
    }

    /// The way from a field that is made only now, if it is one.
    fn lazy_field(&mut self, variable: &str, attribute: &'a Attribute) -> Option<Result<'a>> {
        let Some(Qualifier { key: QualifierKey::Constant(key @ Value::String(field)), optional }) =
            attribute.way.first()
        else {
            return None;
        };
        let found = self.activation.lazy_field(variable, field)?;
        let test = attribute.test && attribute.way.len() == 1;
        Some(found.and_then(|found| {
            self.budget.charge(1)?;
            match found {
                Some(_) if test => Ok(Value::Bool(true)),
                None if test => Ok(Value::Bool(false)),
                Some(value) => self.walk(value, attribute, 1, *optional),
                None if *optional => Ok(Value::Optional(None)),
                None => Err(missing(key)),
            }
        }))
    }

    /// Goes an attribute's way from one of its steps on.
    fn walk(&mut self, mut value: Value<'a>, attribute: &'a Attribute, from: usize, mut optional: bool) -> Result<'a> {
        let last = attribute.way.len() - 1;
        for (n, qualifier) in attribute.way.iter().enumerate().skip(from) {
            optional |= qualifier.optional;
            let test = attribute.test && n == last;
            match self.step(&value, qualifier, optional, test)? {
                Some(next) => value = next,
                None if test && !optional => return Ok(Value::Bool(false)),
                None => return Ok(Value::Optional(None)),
            }
            if test && !optional {
                return Ok(Value::Bool(true));
            }
        }
        Ok(if optional { Value::some(value) } else { value })
    }

    /// One step; none if there may be nothing and there is nothing.
    fn step(
        &mut self,
        value: &Value<'a>,
        qualifier: &'a Qualifier,
        optional: bool,
        test: bool,
    ) -> std::result::Result<Option<Value<'a>>, EvalError> {
        let found = match &qualifier.key {
            QualifierKey::Constant(key) => find(value, key, optional || test),
            QualifierKey::Attribute(attribute) => {
                self.resolve(attribute).and_then(|key| find(value, &key, optional || test))
            }
        };
        if !matches!(&found, Err(error) if error.is_final()) && (!optional || matches!(found, Ok(Some(_)))) {
            self.budget.charge(1)?;
        }
        found
    }
}

/// What a value holds under a key.
fn find<'a>(
    value: &Value<'a>,
    key: &Value<'a>,
    may_be_absent: bool,
) -> std::result::Result<Option<Value<'a>>, EvalError> {
    let found = match (value, key) {
        (Value::Map(map), Value::String(name)) => map.field(name)?,
        (Value::Map(map), _) => map.get(key)?,
        (Value::List(list), _) => return item(list, key, may_be_absent),
        (Value::Struct(object), Value::String(name)) => object.fields.get(&**name).cloned(),
        _ => None,
    };
    match found {
        Some(value) => Ok(Some(value)),
        None if may_be_absent => Ok(None),
        None => Err(missing(key)),
    }
}

fn missing(key: &Value<'_>) -> EvalError {
    EvalError::new(format!("no such key: {key}"))
}

fn item<'a>(
    list: &List<'a>,
    key: &Value<'a>,
    may_be_absent: bool,
) -> std::result::Result<Option<Value<'a>>, EvalError> {
    let index = match key {
        Value::Int(n) => usize::try_from(*n).ok(),
        Value::Uint(n) => usize::try_from(*n).ok(),
        Value::Double(d) if d.trunc() == *d => usize::try_from(*d as i64).ok(),
        other => {
            let t = other.type_of();
            return Err(EvalError::new(format!("unsupported index type '{}' in list", t.name())));
        }
    };
    match index.and_then(|index| list.get(index)) {
        Some(value) => value.map(Some),
        None if may_be_absent => Ok(None),
        None => Err(EvalError::new(format!("index out of bounds: {key}"))),
    }
}
