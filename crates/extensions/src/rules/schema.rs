//! Nodes as expressions see them.

use crate::node::{Additional, Kind, List, Node};
use trireme_cel::{ListType, Schema, SchemaType};
use trireme_schema::json;

impl Node {
    /// The node with what all objects have, if its values are objects of the API.
    fn seen(&self) -> &Self {
        self.whole.as_deref().unwrap_or(self)
    }
}

fn unsigned(n: Option<i64>) -> Option<u64> {
    n.map(|n| u64::try_from(n).unwrap_or(0))
}

impl Schema for Node {
    fn schema_type(&self) -> SchemaType {
        match self.kind {
            Kind::Object => SchemaType::Object,
            Kind::Array => SchemaType::Array,
            Kind::String => SchemaType::String,
            Kind::Number => SchemaType::Number,
            Kind::Integer => SchemaType::Integer,
            Kind::Boolean => SchemaType::Boolean,
            Kind::Any | Kind::Other(_) => SchemaType::Unspecified,
        }
    }

    fn format(&self) -> &str {
        self.checks.as_ref().map_or("", |checks| &checks.format)
    }

    fn items(&self) -> Option<&dyn Schema> {
        self.items.as_ref().map(|node| &**node as &dyn Schema)
    }

    fn has_properties(&self) -> bool {
        !self.seen().properties.is_empty()
    }

    fn property(&self, name: &str) -> Option<&dyn Schema> {
        self.seen().property(name).map(|node| &**node as &dyn Schema)
    }

    fn properties(&self) -> Vec<(&str, &dyn Schema)> {
        self.seen().properties.iter().map(|(name, node)| (name.as_str(), &**node as &dyn Schema)).collect()
    }

    fn additional_properties(&self) -> Option<&dyn Schema> {
        match &self.additional {
            Additional::Of(node) => Some(&**node),
            _ => None,
        }
    }

    fn is_required(&self, name: &str) -> bool {
        self.checks.as_ref().is_some_and(|checks| checks.required.iter().any(|r| r == name))
    }

    fn default_size(&self) -> Option<usize> {
        self.default.as_ref().map(|value| json::to_vec(value).len())
    }

    fn int_or_string(&self) -> bool {
        self.int_or_string
    }

    fn preserves_unknown_fields(&self) -> bool {
        self.preserve
    }

    fn embedded_resource(&self) -> bool {
        self.embedded
    }

    fn nullable(&self) -> bool {
        self.nullable
    }

    fn list_type(&self) -> ListType {
        match self.list {
            List::Atomic => ListType::Atomic,
            List::Set => ListType::Set,
            List::Map(_) => ListType::Map,
        }
    }

    fn list_map_keys(&self) -> Vec<&str> {
        match &self.list {
            List::Map(keys) => keys.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    fn max_items(&self) -> Option<u64> {
        unsigned(self.checks.as_ref()?.max_items)
    }

    fn max_length(&self) -> Option<u64> {
        unsigned(self.checks.as_ref()?.max_length)
    }

    fn max_properties(&self) -> Option<u64> {
        unsigned(self.checks.as_ref()?.max_properties)
    }

    fn enum_texts(&self) -> Vec<&str> {
        let values = self.checks.as_ref().map(|checks| &*checks.enumeration).unwrap_or_default();
        values.iter().map(|value| value.as_str().unwrap_or_default()).collect()
    }
}
