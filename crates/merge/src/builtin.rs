//! The types of the built-in API.

use crate::types::{List, Place, Scalar, Shape, Type};
use trireme_schema::{Field, ListKind, StructId, Value, builtin};

/// A type of the built-in API, with the field that leads to it.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    kind: Kind,
    field: Option<&'static Field>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Struct(StructId),
    Other(&'static trireme_schema::Type),
}

impl Builtin {
    /// A struct, such as that of a kind.
    pub fn of(id: StructId) -> Place<Self> {
        Place::Typed(Self { kind: Kind::Struct(id), field: None })
    }

    fn at(ty: &'static trireme_schema::Type, field: Option<&'static Field>) -> Place<Self> {
        use trireme_schema::Type as T;
        match ty {
            T::RawExtension | T::Json | T::Any | T::SchemaOrArray | T::SchemaOrBool | T::SchemaOrStrings => {
                Place::Atomic
            }
            T::Struct(id) => Place::Typed(Self { kind: Kind::Struct(*id), field }),
            other => Place::Typed(Self { kind: Kind::Other(other), field }),
        }
    }
}

impl Type for Builtin {
    fn shape(&self) -> Shape<'_> {
        use trireme_schema::Type as T;
        let atomic = self.field.and_then(|field| field.atomic);
        match self.kind {
            Kind::Struct(id) => Shape::map(atomic.unwrap_or(builtin()[id].atomic)),
            Kind::Other(T::Map(_)) => Shape::map(atomic == Some(true)),
            Kind::Other(T::FieldsV1) => Shape::map(false),
            Kind::Other(T::List(_)) => Shape::list(match self.field.map(|field| &field.list) {
                Some(ListKind::Set) => List::Set,
                Some(ListKind::Map(keys)) => List::Keyed(keys),
                Some(ListKind::Atomic) | None => List::Atomic,
            }),
            Kind::Other(T::Bool) => Shape::scalar(Scalar::Bool),
            Kind::Other(T::Int32 | T::Int64 | T::Double) => Shape::scalar(Scalar::Number),
            Kind::Other(T::String | T::Bytes) => Shape::scalar(Scalar::String),
            Kind::Other(_) => Shape::scalar(Scalar::Any),
        }
    }

    fn field(&self, name: &str) -> Option<Place<Self>> {
        let Kind::Struct(id) = self.kind else { return None };
        let field = builtin().field(id, name)?;
        Some(Self::at(&field.ty, Some(field)))
    }

    fn values(&self) -> Option<Place<Self>> {
        match self.kind {
            Kind::Other(trireme_schema::Type::Map(inner)) => Some(Self::at(inner, None)),
            Kind::Other(trireme_schema::Type::FieldsV1) => Some(Place::Atomic),
            _ => None,
        }
    }

    fn items(&self) -> Option<Place<Self>> {
        match self.kind {
            Kind::Other(trireme_schema::Type::List(inner)) => Some(Self::at(inner, None)),
            _ => None,
        }
    }

    fn default_of(&self, name: &str) -> Option<Value> {
        let Kind::Struct(id) = self.kind else { return None };
        let field = builtin().field(id, name)?;
        // Texts and numbers that Go writes when they are empty have that as their default.
        field.default.clone().or_else(|| match field.ty {
            trireme_schema::Type::String if !field.ptr && !field.omit => Some("".into()),
            trireme_schema::Type::Int32 | trireme_schema::Type::Int64 if !field.ptr && !field.omit => Some(0.into()),
            _ => None,
        })
    }
}
