//! Maps, and objects that are read from JSON.

use super::{Schema, Text, Value};
use crate::error::EvalError;
use crate::names;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use trireme_schema::{Map as JsonMap, Value as Json};

/// A map.
#[derive(Clone)]
pub enum Map<'a> {
    /// Members that are read from JSON when somebody looks, and the schema of the object.
    Json(&'a JsonMap, Option<&'a dyn Schema>),
    /// Entries that are there.
    Values(Arc<BTreeMap<Key<'a>, Value<'a>>>),
}

impl std::fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Map::Json(map, _) => map.fmt(f),
            Map::Values(map) => map.fmt(f),
        }
    }
}

/// What can be a key. Whole numbers are equal whatever their type.
#[derive(Clone, Debug)]
pub enum Key<'a> {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is not below zero.
    Uint(u64),
    /// Text.
    String(Text<'a>),
}

impl<'a> Key<'a> {
    /// The value as a key, if it can be one. Numbers that are whole can look for whole numbers.
    pub fn lookup(value: &Value<'a>) -> Option<Self> {
        Some(match value {
            Value::Bool(b) => Key::Bool(*b),
            Value::Int(n) => Key::Int(*n),
            Value::Uint(n) => Key::Uint(*n),
            Value::String(text) => Key::String(text.clone()),
            Value::Double(d) if d.trunc() == *d && *d >= -(2_f64.powi(63)) && *d < 2_f64.powi(63) => {
                Key::Int(*d as i64)
            }
            Value::Double(d) if d.trunc() == *d && *d >= 0.0 && *d < 2_f64.powi(64) => Key::Uint(*d as u64),
            _ => return None,
        })
    }

    /// The key as a value.
    pub fn value(&self) -> Value<'a> {
        match self {
            Key::Bool(b) => Value::Bool(*b),
            Key::Int(n) => Value::Int(*n),
            Key::Uint(n) => Value::Uint(*n),
            Key::String(text) => Value::String(text.clone()),
        }
    }

    fn number(&self) -> Option<i128> {
        match self {
            Key::Int(n) => Some((*n).into()),
            Key::Uint(n) => Some((*n).into()),
            _ => None,
        }
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Key::String(a), Key::String(b)) => (**a).cmp(&**b),
            (Key::Bool(a), Key::Bool(b)) => a.cmp(b),
            _ => match (self.number(), other.number()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => self.rank().cmp(&other.rank()),
            },
        }
    }
}

impl Key<'_> {
    fn rank(&self) -> u8 {
        match self {
            Key::Bool(_) => 0,
            Key::Int(_) | Key::Uint(_) => 1,
            Key::String(_) => 2,
        }
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key<'_> {}

impl<'a> Map<'a> {
    /// How many entries.
    pub fn len(&self) -> usize {
        match self {
            Map::Json(map, _) => map.len(),
            Map::Values(map) => map.len(),
        }
    }

    /// No entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry of a key.
    ///
    /// # Errors
    /// The key can be none in such a map, or the JSON does not fit the schema.
    pub fn get(&self, key: &Value<'a>) -> Result<Option<Value<'a>>, EvalError> {
        match self {
            Map::Json(map, schema) => match key {
                Value::String(name) => member(map, *schema, name),
                _ if schema.is_some() => Err(EvalError::no_such_overload()),
                _ => Ok(None),
            },
            Map::Values(map) => Ok(Key::lookup(key).and_then(|key| map.get(&key).cloned())),
        }
    }

    /// The member named `name`, which is escaped where the schema names the properties.
    pub(crate) fn field(&self, name: &str) -> Result<Option<Value<'a>>, EvalError> {
        match self {
            Map::Json(map, schema) => member(map, *schema, name),
            Map::Values(map) => Ok(map.get(&Key::String(Text::Shared(name.into()))).cloned()),
        }
    }

    /// The keys. In an object with a schema, those that the schema knows, escaped.
    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Map::Json(map, None) => map.keys().map(|key| Value::str(key)).collect(),
            Map::Json(map, Some(schema)) => map.keys().filter_map(|key| known_key(key, *schema)).collect(),
            Map::Values(map) => map.keys().map(Key::value).collect(),
        }
    }
}

fn known_key<'a>(key: &'a str, schema: &'a dyn Schema) -> Option<Value<'a>> {
    if !schema.has_properties() {
        return schema.additional_properties().map(|_| Value::str(key));
    }
    schema.property(key)?;
    Some(match names::escape(key) {
        Some(Cow::Owned(escaped)) => Value::text(escaped),
        _ => Value::str(key),
    })
}

fn member<'a>(map: &'a JsonMap, schema: Option<&'a dyn Schema>, name: &str) -> Result<Option<Value<'a>>, EvalError> {
    let Some(schema) = schema else {
        return map.get(name).map(|value| Value::from_json(value, None)).transpose();
    };
    if schema.has_properties() {
        let Some(name) = names::unescape(name) else { return Ok(None) };
        return match (map.get(&name), schema.property(&name)) {
            (None | Some(Json::Null), _) | (_, None) => Ok(None),
            (Some(value), Some(property)) => Value::from_json(value, Some(property)).map(Some),
        };
    }
    match (map.get(name), schema.additional_properties()) {
        (Some(value), Some(values)) => Value::from_json(value, Some(values)).map(Some),
        _ => Ok(None),
    }
}
