//! JSON as values, and values as JSON.

use super::{Key, List, Map, Schema, SchemaType, Timestamp, Value, time};
use crate::error::EvalError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use trireme_schema::Value as Json;

impl<'a> Value<'a> {
    /// Reads JSON, without copying what it holds. Without a schema, numbers are what they look like.
    ///
    /// # Errors
    /// The JSON does not fit the schema.
    pub fn from_json(json: &'a Json, schema: Option<&'a dyn Schema>) -> Result<Self, EvalError> {
        match schema {
            Some(schema) => with_schema(json, schema),
            None => Ok(plain(json)),
        }
    }
}

fn plain(json: &Json) -> Value<'_> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Int(n) => Value::Int(*n),
        Json::Float(n) => Value::Double(*n),
        Json::String(text) => Value::str(text),
        Json::Array(items) => Value::List(List::Json(items, None)),
        Json::Object(map) => Value::Map(Map::Json(map, None)),
    }
}

fn with_schema<'a>(json: &'a Json, schema: &'a dyn Schema) -> Result<Value<'a>, EvalError> {
    let invalid = |what: &str| Err(EvalError::new(format!("invalid data, {what}")));
    if json.is_null() {
        return if schema.nullable() { Ok(Value::Null) } else { invalid("got null for schema with nullable=false") };
    }
    if schema.int_or_string() {
        return match json {
            Json::String(text) => Ok(Value::str(text)),
            Json::Int(n) => Ok(Value::Int(*n)),
            _ => invalid("expected XIntOrString value to be either a string or integer"),
        };
    }
    match (schema.schema_type(), json) {
        (SchemaType::Object, Json::Object(map)) => Ok(Value::Map(Map::Json(map, Some(schema)))),
        (SchemaType::Object, _) => invalid("expected a map for the provided schema with type=object"),
        (SchemaType::Array, Json::Array(items)) if schema.items().is_some() => {
            Ok(Value::List(List::Json(items, Some(schema))))
        }
        (SchemaType::Array, Json::Array(_)) => {
            Err(EvalError::new("invalid array type, expected Items with a non-empty Schema"))
        }
        (SchemaType::Array, _) => invalid("expected an array for the provided schema with type=array"),
        (SchemaType::String, Json::String(text)) => string(text, schema.format()),
        (SchemaType::String, other) => invalid(&format!("expected string, got {}", go_type(other))),
        (SchemaType::Number, Json::Int(n)) => Ok(Value::Double(*n as f64)),
        (SchemaType::Number, Json::Float(n)) => Ok(Value::Double(*n)),
        (SchemaType::Number, other) => invalid(&format!("expected float, got {}", go_type(other))),
        (SchemaType::Integer, Json::Int(n)) => Ok(Value::Int(*n)),
        (SchemaType::Integer, other) => invalid(&format!("expected int, got {}", go_type(other))),
        (SchemaType::Boolean, Json::Bool(b)) => Ok(Value::Bool(*b)),
        (SchemaType::Boolean, other) => invalid(&format!("expected bool, got {}", go_type(other))),
        (SchemaType::Unspecified, other) if schema.preserves_unknown_fields() => Ok(plain(other)),
        (SchemaType::Unspecified, _) => Err(EvalError::new(
            "invalid type, expected object, array, number, integer, boolean or string, or no type with \
             x-kubernetes-int-or-string or x-kubernetes-preserve-unknown-fields is true, got ",
        )),
    }
}

fn go_type(json: &Json) -> &'static str {
    match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Int(_) => "int64",
        Json::Float(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}

fn string<'a>(text: &'a str, format: &str) -> Result<Value<'a>, EvalError> {
    let bad = |what: &str, why: &str| EvalError::new(format!("Invalid {what} {text}: {why}"));
    match format {
        "duration" => {
            time::lenient_duration(text).map(Value::Duration).ok_or_else(|| bad("duration", "unable to parse"))
        }
        "date" => Timestamp::from_date(text)
            .map(Value::Timestamp)
            .ok_or_else(|| bad("date formatted string", "unable to parse")),
        "date-time" => Timestamp::lenient(text)
            .map(Value::Timestamp)
            .ok_or_else(|| bad("date-time formatted string", "unable to parse")),
        "byte" => {
            STANDARD.decode(text).map(Value::bytes).map_err(|error| bad("byte formatted string", &error.to_string()))
        }
        _ => Ok(Value::str(text)),
    }
}

/// A value as JSON.
///
/// # Errors
/// There is no JSON for types, quantities and the like, nor for maps whose keys are no text.
pub fn to_json(value: &Value<'_>) -> Result<Json, EvalError> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(n) => Json::Int(*n),
        Value::Uint(n) => i64::try_from(*n).map_or(Json::Float(*n as f64), Json::Int),
        Value::Double(n) => Json::Float(*n),
        Value::String(text) => Json::String(text.to_string()),
        Value::Bytes(bytes) => Json::String(STANDARD.encode(bytes)),
        Value::Duration(nanos) => Json::String(time::duration_text(*nanos)),
        Value::Timestamp(at) => Json::String(at.to_string()),
        Value::List(List::Json(items, _)) => Json::Array(items.to_vec()),
        Value::List(List::Values(items) | List::Sum(items, _)) => {
            Json::Array(items.iter().map(to_json).collect::<Result<_, _>>()?)
        }
        Value::Map(Map::Json(map, _)) => Json::Object((*map).clone()),
        Value::Map(Map::Values(map)) => {
            let members = map.iter().map(|(key, value)| match key {
                Key::String(name) => Ok((&**name, to_json(value)?)),
                _ => Err(EvalError::new("unsupported map key type in JSON")),
            });
            Json::Object(members.collect::<Result<_, EvalError>>()?)
        }
        Value::Struct(object) => {
            let members = object.fields.iter().map(|(name, value)| Ok((name.as_str(), to_json(value)?)));
            Json::Object(members.collect::<Result<_, EvalError>>()?)
        }
        Value::Optional(Some(inner)) => to_json(inner)?,
        Value::Optional(None) => Json::Null,
        Value::Type(_) | Value::Opaque(_) => {
            return Err(EvalError::new(format!("type conversion error from '{}' to JSON", value.type_of().name())));
        }
    })
}
