//! Counts that may be percentages.

use crate::{Errors, Place};
use trireme_schema::Value;

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

fn percent(value: &Value) -> Option<i64> {
    let digits = value.as_str()?.strip_suffix('%')?;
    let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    // Too many digits are still a percentage, and a large one.
    all.then(|| digits.parse().unwrap_or(i64::MAX))
}

/// The number, of things or of hundredths; 0 when it is none.
pub(super) fn number(value: &Value) -> i64 {
    let plain = || value.as_str().and_then(|t| t.parse().ok());
    value.as_int().or_else(|| percent(value)).or_else(plain).unwrap_or_default()
}

/// Not negative, or a percentage.
pub(crate) fn check(place: &Place<'_>, errors: &mut Errors) {
    match place.value {
        Value::String(_) if percent(place.value).is_none() => errors.invalid(place, PERCENT),
        value if value.as_int().is_some_and(|n| n < 0) => {
            errors.invalid(place, "must be greater than or equal to 0");
        }
        _ => {}
    }
}

/// No more than all.
pub(crate) fn at_most_all(place: &Place<'_>, errors: &mut Errors) {
    if percent(place.value).is_some_and(|n| n > 100) {
        errors.invalid(place, "must not be greater than 100%");
    }
}
