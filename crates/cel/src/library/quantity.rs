//! Quantities: `quantity('1Gi').isGreaterThan(quantity('1M'))`.

use super::{Result, fail, mismatch};
use crate::decl::{Functions, Implementation};
use crate::types::Type;
use crate::value::{Opaque, Value};
use std::any::Any;
use std::cmp::Ordering;
use trireme_schema::Quantity;
use trireme_schema::quantity::Format;

/// The name of the type.
pub(super) const NAME: &str = "kubernetes.Quantity";

impl Opaque for Quantity {
    fn type_name(&self) -> &'static str {
        NAME
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }
}

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, Double, Int, String};
    let t = || Type::object(NAME);
    f.global("quantity", "string_to_quantity", [String], t(), |args| match args {
        [Value::String(text)] => {
            text.parse::<Quantity>().map_or_else(|e| fail(e.to_string()), |q| Ok(Value::opaque(q)))
        }
        _ => mismatch(),
    });
    f.global("isQuantity", "is_quantity_string", [String], Bool, |args| match args {
        [Value::String(text)] => Ok(Value::Bool(text.parse::<Quantity>().is_ok())),
        _ => mismatch(),
    });
    f.global("sign", "quantity_sign", [t()], Int, |args| {
        with(args, |q| {
            Ok(Value::Int(if q.is_zero() {
                0
            } else if q.is_negative() {
                -1
            } else {
                1
            }))
        })
    });
    f.method("asApproximateFloat", "quantity_get_float", [t()], Double, |args| {
        with(args, |q| Ok(Value::Double(q.as_f64())))
    });
    f.method("isInteger", "quantity_is_integer", [t()], Bool, |args| with(args, |q| Ok(Value::Bool(is_integer(q)))));
    f.method("asInteger", "quantity_get_int", [t()], Int, |args| {
        with(args, |q| if is_integer(q) { Ok(Value::Int(q.value())) } else { fail("cannot convert value to integer") })
    });
    let comparisons: [(&'static str, &'static str, Type, Implementation); 3] = [
        ("isGreaterThan", "quantity_is_greater_than", Bool, |args| compare(args, |o| Value::Bool(o.is_gt()))),
        ("isLessThan", "quantity_is_less_than", Bool, |args| compare(args, |o| Value::Bool(o.is_lt()))),
        ("compareTo", "quantity_compare_to", Int, |args| compare(args, |o| Value::Int(o as i64))),
    ];
    for (name, id, result, call) in comparisons {
        f.method(name, id, [t(), t()], result, call);
    }
    f.method("add", "quantity_add", [t(), t()], t(), |args| combine(args, Quantity::plus));
    f.method("add", "quantity_add_int", [t(), Int], t(), |args| combine(args, Quantity::plus));
    f.method("sub", "quantity_sub", [t(), t()], t(), |args| combine(args, Quantity::minus));
    f.method("sub", "quantity_sub_int", [t(), Int], t(), |args| combine(args, Quantity::minus));
}

/// Whether it is a whole number that fits. Binary amounts stop at the largest that does, others go beyond it.
fn is_integer(q: &Quantity) -> bool {
    q.is_whole() && (q.format() == Format::BinarySi || q.value() < i64::MAX && q.value() > -i64::MAX)
}

fn with<'a>(args: &[Value<'a>], of: fn(&Quantity) -> Result<'a>) -> Result<'a> {
    match args {
        [value] => value.as_opaque().map_or_else(mismatch, of),
        _ => mismatch(),
    }
}

fn compare<'a>(args: &[Value<'a>], of: fn(Ordering) -> Value<'a>) -> Result<'a> {
    match args {
        [a, b] => match (a.as_opaque::<Quantity>(), b.as_opaque::<Quantity>()) {
            (Some(a), Some(b)) => Ok(of(a.cmp(b))),
            _ => mismatch(),
        },
        _ => mismatch(),
    }
}

fn combine<'a>(args: &[Value<'a>], with: fn(Quantity, Quantity) -> Quantity) -> Result<'a> {
    let [a, b] = args else { return mismatch() };
    let other = match b {
        Value::Int(n) => Some(Quantity::units(*n, Format::DecimalExponent)),
        other => other.as_opaque::<Quantity>().copied(),
    };
    match (a.as_opaque::<Quantity>(), other) {
        (Some(a), Some(b)) => Ok(Value::opaque(with(*a, b))),
        _ => mismatch(),
    }
}
