//! `'%s is %.2f'.format([a, b])`, as cel-go has it with the locale `en_US`.

use super::{Result, fail, mismatch};
use crate::error::EvalError;
use crate::types::Type;
use crate::value::{List, Map, Value};
use std::fmt::Write as _;

type Text = std::result::Result<String, EvalError>;

/// Digits after the point when nothing is said.
const PRECISION: usize = 6;
/// The most digits after the point.
const MOST_DIGITS: usize = 1000;

pub(super) fn format<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(format), Value::List(values)] = args else { return mismatch() };
    let mut out = String::new();
    let mut next = 0;
    for part in parts(format) {
        match part? {
            Part::Text(text) => out.push_str(text),
            Part::Clause(clause, precision) => {
                let Some(value) = values.get(next) else { return fail(missing(next)) };
                next += 1;
                out.push_str(&render(&value?, clause, precision).map_err(|error| wrapped(&error))?);
            }
        }
        if super::too_large(out.len()) {
            return Err(EvalError::OverBudget);
        }
    }
    Ok(Value::text(out))
}

/// A part of a format.
pub(crate) enum Part<'a> {
    /// As it is.
    Text(&'a str),
    /// `%f`, and the digits after the point.
    Clause(char, Option<usize>),
}

/// There are fewer values than clauses.
pub(crate) fn missing(index: usize) -> String {
    format!("index {index} out of range")
}

/// What a format consists of; ends after an error.
pub(crate) fn parts(format: &str) -> impl Iterator<Item = std::result::Result<Part<'_>, EvalError>> {
    let mut rest = Some(format);
    std::iter::from_fn(move || {
        let text = rest.filter(|text| !text.is_empty())?;
        let (part, after) = match text.find('%') {
            Some(0) => match part(&text[1..]) {
                Ok((part, after)) => (Ok(part), Some(after)),
                Err(error) => (Err(error), None),
            },
            end => {
                let end = end.unwrap_or(text.len());
                (Ok(Part::Text(&text[..end])), Some(&text[end..]))
            }
        };
        rest = after;
        Some(part)
    })
}

/// What follows a `%`.
fn part(text: &str) -> std::result::Result<(Part<'_>, &str), EvalError> {
    if text.is_empty() {
        return Err(EvalError::new("unexpected end of string"));
    }
    if let Some(after) = text.strip_prefix('%') {
        return Ok((Part::Text("%"), after));
    }
    let (precision, clause, after) = clause(text)?;
    Ok((Part::Clause(clause, precision), after))
}

fn wrapped(error: &EvalError) -> EvalError {
    EvalError::new(format!("error during formatting: {error}"))
}

/// What is wrong with a value of a type for a clause.
pub(crate) fn unfit(clause: char, t: &Type) -> Option<String> {
    use Type::{Bool, Bytes, Double, Duration, Int, List, Map, Null, String, Timestamp, Uint};
    let fits = match clause {
        _ if t.is_dyn() => true,
        's' => matches!(
            t,
            List(_)
                | Map(..)
                | Int
                | Uint
                | Double
                | Bool
                | String
                | Timestamp
                | Bytes
                | Duration
                | Type::Type(_)
                | Null
        ),
        'd' | 'o' => matches!(t, Int | Uint),
        'f' | 'e' => matches!(t, Double | String),
        'b' => matches!(t, Int | Uint | Bool),
        _ => matches!(t, Int | Uint | String | Bytes),
    };
    (!fits).then(|| wrapped(&wrong(clause, t)).to_string())
}

fn wrong(clause: char, t: &Type) -> EvalError {
    let what = match clause {
        's' => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and \
             timestamps"
        }
        'd' => "decimal clause can only be used on integers",
        'f' => "fixed-point clause can only be used on doubles",
        'e' => "scientific clause can only be used on doubles",
        'b' => "only integers and bools can be formatted as binary",
        'o' => "octal clause can only be used on integers",
        _ => "only integers, byte buffers, and strings can be formatted as hex",
    };
    EvalError::new(format!("{what}, was given {}", t.name()))
}

fn clause(text: &str) -> std::result::Result<(Option<usize>, char, &str), EvalError> {
    let bad = |why: String| EvalError::new(format!("could not parse formatting clause: {why}"));
    let (precision, text) = match text.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let digits = rest[..end].parse::<usize>().ok().filter(|digits| *digits <= MOST_DIGITS);
            let digits = digits.ok_or_else(|| bad("error while parsing precision: invalid precision".to_owned()))?;
            (Some(digits), &rest[end..])
        }
        None => (None, text),
    };
    let Some(clause) = text.chars().next() else { return Err(bad("unexpected end of string".to_owned())) };
    if !"sdfebxXo".contains(clause) {
        return Err(bad(format!("unrecognized formatting clause \"{clause}\"")));
    }
    Ok((precision, clause, &text[clause.len_utf8()..]))
}

fn render(value: &Value<'_>, clause: char, precision: Option<usize>) -> Text {
    let precision = precision.unwrap_or(PRECISION);
    match (clause, value) {
        ('s', _) => text(value),
        ('d', Value::Int(_) | Value::Uint(_)) => text(value),
        ('f', _) => number(value).map(|n| fixed(n, precision)).ok_or_else(|| wrong(clause, &value.type_of())),
        ('e', _) => number(value).map(|n| scientific(n, precision)).ok_or_else(|| wrong(clause, &value.type_of())),
        ('b', Value::Int(n)) => Ok(signed(*n, format!("{:b}", n.unsigned_abs()))),
        ('b', Value::Uint(n)) => Ok(format!("{n:b}")),
        ('b', Value::Bool(b)) => Ok(if *b { "1" } else { "0" }.to_owned()),
        ('o', Value::Int(n)) => Ok(signed(*n, format!("{:o}", n.unsigned_abs()))),
        ('o', Value::Uint(n)) => Ok(format!("{n:o}")),
        ('x' | 'X', Value::Int(n)) => Ok(case(clause, signed(*n, format!("{:x}", n.unsigned_abs())))),
        ('x' | 'X', Value::Uint(n)) => Ok(case(clause, format!("{n:x}"))),
        ('x' | 'X', Value::String(text)) => Ok(case(clause, hex(text.as_bytes()))),
        ('x' | 'X', Value::Bytes(bytes)) => Ok(case(clause, hex(bytes))),
        _ => Err(wrong(clause, &value.type_of())),
    }
}

fn signed(n: i64, digits: String) -> String {
    if n < 0 { format!("-{digits}") } else { digits }
}

fn case(clause: char, digits: String) -> String {
    if clause == 'X' { digits.to_ascii_uppercase() } else { digits }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// A double, or a text that stands for one that has no digits.
fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(n) => Some(*n),
        Value::String(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn without_digits(n: f64) -> Option<&'static str> {
    match n {
        _ if n.is_nan() => Some("NaN"),
        _ if n.is_finite() => None,
        _ if n > 0.0 => Some("\u{221e}"),
        _ => Some("-\u{221e}"),
    }
}

/// Thousands are set off with commas.
fn fixed(n: f64, precision: usize) -> String {
    if let Some(word) = without_digits(n) {
        return word.to_owned();
    }
    let plain = format!("{n:.precision$}");
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain.as_str()), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut grouped = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match fraction {
        Some(fraction) => format!("{sign}{grouped}.{fraction}"),
        None => format!("{sign}{grouped}"),
    }
}

/// `1.052033\u{202f}\u{d7}\u{202f}10\u{2070}\u{b3}`.
fn scientific(n: f64, precision: usize) -> String {
    if let Some(word) = without_digits(n) {
        return word.to_owned();
    }
    let plain = format!("{n:.precision$e}");
    let Some((mantissa, exponent)) = plain.split_once('e') else { return plain };
    let (sign, digits) = exponent.strip_prefix('-').map_or(("", exponent), |digits| ("\u{207b}", digits));
    let raised: String = format!("{digits:0>2}").chars().map(raise).collect();
    format!("{mantissa}\u{202f}\u{d7}\u{202f}10{sign}{raised}")
}

fn raise(digit: char) -> char {
    match digit {
        '1' => '\u{b9}',
        '2' => '\u{b2}',
        '3' => '\u{b3}',
        other => char::from_u32(0x2070 + other.to_digit(10).unwrap_or_default()).unwrap_or(other),
    }
}

/// `%s`.
fn text(value: &Value<'_>) -> Text {
    match value {
        Value::List(list) => list_text(list),
        Value::Map(map) => map_text(map),
        Value::Null => Ok("null".to_owned()),
        Value::Double(n) if n.is_infinite() => Ok(if *n > 0.0 { "+Inf" } else { "-Inf" }.to_owned()),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(EvalError::new("invalid UTF-8 in bytes, cannot convert to string")),
        },
        Value::Opaque(_) | Value::Struct(_) | Value::Optional(_) => Err(wrong('s', &value.type_of())),
        other => Ok(other.to_string()),
    }
}

/// A value within a list or a map, as a literal.
fn inner(value: &Value<'_>) -> Text {
    Ok(match value {
        Value::String(text) => format!("{:?}", &**text),
        Value::Bytes(_) => format!("b{:?}", text(value)?),
        Value::Double(n) if n.is_finite() => format!("{n:.PRECISION$}"),
        Value::Double(n) => format!(
            "{:?}",
            if n.is_nan() {
                "NaN"
            } else if *n > 0.0 {
                "+Inf"
            } else {
                "-Inf"
            }
        ),
        Value::Duration(_) => format!("duration({:?})", value.to_string()),
        Value::Timestamp(_) => format!("timestamp({:?})", value.to_string()),
        other => text(other)?,
    })
}

fn list_text(list: &List<'_>) -> Text {
    let items = list.iter().map(|item| inner(&item?)).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(format!("[{}]", items.join(", ")))
}

fn map_text(map: &Map<'_>) -> Text {
    let mut entries = Vec::new();
    for key in map.keys() {
        let value = map.get(&key)?.unwrap_or(Value::Null);
        entries.push((inner(&key)?, inner(&value)?));
    }
    entries.sort();
    let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    Ok(format!("{{{}}}", entries.join(", ")))
}
