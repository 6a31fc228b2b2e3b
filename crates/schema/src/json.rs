//! JSON text to [`Value`] and back.

use crate::value::{Key, Map, Value};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use std::fmt::Write as _;

/// The text is no JSON.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct BadJson(pub String);

/// A document with the paths of the keys that it holds twice, such as `spec.containers[0].name`.
#[derive(Debug, PartialEq)]
pub struct Parsed {
    /// The tree; of a repeated key, the last value.
    pub value: Value,
    /// Where a key was repeated, in order of appearance.
    pub duplicates: Vec<String>,
}

/// Parses a document.
///
/// # Errors
/// When the text is no JSON, or nests deeper than 128 levels.
pub fn parse(text: &[u8]) -> Result<Value, BadJson> {
    parse_noting_duplicates(text).map(|parsed| parsed.value)
}

/// Parses a document, noting repeated keys.
///
/// # Errors
/// As [`parse`].
pub fn parse_noting_duplicates(text: &[u8]) -> Result<Parsed, BadJson> {
    // Go replaces invalid UTF-8 rather than refusing it.
    let text = String::from_utf8_lossy(text);
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let mut notes = Notes { path: String::new(), duplicates: Vec::new() };
    let value = Tree(&mut notes).deserialize(&mut deserializer).map_err(|e| go_words(&e, &text))?;
    deserializer.end().map_err(|e| go_words(&e, &text))?;
    Ok(Parsed { value, duplicates: notes.duplicates })
}

/// What Go's decoder would say: clients and their users know those words.
fn go_words(error: &serde_json::Error, text: &str) -> BadJson {
    if error.is_eof() {
        return BadJson("unexpected end of JSON input".into());
    }
    let at: usize = text.lines().take(error.line().saturating_sub(1)).map(|l| l.len() + 1).sum();
    let at = at + error.column().saturating_sub(1);
    let found = text.get(at..).and_then(|rest| rest.chars().next());
    let message = error.to_string();
    let place = if message.starts_with("trailing characters") {
        "after top-level value"
    } else if message.starts_with("key must be a string") {
        "looking for beginning of object key string"
    } else if message.starts_with("expected `,` or `}`") {
        "after object key:value pair"
    } else if message.starts_with("expected `,` or `]`") {
        "after array element"
    } else if message.starts_with("expected `:`") {
        "after object key"
    } else if message.starts_with("expected value") || message.starts_with("expected ident") {
        "looking for beginning of value"
    } else {
        return BadJson(message);
    };
    match found {
        Some(c) => BadJson(format!("invalid character '{}' {place}", c.escape_debug())),
        None => BadJson("unexpected end of JSON input".into()),
    }
}

struct Notes {
    path: String,
    duplicates: Vec<String>,
}

struct Tree<'a>(&'a mut Notes);

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int(n))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(i64::try_from(n).map_or(Value::Float(n as f64), Value::Int))
    }

    fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<Value, E> {
        if n.is_finite() { Ok(Value::Float(n)) } else { Err(E::custom("number out of range")) }
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        let mark = self.0.path.len();
        loop {
            let _ = write!(self.0.path, "[{}]", items.len());
            let item = seq.next_element_seed(Tree(self.0));
            self.0.path.truncate(mark);
            match item? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let mark = self.0.path.len();
        while let Some(key) = members.next_key::<std::borrow::Cow<'de, str>>()? {
            if map.len() > 100_000 {
                return Err(A::Error::custom("object has too many members"));
            }
            if mark > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&key);
            if map.contains_key(&key) {
                self.0.duplicates.push(self.0.path.clone());
            }
            let value = members.next_value_seed(Tree(self.0));
            self.0.path.truncate(mark);
            map.insert(Key::from(&*key), value?);
        }
        Ok(Value::Object(map))
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(b) => serializer.serialize_bool(*b),
            Value::Int(n) => serializer.serialize_i64(*n),
            Value::Float(n) => serializer.serialize_f64(*n),
            Value::String(text) => serializer.serialize_str(text),
            Value::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(item)?;
                }
                seq.end()
            }
            Value::Object(map) => {
                let mut out = serializer.serialize_map(Some(map.len()))?;
                for (key, value) in map.iter() {
                    out.serialize_entry(key.as_str(), value)?;
                }
                out.end()
            }
        }
    }
}

impl<'de> serde::Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Tree(&mut Notes { path: String::new(), duplicates: Vec::new() }).deserialize(deserializer)
    }
}

/// Paths of all members of a document, such as `spec.containers[0].name`, in order of appearance. A [`Value`] does not
/// keep that order; messages about several fields name them in it.
pub fn paths(text: &[u8]) -> Vec<String> {
    struct Walk<'a>(&'a mut Vec<String>, String);

    impl<'de> DeserializeSeed<'de> for Walk<'_> {
        type Value = ();
        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_any(self)
        }
    }

    impl<'de> Visitor<'de> for Walk<'_> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a JSON value")
        }

        fn visit_bool<E>(self, _: bool) -> Result<(), E> {
            Ok(())
        }

        fn visit_i64<E>(self, _: i64) -> Result<(), E> {
            Ok(())
        }

        fn visit_u64<E>(self, _: u64) -> Result<(), E> {
            Ok(())
        }

        fn visit_f64<E>(self, _: f64) -> Result<(), E> {
            Ok(())
        }

        fn visit_str<E>(self, _: &str) -> Result<(), E> {
            Ok(())
        }

        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
            for i in 0.. {
                if seq.next_element_seed(Walk(self.0, format!("{}[{i}]", self.1)))?.is_none() {
                    break;
                }
            }
            Ok(())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
            while let Some(key) = members.next_key::<std::borrow::Cow<'de, str>>()? {
                let path = if self.1.is_empty() { key.into_owned() } else { format!("{}.{key}", self.1) };
                self.0.push(path.clone());
                members.next_value_seed(Walk(self.0, path))?;
            }
            Ok(())
        }
    }

    let mut paths = Vec::new();
    let text = String::from_utf8_lossy(text);
    // What is no JSON has been refused before anybody asks for its order; what was found up to there is the answer.
    let _ = Walk(&mut paths, String::new()).deserialize(&mut serde_json::Deserializer::from_str(&text));
    paths
}

/// Appends the JSON text of a value, keys sorted, as Go's encoder writes maps.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(n) => write_int(*n, out),
        Value::Float(n) => write_float(*n, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            out.push(b'{');
            for (i, (key, value)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
    }
}

/// The JSON text of a value.
pub fn to_vec(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write(value, &mut out);
    out
}

/// The JSON text of a value.
pub fn to_string(value: &Value) -> String {
    String::from_utf8_lossy(&to_vec(value)).into_owned()
}

/// Appends an integer.
pub fn write_int(n: i64, out: &mut Vec<u8>) {
    let mut text = [0_u8; 20];
    let mut at = text.len();
    let mut rest = n.unsigned_abs();
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if n < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&text[at..]);
}

/// Appends a float as Go's encoder writes it: shortest form, exponent below 1e-6 and from 1e21 on.
pub fn write_float(n: f64, out: &mut Vec<u8>) {
    let size = n.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{n:e}");
        // Go always writes the sign of the exponent.
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                out.extend_from_slice(format!("{digits}e+{exponent}").as_bytes());
            }
            _ => out.extend_from_slice(text.as_bytes()),
        }
    } else {
        out.extend_from_slice(format!("{n}").as_bytes());
    }
}

/// Appends a quoted string, escaped as Go's encoder does: `<`, `>`, `&`, U+2028 and U+2029 too.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut start = 0;
    for (i, &b) in bytes.iter().enumerate() {
        let plain = b >= 0x20 && !matches!(b, b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2);
        if plain || (b == 0xe2 && !matches!(bytes.get(i + 1..i + 3), Some([0x80, 0xa8 | 0xa9]))) {
            continue;
        }
        out.extend_from_slice(&bytes[start..i]);
        start = i + 1;
        match b {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0xe2 => {
                out.extend_from_slice(if bytes[i + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                start = i + 3;
            }
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(b >> 4)]);
                out.push(HEX[usize::from(b & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[start..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_a_round_trip() {
        let text = r#"{"a":[1,-2,1.5,true,null,"x\u003c\"\n"],"b":{"c":{}}}"#;
        assert_eq!(to_string(&parse(text.as_bytes()).unwrap()), text);
    }

    #[test]
    fn repeated_keys_are_named_with_their_path() {
        let parsed = parse_noting_duplicates(br#"{"spec":{"c":[{"n":1,"n":2}]},"spec":{}}"#).unwrap();
        assert_eq!(parsed.duplicates, ["spec.c[0].n", "spec"]);
    }

    #[test]
    fn paths_come_in_the_order_of_the_text() {
        let paths = paths(br#"{"b":{"z":1,"y":[{"k":null}]},"a":"x"}"#);
        assert_eq!(paths, ["b", "b.z", "b.y", "b.y[0].k", "a"]);
    }

    #[test]
    fn errors_use_the_words_of_go() {
        assert_eq!(parse(b"{").unwrap_err().0, "unexpected end of JSON input");
        assert_eq!(parse(b"{\"a\":x}").unwrap_err().0, "invalid character 'x' looking for beginning of value");
        assert_eq!(parse(b"{} x").unwrap_err().0, "invalid character 'x' after top-level value");
    }

    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (n, text) in [(1e21, "1e+21"), (1e-7, "1e-7"), (0.5, "0.5"), (1e20, "100000000000000000000")] {
            let mut out = Vec::new();
            write_float(n, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_string_round_trips(text in ".*") {
            let mut out = Vec::new();
            write_string(&text, &mut out);
            proptest::prop_assert_eq!(parse(&out).unwrap(), Value::String(text));
        }
    }
}
