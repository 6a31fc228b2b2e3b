//! How custom objects merge: what all objects have as its type says, the rest as its structural schema does.

use super::Custom;
use trireme_extensions::{Additional, Kind, List as Told, Node};
use trireme_merge::{Builtin, List, Place, Scalar, Shape, Type};
use trireme_schema::{GroupVersion, Value, builtin};

/// A type as server-side apply sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Described<'a> {
    /// Of the built-in API.
    Builtin(Builtin),
    /// Of a definition's schema.
    Node(&'a Node),
    /// A whole object by a schema, with `apiVersion`, `kind` and `metadata`.
    Object(&'a Node),
    /// `apiVersion`, `kind`.
    Text,
}

impl Described<'_> {
    pub(crate) fn builtin<'a>(place: Place<Builtin>) -> Place<Described<'a>> {
        match place {
            Place::Typed(ty) => Place::Typed(Described::Builtin(ty)),
            Place::Atomic => Place::Atomic,
            Place::Deduced => Place::Deduced,
        }
    }
}

impl Custom {
    /// How objects merge in a version; `None` when there is no such version.
    pub(crate) fn described(&self, version: &str) -> Option<Place<Described<'_>>> {
        let gv = GroupVersion::parse(version);
        let node = self.definition.versions.get(&gv.version).filter(|_| gv.group == self.definition.group)?;
        Some(Place::Typed(Described::Object(node)))
    }
}

fn place(node: &Node) -> Place<Described<'_>> {
    match (&node.kind, node.embedded) {
        // Nothing is said: what is there tells how it merges.
        (Kind::Any, false) if !node.int_or_string => Place::Deduced,
        (_, true) => Place::Typed(Described::Object(node)),
        _ => Place::Typed(Described::Node(node)),
    }
}

impl<'a> Type for Described<'a> {
    fn shape(&self) -> Shape<'_> {
        let node = match self {
            Described::Builtin(ty) => return ty.shape(),
            Described::Text => return Shape::scalar(Scalar::String),
            Described::Object(node) => return Shape::map(node.atomic),
            Described::Node(node) => node,
        };
        match node.kind {
            Kind::Object => Shape::map(node.atomic),
            Kind::Array => Shape::list(match &node.list {
                Told::Atomic => List::Atomic,
                Told::Set => List::Set,
                Told::Map(keys) => List::Keyed(keys),
            }),
            Kind::Boolean => Shape::scalar(Scalar::Bool),
            Kind::Integer | Kind::Number => Shape::scalar(Scalar::Number),
            Kind::String => Shape::scalar(Scalar::String),
            Kind::Any | Kind::Other(_) => Shape::scalar(Scalar::Any),
        }
    }

    fn field(&self, name: &str) -> Option<Place<Self>> {
        let node: &'a Node = match self {
            Described::Builtin(ty) => return ty.field(name).map(Self::builtin),
            Described::Text => return None,
            Described::Node(node) => node,
            Described::Object(node) => match name {
                "apiVersion" | "kind" => return Some(Place::Typed(Described::Text)),
                "metadata" => {
                    return builtin().type_named("meta.v1.ObjectMeta").map(|id| Self::builtin(Builtin::of(id)));
                }
                _ => node,
            },
        };
        node.property(name).map(|field| place(field))
    }

    fn values(&self) -> Option<Place<Self>> {
        let node: &'a Node = match self {
            Described::Builtin(ty) => return ty.values().map(Self::builtin),
            Described::Text => return None,
            Described::Node(node) | Described::Object(node) => node,
        };
        match &node.additional {
            Additional::Of(inner) => Some(place(inner)),
            // What is not known and must not be there was pruned before.
            _ if node.preserve || node.properties.is_empty() => Some(Place::Deduced),
            Additional::Allowed(true) => Some(Place::Deduced),
            _ => None,
        }
    }

    fn items(&self) -> Option<Place<Self>> {
        match self {
            Described::Builtin(ty) => ty.items().map(Self::builtin),
            Described::Text => None,
            Described::Node(node) | Described::Object(node) => {
                Some(node.items.as_deref().map_or(Place::Deduced, place))
            }
        }
    }

    fn default_of(&self, name: &str) -> Option<Value> {
        match self {
            Described::Builtin(ty) => ty.default_of(name),
            Described::Text => None,
            Described::Node(node) | Described::Object(node) => {
                node.property(name).and_then(|field| field.default.as_deref().cloned())
            }
        }
    }
}
