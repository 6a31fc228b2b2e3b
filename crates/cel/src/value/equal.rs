//! When two values are equal. Numbers are compared by what they amount to; what has different types differs.

use super::{List, ListType, Map, Schema, Text, Value};
use crate::error::EvalError;
use trireme_schema::{Map as JsonMap, Value as Json};

impl<'a> Value<'a> {
    /// `==`.
    ///
    /// # Errors
    /// JSON does not fit its schema, or a typed list or object is compared with something else.
    pub fn equals(&self, other: &Value<'a>) -> Result<bool, EvalError> {
        Ok(match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Null, _) | (_, Value::Null) => false,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) => **a == **b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Type(a), Value::Type(b)) => a.name() == b.name(),
            (Value::List(a), Value::List(b)) => return lists(a, b),
            (Value::Map(a), Value::Map(b)) => return maps(a, b),
            (Value::List(list), _) if list.schema().is_some() => return Err(EvalError::no_such_overload()),
            (Value::Map(Map::Json(_, Some(_))), _) => return Err(EvalError::no_such_overload()),
            (Value::Optional(None), Value::Optional(None)) => true,
            (Value::Optional(Some(a)), Value::Optional(Some(b))) => return a.equals(b),
            (Value::Opaque(a), Value::Opaque(b)) => a.type_name() == b.type_name() && a.equals(b.as_ref()),
            (Value::Struct(a), Value::Struct(b)) => {
                if a.name != b.name || a.fields.len() != b.fields.len() {
                    return Ok(false);
                }
                for (name, value) in &a.fields {
                    let Some(other) = b.fields.get(name) else { return Ok(false) };
                    if !value.equals(other)? {
                        return Ok(false);
                    }
                }
                true
            }
            _ => super::order::numbers(self, other) == Some(Some(std::cmp::Ordering::Equal)),
        })
    }
}

fn lists<'a>(a: &List<'a>, b: &List<'a>) -> Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    match a.schema().map(|schema| (schema, schema.list_type())) {
        Some((_, ListType::Set)) => sets(a, b),
        Some((schema, ListType::Map)) => keyed(a, b, &schema.list_map_keys()),
        _ => {
            for (x, y) in a.iter().zip(b.iter()) {
                if !x?.equals(&y?)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// Lists of the type `set` are equal in whatever order.
fn sets<'a>(a: &List<'a>, b: &List<'a>) -> Result<bool, EvalError> {
    let known = a.values()?;
    for item in b.iter() {
        if !contains(&known, &item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether one of the values is equal to `wanted`.
pub(crate) fn contains<'a>(values: &[Value<'a>], wanted: &Value<'a>) -> Result<bool, EvalError> {
    for value in values {
        if value.equals(wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Lists of the type `map` are equal if the elements with equal keys are.
fn keyed<'a>(a: &List<'a>, b: &List<'a>, keys: &[&str]) -> Result<bool, EvalError> {
    let known = a.values()?;
    for item in b.iter() {
        let item = item?;
        let Some(at) = same_keys(&known, &item, keys)? else { return Ok(false) };
        if !known[at].equals(&item)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Which of the objects has the same keys as `item`.
pub(crate) fn same_keys<'a>(
    objects: &[Value<'a>],
    item: &Value<'a>,
    keys: &[&str],
) -> Result<Option<usize>, EvalError> {
    let part = |value: &Value<'a>, key: &str| match value {
        Value::Map(Map::Json(map, _)) => Ok(map.get(key).map(|v| Value::from_json(v, None)).transpose()?),
        Value::Map(map) => map.get(&Value::String(Text::Shared(key.into()))),
        _ => Ok(None),
    };
    'objects: for (at, object) in objects.iter().enumerate() {
        for key in keys {
            let same = match (part(object, key)?, part(item, key)?) {
                (Some(a), Some(b)) => a.equals(&b)?,
                (None, None) => true,
                _ => false,
            };
            if !same {
                continue 'objects;
            }
        }
        return Ok(Some(at));
    }
    Ok(None)
}

fn maps<'a>(a: &Map<'a>, b: &Map<'a>) -> Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    match (a, b) {
        (Map::Json(json, Some(schema)), _) => return objects(json, *schema, b),
        (_, Map::Json(json, Some(schema))) => return objects(json, *schema, a),
        _ => {}
    }
    for key in a.keys() {
        match (a.get(&key)?, b.get(&key)?) {
            (Some(x), Some(y)) if x.equals(&y)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// An object with a schema: members that the schema does not know are compared as they are.
fn objects<'a>(json: &'a JsonMap, schema: &'a dyn Schema, other: &Map<'a>) -> Result<bool, EvalError> {
    for (name, value) in json.iter() {
        let known = if schema.has_properties() { schema.property(name) } else { schema.additional_properties() };
        let Some(known) = known else {
            let Map::Json(other, Some(_)) = other else { return Err(EvalError::no_such_overload()) };
            if other.get(name).is_some_and(|there| there != value) {
                return Ok(false);
            }
            continue;
        };
        let there = match other {
            Map::Json(other, _) => {
                other.get(name).filter(|v| !v.is_null() || !schema.has_properties()).read_with(known)?
            }
            Map::Values(_) => other.get(&Value::str(name))?,
        };
        let here = (!value.is_null() || !schema.has_properties()).then_some(value).read_with(known)?;
        let same = match (here, there) {
            (None, None) => true,
            (Some(a), Some(b)) => a.equals(&b)?,
            _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads what may be there.
trait Read<'a> {
    fn read_with(self, schema: &'a dyn Schema) -> Result<Option<Value<'a>>, EvalError>;
}

impl<'a> Read<'a> for Option<&'a Json> {
    fn read_with(self, schema: &'a dyn Schema) -> Result<Option<Value<'a>>, EvalError> {
        self.map(|json| Value::from_json(json, Some(schema))).transpose()
    }
}
