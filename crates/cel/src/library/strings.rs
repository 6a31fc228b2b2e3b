//! cel-go's library of strings, in the version that Kubernetes has (2).

use super::{Result, fail, mismatch, too_large};
use crate::decl::Functions;
use crate::types::Type;
use crate::value::{List, Value};

pub(super) fn declare(f: &mut Functions) {
    use Type::{Int, String};
    let texts = || Type::list(String);
    f.method("charAt", "string_char_at_int", [String, Int], String, char_at);
    f.method("indexOf", "string_index_of_string", [String, String], Int, index_of);
    f.method("indexOf", "string_index_of_string_int", [String, String, Int], Int, index_of);
    f.method("lastIndexOf", "string_last_index_of_string", [String, String], Int, last_index_of);
    f.method("lastIndexOf", "string_last_index_of_string_int", [String, String, Int], Int, last_index_of);
    f.method("lowerAscii", "string_lower_ascii", [String], String, |args| map(args, |s| s.to_ascii_lowercase()));
    f.method("upperAscii", "string_upper_ascii", [String], String, |args| map(args, |s| s.to_ascii_uppercase()));
    f.method("trim", "string_trim", [String], String, |args| map(args, |s| s.trim().to_owned()));
    f.method("replace", "string_replace_string_string", [String, String, String], String, replace);
    f.method("replace", "string_replace_string_string_int", [String, String, String, Int], String, replace);
    f.method("split", "string_split_string", [String, String], texts(), split);
    f.method("split", "string_split_string_int", [String, String, Int], texts(), split);
    f.method("substring", "string_substring_int", [String, Int], String, substring);
    f.method("substring", "string_substring_int_int", [String, Int, Int], String, substring);
    f.method("format", "string_format", [String, Type::list(Type::Dyn)], String, super::format_text::format);
    f.global("strings.quote", "strings_quote", [String], String, |args| map(args, quote));
    f.method("join", "list_join", [texts()], String, join);
    f.method("join", "list_join_string", [texts(), String], String, join);
}

fn map<'a>(args: &[Value<'a>], of: fn(&str) -> String) -> Result<'a> {
    match args {
        [Value::String(text)] => Ok(Value::text(of(text))),
        _ => mismatch(),
    }
}

fn out_of_range<'a>(index: i64) -> Result<'a> {
    fail(format!("index out of range: {index}"))
}

/// The byte at which the character number `index` begins; the length for the one after the last.
fn byte_of(text: &str, index: i64) -> Option<usize> {
    let index = usize::try_from(index).ok()?;
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(index)
}

fn characters(text: &str) -> i64 {
    text.chars().count() as i64
}

fn char_at<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text), Value::Int(index)] = args else { return mismatch() };
    match byte_of(text, *index) {
        Some(at) => Ok(Value::text(text[at..].chars().next().map(String::from).unwrap_or_default())),
        None => out_of_range(*index),
    }
}

fn index_of<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, part, from) = match args {
        [Value::String(text), Value::String(part)] => (text, part, 0),
        [Value::String(text), Value::String(part), Value::Int(from)] => (text, part, *from),
        _ => return mismatch(),
    };
    if part.is_empty() {
        return Ok(Value::Int(from));
    }
    if from < 0 {
        return out_of_range(from);
    }
    let found = byte_of(text, from).and_then(|start| text[start..].find(&**part).map(|at| start + at));
    Ok(Value::Int(found.map_or(-1, |at| characters(&text[..at]))))
}

fn last_index_of<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, part, from) = match args {
        [Value::String(text), Value::String(part)] if part.is_empty() => return Ok(Value::Int(characters(text))),
        [Value::String(text), Value::String(part)] => (text, part, None),
        [Value::String(text), Value::String(part), Value::Int(from)] => (text, part, Some(*from)),
        _ => return mismatch(),
    };
    let end = match from {
        Some(from) if part.is_empty() => return Ok(Value::Int(from)),
        Some(from) if from < 0 => return out_of_range(from),
        Some(from) if from >= characters(text) => return Ok(Value::Int(-1)),
        // What is found may begin at `from`, and so end so much later.
        Some(from) => byte_of(text, from).map_or(text.len(), |at| (at + part.len()).min(text.len())),
        None => text.len(),
    };
    let found = text[..text.floor_char_boundary(end)].rfind(&**part);
    Ok(Value::Int(found.map_or(-1, |at| characters(&text[..at]))))
}

fn replace<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, old, new, count) = match args {
        [Value::String(text), Value::String(old), Value::String(new)] => (text, old, new, -1),
        [Value::String(text), Value::String(old), Value::String(new), Value::Int(count)] => (text, old, new, *count),
        _ => return mismatch(),
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let most = text.matches(&**old).take(count).count();
    if too_large(most.saturating_mul(new.len()).saturating_add(text.len())) {
        return Err(crate::error::EvalError::OverBudget);
    }
    Ok(Value::text(text.replacen(&**old, new, count)))
}

fn split<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, separator, limit) = match args {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [Value::String(text), Value::String(separator), Value::Int(limit)] => (text, separator, *limit),
        _ => return mismatch(),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let parts: Vec<&str> = match limit {
        0 => vec![],
        _ if separator.is_empty() => {
            let mut parts = Vec::new();
            let mut rest: &str = text;
            while let Some(first) = rest.chars().next() {
                let end = if parts.len() + 1 == limit { rest.len() } else { first.len_utf8() };
                parts.push(&rest[..end]);
                rest = &rest[end..];
            }
            parts
        }
        _ => text.splitn(limit, &**separator).collect(),
    };
    Ok(Value::list(parts.into_iter().map(Value::text).collect()))
}

fn substring<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, start, end) = match args {
        [Value::String(text), Value::Int(start)] => (text, *start, None),
        [Value::String(text), Value::Int(start), Value::Int(end)] => (text, *start, Some(*end)),
        _ => return mismatch(),
    };
    if let Some(end) = end.filter(|end| start > *end) {
        return fail(format!("invalid substring range. start: {start}, end: {end}"));
    }
    let Some(from) = byte_of(text, start) else { return out_of_range(start) };
    let to = match end {
        Some(end) => match byte_of(text, end) {
            Some(to) => to,
            None => return out_of_range(end),
        },
        None => text.len(),
    };
    Ok(Value::text(&text[from..to]))
}

fn join<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return mismatch(),
    };
    texts(list, separator)
}

fn texts<'a>(list: &List<'a>, separator: &str) -> Result<'a> {
    let mut joined = String::new();
    for (n, item) in list.iter().enumerate() {
        if n > 0 {
            joined.push_str(separator);
        }
        match item? {
            Value::String(text) => joined.push_str(&text),
            other => return fail(format!("join: invalid input: {other}")),
        }
        if too_large(joined.len()) {
            return Err(crate::error::EvalError::OverBudget);
        }
    }
    Ok(Value::text(joined))
}

/// The text as a literal.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
