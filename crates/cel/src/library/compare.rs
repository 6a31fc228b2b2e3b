//! Logic and comparison.

use super::{Result, mismatch, param};
use crate::decl::Functions;
use crate::syntax::ast::operator;
use crate::types::Type;
use crate::value::{Value, order};
use std::cmp::Ordering;

pub(super) fn declare(f: &mut Functions) {
    use Type::Bool;
    // These are evaluated otherwise than by calling: not all of their arguments are always wanted.
    f.global(operator::CONDITIONAL, "conditional", [Bool, param("A"), param("A")], param("A"), |_| mismatch());
    f.global(operator::AND, "logical_and", [Bool, Bool], Bool, |_| mismatch());
    f.global(operator::OR, "logical_or", [Bool, Bool], Bool, |_| mismatch());
    f.global(operator::NOT_STRICTLY_FALSE, "not_strictly_false", [Bool], Bool, |_| mismatch());
    f.global(operator::NOT, "logical_not", [Bool], Bool, |args| match args {
        [Value::Bool(b)] => Ok(Value::Bool(!b)),
        _ => mismatch(),
    });
    f.global(operator::EQUALS, "equals", [param("A"), param("A")], Bool, |_| mismatch());
    f.global(operator::NOT_EQUALS, "not_equals", [param("A"), param("A")], Bool, |_| mismatch());
    orders(f, operator::LESS, "less", |args| compare(args, Ordering::is_lt));
    orders(f, operator::LESS_EQUALS, "less_equals", |args| compare(args, Ordering::is_le));
    orders(f, operator::GREATER, "greater", |args| compare(args, Ordering::is_gt));
    orders(f, operator::GREATER_EQUALS, "greater_equals", |args| compare(args, Ordering::is_ge));
}

fn orders(f: &mut Functions, function: &'static str, id: &str, call: crate::decl::Implementation) {
    let names = |t: &Type| match t {
        Type::Int => "int64",
        Type::Uint => "uint64",
        Type::Double => "double",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Timestamp => "timestamp",
        Type::Duration => "duration",
        _ => "bool",
    };
    let numbers = [Type::Int, Type::Uint, Type::Double];
    f.global(function, format!("{id}_bool"), [Type::Bool, Type::Bool], Type::Bool, call);
    for a in &numbers {
        f.global(function, format!("{id}_{}", names(a)), [a.clone(), a.clone()], Type::Bool, call);
        for b in numbers.iter().filter(|b| *b != a) {
            f.global(function, format!("{id}_{}_{}", names(a), names(b)), [a.clone(), b.clone()], Type::Bool, call);
        }
    }
    for t in [Type::String, Type::Bytes, Type::Timestamp, Type::Duration] {
        f.global(function, format!("{id}_{}", names(&t)), [t.clone(), t], Type::Bool, call);
    }
}

fn compare<'a>(args: &[Value<'a>], holds: fn(Ordering) -> bool) -> Result<'a> {
    let [a, b] = args else { return mismatch() };
    match order::compare(a, b) {
        Some(Some(order)) => Ok(Value::Bool(holds(order))),
        // What is no number is neither less nor greater.
        Some(None) => super::fail("NaN values cannot be ordered"),
        None => mismatch(),
    }
}
