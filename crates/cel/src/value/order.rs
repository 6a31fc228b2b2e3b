//! Which of two values comes first.

use super::Value;
use std::cmp::Ordering;

/// The order of two values, or none if they have none: outer, since they are of types without a common order; inner,
/// since one is no number (NaN).
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Option<Ordering>> {
    let order = match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => (**a).cmp(&**b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        _ => return numbers(a, b),
    };
    Some(Some(order))
}

/// The order of two numbers. Between a whole number and a double, as cel-go, what counts is the nearest double.
pub(crate) fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Option<Ordering>> {
    if let (Some(a), Some(b)) = (whole(a), whole(b)) {
        return Some(Some(a.cmp(&b)));
    }
    Some(match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(d), _) => d.partial_cmp(&(whole(b)? as f64)),
        (_, Value::Double(d)) => (whole(a)? as f64).partial_cmp(d),
        _ => return None,
    })
}

fn whole(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int(n) => Some((*n).into()),
        Value::Uint(n) => Some((*n).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_different_types_compare() {
        for (a, b, want) in [
            (Value::Int(1), Value::Uint(1), Some(Ordering::Equal)),
            (Value::Int(-1), Value::Uint(u64::MAX), Some(Ordering::Less)),
            (Value::Double(1.5), Value::Int(1), Some(Ordering::Greater)),
            (Value::Double(-1.5), Value::Int(-1), Some(Ordering::Less)),
            (Value::Int(i64::MAX), Value::Double(9_223_372_036_854_775_808.0), Some(Ordering::Equal)),
            (Value::Double(f64::INFINITY), Value::Uint(u64::MAX), Some(Ordering::Greater)),
            (Value::Double(f64::NAN), Value::Int(0), None),
        ] {
            assert_eq!(numbers(&a, &b), Some(want), "{a:?} {b:?}");
        }
        assert_eq!(compare(&Value::Null, &Value::Int(0)), None);
    }
}
