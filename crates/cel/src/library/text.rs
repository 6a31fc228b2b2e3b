//! Text: `contains`, `startsWith`, `endsWith`, `matches`.

use super::{Result, compile_pattern, mismatch};
use crate::decl::Functions;
use crate::types::Type;
use crate::value::Value;
use regex::Regex;

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, String};
    f.method("contains", "contains_string", [String, String], Bool, |args| test(args, |a, b| a.contains(b)));
    f.method("endsWith", "ends_with_string", [String, String], Bool, |args| test(args, |a, b| a.ends_with(b)));
    f.method("startsWith", "starts_with_string", [String, String], Bool, |args| test(args, |a, b| a.starts_with(b)));
    f.global("matches", "matches", [String, String], Bool, matches);
    f.method("matches", "matches_string", [String, String], Bool, matches);
}

fn test<'a>(args: &[Value<'a>], holds: fn(&str, &str) -> bool) -> Result<'a> {
    match args {
        [Value::String(a), Value::String(b)] => Ok(Value::Bool(holds(a, b))),
        _ => mismatch(),
    }
}

fn matches<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::String(text), Value::String(pattern)] => Ok(Value::Bool(compile_pattern(pattern)?.is_match(text))),
        _ => mismatch(),
    }
}

/// A function whose pattern has been compiled before.
pub(crate) fn with_pattern<'a>(function: &str, pattern: &Regex, args: &[Value<'a>]) -> Result<'a> {
    match (function, args) {
        ("matches", [Value::String(text), _]) => Ok(Value::Bool(pattern.is_match(text))),
        ("find", _) => super::patterns::find(pattern, args),
        ("findAll", _) => super::patterns::find_all(pattern, args),
        _ => mismatch(),
    }
}
