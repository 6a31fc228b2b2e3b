//! What values can be, as the checker sees it.

use std::fmt;
use std::sync::Arc;

/// A type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Known only when the expression is evaluated.
    Dyn,
    /// `google.protobuf.Any`.
    Any,
    /// The type of `null`.
    Null,
    /// `true` and `false`.
    Bool,
    /// 64 bits with a sign.
    Int,
    /// 64 bits without.
    Uint,
    /// IEEE 754, 64 bits.
    Double,
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// A span of time.
    Duration,
    /// A point in time.
    Timestamp,
    /// A list of.
    List(Arc<Type>),
    /// A map from, to.
    Map(Arc<Type>, Arc<Type>),
    /// A message or object with named fields.
    Struct(Arc<str>),
    /// A named type without visible inside, and its parameters: `optional_type(int)`, `net.IP`.
    Opaque(Arc<str>, Arc<[Type]>),
    /// A scalar that may be null.
    Wrapper(Arc<Type>),
    /// The type of a type.
    Type(Option<Arc<Type>>),
    /// A parameter of a function's declaration.
    Param(&'static str),
    /// A parameter while it is being resolved.
    Var(u32),
    /// What has no type, since something is wrong with it.
    Error,
}

impl Type {
    /// A list of `element`.
    pub fn list(element: Type) -> Self {
        Type::List(Arc::new(element))
    }

    /// A map from `key` to `value`.
    pub fn map(key: Type, value: Type) -> Self {
        Type::Map(Arc::new(key), Arc::new(value))
    }

    /// An object type.
    pub fn object(name: &str) -> Self {
        Type::Struct(name.into())
    }

    /// A named type without parameters.
    pub fn opaque(name: &str) -> Self {
        Type::Opaque(name.into(), [].into())
    }

    /// What may be absent.
    pub fn optional(value: Type) -> Self {
        Type::Opaque(OPTIONAL.into(), [value].into())
    }

    /// A scalar that may be null.
    pub fn nullable(value: Type) -> Self {
        Type::Wrapper(Arc::new(value))
    }

    /// The type of the type.
    pub fn of_type(inner: Type) -> Self {
        Type::Type(Some(Arc::new(inner)))
    }

    /// What an optional holds.
    pub(crate) fn optional_value(&self) -> Option<&Type> {
        match self {
            Type::Opaque(name, params) if &**name == OPTIONAL => params.first(),
            _ => None,
        }
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn | Type::Any)
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Type::Dyn | Type::Any | Type::Error)
    }

    /// The name that `type(x)` gives, without parameters.
    pub fn name(&self) -> &str {
        match self {
            Type::Dyn => "dyn",
            Type::Any => "google.protobuf.Any",
            Type::Null => "null_type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Duration => "google.protobuf.Duration",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::List(_) => "list",
            Type::Map(..) => "map",
            Type::Struct(name) | Type::Opaque(name, _) => name,
            Type::Wrapper(inner) => inner.name(),
            Type::Type(_) => "type",
            Type::Param(name) => name,
            Type::Var(_) => "var",
            Type::Error => "!error!",
        }
    }

    /// Of one size, always.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
            Type::Wrapper(inner) => inner.is_scalar(),
            _ => self.optional_value().is_some_and(Type::is_scalar),
        }
    }
}

/// The name of the type of optionals.
pub(crate) const OPTIONAL: &str = "optional_type";

impl fmt::Display for Type {
    /// As cel-go writes types in its messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Any => f.write_str("any"),
            Type::Null => f.write_str("null"),
            Type::Duration => f.write_str("duration"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::List(element) => write!(f, "list({element})"),
            Type::Map(key, value) => write!(f, "map({key}, {value})"),
            Type::Opaque(name, params) if !params.is_empty() => write!(f, "{name}({})", joined(params.iter())),
            Type::Wrapper(inner) => write!(f, "wrapper({inner})"),
            Type::Type(Some(inner)) => write!(f, "type({inner})"),
            Type::Var(n) => write!(f, "_var{n}"),
            other => f.write_str(other.name()),
        }
    }
}

/// `int, string`.
pub(crate) fn joined<'a>(types: impl IntoIterator<Item = &'a Type>) -> String {
    types.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
