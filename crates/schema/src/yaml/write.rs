//! [`Value`] to YAML, quoted as Go's `yaml.v2` quotes.

use super::scalar;
use crate::value::Value;

/// Writes a value as block YAML, keys sorted, as `kubectl` and the API server do.
pub fn write(value: &Value, out: &mut String) {
    block(value, 0, out);
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

fn block(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (i, (key, value)) in map.iter().enumerate() {
                if i > 0 {
                    indent(depth, out);
                }
                out.push_str(&quoted(key));
                out.push(':');
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        out.push('\n');
                        indent(depth + 1, out);
                        block(value, depth + 1, out);
                    }
                    Value::Array(items) if !items.is_empty() => {
                        out.push('\n');
                        indent(depth, out);
                        block(value, depth, out);
                    }
                    _ => {
                        out.push(' ');
                        block(value, depth + 1, out);
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    indent(depth, out);
                }
                out.push_str("- ");
                block(item, depth + 1, out);
            }
        }
        Value::Object(_) => out.push_str("{}\n"),
        Value::Array(_) => out.push_str("[]\n"),
        Value::String(text) if text.contains('\n') && is_literal(text) => literal(text, depth, out),
        Value::String(text) => {
            folded(&quoted(text), depth, out);
            out.push('\n');
        }
        other => {
            out.push_str(&crate::json::to_string(other));
            out.push('\n');
        }
    }
}

/// Go's writer begins a new line at the first space after this column.
const WIDTH: usize = 80;

/// A scalar on as many lines as it takes.
fn folded(scalar: &str, depth: usize, out: &mut String) {
    let mut column = out.chars().rev().take_while(|c| *c != '\n').count();
    let double = scalar.starts_with('"');
    // What stands between the quotes; a break is neither before its first nor after its last character.
    let (first, last) = if scalar.starts_with(['"', '\'']) { (1, scalar.len() - 1) } else { (0, scalar.len()) };
    let mut before = ' ';
    for (i, c) in scalar.char_indices() {
        let next = scalar[i + c.len_utf8()..].chars().next();
        let inside = i > first && i + 1 < last;
        let breaks = c == ' ' && before != ' ' && column > WIDTH && inside && (double || next != Some(' '));
        if breaks {
            out.push('\n');
            indent(depth, out);
            column = 2 * depth;
            if double && next == Some(' ') {
                out.push('\\');
                column += 1;
            }
        } else {
            out.push(c);
            column += 1;
        }
        before = c;
    }
}

fn indent(depth: usize, out: &mut String) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

/// Whether a text of several lines can stand as it is below a `|`.
fn is_literal(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || is_printable(c)) && !text.ends_with(' ') && !text.contains(" \n")
}

fn literal(text: &str, depth: usize, out: &mut String) {
    out.push('|');
    if text.starts_with([' ', '\n']) {
        out.push('2');
    }
    if !text.ends_with('\n') {
        out.push('-');
    } else if text == "\n" || text.ends_with("\n\n") {
        out.push('+');
    }
    out.push('\n');
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        if !line.is_empty() {
            indent(depth.max(1), out);
            out.push_str(line);
        }
        out.push('\n');
    }
}

fn is_printable(c: char) -> bool {
    matches!(c, '\t' | '\u{20}'..='\u{7e}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
        && !matches!(c, '\u{2028}' | '\u{2029}')
}

/// Plain where a reader would read the same text back; in single quotes where the text would not end or begin there;
/// in double ones where it would be something else than text, or cannot stand as it is.
fn quoted(text: &str) -> String {
    if !is_text(text) || !text.chars().all(is_printable) {
        return double(text);
    }
    if is_plain(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

/// Whether an unquoted scalar is read as text.
fn is_text(text: &str) -> bool {
    matches!(scalar(text), Value::String(_))
        && !matches!(text, "<<" | ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF")
        && !matches!(text, "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF")
        && !is_timestamp(text)
        && !is_base_60(text)
}

/// YAML 1.1's dates and times.
fn is_timestamp(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let (Some(year), Some(month), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let digits = |s: &str, most: usize| (1..=most).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    if year.len() != 4 || !digits(year, 4) || !digits(month, 2) {
        return false;
    }
    let day_ends = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (day, time) = rest.split_at(day_ends);
    if !digits(day, 2) {
        return false;
    }
    let Some(time) = time.strip_prefix(['T', 't', ' ']) else { return time.is_empty() };
    let zone = time.find(|c: char| !(c.is_ascii_digit() || matches!(c, ':' | '.'))).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone);
    clock.matches(':').count() == 2 && (zone.is_empty() || zone == "Z" || zone.starts_with(['+', '-']))
}

/// YAML 1.1's numbers of degrees, minutes and seconds: `190:20:30`.
fn is_base_60(text: &str) -> bool {
    let mut parts = text.strip_prefix(['+', '-']).unwrap_or(text).split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    first.starts_with(|c: char| c.is_ascii_digit())
        && first.bytes().all(|b| b.is_ascii_digit() || b == b'_')
        && !rest.is_empty()
        && rest.iter().enumerate().all(|(i, part)| {
            let whole = if i + 1 == rest.len() { part.split('.').next().unwrap_or_default() } else { part };
            matches!(whole.len(), 1 | 2) && whole.parse::<u8>().is_ok_and(|n| n < 60)
        })
}

/// Whether a text can stand without quotes in block style.
fn is_plain(text: &str) -> bool {
    const OPENING: [char; 16] = ['#', ',', '[', ']', '{', '}', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`'];
    let blank_or_end = |c: Option<char>| c.is_none_or(|c| matches!(c, ' ' | '\t'));
    let second = text.chars().nth(1);
    let opens = text.starts_with(OPENING) || (text.starts_with(['?', ':', '-']) && blank_or_end(second));
    let marks = ["---", "..."].iter().any(|mark| text.starts_with(mark));
    let breaks = [": ", ":\t", " #", "\t#"].iter().any(|mark| text.contains(mark));
    !(opens || marks || breaks || text.starts_with(' ') || text.ends_with([' ', ':']))
}

fn double(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{85}' => out.push_str("\\N"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x100 => out.push_str(&format!("\\x{:02X}", c as u32)),
            c if (c as u32) < 0x10000 => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push_str(&format!("\\U{:08X}", c as u32)),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_folded() {
        let text = format!("{} b c", "a".repeat(90));
        let value = crate::value!({ "k": text, "l": [format!("{text}: d")] });
        let mut out = String::new();
        write(&value, &mut out);
        let a = "a".repeat(90);
        assert_eq!(out, format!("k: {a}\n  b c\nl:\n- '{a}\n  b c: d'\n"));
        assert_eq!(crate::yaml::parse(&out).unwrap(), value);
    }

    #[test]
    fn texts_are_quoted_as_go_quotes_them() {
        for (text, want) in [
            ("plain", "plain"),
            ("y", "\"y\""),
            ("true", "\"true\""),
            ("", "\"\""),
            ("1", "\"1\""),
            ("2020-01-01T00:00:00Z", "\"2020-01-01T00:00:00Z\""),
            ("2020-01-01", "\"2020-01-01\""),
            ("12:30", "\"12:30\""),
            ("* * * * *", "'* * * * *'"),
            ("@daily", "'@daily'"),
            ("'m'", "'''m'''"),
            ("a: b", "'a: b'"),
            ("-x", "-x"),
            ("a\u{1}", "\"a\\x01\""),
            ("10.96.0.1", "10.96.0.1"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(quoted(text), want);
        }
    }

    #[test]
    fn lines_stand_below_a_bar() {
        let mut value = Value::object();
        value.set_at(&["a", "b"], "x\ny\n");
        value.set_at(&["a", "c"], "x\n\ny");
        let mut text = String::new();
        write(&value, &mut text);
        assert_eq!(text, "a:\n  b: |\n    x\n    y\n  c: |-\n    x\n\n    y\n");
        assert_eq!(super::super::parse(&text).unwrap(), value);
    }
}
