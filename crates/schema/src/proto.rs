//! Protobuf as Kubernetes speaks it: `k8s\0`, then a `runtime.Unknown` with the object's bytes.
//!
//! Fields are written in the order of their numbers and scalars always, as upstream's generated code does; the vectors
//! in `../shared/vectors/wire` hold us to every byte.

use crate::model::{Field, Schema, StructId, Type};
use crate::value::{Key, Map, Value};
use crate::{json, time};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

/// What the body of a Kubernetes protobuf message begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// Bytes that are no message of the type.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadProto {
    /// The magic bytes are missing.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    /// A field ends after the message does.
    #[error("proto: unexpected EOF")]
    End,
    /// No field has this number.
    #[error("proto: Unknown: illegal tag {tag} (wire type {wire})")]
    Illegal {
        /// The number.
        tag: u32,
        /// What follows it.
        wire: u8,
    },
    /// A number is longer than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// The wire type does not fit the field.
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WireType {
        /// What was there.
        wire: u8,
        /// The JSON name of the field.
        field: String,
    },
    /// Text that is no UTF-8 or JSON that is no JSON.
    #[error("proto: field {0} holds invalid data")]
    Data(String),
    /// Messages within messages without end.
    #[error("proto: nesting too deep")]
    Depth,
}

/// A message in its envelope, not yet decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// The object's own bytes.
    pub raw: Vec<u8>,
    /// Empty, or what `raw` is.
    pub content_type: String,
}

impl Envelope {
    /// Opens an envelope.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn open(bytes: &[u8]) -> Result<Self, BadProto> {
        let mut reader = Reader(bytes.strip_prefix(MAGIC).ok_or(BadProto::Magic)?);
        let mut envelope = Self::default();
        while let Some((tag, wire)) = reader.tag()? {
            match (tag, wire) {
                (0, _) => return Err(BadProto::Illegal { tag, wire }),
                (1, 2) => {
                    let mut meta = Reader(reader.bytes()?);
                    while let Some((tag, wire)) = meta.tag()? {
                        match (tag, wire) {
                            (1, 2) => envelope.api_version = meta.text("apiVersion")?,
                            (2, 2) => envelope.kind = meta.text("kind")?,
                            _ => meta.skip(wire)?,
                        }
                    }
                }
                (2, 2) => envelope.raw = reader.bytes()?.to_vec(),
                (4, 2) => envelope.content_type = reader.text("contentType")?,
                _ => reader.skip(wire)?,
            }
        }
        Ok(envelope)
    }

    /// Closes an envelope.
    pub fn seal(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.raw.len() + 64);
        out.extend_from_slice(MAGIC);
        let mut meta = Vec::new();
        put_bytes(1, self.api_version.as_bytes(), &mut meta);
        put_bytes(2, self.kind.as_bytes(), &mut meta);
        put_bytes(1, &meta, &mut out);
        put_bytes(2, &self.raw, &mut out);
        put_bytes(3, b"", &mut out);
        put_bytes(4, self.content_type.as_bytes(), &mut out);
        out
    }
}

/// Encodes an object with its envelope.
pub fn encode(schema: &Schema, id: StructId, value: &Value) -> Vec<u8> {
    let mut raw = Vec::with_capacity(512);
    message(schema, id, value, &mut raw);
    Envelope {
        api_version: value.str_at(&["apiVersion"]).to_owned(),
        kind: value.str_at(&["kind"]).to_owned(),
        raw,
        content_type: String::new(),
    }
    .seal()
}

fn put_varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_tag(tag: u32, wire: u8, out: &mut Vec<u8>) {
    put_varint(u64::from(tag) << 3 | u64::from(wire), out);
}

fn put_bytes(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_tag(tag, 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_int(tag: u32, n: i64, out: &mut Vec<u8>) {
    put_tag(tag, 0, out);
    put_varint(n as u64, out);
}

/// Appends a struct's fields.
pub fn message(schema: &Schema, id: StructId, value: &Value, out: &mut Vec<u8>) {
    let s = &schema[id];
    for &i in &s.by_tag {
        let field = &s.fields[i];
        let Some(tag) = field.tag else { continue };
        if field.inline {
            if let Type::Struct(inner) = &field.ty {
                let mut nested = Vec::new();
                message(schema, *inner, value, &mut nested);
                put_bytes(tag, &nested, out);
            }
            continue;
        }
        match (value.get(&field.name), &field.ty) {
            (Some(Value::Array(items)), Type::List(element)) if field.wrap => {
                let mut nested = Vec::new();
                for item in items {
                    single(schema, id, 1, element, item, &mut nested);
                }
                put_bytes(tag, &nested, out);
            }
            (Some(Value::Array(items)), Type::List(element)) => {
                for item in items {
                    single(schema, id, tag, element, item, out);
                }
            }
            (Some(Value::Object(map)), Type::Map(inner)) => {
                for (key, value) in map.iter() {
                    let mut entry = Vec::new();
                    put_bytes(1, key.as_bytes(), &mut entry);
                    match (&**inner, value) {
                        (Type::List(element), Value::Array(items)) => {
                            let mut nested = Vec::new();
                            for item in items {
                                single(schema, id, 1, element, item, &mut nested);
                            }
                            put_bytes(2, &nested, &mut entry);
                        }
                        // A nil list is still a message; nil bytes are left out.
                        (Type::List(_), _) => put_bytes(2, b"", &mut entry),
                        (inner, value) => single(schema, id, 2, inner, value, &mut entry),
                    }
                    put_bytes(tag, &entry, out);
                }
            }
            (Some(value), ty) => single(schema, id, tag, ty, value, out),
            (None, Type::List(_) | Type::Map(_) | Type::Bytes | Type::FieldsV1 | Type::Any) => {}
            (None, _) if field.ptr => {}
            (None, ty) => single(schema, id, tag, ty, &crate::decode::zero(ty), out),
        }
    }
}

fn schema_props(schema: &Schema, owner: StructId) -> Option<StructId> {
    schema.type_named(&format!("{}.JSONSchemaProps", schema[owner].package))
}

fn timestamp(text: &str) -> Option<Timestamp> {
    time::parse(text).ok()
}

fn single(schema: &Schema, owner: StructId, tag: u32, ty: &Type, value: &Value, out: &mut Vec<u8>) {
    match (ty, value) {
        (Type::String, value) => put_bytes(tag, value.as_str().unwrap_or_default().as_bytes(), out),
        (Type::Bool, value) => put_int(tag, i64::from(value.as_bool().unwrap_or_default()), out),
        (Type::Int32 | Type::Int64, value) => put_int(tag, value.as_int().unwrap_or_default(), out),
        (Type::Double, value) => {
            let n = match value {
                Value::Float(n) => *n,
                Value::Int(n) => *n as f64,
                _ => 0.0,
            };
            put_tag(tag, 1, out);
            out.extend_from_slice(&n.to_le_bytes());
        }
        (Type::Bytes, Value::String(text)) => put_bytes(tag, &STANDARD.decode(text).unwrap_or_default(), out),
        (Type::Bytes, _) => {}
        (Type::Quantity, value) => {
            let mut nested = Vec::new();
            put_bytes(1, value.as_str().unwrap_or("0").as_bytes(), &mut nested);
            put_bytes(tag, &nested, out);
        }
        (Type::Time | Type::MicroTime, value) => {
            let mut nested = Vec::new();
            if let Some(at) = value.as_str().and_then(timestamp) {
                put_int(1, at.as_second(), &mut nested);
                let nanos = if *ty == Type::Time { 0 } else { at.subsec_nanosecond() / 1000 * 1000 };
                put_int(2, nanos.into(), &mut nested);
            }
            put_bytes(tag, &nested, out);
        }
        (Type::Duration, value) => {
            let mut nested = Vec::new();
            put_int(1, value.as_str().and_then(time::parse_duration).unwrap_or_default(), &mut nested);
            put_bytes(tag, &nested, out);
        }
        (Type::IntOrString, value) => {
            let mut nested = Vec::new();
            put_int(1, i64::from(value.as_str().is_some()), &mut nested);
            put_int(2, value.as_int().unwrap_or_default(), &mut nested);
            put_bytes(3, value.as_str().unwrap_or_default().as_bytes(), &mut nested);
            put_bytes(tag, &nested, out);
        }
        (Type::RawExtension | Type::FieldsV1 | Type::Json, value) => {
            let mut nested = Vec::new();
            if !value.is_null() || *ty == Type::Json {
                put_bytes(1, &json::to_vec(value), &mut nested);
            }
            put_bytes(tag, &nested, out);
        }
        (Type::SchemaOrBool | Type::SchemaOrArray | Type::SchemaOrStrings, value) => {
            let Some(props) = schema_props(schema, owner) else { return };
            let mut nested = Vec::new();
            let mut inner = Vec::new();
            let (own, list) = if *ty == Type::SchemaOrBool { (2, 0) } else { (1, 2) };
            if *ty == Type::SchemaOrBool {
                // Upstream reads a schema as "allowed".
                put_int(1, i64::from(value.as_bool().unwrap_or(true)), &mut nested);
            }
            match value {
                Value::Object(_) => {
                    message(schema, props, value, &mut inner);
                    put_bytes(own, &inner, &mut nested);
                }
                Value::Array(items) => {
                    for item in items {
                        let element = if *ty == Type::SchemaOrStrings { Type::String } else { Type::Struct(props) };
                        single(schema, owner, list, &element, item, &mut nested);
                    }
                }
                _ => {}
            }
            put_bytes(tag, &nested, out);
        }
        (Type::Struct(id), value) => {
            let mut nested = Vec::new();
            message(schema, *id, value, &mut nested);
            put_bytes(tag, &nested, out);
        }
        (Type::Any | Type::List(_) | Type::Map(_), _) => {}
    }
}

/// Decodes a struct's fields into a tree in the form of its JSON (pass it to [`crate::decode::decode`] to check it).
///
/// # Errors
/// When the bytes are no message of that type.
pub fn decode(schema: &Schema, id: StructId, bytes: &[u8]) -> Result<Value, BadProto> {
    let mut map = Map::new();
    read(schema, id, bytes, &mut map, 0)?;
    Ok(Value::Object(map))
}

/// Decodes an enveloped object; the envelope's kind and version become its `kind` and `apiVersion`.
///
/// # Errors
/// As [`decode`].
pub fn decode_envelope(schema: &Schema, id: StructId, envelope: &Envelope) -> Result<Value, BadProto> {
    let mut value = decode(schema, id, &envelope.raw)?;
    value.set_at(&["apiVersion"], envelope.api_version.as_str());
    value.set_at(&["kind"], envelope.kind.as_str());
    Ok(value)
}

const DEEPEST: usize = 100;

fn read(schema: &Schema, id: StructId, bytes: &[u8], out: &mut Map, depth: usize) -> Result<(), BadProto> {
    if depth > DEEPEST {
        return Err(BadProto::Depth);
    }
    let s = &schema[id];
    let mut reader = Reader(bytes);
    while let Some((tag, wire)) = reader.tag()? {
        let found = s.by_tag.binary_search_by_key(&Some(tag), |&i| s.fields[i].tag);
        let Ok(position) = found else {
            reader.skip(wire)?;
            continue;
        };
        let field = &s.fields[s.by_tag[position]];
        let place = Place { schema, owner: id, field, depth };
        if let (Type::Struct(inner), true) = (&field.ty, field.inline) {
            read(schema, *inner, reader.message(wire, field)?, out, depth + 1)?;
            continue;
        }
        match &field.ty {
            Type::List(element) if field.wrap => {
                let items = place.items(element, reader.message(wire, field)?)?;
                out.insert(field.name.as_str(), Value::Array(items));
            }
            Type::List(element) => {
                let item = place.single(element, wire, &mut reader)?;
                if let Value::Array(items) = out.entry(&field.name, || Value::Array(Vec::new())) {
                    items.push(item);
                }
            }
            Type::Map(inner) => {
                let mut entry = Reader(reader.message(wire, field)?);
                let (mut key, mut value) = (String::new(), None);
                while let Some((tag, wire)) = entry.tag()? {
                    match (tag, wire) {
                        (1, 2) => key = entry.text(&field.name)?,
                        (2, _) => {
                            value = Some(match &**inner {
                                Type::List(element) => Value::Array(place.items(element, entry.message(wire, field)?)?),
                                inner => place.single(inner, wire, &mut entry)?,
                            });
                        }
                        _ => entry.skip(wire)?,
                    }
                }
                out.object(&field.name).insert(Key::from(key), value.unwrap_or_else(|| crate::decode::zero(inner)));
            }
            ty => {
                let value = place.single(ty, wire, &mut reader)?;
                if !value.is_null() {
                    out.insert(field.name.as_str(), value);
                }
            }
        }
    }
    Ok(())
}

struct Place<'a> {
    schema: &'a Schema,
    owner: StructId,
    field: &'a Field,
    depth: usize,
}

impl Place<'_> {
    fn items(&self, element: &Type, bytes: &[u8]) -> Result<Vec<Value>, BadProto> {
        let mut reader = Reader(bytes);
        let mut items = Vec::new();
        while let Some((tag, wire)) = reader.tag()? {
            match tag {
                1 => items.push(self.single(element, wire, &mut reader)?),
                _ => reader.skip(wire)?,
            }
        }
        Ok(items)
    }

    fn single(&self, ty: &Type, wire: u8, reader: &mut Reader<'_>) -> Result<Value, BadProto> {
        let name = &self.field.name;
        let wrong = || BadProto::WireType { wire, field: name.clone() };
        match ty {
            Type::Bool | Type::Int32 | Type::Int64 => {
                if wire != 0 {
                    return Err(wrong());
                }
                let n = reader.varint()?;
                return Ok(match ty {
                    Type::Bool => Value::Bool(n != 0),
                    Type::Int32 => Value::Int(i64::from(n as i32)),
                    _ => Value::Int(n as i64),
                });
            }
            Type::Double => {
                if wire != 1 {
                    return Err(wrong());
                }
                let n = f64::from_le_bytes(reader.fixed()?);
                return if n.is_finite() { Ok(Value::Float(n)) } else { Err(BadProto::Data(name.clone())) };
            }
            _ => {}
        }
        let bytes = reader.message(wire, self.field)?;
        let mut inner = Reader(bytes);
        Ok(match ty {
            Type::String => Value::String(Reader::utf8(bytes, name)?),
            Type::Bytes => Value::String(STANDARD.encode(bytes)),
            Type::Struct(id) => {
                let mut map = Map::new();
                read(self.schema, *id, bytes, &mut map, self.depth + 1)?;
                Value::Object(map)
            }
            Type::Quantity => Value::String(inner.first_text(1, name)?.unwrap_or_else(|| "0".into())),
            Type::Time | Type::MicroTime => {
                let (mut seconds, mut nanos, mut any) = (0_i64, 0_i32, false);
                while let Some((tag, wire)) = inner.tag()? {
                    any = true;
                    match (tag, wire) {
                        (1, 0) => seconds = inner.varint()? as i64,
                        (2, 0) => nanos = inner.varint()? as i32,
                        _ => inner.skip(wire)?,
                    }
                }
                if !any {
                    return Ok(Value::Null);
                }
                let at = Timestamp::new(seconds, nanos).map_err(|_| BadProto::Data(name.clone()))?;
                Value::String(if *ty == Type::Time { time::seconds(at) } else { time::micros(at) })
            }
            Type::Duration => {
                let mut nanos = 0;
                while let Some((tag, wire)) = inner.tag()? {
                    match (tag, wire) {
                        (1, 0) => nanos = inner.varint()? as i64,
                        _ => inner.skip(wire)?,
                    }
                }
                Value::String(time::duration(nanos))
            }
            Type::IntOrString => {
                let (mut text, mut n, mut is_text) = (String::new(), 0, false);
                while let Some((tag, wire)) = inner.tag()? {
                    match (tag, wire) {
                        (1, 0) => is_text = inner.varint()? != 0,
                        (2, 0) => n = i64::from(inner.varint()? as i32),
                        (3, 2) => text = inner.text(name)?,
                        _ => inner.skip(wire)?,
                    }
                }
                if is_text { Value::String(text) } else { Value::Int(n) }
            }
            Type::RawExtension | Type::FieldsV1 | Type::Json => {
                let mut value = Value::Null;
                while let Some((tag, wire)) = inner.tag()? {
                    match (tag, wire) {
                        (1, 2) => {
                            value = json::parse(inner.bytes()?).map_err(|_| BadProto::Data(name.clone()))?;
                        }
                        _ => inner.skip(wire)?,
                    }
                }
                value
            }
            Type::SchemaOrBool | Type::SchemaOrArray | Type::SchemaOrStrings => self.either(ty, &mut inner)?,
            Type::Any | Type::List(_) | Type::Map(_) | Type::Bool | Type::Int32 | Type::Int64 | Type::Double => {
                Value::Null
            }
        })
    }

    fn either(&self, ty: &Type, inner: &mut Reader<'_>) -> Result<Value, BadProto> {
        let Some(props) = schema_props(self.schema, self.owner) else { return Ok(Value::Null) };
        let (own, list) = if *ty == Type::SchemaOrBool { (2, 0) } else { (1, 2) };
        let mut value = Value::Null;
        while let Some((tag, wire)) = inner.tag()? {
            if tag == own && wire == 2 {
                let mut map = Map::new();
                read(self.schema, props, inner.bytes()?, &mut map, self.depth + 1)?;
                value = Value::Object(map);
            } else if tag == 1 && wire == 0 {
                let allowed = inner.varint()? != 0;
                if value.is_null() {
                    value = Value::Bool(allowed);
                }
            } else if tag == list && wire == 2 {
                let element = if *ty == Type::SchemaOrStrings { Type::String } else { Type::Struct(props) };
                let item = self.single(&element, wire, inner)?;
                match &mut value {
                    Value::Array(items) => items.push(item),
                    other => *other = Value::Array(vec![item]),
                }
            } else {
                inner.skip(wire)?;
            }
        }
        Ok(value)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, BadProto> {
        let mut n = 0_u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(BadProto::End)?;
            self.0 = rest;
            if shift >= 64 {
                return Err(BadProto::Overflow);
            }
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(BadProto::Overflow)
    }

    /// The next field's number and wire type; `None` at the end.
    fn tag(&mut self) -> Result<Option<(u32, u8)>, BadProto> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).map_err(|_| BadProto::Overflow)?;
        Ok(Some((tag, (key & 7) as u8)))
    }

    fn bytes(&mut self) -> Result<&'a [u8], BadProto> {
        let length = usize::try_from(self.varint()?).map_err(|_| BadProto::Overflow)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(BadProto::End)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn message(&mut self, wire: u8, field: &Field) -> Result<&'a [u8], BadProto> {
        if wire == 2 { self.bytes() } else { Err(BadProto::WireType { wire, field: field.name.clone() }) }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], BadProto> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(BadProto::End)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn utf8(bytes: &[u8], field: &str) -> Result<String, BadProto> {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| BadProto::Data(field.to_owned()))
    }

    fn text(&mut self, field: &str) -> Result<String, BadProto> {
        Self::utf8(self.bytes()?, field)
    }

    fn first_text(&mut self, wanted: u32, field: &str) -> Result<Option<String>, BadProto> {
        let mut found = None;
        while let Some((tag, wire)) = self.tag()? {
            if tag == wanted && wire == 2 {
                found = Some(self.text(field)?);
            } else {
                self.skip(wire)?;
            }
        }
        Ok(found)
    }

    fn skip(&mut self, wire: u8) -> Result<(), BadProto> {
        match wire {
            0 => self.varint().map(drop),
            1 => self.fixed::<8>().map(drop),
            2 => self.bytes().map(drop),
            5 => self.fixed::<4>().map(drop),
            _ => Err(BadProto::WireType { wire, field: "(unknown)".into() }),
        }
    }
}
