//! Paths of fields, such as `.spec.list` and `.labels['a.b']`, as rules and definitions name them.

use crate::node::{Additional, Node};

/// Reads a path; gives its names.
///
/// # Errors
/// Why it is none. `step` is asked whether a name is there, in their order.
pub(crate) fn read(
    text: &str,
    brackets: bool,
    mut step: impl FnMut(&str) -> Result<(), String>,
) -> Result<Vec<String>, String> {
    let (mut names, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let token = next_token(rest);
        rest = &rest[token.len()..];
        let name = match token {
            "[" if !brackets => return Err("array notation is not allowed".into()),
            "[" => {
                let quoted = next_token(rest);
                if quoted.is_empty() {
                    return Err("unexpected end of JSON path".into());
                }
                rest = &rest[quoted.len()..];
                let inside = quoted.strip_prefix('\'').and_then(|q| q.strip_suffix('\'')).filter(|_| quoted.len() > 1);
                let inside = inside.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                let name = unescaped(inside)?;
                step(&name)?;
                match next_token(rest) {
                    "]" => rest = &rest[1..],
                    "" => return Err("unexpected end of JSON path".into()),
                    other => return Err(format!("expected ] but got {other}")),
                }
                name
            }
            "." => {
                let name = next_token(rest);
                if name.is_empty() {
                    return Err("unexpected end of JSON path".into());
                }
                rest = &rest[name.len()..];
                step(name)?;
                name.to_owned()
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        names.push(name);
    }
    Ok(names)
}

/// A path into a schema as errors show it: `list.name`, `labels[a.b]`; empty when it leads nowhere.
pub(crate) fn below(text: &str, schema: &Node) -> String {
    let mut out = String::new();
    let mut node = schema;
    let read = read(text, true, |name| {
        node = match (node.property(name), &node.additional) {
            (Some(next), _) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
                next
            }
            (None, Additional::Of(next)) => {
                out.push_str(&format!("[{name}]"));
                next
            }
            _ => return Err(String::new()),
        };
        Ok(())
    });
    if read.is_ok() { out } else { String::new() }
}

/// The next `.`, `[`, `]`, quoted text, or text up to one of the first three.
fn next_token(text: &str) -> &str {
    let bytes = text.as_bytes();
    if bytes.first() == Some(&b'\'') {
        let end = (1..bytes.len()).find(|&i| bytes[i] == b'\'' && bytes[i - 1] != b'\\');
        return end.map_or(text, |end| &text[..=end]);
    }
    match text.find(['.', '[', ']']) {
        Some(0) => &text[..1],
        Some(at) => &text[..at],
        None => text,
    }
}

fn unescaped(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let next = chars.next().unwrap_or('\\');
        out.push(match next {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\'' | '\\' => next,
            other => return Err(format!("invalid string literal: invalid escape char \\{other}")),
        });
    }
    Ok(out)
}
