//! What expressions are about. Values borrow from the objects that they look at, and share what they make.

mod equal;
pub(crate) use equal::{contains, same_keys};
mod json;
mod list;
mod map;
pub(crate) mod order;
mod schema;
pub(crate) mod time;

pub use json::to_json;
pub use list::List;
pub use map::{Key, Map};
pub use schema::{ListType, Schema, SchemaType};
pub use time::Timestamp;

use crate::types::Type;
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is not below zero.
    Uint(u64),
    /// Any number.
    Double(f64),
    /// Text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A span of time, in nanoseconds.
    Duration(i64),
    /// A point in time.
    Timestamp(Timestamp),
    /// A list.
    List(List<'a>),
    /// A map, or an object that is read from JSON.
    Map(Map<'a>),
    /// An object that the expression made.
    Struct(Arc<Struct<'a>>),
    /// Something that may be absent.
    Optional(Option<Arc<Value<'a>>>),
    /// A type.
    Type(Type),
    /// What only its functions know: a quantity, an address.
    Opaque(Arc<dyn Opaque>),
}

/// Text, borrowed or shared.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// Part of something that outlives the evaluation.
    Borrowed(&'a str),
    /// Made by an evaluation, or part of the expression.
    Shared(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Shared(text) => text,
        }
    }
}

/// An object made by `Type{field: value}`.
#[derive(Clone, Debug)]
pub struct Struct<'a> {
    /// The full name of its type.
    pub name: Arc<str>,
    /// The fields that are set.
    pub fields: BTreeMap<String, Value<'a>>,
}

/// A value of a type that only its own functions look into.
pub trait Opaque: fmt::Debug + Send + Sync + Any {
    /// The name of its type.
    fn type_name(&self) -> &'static str;

    /// Whether both are the same. Only called with a value of the same type name.
    fn equals(&self, other: &dyn Opaque) -> bool;

    /// Its size, for what it costs to look at it.
    fn size(&self) -> Option<u64> {
        None
    }
}

impl<'a> Value<'a> {
    /// Text that is shared.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Value::String(Text::Shared(text.into()))
    }

    /// Text that is borrowed.
    pub fn str(text: &'a str) -> Self {
        Value::String(Text::Borrowed(text))
    }

    /// Bytes.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Value::Bytes(bytes.into())
    }

    /// A list of values.
    pub fn list(items: Vec<Value<'a>>) -> Self {
        Value::List(List::Values(Arc::new(items)))
    }

    /// An optional that holds something.
    pub fn some(value: Value<'a>) -> Self {
        Value::Optional(Some(Arc::new(value)))
    }

    /// A value that only its own functions look into.
    pub fn opaque(value: impl Opaque) -> Self {
        Value::Opaque(Arc::new(value))
    }

    /// The opaque value, if it is one of this type.
    pub fn as_opaque<T: 'static>(&self) -> Option<&T> {
        match self {
            Value::Opaque(value) => (&**value as &dyn Any).downcast_ref(),
            _ => None,
        }
    }

    /// The text, if this is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The type that `type(x)` gives; parameters of lists and maps are not known.
    pub fn type_of(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::Bytes(_) => Type::Bytes,
            Value::Duration(_) => Type::Duration,
            Value::Timestamp(_) => Type::Timestamp,
            Value::List(_) => Type::list(Type::Dyn),
            Value::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Value::Struct(object) => Type::Struct(object.name.clone()),
            Value::Optional(_) => Type::optional(Type::Dyn),
            Value::Type(_) => Type::Type(None),
            Value::Opaque(value) => Type::opaque(value.type_name()),
        }
    }

    /// The size that counts for costs: of text in code points, of containers in elements, 1 for what has none.
    pub(crate) fn cost_size(&self) -> u64 {
        match self {
            Value::String(text) => text.chars().count() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            Value::Optional(Some(value)) => value.cost_size(),
            Value::Opaque(value) => value.size().unwrap_or(1),
            _ => 1,
        }
    }
}

impl fmt::Display for Value<'_> {
    /// As Go prints the values in cel-go's errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Int(n) => write!(f, "{n}"),
            Value::Uint(n) => write!(f, "{n}"),
            Value::Double(n) => f.write_str(&crate::library::format_double(*n)),
            Value::String(text) => f.write_str(text),
            Value::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Value::Duration(nanos) => f.write_str(&time::duration_text(*nanos)),
            Value::Timestamp(at) => write!(f, "{at}"),
            Value::Type(t) => f.write_str(t.name()),
            other => f.write_str(other.type_of().name()),
        }
    }
}
