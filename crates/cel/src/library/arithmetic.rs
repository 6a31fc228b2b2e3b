//! `+`, `-`, `*`, `/`, `%`: nothing wraps around.

use super::{Result, fail, list_of, mismatch};
use crate::decl::Functions;
use crate::error::EvalError;
use crate::syntax::ast::operator;
use crate::types::Type;
use crate::value::{List, ListType, Schema, Value};
use std::sync::Arc;

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bytes, Double, Duration, Int, String, Timestamp, Uint};
    for (id, a, b, result) in [
        ("add_bytes", Bytes, Bytes, Bytes),
        ("add_double", Double, Double, Double),
        ("add_duration_duration", Duration, Duration, Duration),
        ("add_duration_timestamp", Duration, Timestamp, Timestamp),
        ("add_timestamp_duration", Timestamp, Duration, Timestamp),
        ("add_int64", Int, Int, Int),
        ("add_list", list_of("A"), list_of("A"), list_of("A")),
        ("add_string", String, String, String),
        ("add_uint64", Uint, Uint, Uint),
    ] {
        f.global(operator::ADD, id, [a, b], result, add);
    }
    for (id, a, b, result) in [
        ("subtract_double", Double, Double, Double),
        ("subtract_duration_duration", Duration, Duration, Duration),
        ("subtract_int64", Int, Int, Int),
        ("subtract_timestamp_duration", Timestamp, Duration, Timestamp),
        ("subtract_timestamp_timestamp", Timestamp, Timestamp, Duration),
        ("subtract_uint64", Uint, Uint, Uint),
    ] {
        f.global(operator::SUBTRACT, id, [a, b], result, subtract);
    }
    for (id, t) in [("multiply_double", Double), ("multiply_int64", Int), ("multiply_uint64", Uint)] {
        f.global(operator::MULTIPLY, id, [t.clone(), t.clone()], t, multiply);
    }
    for (id, t) in [("divide_double", Double), ("divide_int64", Int), ("divide_uint64", Uint)] {
        f.global(operator::DIVIDE, id, [t.clone(), t.clone()], t, divide);
    }
    for (id, t) in [("modulo_int64", Int), ("modulo_uint64", Uint)] {
        f.global(operator::MODULO, id, [t.clone(), t.clone()], t, modulo);
    }
    for (id, t) in [("negate_double", Double), ("negate_int64", Int)] {
        f.global(operator::NEGATE, id, [t.clone()], t, negate);
    }
}

const INT: &str = "integer overflow";
const UINT: &str = "unsigned integer overflow";
const DURATION: &str = "duration overflow";
const TIMESTAMP: &str = "timestamp overflow";

/// The number, or that it does not fit.
fn fits<'a, T>(number: Option<T>, wrap: fn(T) -> Value<'a>, overflow: &'static str) -> Result<'a> {
    number.map(wrap).ok_or(EvalError::new(overflow))
}

pub(super) fn add<'a>(args: &[Value<'a>]) -> Result<'a> {
    use Value::{Bytes, Double, Duration, Int, String, Timestamp, Uint};
    match args {
        [Int(a), Int(b)] => fits(a.checked_add(*b), Int, INT),
        [Uint(a), Uint(b)] => fits(a.checked_add(*b), Uint, UINT),
        [Double(a), Double(b)] => Ok(Double(a + b)),
        [String(a), String(b)] => Ok(Value::text([&**a, &**b].concat())),
        [Bytes(a), Bytes(b)] => Ok(Value::bytes([&**a, &**b].concat())),
        [Duration(a), Duration(b)] => fits(a.checked_add(*b), Duration, DURATION),
        [Duration(d), Timestamp(t)] | [Timestamp(t), Duration(d)] => fits(t.plus(*d), Timestamp, TIMESTAMP),
        [Value::List(a), Value::List(b)] => lists(a, b),
        _ => mismatch(),
    }
}

fn lists<'a>(a: &List<'a>, b: &List<'a>) -> Result<'a> {
    match a.schema() {
        Some(schema) => typed_lists(a, b, schema),
        None => {
            let mut items = a.values()?;
            items.extend(b.values()?);
            Ok(Value::list(items))
        }
    }
}

/// Lists of the type `set` stay sets; in lists of the type `map`, what has the same keys is replaced.
fn typed_lists<'a>(a: &List<'a>, b: &List<'a>, schema: &'a dyn Schema) -> Result<'a> {
    let mut items = a.values()?;
    for item in b.iter() {
        let item = item?;
        match schema.list_type() {
            ListType::Atomic => items.push(item),
            ListType::Set => {
                if !crate::value::contains(&items, &item)? {
                    items.push(item);
                }
            }
            ListType::Map => match crate::value::same_keys(&items, &item, &schema.list_map_keys())? {
                Some(at) => items[at] = item,
                None => items.push(item),
            },
        }
    }
    Ok(Value::List(List::Sum(Arc::new(items), schema)))
}

fn subtract<'a>(args: &[Value<'a>]) -> Result<'a> {
    use Value::{Double, Duration, Int, Timestamp, Uint};
    match args {
        [Int(a), Int(b)] => fits(a.checked_sub(*b), Int, INT),
        [Uint(a), Uint(b)] => fits(a.checked_sub(*b), Uint, UINT),
        [Double(a), Double(b)] => Ok(Double(a - b)),
        [Duration(a), Duration(b)] => fits(a.checked_sub(*b), Duration, DURATION),
        [Timestamp(t), Duration(d)] => fits(t.minus(*d), Timestamp, TIMESTAMP),
        [Timestamp(a), Timestamp(b)] => fits(a.since(*b), Duration, DURATION),
        _ => mismatch(),
    }
}

fn multiply<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => fits(a.checked_mul(*b), Value::Int, INT),
        [Value::Uint(a), Value::Uint(b)] => fits(a.checked_mul(*b), Value::Uint, UINT),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        _ => mismatch(),
    }
}

fn divide<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => fail("division by zero"),
        [Value::Int(a), Value::Int(b)] => fits(a.checked_div(*b), Value::Int, INT),
        [Value::Uint(a), Value::Uint(b)] => fits(a.checked_div(*b), Value::Uint, UINT),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        _ => mismatch(),
    }
}

fn modulo<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => fail("modulus by zero"),
        [Value::Int(a), Value::Int(b)] => fits(a.checked_rem(*b), Value::Int, INT),
        [Value::Uint(a), Value::Uint(b)] => fits(a.checked_rem(*b), Value::Uint, UINT),
        _ => mismatch(),
    }
}

fn negate<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(n)] => fits(n.checked_neg(), Value::Int, INT),
        [Value::Double(n)] => Ok(Value::Double(-n)),
        _ => mismatch(),
    }
}
