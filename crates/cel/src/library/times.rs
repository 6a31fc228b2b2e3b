//! Parts of times and of spans of time.

use super::{Result, fail, mismatch};
use crate::decl::{Functions, Implementation};
use crate::types::Type;
use crate::value::Value;
use crate::value::time::Parts;

pub(super) fn declare(f: &mut Functions) {
    use Type::{Duration, Int, String, Timestamp};
    let times: [(&'static str, &str, Implementation); 10] = [
        ("getFullYear", "year", |args| part(args, |p| p.year)),
        ("getMonth", "month", |args| part(args, |p| p.month)),
        ("getDayOfYear", "day_of_year", |args| part(args, |p| p.year_day)),
        ("getDayOfMonth", "day_of_month", |args| part(args, |p| p.day - 1)),
        ("getDate", "day_of_month_1_based", |args| part(args, |p| p.day)),
        ("getDayOfWeek", "day_of_week", |args| part(args, |p| p.week_day)),
        ("getHours", "hours", |args| part(args, |p| p.hour)),
        ("getMinutes", "minutes", |args| part(args, |p| p.minute)),
        ("getSeconds", "seconds", |args| part(args, |p| p.second)),
        ("getMilliseconds", "milliseconds", milliseconds),
    ];
    for (name, id, call) in times {
        f.method(name, format!("timestamp_to_{id}"), [Timestamp], Int, call);
        f.method(name, format!("timestamp_to_{id}_with_tz"), [Timestamp, String], Int, call);
    }
    let spans: [(&'static str, &'static str, Implementation); 4] = [
        ("getHours", "duration_to_hours", |args| span(args, |n| n / 3_600_000_000_000)),
        ("getMinutes", "duration_to_minutes", |args| span(args, |n| n / 60_000_000_000)),
        ("getSeconds", "duration_to_seconds", |args| span(args, |n| n / 1_000_000_000)),
        ("getMilliseconds", "duration_to_milliseconds", |args| span(args, |n| n / 1_000_000)),
    ];
    for (name, id, call) in spans {
        f.method(name, id, [Duration], Int, call);
    }
}

fn zone<'a>(args: &'a [Value<'_>]) -> Option<&'a str> {
    match args {
        [_] => Some(""),
        [_, Value::String(zone)] => Some(zone),
        _ => None,
    }
}

fn part<'a>(args: &[Value<'a>], of: fn(Parts) -> i64) -> Result<'a> {
    let (Some(Value::Timestamp(at)), Some(zone)) = (args.first(), zone(args)) else { return mismatch() };
    match at.parts(zone) {
        Some(parts) => Ok(Value::Int(of(parts))),
        None => fail(format!("unknown time zone {zone}")),
    }
}

fn milliseconds<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |_| 0)?;
    match args.first() {
        Some(Value::Timestamp(at)) => Ok(Value::Int(i64::from(at.nanos() / 1_000_000))),
        _ => mismatch(),
    }
}

fn span<'a>(args: &[Value<'a>], of: fn(i64) -> i64) -> Result<'a> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(of(*nanos))),
        _ => mismatch(),
    }
}
