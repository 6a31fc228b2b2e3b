//! Evaluation.

use super::budget::{Activation, Budget};
use super::constant::key_of;
use super::plan::{CallPlan, FoldPlan, Plan};
use crate::cost::{self, Price};
use crate::decl::Overload;
use crate::error::EvalError;
use crate::types::joined;
use crate::value::{List, Map, Struct, Value};
use regex::Regex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an evaluation gives.
pub(super) type Result<'a> = std::result::Result<Value<'a>, EvalError>;

/// Evaluates a plan that needs so many slots.
pub(crate) fn evaluate<'a>(
    plan: &'a Plan,
    slots: usize,
    activation: &'a dyn Activation,
    budget: &mut Budget<'_>,
) -> Result<'a> {
    let slots = (0..slots).map(|_| Slot::Value(Ok(Value::Null))).collect();
    Evaluation { activation, budget, slots }.eval(plan)
}

/// A variable of a comprehension.
pub(super) enum Slot<'a> {
    Value(Result<'a>),
    /// It is evaluated when it is used.
    Later(&'a Plan),
}

pub(super) struct Evaluation<'a, 'b, 'c> {
    pub(super) activation: &'a dyn Activation,
    pub(super) budget: &'b mut Budget<'c>,
    slots: Vec<Slot<'a>>,
}

impl<'a> Evaluation<'a, '_, '_> {
    pub(super) fn eval(&mut self, plan: &'a Plan) -> Result<'a> {
        match plan {
            Plan::Constant(value) => Ok(value.clone()),
            Plan::Attribute(attribute) => self.attribute(attribute),
            Plan::And(sides) => self.logical(sides, false),
            Plan::Or(sides) => self.logical(sides, true),
            Plan::Equals { sides, negated, price } => self.equals(sides, *negated, price),
            Plan::NotStrictlyFalse(arg) => self.not_strictly_false(arg),
            Plan::Among { wanted, values } => {
                let wanted = self.eval(wanted)?;
                for value in values {
                    if value.equals(&wanted)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            Plan::Call(call) => self.call(call, None),
            Plan::Pattern { call, pattern } => self.call(call, Some(pattern)),
            Plan::OptionalOr { sides, unwraps } => {
                let [first, second] = &**sides;
                match self.eval(first)? {
                    Value::Optional(None) => self.eval(second),
                    Value::Optional(Some(value)) if *unwraps => Ok((*value).clone()),
                    other => Ok(other),
                }
            }
            Plan::List(elements) => self.list(elements),
            Plan::Map(entries) => self.map(entries),
            Plan::Struct { name, fields } => self.message(name, fields),
            Plan::Append { slot, element, price } => self.append(*slot, element, *price),
            Plan::Fold(fold) => self.fold(fold),
            Plan::Bind { slot, value, body } => {
                self.slots[*slot] = Slot::Later(value);
                self.eval(body)
            }
        }
    }

    /// `&&` and `||`: one side can settle the result, whatever the other is.
    fn logical(&mut self, sides: &'a [Plan; 2], settles: bool) -> Result<'a> {
        let mut error = None;
        for side in sides {
            match self.eval(side) {
                Ok(Value::Bool(b)) if b == settles => return Ok(Value::Bool(settles)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => error = error.or_else(|| Some(EvalError::no_such_overload())),
                Err(other) if other.is_final() => return Err(other),
                Err(other) => error = error.or(Some(other)),
            }
        }
        error.map_or(Ok(Value::Bool(!settles)), Err)
    }

    fn not_strictly_false(&mut self, arg: &'a Plan) -> Result<'a> {
        let value = self.eval(arg);
        self.budget.charge(1)?;
        match value {
            Ok(Value::Bool(b)) => Ok(Value::Bool(b)),
            Err(error) if error.is_final() => Err(error),
            _ => Ok(Value::Bool(true)),
        }
    }

    fn equals(&mut self, sides: &'a [Plan; 2], negated: bool, price: &Price) -> Result<'a> {
        let (args, error) = self.both(&sides[0], &sides[1])?;
        self.budget.charge(price.cost(&args, None))?;
        match error {
            Some(error) => Err(error),
            None => Ok(Value::Bool(args[0].equals(&args[1])? != negated)),
        }
    }

    /// The values of two plans, the second whatever becomes of the first, and the first error.
    fn both(
        &mut self,
        a: &'a Plan,
        b: &'a Plan,
    ) -> std::result::Result<([Value<'a>; 2], Option<EvalError>), EvalError> {
        let mut error = None;
        let a = or_error(self.eval(a), &mut error)?;
        let b = or_error(self.eval(b), &mut error)?;
        Ok(([a, b], error))
    }

    fn call(&mut self, call: &'a CallPlan, pattern: Option<&Regex>) -> Result<'a> {
        match &*call.args {
            [a] => {
                let mut error = None;
                let args = [or_error(self.eval(a), &mut error)?];
                self.pay_and_apply(call, &args, error, pattern)
            }
            [a, b] => {
                let (args, error) = self.both(a, b)?;
                self.pay_and_apply(call, &args, error, pattern)
            }
            plans => {
                let mut args = Vec::with_capacity(plans.len());
                let mut error = None;
                for plan in plans {
                    args.push(or_error(self.eval(plan), &mut error)?);
                    // What comes after a failed argument is not evaluated, and the call costs nothing then.
                    if args.len() < plans.len()
                        && let Some(error) = error
                    {
                        return Err(error);
                    }
                }
                self.pay_and_apply(call, &args, error, pattern)
            }
        }
    }

    fn pay_and_apply(
        &mut self,
        call: &CallPlan,
        args: &[Value<'a>],
        error: Option<EvalError>,
        pattern: Option<&Regex>,
    ) -> Result<'a> {
        // What can be paid beforehand is: nobody waits for what is too expensive.
        if call.price.is_known_before() {
            self.budget.charge(call.price.cost(args, None))?;
        }
        let result = match error {
            Some(error) => Err(error),
            None => apply(call, args, pattern),
        };
        if !call.price.is_known_before() {
            self.budget.charge(call.price.cost(args, result.as_ref().ok()))?;
        }
        result
    }

    fn list(&mut self, elements: &'a [(Plan, bool)]) -> Result<'a> {
        let mut values = Vec::with_capacity(elements.len());
        for (plan, optional) in elements {
            let value = self.eval(plan)?;
            match value {
                Value::Optional(inner) if *optional => values.extend(inner.map(|value| (*value).clone())),
                other if *optional => {
                    return Err(EvalError::new(format!(
                        "cannot initialize optional list element from non-optional value {other}"
                    )));
                }
                other => values.push(other),
            }
        }
        self.budget.charge(cost::LIST)?;
        Ok(Value::list(values))
    }

    fn map(&mut self, entries: &'a [(Plan, Plan, bool)]) -> Result<'a> {
        let mut map = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = self.eval(key)?;
            let value = self.eval(value)?;
            match (entry(*optional, &key, value)?, key_of(&key)?) {
                (Some(value), key) => map.insert(key, value),
                (None, key) => map.remove(&key),
            };
        }
        self.budget.charge(cost::MAP)?;
        Ok(Value::Map(Map::Values(Arc::new(map))))
    }

    fn message(&mut self, name: &Arc<str>, fields: &'a [(String, Plan, bool)]) -> Result<'a> {
        let mut set = BTreeMap::new();
        for (field, plan, optional) in fields {
            let value = self.eval(plan)?;
            match entry(*optional, &Value::str(field), value)? {
                Some(value) => set.insert(field.clone(), value),
                None => set.remove(field),
            };
        }
        self.budget.charge(cost::STRUCT)?;
        Ok(Value::Struct(Arc::new(Struct { name: name.clone(), fields: set })))
    }

    fn append(&mut self, slot: usize, element: &'a Plan, price: u64) -> Result<'a> {
        let list = self.read_slot(slot);
        // The list is taken out, so that nobody else holds it and it can grow where it is.
        self.slots[slot] = Slot::Value(Ok(Value::Null));
        let element = unless_final(self.eval(element))?;
        self.budget.charge(price)?;
        match (list?, element?) {
            (Value::List(List::Values(mut items)), element) => {
                Arc::make_mut(&mut items).push(element);
                Ok(Value::List(List::Values(items)))
            }
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// The value of a comprehension's variable.
    pub(super) fn read_slot(&mut self, slot: usize) -> Result<'a> {
        match &self.slots[slot] {
            Slot::Value(value) => value.clone(),
            Slot::Later(plan) => {
                let value = self.eval(plan);
                self.slots[slot] = Slot::Value(value.clone());
                value
            }
        }
    }

    fn fold(&mut self, fold: &'a FoldPlan) -> Result<'a> {
        let range = self.eval(&fold.range)?;
        let init = unless_final(self.eval(&fold.init))?;
        self.slots[fold.accumulator] = Slot::Value(init);
        match range {
            Value::List(list) => {
                for (index, item) in list.iter().enumerate() {
                    let (first, second) = match fold.var2 {
                        Some(_) => (Ok(Value::Int(index as i64)), Some(item)),
                        None => (item, None),
                    };
                    if !self.round(fold, first, second)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let second = fold.var2.map(|_| match map.get(&key) {
                        Ok(Some(value)) => Ok(value),
                        Ok(None) => Err(EvalError::new(format!("no such key: {key}"))),
                        Err(error) => Err(error),
                    });
                    if !self.round(fold, Ok(key), second)? {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::no_such_overload()),
        }
        self.eval(&fold.result)
    }

    /// One element; whether there may be more.
    fn round(
        &mut self,
        fold: &'a FoldPlan,
        first: Result<'a>,
        second: Option<Result<'a>>,
    ) -> std::result::Result<bool, EvalError> {
        self.slots[fold.var] = Slot::Value(first);
        if let (Some(slot), Some(second)) = (fold.var2, second) {
            self.slots[slot] = Slot::Value(second);
        }
        match self.eval(&fold.condition) {
            Ok(Value::Bool(false)) => return Ok(false),
            Err(error) if error.is_final() => return Err(error),
            _ => {}
        }
        let step = unless_final(self.eval(&fold.step))?;
        self.slots[fold.accumulator] = Slot::Value(step);
        self.budget.round()?;
        Ok(true)
    }
}

/// Splits errors that end the evaluation from those that are as good as values.
fn unless_final<'a>(result: Result<'a>) -> std::result::Result<Result<'a>, EvalError> {
    match result {
        Err(error) if error.is_final() => Err(error),
        other => Ok(other),
    }
}

/// The value, or `null` in its place and the error beside it.
fn or_error<'a>(result: Result<'a>, error: &mut Option<EvalError>) -> Result<'a> {
    match result {
        Ok(value) => Ok(value),
        Err(other) if other.is_final() => Err(other),
        Err(other) => {
            error.get_or_insert(other);
            Ok(Value::Null)
        }
    }
}

/// What an entry holds; none if it is optional and absent.
fn entry<'a>(optional: bool, key: &Value<'a>, value: Value<'a>) -> std::result::Result<Option<Value<'a>>, EvalError> {
    match value {
        Value::Optional(inner) if optional => Ok(inner.map(|value| (*value).clone())),
        other if optional => {
            Err(EvalError::new(format!("cannot initialize optional entry '{key}' from non-optional value {other}")))
        }
        other => Ok(Some(other)),
    }
}

fn apply<'a>(call: &CallPlan, args: &[Value<'a>], pattern: Option<&Regex>) -> Result<'a> {
    let overload = call.overloads.iter().find(|o| o.takes(args));
    let Some(overload) = overload else { return Err(no_such_overload(&call.function, &call.overloads, args)) };
    match pattern {
        Some(pattern) => crate::library::with_pattern(&call.function, pattern, args),
        None => (overload.call)(args),
    }
}

fn no_such_overload(function: &str, overloads: &[Arc<Overload>], args: &[Value<'_>]) -> EvalError {
    if overloads.is_empty() {
        return EvalError::no_such_overload();
    }
    let types: Vec<_> = args.iter().map(|arg| crate::types::Type::opaque(arg.type_of().name())).collect();
    EvalError::new(format!("no such overload: {function}({})", joined(&types)))
}
