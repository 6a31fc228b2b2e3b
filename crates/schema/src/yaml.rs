//! YAML to [`Value`], with the scalars that Kubernetes users know (YAML 1.1's `yes` and `on` are truth values).

mod write;

pub use write::write;

use crate::value::{Map, Value};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use std::borrow::Cow;
use std::collections::HashMap;

/// The text is no YAML.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub struct BadYaml {
    /// Counted from one; zero where it is not told.
    line: usize,
    what: String,
}

impl From<&ScanError> for BadYaml {
    /// go-yaml tells no line when it is the first, counts from one when a character is wrong and from zero when a
    /// token is, and leaves out what it was doing.
    fn from(error: &ScanError) -> Self {
        let line = error.marker().line().saturating_sub(1);
        match error.info().split_once(", ") {
            Some((doing, what)) if doing.starts_with("while parsing") => Self { line, what: what.to_owned() },
            _ => Self { line: if line == 0 { 0 } else { line + 1 }, what: error.info().to_owned() },
        }
    }
}

impl std::fmt::Display for BadYaml {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "yaml: {}", self.what),
            line => write!(f, "yaml: line {line}: {}", self.what),
        }
    }
}

/// Aliases may repeat at most this many values, so that a small file cannot unfold into a large one.
const LARGEST: usize = 1_000_000;
const DEEPEST: usize = 128;

/// Parses one document; an empty one is `Null`.
///
/// # Errors
/// When the text is no YAML, or holds more than one document.
pub fn parse(text: &str) -> Result<Value, BadYaml> {
    let mut documents = parse_all(text)?;
    match documents.len() {
        0 => Ok(Value::Null),
        1 => Ok(documents.remove(0)),
        _ => Err(BadYaml { line: 1, what: "more than one document".into() }),
    }
}

/// The first document of a text.
#[derive(Debug, Default, PartialEq)]
pub struct First {
    /// The tree; of a repeated key, the last value. An empty text is `Null`.
    pub value: Value,
    /// Keys that are there twice, in go-yaml's words.
    pub repeated: Vec<String>,
}

/// Parses the first document, whatever follows it.
///
/// # Errors
/// When it is no YAML.
pub fn parse_first(text: &str) -> Result<First, BadYaml> {
    if text.starts_with('\t') {
        return Err(BadYaml { line: 0, what: "found character that cannot start any token".into() });
    }
    let guarded = Guarded::of(text);
    let mut builder = Builder { guard: guarded.guard, ..Builder::default() };
    let document = read(&guarded.text, &mut builder).next().transpose()?;
    Ok(First { value: document.unwrap_or_default(), repeated: builder.repeated })
}

/// Parses all documents.
///
/// # Errors
/// When the text is no YAML.
pub fn parse_all(text: &str) -> Result<Vec<Value>, BadYaml> {
    let guarded = Guarded::of(text);
    let mut builder = Builder { guard: guarded.guard, ..Builder::default() };
    let documents = read(&guarded.text, &mut builder).collect::<Result<_, _>>()?;
    match builder.repeated.into_iter().next() {
        Some(what) => Err(BadYaml { line: 0, what }),
        None => Ok(documents),
    }
}

/// A text in which no indented line begins as a line between documents does: the parser takes such a line within a plain
/// scalar for one, although only an unindented line is (YAML 1.2, 9.1.2). Other characters stand for the first of its dashes
/// or dots, until the scalar is read.
struct Guarded<'a> {
    text: Cow<'a, str>,
    guard: Option<[char; 2]>,
}

impl<'a> Guarded<'a> {
    fn of(text: &'a str) -> Self {
        let is_marker = |line: &str| {
            let bare = line.trim_start_matches([' ', '\t']);
            let after = bare.strip_prefix("---").or_else(|| bare.strip_prefix("..."));
            bare.len() < line.len()
                && after.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        };
        if !text.lines().any(is_marker) {
            return Self { text: Cow::Borrowed(text), guard: None };
        }
        // Characters for private use that the text does not have.
        let mut free = ('\u{e000}'..='\u{f8ff}').filter(|c| !text.contains(*c));
        let (Some(dash), Some(dot)) = (free.next(), free.next()) else {
            return Self { text: Cow::Borrowed(text), guard: None };
        };
        let mut guarded = String::with_capacity(text.len() + 16);
        for line in text.split_inclusive('\n') {
            let (indent, bare) = line.split_at(line.len() - line.trim_start_matches([' ', '\t']).len());
            guarded.push_str(indent);
            if is_marker(line.trim_end_matches(['\n', '\r'])) {
                guarded.push(if bare.starts_with('-') { dash } else { dot });
                guarded.push_str(&bare[1..]);
            } else {
                guarded.push_str(bare);
            }
        }
        Self { text: Cow::Owned(guarded), guard: Some([dash, dot]) }
    }
}

/// The documents of a text, one by one.
fn read<'a>(text: &'a str, builder: &'a mut Builder) -> impl Iterator<Item = Result<Value, BadYaml>> + 'a {
    Parser::new_from_str(text).filter_map(|event| take(event, builder).transpose())
}

/// Takes an event in; gives a document back when it is whole.
fn take(event: Result<(Event<'_>, Span), ScanError>, builder: &mut Builder) -> Result<Option<Value>, BadYaml> {
    let (event, span) = event.map_err(|error| BadYaml::from(&error))?;
    let line = span.start.line();
    builder.line = line;
    let bad = |what: &str| BadYaml { line, what: what.to_owned() };
    {
        let done = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text = match builder.guard {
                    Some([dash, dot]) => Cow::Owned(text.replace(dash, "-").replace(dot, ".")),
                    None => text,
                };
                let quoted = style != ScalarStyle::Plain;
                let forced = tag.as_ref().map(|tag| tag.suffix.as_str());
                let value = match forced {
                    Some("str") => Value::String(text.into_owned()),
                    _ if quoted => Value::String(text.into_owned()),
                    _ => scalar(&text),
                };
                builder.value(value, anchor).map_err(bad)?
            }
            Event::SequenceStart(anchor, _) => builder.open(Open::List(Vec::new(), anchor)).map_err(bad)?,
            Event::MappingStart(anchor, _) => {
                builder.open(Open::Map { map: Map::new(), merged: Map::new(), key: None, anchor }).map_err(bad)?
            }
            Event::SequenceEnd | Event::MappingEnd => match builder.open.pop() {
                Some(Open::List(items, anchor)) => builder.value(Value::Array(items), anchor).map_err(bad)?,
                Some(Open::Map { mut map, merged, anchor, .. }) => {
                    merge(&mut map, Value::Object(merged));
                    builder.value(Value::Object(map), anchor).map_err(bad)?
                }
                None => return Err(bad("unexpected end")),
            },
            Event::Alias(anchor) => {
                let value = builder.anchors.get(&anchor).cloned().ok_or_else(|| bad("unknown anchor"))?;
                builder.size += weight(&value);
                builder.value(value, 0).map_err(bad)?
            }
            _ => None,
        };
        Ok(done)
    }
}

enum Open {
    List(Vec<Value>, usize),
    /// What merge keys bring is kept apart: the map's own members win.
    Map {
        map: Map,
        merged: Map,
        key: Option<String>,
        anchor: usize,
    },
}

#[derive(Default)]
struct Builder {
    guard: Option<[char; 2]>,
    anchors: HashMap<usize, Value>,
    open: Vec<Open>,
    size: usize,
    line: usize,
    repeated: Vec<String>,
}

fn weight(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(weight).sum::<usize>(),
        _ => 1,
    }
}

impl Builder {
    fn open(&mut self, open: Open) -> Result<Option<Value>, &'static str> {
        if self.open.len() >= DEEPEST {
            return Err("nested too deep");
        }
        self.open.push(open);
        Ok(None)
    }

    /// Puts a finished value where it belongs; gives it back when it is a whole document.
    fn value(&mut self, value: Value, anchor: usize) -> Result<Option<Value>, &'static str> {
        self.size += 1;
        if self.size > LARGEST {
            return Err("document contains excessive aliasing");
        }
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            None => return Ok(Some(value)),
            Some(Open::List(items, _)) => items.push(value),
            Some(Open::Map { map, merged, key, .. }) => match key.take() {
                None => {
                    let name = match value {
                        Value::String(text) => text,
                        Value::Int(n) => n.to_string(),
                        Value::Float(n) => n.to_string(),
                        Value::Bool(b) => b.to_string(),
                        Value::Null => "null".to_owned(),
                        _ => return Err("a key must be a scalar"),
                    };
                    if map.contains_key(&name) {
                        self.repeated.push(format!("line {}: key {name:?} already set in map", self.line));
                    }
                    *key = Some(name);
                }
                Some(key) if key == "<<" => merge(merged, value),
                Some(key) => drop(map.insert(key, value)),
            },
        }
        Ok(None)
    }
}

/// YAML 1.1's merge key: what the map has itself wins.
fn merge(map: &mut Map, from: Value) {
    match from {
        Value::Object(from) => {
            for (key, value) in from {
                if !map.contains_key(&key) {
                    map.insert(key, value);
                }
            }
        }
        Value::Array(items) => items.into_iter().for_each(|item| merge(map, item)),
        _ => {}
    }
}

fn scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Value::String(text.to_owned());
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = unsigned.replace('_', "");
    let radix = [("0x", 16), ("0o", 8), ("0b", 2)];
    for (prefix, radix) in radix {
        if let Some(Ok(n)) = digits.strip_prefix(prefix).map(|d| i64::from_str_radix(d, radix)) {
            return Value::Int(sign * n);
        }
    }
    // YAML 1.1: a leading zero means octal.
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) {
        return match i64::from_str_radix(&digits, 8) {
            Ok(n) => Value::Int(sign * n),
            Err(_) => Value::String(text.to_owned()),
        };
    }
    if let Ok(n) = digits.parse::<i64>() {
        return Value::Int(sign * n);
    }
    let float = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match digits.parse::<f64>() {
        Ok(n) if float && n.is_finite() => Value::Float(sign as f64 * n),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_indented_marker_is_no_end_of_a_document() {
        let text = "a: first\n  --- second\n  ... third\nb:\n  --- \u{e000}\nc: |\n  ---\n  x\n";
        let wanted =
            r#"{"a":"first --- second ... third","b":"--- \u{e000}","c":"---\nx\n"}"#.replace("\\u{e000}", "\u{e000}");
        assert_eq!(parse(text).unwrap(), crate::json::parse(wanted.as_bytes()).unwrap());
        assert_eq!(parse_all("a: 1\n--- \nb: 2\n...\n").unwrap().len(), 2);
    }

    #[test]
    fn scalars_are_those_of_kubernetes_users() {
        let value = parse("a: yes\nb: 0777\nc: \"yes\"\nd: 1.5\ne: 1.2.3\nf:\ng: ~\nh: 010:22\ni: 0x1F\n").unwrap();
        assert_eq!(
            crate::json::to_string(&value),
            r#"{"a":true,"b":511,"c":"yes","d":1.5,"e":"1.2.3","f":null,"g":null,"h":"010:22","i":31}"#
        );
    }

    #[test]
    fn anchors_and_merge_keys_unfold() {
        let value = parse("a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  l: 3\n").unwrap();
        assert_eq!(crate::json::to_string(&value), r#"{"a":{"k":1,"l":2},"b":{"k":1,"l":3}}"#);
    }

    #[test]
    fn a_small_file_cannot_unfold_into_a_large_one() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..10 {
            let previous = vec![format!("*a{}", i - 1); 10].join(",");
            text.push_str(&format!("a{i}: &a{i} [{previous}]\n"));
        }
        assert!(parse(&text).is_err());
    }

    #[test]
    fn several_documents_and_errors() {
        assert_eq!(parse_all("a: 1\n---\nb: 2\n").unwrap().len(), 2);
        assert!(parse("a: [1\nb: }").is_err());
    }

    #[test]
    fn written_yaml_reads_back() {
        let value =
            crate::json::parse(br#"{"a":{"b":[{"c":1,"d":"yes"},"x: y",[]]},"e":"","f":{},"g":"a\nb"}"#).unwrap();
        let mut text = String::new();
        write(&value, &mut text);
        assert_eq!(parse(&text).unwrap(), value, "{text}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = parse_all(&text);
        }
    }
}
