//! Numbers: whole or not, within bounds, multiples.

use super::finding::{Finding, Findings, Place};
use crate::node::{Checks, Kind, Node};
use trireme_schema::Value;

/// Whether a float is a whole number (`swag.IsFloat64AJSONInteger`): close to one, and exact in 53 bits.
pub(crate) fn is_whole(n: f64) -> bool {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    if !n.is_finite() || n.abs() > LARGEST {
        return false;
    }
    let near = n.round();
    if n == near {
        return true;
    }
    let difference = (n - near).abs();
    if n == 0.0 || near == 0.0 || difference < f64::MIN_POSITIVE {
        return difference < f64::EPSILON * f64::MIN_POSITIVE;
    }
    difference / (n.abs() + near.abs()) < 1e-9
}

/// A float as Go's `%v` shows it.
pub(crate) fn shown(n: f64) -> String {
    if n == 0.0 || !n.is_finite() {
        return format!("{n}");
    }
    let exponent = n.abs().log10().floor();
    if (-4.0..6.0).contains(&exponent) {
        return format!("{n}");
    }
    let text = format!("{n:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => format!("{digits}e-{exponent:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        },
        None => text,
    }
}

enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    fn float(&self) -> f64 {
        match self {
            Number::Int(n) => *n as f64,
            Number::Float(n) => *n,
        }
    }

    fn value(&self) -> Value {
        match self {
            Number::Int(n) => Value::Int(*n),
            Number::Float(n) => Value::Float(*n),
        }
    }
}

/// Whether a number can be held by the schema's type, and what is said when not.
fn in_range(n: f64, exact: Option<i64>, schema: &Node, checks: &Checks, what: &str, at: &Place<'_>) -> Option<Finding> {
    let single_integer = schema.kind == Kind::Integer && !schema.int_or_string;
    let fits = if single_integer {
        let whole = exact.or_else(|| (n.fract() == 0.0 && n.abs() < 9.223_372_036_854_775e18).then_some(n as i64));
        match (&*checks.format, whole) {
            ("int32", whole) => whole.is_some_and(|n| i32::try_from(n).is_ok()),
            (_, whole) => whole.is_some(),
        }
    } else {
        !matches!(&*checks.format, "float" | "float32") || n.abs() <= f64::from(f32::MAX)
    };
    if fits {
        return None;
    }
    let kind = if schema.int_or_string { "" } else { schema.kind.name() };
    let format = match &*checks.format {
        "" => "(default format)".to_owned(),
        format => format!("with format {format}"),
    };
    Some(Finding::unplaced(format!("{what} value must be of type {kind} {format} in {}", at.text())))
}

pub(super) fn check(schema: &Node, checks: &Checks, at: &Place<'_>, value: &Value) -> Findings {
    let mut found = Findings::default();
    let number = match value {
        Value::Int(n) => Number::Int(*n),
        Value::Float(n) => Number::Float(*n),
        _ => return found,
    };
    let exact = if let Number::Int(n) = number { Some(n) } else { None };
    if let Some(finding) = in_range(number.float(), exact, schema, checks, "Checked", at) {
        found.add(finding);
    }
    if let Some(factor) = checks.multiple_of {
        let unfit = in_range(factor, None, schema, checks, "MultipleOf", at);
        let native = unfit.is_none();
        unfit.into_iter().for_each(|finding| found.add(finding));
        multiple(&number, factor, native, at).into_iter().for_each(|finding| found.add(finding));
    }
    if let Some(bound) = checks.minimum {
        let unfit = in_range(bound, None, schema, checks, "Minimum boundary", at);
        let native = unfit.is_none();
        unfit.into_iter().for_each(|finding| found.add(finding));
        let exclusive = checks.exclusive_minimum;
        let words = if exclusive { "should be greater than" } else { "should be greater than or equal to" };
        bounded(&number, bound, native, exclusive, false, words, at).into_iter().for_each(|f| found.add(f));
    }
    if let Some(bound) = checks.maximum {
        let unfit = in_range(bound, None, schema, checks, "Maximum boundary", at);
        let native = unfit.is_none();
        unfit.into_iter().for_each(|finding| found.add(finding));
        let exclusive = checks.exclusive_maximum;
        let words = if exclusive { "should be less than" } else { "should be less than or equal to" };
        bounded(&number, bound, native, exclusive, true, words, at).into_iter().for_each(|f| found.add(f));
    }
    found.matches += 1;
    found
}

fn bounded(
    number: &Number,
    bound: f64,
    native: bool,
    exclusive: bool,
    upper: bool,
    words: &str,
    at: &Place<'_>,
) -> Option<Finding> {
    use std::cmp::Ordering;
    // Whole numbers are compared as such: a bound's fraction does not count.
    let (order, shown, value) = match number {
        Number::Int(n) if native => (n.cmp(&(bound as i64)), (bound as i64).to_string(), number.value()),
        number => {
            let order = number.float().partial_cmp(&bound).unwrap_or(Ordering::Equal);
            (order, shown(bound), Value::Float(number.float()))
        }
    };
    let beyond = if upper { order == Ordering::Greater } else { order == Ordering::Less };
    let wrong = beyond || (exclusive && order == Ordering::Equal);
    wrong.then(|| Finding::invalid(at, value, format!("{words} {shown}")))
}

fn multiple(number: &Number, factor: f64, native: bool, at: &Place<'_>) -> Option<Finding> {
    let must_be_positive = |factor: String| {
        Finding::unplaced(format!("factor MultipleOf declared for {} must be positive: {factor}", at.text()))
    };
    match number {
        Number::Int(n) if native => {
            let whole = factor as i64;
            if whole <= 0 {
                return Some(must_be_positive(whole.to_string()));
            }
            (n % whole != 0).then(|| Finding::invalid(at, number.value(), format!("should be a multiple of {whole}")))
        }
        number => {
            if factor <= 0.0 {
                return Some(must_be_positive(shown(factor)));
            }
            let n = number.float();
            let times = if factor < 1.0 { 1.0 / factor * n } else { n / factor };
            (!is_whole(times))
                .then(|| Finding::invalid(at, Value::Float(n), format!("should be a multiple of {}", shown(factor))))
        }
    }
}
