//! `'%s is %.2f'.format([a, b])`, as cel-go has it with the locale `en_US`.

use super::{Result, fail, mismatch};
use crate::error::EvalError;
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
    let mut rest: &str = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if rest.is_empty() {
            return fail("unexpected end of string");
        }
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let Some(value) = values.get(next) else { return fail(format!("index {next} out of range")) };
        next += 1;
        let (precision, clause, after) = clause(rest)?;
        out.push_str(&render(&value?, clause, precision).map_err(|error| wrapped("error during formatting", &error))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(Value::text(out))
}

fn wrapped(what: &str, error: &EvalError) -> EvalError {
    EvalError::new(format!("{what}: {error}"))
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
    let wrong = |what: &str| Err(EvalError::new(format!("{what}, was given {}", value.type_of().name())));
    match (clause, value) {
        ('s', _) => text(value),
        ('d', Value::Int(_) | Value::Uint(_)) => text(value),
        ('d', _) => wrong("decimal clause can only be used on integers"),
        ('f', _) => match number(value) {
            Some(n) => Ok(fixed(n, precision.unwrap_or(PRECISION))),
            None => wrong("fixed-point clause can only be used on doubles"),
        },
        ('e', _) => match number(value) {
            Some(n) => Ok(scientific(n, precision.unwrap_or(PRECISION))),
            None => wrong("scientific clause can only be used on doubles"),
        },
        ('b', Value::Int(n)) => Ok(signed(*n, format!("{:b}", n.unsigned_abs()))),
        ('b', Value::Uint(n)) => Ok(format!("{n:b}")),
        ('b', Value::Bool(b)) => Ok(if *b { "1" } else { "0" }.to_owned()),
        ('b', _) => wrong("only integers and bools can be formatted as binary"),
        ('o', Value::Int(n)) => Ok(signed(*n, format!("{:o}", n.unsigned_abs()))),
        ('o', Value::Uint(n)) => Ok(format!("{n:o}")),
        ('o', _) => wrong("octal clause can only be used on integers"),
        (_, Value::Int(n)) => Ok(case(clause, signed(*n, format!("{:x}", n.unsigned_abs())))),
        (_, Value::Uint(n)) => Ok(case(clause, format!("{n:x}"))),
        (_, Value::String(text)) => Ok(case(clause, hex(text.as_bytes()))),
        (_, Value::Bytes(bytes)) => Ok(case(clause, hex(bytes))),
        _ => wrong("only integers, byte buffers, and strings can be formatted as hex"),
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
        Value::Opaque(_) | Value::Struct(_) | Value::Optional(_) => Err(EvalError::new(format!(
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and \
             timestamps, was given {}",
            value.type_of().name()
        ))),
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
