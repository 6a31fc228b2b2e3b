//! `find` and `findAll`.

use super::{Result, compile_pattern, mismatch};
use crate::decl::Functions;
use crate::types::Type;
use crate::value::Value;
use regex::Regex;

pub(super) fn declare(f: &mut Functions) {
    use Type::{Int, String};
    let texts = || Type::list(String);
    f.method("find", "string_find_string", [String, String], String, |args| compiled(args, find));
    f.method("findAll", "string_find_all_string", [String, String], texts(), |args| compiled(args, find_all));
    f.method("findAll", "string_find_all_string_int", [String, String, Int], texts(), |args| compiled(args, find_all));
}

fn compiled<'a>(args: &[Value<'a>], then: fn(&Regex, &[Value<'a>]) -> Result<'a>) -> Result<'a> {
    match args.get(1) {
        Some(Value::String(pattern)) => match compile_pattern(pattern) {
            Ok(pattern) => then(&pattern, args),
            Err(error) => super::fail(format!("Illegal regex: {error}")),
        },
        _ => mismatch(),
    }
}

pub(super) fn find<'a>(pattern: &Regex, args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::String(text), _] => Ok(Value::text(pattern.find(text).map_or("", |found| found.as_str()))),
        _ => mismatch(),
    }
}

pub(super) fn find_all<'a>(pattern: &Regex, args: &[Value<'a>]) -> Result<'a> {
    let (text, limit) = match args {
        [Value::String(text), _] => (text, usize::MAX),
        [Value::String(text), _, Value::Int(limit)] => (text, usize::try_from(*limit).unwrap_or(usize::MAX)),
        _ => return mismatch(),
    };
    Ok(Value::list(pattern.find_iter(text).take(limit).map(|found| Value::text(found.as_str())).collect()))
}
