//! Values of one type as values of another.

use super::{Result, fail, mismatch, param};
use crate::decl::{Functions, Implementation};
use crate::error::EvalError;
use crate::types::Type;
use crate::value::{Timestamp, Value, time};

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, Bytes, Double, Duration, Dyn, Int, String, Timestamp, Uint};
    f.global("type", "type", [param("A")], Type::of_type(param("A")), |args| match args {
        [value] => Ok(Value::Type(value.type_of())),
        _ => mismatch(),
    });
    f.global("dyn", "to_dyn", [param("A")], Dyn, |args| args.first().cloned().ok_or_else(EvalError::no_such_overload));
    let mut all = |name: &'static str, to: Type, call: Implementation, from: &[(&'static str, Type)]| {
        for (id, t) in from {
            f.global(name, *id, [t.clone()], to.clone(), call);
        }
    };
    all("bool", Bool, to_bool, &[("bool_to_bool", Bool), ("string_to_bool", String)]);
    all("bytes", Bytes, to_bytes, &[("bytes_to_bytes", Bytes), ("string_to_bytes", String)]);
    let numbers = [
        ("double_to_double", Double),
        ("int64_to_double", Int),
        ("string_to_double", String),
        ("uint64_to_double", Uint),
    ];
    all("double", Double, to_double, &numbers);
    let spans = [("duration_to_duration", Duration), ("int64_to_duration", Int), ("string_to_duration", String)];
    all("duration", Duration, to_duration, &spans);
    let whole = [
        ("int64_to_int64", Int),
        ("double_to_int64", Double),
        ("duration_to_int64", Duration),
        ("string_to_int64", String),
        ("timestamp_to_int64", Timestamp),
        ("uint64_to_int64", Uint),
    ];
    all("int", Int, to_int, &whole);
    let texts = [
        ("string_to_string", String),
        ("bool_to_string", Bool),
        ("bytes_to_string", Bytes),
        ("double_to_string", Double),
        ("duration_to_string", Duration),
        ("int64_to_string", Int),
        ("timestamp_to_string", Timestamp),
        ("uint64_to_string", Uint),
    ];
    all("string", String, to_string, &texts);
    let times = [("timestamp_to_timestamp", Timestamp), ("int64_to_timestamp", Int), ("string_to_timestamp", String)];
    all("timestamp", Timestamp, to_timestamp, &times);
    let unsigned = [
        ("uint64_to_uint64", Uint),
        ("double_to_uint64", Double),
        ("int64_to_uint64", Int),
        ("string_to_uint64", String),
    ];
    all("uint", Uint, to_uint, &unsigned);
}

fn bad<'a>(to: &str) -> Result<'a> {
    fail(format!("type conversion error from 'string' to '{to}'"))
}

fn to_bool<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Bool(b)] => Ok(Value::Bool(*b)),
        [Value::String(text)] => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => bad("bool"),
        },
        _ => mismatch(),
    }
}

fn to_bytes<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Bytes(bytes)] => Ok(Value::Bytes(bytes.clone())),
        [Value::String(text)] => Ok(Value::bytes(text.as_bytes())),
        _ => mismatch(),
    }
}

fn to_double<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Double(n)] => Ok(Value::Double(*n)),
        [Value::Int(n)] => Ok(Value::Double(*n as f64)),
        [Value::Uint(n)] => Ok(Value::Double(*n as f64)),
        [Value::String(text)] => match text.parse::<f64>() {
            // Go tells numbers that are too large from infinity.
            Ok(n) if n.is_infinite() && text.contains(|c: char| c.is_ascii_digit()) => bad("double"),
            Ok(n) => Ok(Value::Double(n)),
            Err(_) => bad("double"),
        },
        _ => mismatch(),
    }
}

fn to_duration<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Duration(nanos)] | [Value::Int(nanos)] => Ok(Value::Duration(*nanos)),
        [Value::String(text)] => trireme_schema::time::parse_duration(text)
            .map(Value::Duration)
            .map_or_else(|| bad("google.protobuf.Duration"), Ok),
        _ => mismatch(),
    }
}

const INT: &str = "integer overflow";
const UINT: &str = "unsigned integer overflow";

fn to_int<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(n)] => Ok(Value::Int(*n)),
        [Value::Uint(n)] => i64::try_from(*n).map(Value::Int).map_err(|_| EvalError::new(INT)),
        [Value::Double(n)] if *n > i64::MIN as f64 && *n < i64::MAX as f64 => Ok(Value::Int(*n as i64)),
        [Value::Double(_)] => fail(INT),
        [Value::Duration(nanos)] => Ok(Value::Int(*nanos)),
        [Value::Timestamp(at)] => Ok(Value::Int(at.seconds())),
        [Value::String(text)] => text.parse().map(Value::Int).or_else(|_| bad("int")),
        _ => mismatch(),
    }
}

fn to_uint<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Uint(n)] => Ok(Value::Uint(*n)),
        [Value::Int(n)] => u64::try_from(*n).map(Value::Uint).map_err(|_| EvalError::new(UINT)),
        [Value::Double(n)] if *n >= 0.0 && *n < u64::MAX as f64 => Ok(Value::Uint(*n as u64)),
        [Value::Double(_)] => fail(UINT),
        [Value::String(text)] if !text.starts_with('+') => text.parse().map(Value::Uint).or_else(|_| bad("uint")),
        [Value::String(_)] => bad("uint"),
        _ => mismatch(),
    }
}

fn to_timestamp<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Timestamp(at)] => Ok(Value::Timestamp(*at)),
        [Value::Int(seconds)] => {
            Timestamp::new(*seconds, 0).map(Value::Timestamp).ok_or(EvalError::new("timestamp overflow"))
        }
        [Value::String(text)] => {
            Timestamp::parse(text).map(Value::Timestamp).map_or_else(|| bad("google.protobuf.Timestamp"), Ok)
        }
        _ => mismatch(),
    }
}

fn to_string<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(match args {
        [text @ Value::String(_)] => text.clone(),
        [Value::Bool(b)] => Value::text(b.to_string()),
        [Value::Bytes(bytes)] => match std::str::from_utf8(bytes) {
            Ok(text) => Value::text(text),
            Err(_) => return fail("invalid UTF-8 in bytes, cannot convert to string"),
        },
        [Value::Double(n)] => Value::text(format_double(*n)),
        [Value::Int(n)] => Value::text(n.to_string()),
        [Value::Uint(n)] => Value::text(n.to_string()),
        [Value::Duration(nanos)] => Value::text(time::duration_text(*nanos)),
        [Value::Timestamp(at)] => Value::text(at.to_string()),
        _ => return mismatch(),
    })
}

/// A number with as few digits as tell it from others, as Go's `%g`.
pub(crate) fn format_double(n: f64) -> String {
    if !n.is_finite() {
        return if n.is_nan() {
            "NaN"
        } else if n > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        }
        .to_owned();
    }
    let scientific = format!("{n:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return n.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (n, want) in [
            (1.0, "1"),
            (-0.5, "-0.5"),
            (1e300, "1e+300"),
            (1e-7, "1e-07"),
            (123.456, "123.456"),
            (1e6, "1e+06"),
            (123456.0, "123456"),
        ] {
            assert_eq!(format_double(n), want);
        }
    }
}
