//! The protobuf form of an OpenAPI v2 document: the message `openapi.v2.Document` of gnostic, which kubectl asks for.

use trireme_schema::{Map, Value, json};

/// The document as a message.
pub fn document(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    text(1, value.str_at(&["swagger"]), &mut out);
    let mut info = Vec::new();
    text(1, value.str_at(&["info", "title"]), &mut info);
    text(2, value.str_at(&["info", "version"]), &mut info);
    bytes(2, &info, &mut out);
    bytes(8, &named(2, value.at(&["paths"]), path_item), &mut out);
    bytes(9, &named(1, value.at(&["definitions"]), schema), &mut out);
    out
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn bytes(tag: u64, value: &[u8], out: &mut Vec<u8>) {
    varint(tag << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn text(tag: u64, value: &str, out: &mut Vec<u8>) {
    if !value.is_empty() {
        bytes(tag, value.as_bytes(), out);
    }
}

fn members(value: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    value.and_then(Value::as_object).into_iter().flat_map(Map::iter).map(|(k, v)| (&**k, v))
}

/// A message of pairs: each a name and a value under a tag.
fn named(tag: u64, value: Option<&Value>, each: fn(&Value) -> Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in members(value) {
        pair(tag, name, &each(value), &mut out);
    }
    out
}

fn pair(tag: u64, name: &str, value: &[u8], out: &mut Vec<u8>) {
    let mut inner = Vec::new();
    text(1, name, &mut inner);
    bytes(2, value, &mut inner);
    bytes(tag, &inner, out);
}

/// Any value: as YAML, of which JSON is a part.
fn any(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(2, &json::to_vec(value), &mut out);
    out
}

fn extensions(tag: u64, value: &Value, out: &mut Vec<u8>) {
    for (name, value) in members(Some(value)).filter(|(name, _)| name.starts_with("x-")) {
        pair(tag, name, &any(value), out);
    }
}

fn path_item(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(operation) = value.at(&[method]) {
            bytes(tag, &self::operation(operation), &mut out);
        }
    }
    out
}

fn operation(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for parameter in value.at(&["parameters"]).and_then(Value::as_array).into_iter().flatten() {
        let (mut query, mut free, mut kind, mut item) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        text(2, parameter.str_at(&["in"]), &mut query);
        text(4, parameter.str_at(&["name"]), &mut query);
        text(6, parameter.str_at(&["type"]), &mut query);
        bytes(3, &query, &mut free);
        bytes(2, &free, &mut kind);
        bytes(1, &kind, &mut item);
        bytes(8, &item, &mut out);
    }
    bytes(9, &named(1, value.at(&["responses"]), response), &mut out);
    extensions(13, value, &mut out);
    out
}

fn response(value: &Value) -> Vec<u8> {
    let (mut inner, mut out) = (Vec::new(), Vec::new());
    text(1, value.str_at(&["description"]), &mut inner);
    if let Some(found) = value.at(&["schema"]) {
        let mut item = Vec::new();
        bytes(1, &schema(found), &mut item);
        bytes(2, &item, &mut inner);
    }
    bytes(1, &inner, &mut out);
    out
}

fn schema(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    text(1, value.str_at(&["$ref"]), &mut out);
    text(2, value.str_at(&["format"]), &mut out);
    text(4, value.str_at(&["description"]), &mut out);
    if let Some(default) = value.at(&["default"]) {
        bytes(5, &any(default), &mut out);
    }
    for required in value.at(&["required"]).and_then(Value::as_array).into_iter().flatten() {
        text(19, required.as_str().unwrap_or_default(), &mut out);
    }
    for allowed in value.at(&["enum"]).and_then(Value::as_array).into_iter().flatten() {
        bytes(20, &any(allowed), &mut out);
    }
    let mut wrap = |tag: u64, inner: Option<&Value>| {
        if let Some(inner) = inner {
            let mut item = Vec::new();
            bytes(1, &schema(inner), &mut item);
            bytes(tag, &item, &mut out);
        }
    };
    wrap(21, value.at(&["additionalProperties"]));
    wrap(23, value.at(&["items"]));
    if let Some(kind) = value.at(&["type"]).and_then(Value::as_str) {
        let mut item = Vec::new();
        text(1, kind, &mut item);
        bytes(22, &item, &mut out);
    }
    if let Some(properties) = value.at(&["properties"]) {
        bytes(25, &named(1, Some(properties), schema), &mut out);
    }
    extensions(31, value, &mut out);
    out
}
