//! From a JSON tree to an object of a known type.
//!
//! The result is canonical: what Go would hold as a zero value is absent, times and quantities are in their one form,
//! unknown fields are gone (and noted). [`crate::encode`] is the way back.

use crate::empties::{self, Empty};
use crate::go_types::{self, decodes_itself};
use crate::model::{Field, Schema, StructId, Type};
use crate::value::{Map, Value};
use crate::{Quantity, time};
use base64::Engine as _;

/// A decoded object.
#[derive(Debug)]
pub struct Decoded {
    /// The object in canonical form.
    pub value: Value,
    /// Paths of fields that its type does not have, such as `spec.containers[0].foo`.
    pub unknown: Vec<String>,
    /// Lists and maps that were given empty, which is as good as absent.
    pub empty: Vec<Empty>,
}

/// A value does not fit its field; the words are those of Go's decoder.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadField {
    /// The JSON type is wrong.
    #[error("json: cannot unmarshal {found} into Go {place}of type {want}")]
    Type {
        /// What was there.
        found: String,
        /// `struct field X.a.b ` or `value `.
        place: String,
        /// The Go type.
        want: String,
    },
    /// The text does not parse as what it should be.
    #[error("{0}")]
    Text(String),
}

/// Decodes a tree as a struct.
///
/// # Errors
/// The first value that does not fit.
pub fn decode(schema: &Schema, id: StructId, raw: Value) -> Result<Decoded, BadField> {
    let (unknown, empty) = (Vec::new(), Vec::new());
    let mut decoder = Decoder { schema, path: Vec::new(), unknown, empty, owner: None, depth: 0 };
    let value = decoder.structure(id, raw)?;
    let Decoder { unknown, empty, .. } = decoder;
    Ok(Decoded { value, unknown, empty })
}

/// The bytes that a base64 text stands for.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

enum Step<'a> {
    Field(String),
    /// An embedded struct, which has a name in Go and none in JSON.
    Embedded(&'a str),
    Index(usize),
    Key(String),
}

struct Decoder<'a> {
    schema: &'a Schema,
    path: Vec<Step<'a>>,
    unknown: Vec<String>,
    empty: Vec<Empty>,
    owner: Option<StructId>,
    depth: usize,
}

impl<'a> Decoder<'a> {
    fn dotted(&self, last: Option<&str>) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) | Step::Key(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
                Step::Index(i) => text.push_str(&format!("[{i}]")),
                Step::Embedded(_) => {}
            }
        }
        if let Some(last) = last {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(last);
        }
        text
    }

    fn mismatch(&self, value: &Value, want: String) -> BadField {
        let found = match value {
            // Digits that a float has but does not show are told too, as they were written.
            Value::Float(n) if want.starts_with("int") && n.fract() == 0.0 => format!("number {n:.0}"),
            Value::Float(n) if want.starts_with("int") => format!("number {n}"),
            Value::Int(n) if want.starts_with("int") => format!("number {n}"),
            other => other.json_type().to_owned(),
        };
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|s| match s {
                Step::Field(name) => Some(name.as_str()),
                Step::Embedded(name) => Some(*name),
                Step::Index(_) | Step::Key(_) => None,
            })
            .collect();
        let place = match self.owner {
            Some(owner) if !fields.is_empty() => {
                format!("struct field {}.{} ", self.schema[owner].name, fields.join("."))
            }
            _ => "value ".into(),
        };
        BadField::Type { found, place, want }
    }

    fn structure(&mut self, id: StructId, raw: Value) -> Result<Value, BadField> {
        let raw = match raw {
            Value::Object(raw) => raw,
            Value::Null => return Ok(Value::object()),
            other => return Err(self.mismatch(&other, go_types::of_struct(self.schema, id))),
        };
        let outer = self.owner.replace(id);
        self.depth += 1;
        let mut out = Map::with_capacity(raw.len());
        for (name, value) in raw {
            let Some(field) = self.schema.field(id, &name) else {
                self.unknown.push(self.dotted(Some(&name)));
                continue;
            };
            if value.is_null() {
                // A pointer to raw JSON may hold null itself; everything else becomes its zero value.
                continue;
            }
            let before = self.path.len();
            self.path.extend(self.schema.embedded(id, &name).map(Step::Embedded));
            self.path.push(Step::Field(name.to_string()));
            let value = self.field(field, value)?;
            self.path.truncate(before);
            if let Some(value) = value {
                out.insert(name, value);
            }
        }
        self.owner = outer;
        self.depth -= 1;
        Ok(Value::Object(out))
    }

    /// A field's value; `None` when it is the zero value that absence stands for.
    fn field(&mut self, field: &Field, raw: Value) -> Result<Option<Value>, BadField> {
        let value = match (&field.ty, &raw) {
            (Type::Struct(id), Value::Object(_)) => self.structure(*id, raw)?,
            (Type::List(_) | Type::Map(_), Value::Array(_) | Value::Object(_)) => {
                let (schema, owner) = (self.schema, self.owner);
                let want = || go_types::of_field(schema, owner, field);
                match (&field.ty, raw) {
                    (Type::List(element), Value::Array(items)) => {
                        self.list(element, items).map_err(|error| match error {
                            // Elements may have a type with a name.
                            BadField::Type { found, place, want: it } if it == go_types::of(schema, element) => {
                                let named = want();
                                let want = named.strip_prefix("[]").unwrap_or(&named).to_owned();
                                BadField::Type { found, place, want }
                            }
                            other => other,
                        })?
                    }
                    (Type::Map(element), Value::Object(map)) => {
                        self.map(element, map).map_err(|error| match error {
                            BadField::Type { found, place, want: it } if it == go_types::of(schema, element) => {
                                let named = want();
                                let value = named.strip_prefix("map[").and_then(|t| t.split_once(']'));
                                let want = value.map_or(it, |(_, value)| value.to_owned());
                                BadField::Type { found, place, want }
                            }
                            other => other,
                        })?
                    }
                    (_, raw) => return Err(self.mismatch(&raw, want())),
                }
            }
            _ => match self.scalar(&field.ty, raw) {
                Ok(value) => value,
                // The two forms of a number or text are decoded on their own.
                Err(BadField::Type { found, place, .. }) if !decodes_itself(&field.ty) => {
                    let want = go_types::of_field(self.schema, self.owner, field);
                    return Err(BadField::Type { found, place, want });
                }
                Err(other) => return Err(other),
            },
        };
        if !is_absent(field, &value) {
            return Ok(Some(value));
        }
        if matches!((&field.ty, &value), (Type::List(_), Value::Array(_)) | (Type::Map(_), Value::Object(_))) {
            let path = self.path.iter().filter_map(|step| match step {
                Step::Field(name) | Step::Key(name) => Some(empties::Step::Field(name.clone())),
                Step::Index(i) => Some(empties::Step::Index(*i)),
                Step::Embedded(_) => None,
            });
            self.empty.push(Empty::new(path.collect(), matches!(value, Value::Array(_))));
        }
        Ok(None)
    }

    fn list(&mut self, element: &Type, items: Vec<Value>) -> Result<Value, BadField> {
        let mut out = Vec::with_capacity(items.len());
        for (i, item) in items.into_iter().enumerate() {
            self.path.push(Step::Index(i));
            out.push(if item.is_null() { zero(element) } else { self.value(element, item)? });
            self.path.pop();
        }
        Ok(Value::Array(out))
    }

    fn map(&mut self, element: &Type, map: Map) -> Result<Value, BadField> {
        let mut out = Map::with_capacity(map.len());
        for (key, value) in map {
            self.path.push(Step::Key(key.to_string()));
            let value = if value.is_null() { zero(element) } else { self.value(element, value)? };
            self.path.pop();
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }

    fn value(&mut self, ty: &Type, raw: Value) -> Result<Value, BadField> {
        match (ty, raw) {
            (Type::Struct(id), raw) => self.structure(*id, raw),
            (Type::List(element), Value::Array(items)) => self.list(element, items),
            (Type::Map(element), Value::Object(map)) => self.map(element, map),
            (ty, raw) => self.scalar(ty, raw),
        }
    }

    fn schema_props(&self) -> Type {
        match self.owner.and_then(|id| self.schema.type_named(&format!("{}.JSONSchemaProps", self.schema[id].package)))
        {
            Some(id) => Type::Struct(id),
            None => Type::Any,
        }
    }

    fn scalar(&mut self, ty: &Type, raw: Value) -> Result<Value, BadField> {
        let text_error = BadField::Text;
        Ok(match (ty, raw) {
            (Type::String, Value::String(s)) => Value::String(s),
            (Type::Bool, Value::Bool(b)) => Value::Bool(b),
            (Type::Int32, Value::Int(n)) if i32::try_from(n).is_ok() => Value::Int(n),
            (Type::Int64, Value::Int(n)) => Value::Int(n),
            (Type::Double, Value::Int(n)) => Value::Float(n as f64),
            (Type::Double, Value::Float(n)) => Value::Float(n),
            (Type::Bytes, Value::String(text)) => {
                let clean: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
                let engine = &base64::engine::general_purpose::STANDARD;
                match engine.decode(&clean) {
                    Ok(_) => Value::String(clean),
                    Err(error) => {
                        let at = match error {
                            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
                                at
                            }
                            _ => clean.len() / 4 * 4,
                        };
                        return Err(text_error(format!("illegal base64 data at input byte {at}")));
                    }
                }
            }
            (Type::Quantity, Value::String(text)) => Value::String(quantity(&text)?),
            (Type::Quantity, Value::Int(n)) => Value::String(quantity(&n.to_string())?),
            (Type::Quantity, Value::Float(n)) => Value::String(quantity(&n.to_string())?),
            (Type::Time, Value::String(text)) => Value::String(time::seconds(time::parse(&text).map_err(text_error)?)),
            (Type::MicroTime, Value::String(text)) => {
                Value::String(time::micros(time::parse_micros(&text).map_err(text_error)?))
            }
            (Type::Duration, Value::String(text)) => match time::parse_duration(&text) {
                Some(nanos) => Value::String(time::duration(nanos)),
                None => return Err(text_error(format!("time: invalid duration {text:?}"))),
            },
            (Type::IntOrString, Value::Int(n)) if i32::try_from(n).is_ok() => Value::Int(n),
            (Type::IntOrString, Value::String(text)) => Value::String(text),
            (Type::IntOrString, other) => return Err(self.mismatch(&other, "int32".into())),
            (Type::Time | Type::MicroTime | Type::Duration, other) => {
                return Err(self.mismatch(&other, "string".into()));
            }
            (Type::Quantity, _) => return Err(text_error(crate::quantity::BadQuantity::Form.to_string())),
            (Type::RawExtension | Type::Json | Type::Any | Type::FieldsV1, value) => value,
            (Type::SchemaOrBool, Value::Bool(b)) => Value::Bool(b),
            (Type::SchemaOrBool, value @ Value::Object(_)) => {
                let ty = self.schema_props();
                self.value(&ty, value)?
            }
            (Type::SchemaOrBool, _) => return Err(text_error("boolean or JSON schema expected".into())),
            (Type::SchemaOrArray | Type::SchemaOrStrings, value @ Value::Object(_)) => {
                let ty = self.schema_props();
                self.value(&ty, value)?
            }
            // Go's decoder looks for a bracket or a brace, and takes all else for neither.
            (Type::SchemaOrArray, Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_)) => {
                Value::Array(Vec::new())
            }
            (Type::SchemaOrArray, Value::Array(items)) => {
                let ty = self.schema_props();
                self.list(&ty, items)?
            }
            (Type::SchemaOrStrings, Value::Array(items)) => self.list(&Type::String, items)?,
            (ty, other) => return Err(self.mismatch(&other, go_types::of(self.schema, ty))),
        })
    }
}

fn quantity(text: &str) -> Result<String, BadField> {
    let parsed: Quantity =
        text.trim().parse().map_err(|e: crate::quantity::BadQuantity| BadField::Text(e.to_string()))?;
    Ok(parsed.to_string())
}

/// Whether a canonical object leaves a field with this value out.
pub(crate) fn is_absent(field: &Field, value: &Value) -> bool {
    if value.is_null() {
        return true;
    }
    if field.ptr {
        return false;
    }
    match (&field.ty, value) {
        (Type::String | Type::Bytes, Value::String(text)) => text.is_empty() && !field.keeps_empty,
        (Type::Quantity, Value::String(text)) => text == "0",
        (Type::Duration, Value::String(text)) => text == "0s",
        (Type::Bool, Value::Bool(b)) => !b,
        (Type::Int32 | Type::Int64 | Type::IntOrString, Value::Int(0)) => true,
        (Type::Double, Value::Float(n)) => *n == 0.0,
        (Type::List(_), Value::Array(items)) => field.omit && items.is_empty() && !field.keeps_empty,
        (Type::Map(_), Value::Object(map)) => field.omit && map.is_empty(),
        (Type::Struct(_), Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}

/// The zero value of a type, as a list element or map value.
pub(crate) fn zero(ty: &Type) -> Value {
    match ty {
        Type::String | Type::Bytes => Value::String(String::new()),
        Type::Bool => Value::Bool(false),
        Type::Int32 | Type::Int64 | Type::IntOrString => Value::Int(0),
        Type::Double => Value::Float(0.0),
        Type::Quantity => Value::String("0".into()),
        Type::Duration => Value::String("0s".into()),
        Type::Struct(_) => Value::object(),
        _ => Value::Null,
    }
}
