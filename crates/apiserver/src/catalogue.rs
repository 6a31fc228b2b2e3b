//! What is served: resources by group, version and name.

use crate::convert::{self, Conversion};
use std::collections::BTreeMap;
use trireme_schema::{GroupVersion, Resource, Schema, StructId, Value, builtin, decode, encode};

/// A resource as it is served.
#[derive(Debug)]
pub struct Served {
    /// What the API says of it.
    pub resource: Resource,
    /// The type of its objects.
    pub id: StructId,
    /// The store's topic.
    pub topic: String,
    /// How objects come from what is stored, when it is another version.
    pub(crate) conversion: Option<&'static Conversion>,
    /// `{"kind":"Pod","apiVersion":"v1"`: how each stored object begins.
    pub head: String,
}

impl Served {
    /// The API group.
    pub fn group(&self) -> &str {
        &self.resource.gv.group
    }

    /// The name in URLs.
    pub fn plural(&self) -> &str {
        &self.resource.plural
    }

    /// The kind.
    pub fn kind(&self) -> &str {
        &self.resource.kind
    }

    /// The store's key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.resource.namespaced {
            format!("{}/{namespace}/{name}", self.topic)
        } else {
            format!("{}/{name}", self.topic)
        }
    }

    /// What the keys of a namespace's objects (of all, if empty) begin with.
    pub fn prefix(&self, namespace: &str) -> String {
        if namespace.is_empty() || !self.resource.namespaced {
            format!("{}/", self.topic)
        } else {
            format!("{}/{namespace}/", self.topic)
        }
    }

    /// Whether there is a subresource.
    pub fn has_subresource(&self, name: &str) -> bool {
        self.resource.subresources.iter().any(|s| s.name == name)
    }

    /// Whether a field of the type exists at the top level.
    pub fn has_field(&self, name: &str) -> bool {
        self.schema().field(self.id, name).is_some()
    }

    /// The types.
    pub fn schema(&self) -> &'static Schema {
        builtin()
    }

    /// Stored bytes as a canonical object.
    pub fn read(&self, bytes: &[u8]) -> Value {
        let tree = trireme_schema::json::parse(bytes).unwrap_or_default();
        decode::decode(self.schema(), self.id, tree).map(|d| d.value).unwrap_or_default()
    }

    /// A canonical object as JSON.
    pub fn write(&self, value: &Value) -> Vec<u8> {
        encode::to_vec(self.schema(), self.id, value)
    }
}

/// All that is served.
#[derive(Debug, Default)]
pub struct Catalogue {
    by_name: BTreeMap<(GroupVersion, String), std::sync::Arc<Served>>,
}

impl Catalogue {
    /// The built-in API.
    pub fn builtin() -> Self {
        let schema = builtin();
        let mut by_name = BTreeMap::new();
        for resource in schema.resources().iter().filter(|r| r.served) {
            let Some(id) = schema.kind(&resource.gv, &resource.kind) else { continue };
            let conversion = convert::of(&resource.gv, &resource.plural);
            let topic_group = conversion.map_or(resource.gv.group.as_str(), |c| c.stored()[0]);
            let topic = if topic_group.is_empty() {
                resource.plural.clone()
            } else {
                format!("{}.{topic_group}", resource.plural)
            };
            let head = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\"", resource.kind, resource.gv);
            let key = (resource.gv.clone(), resource.plural.clone());
            let served = Served { resource: resource.clone(), id, topic, conversion, head };
            by_name.insert(key, std::sync::Arc::new(served));
        }
        Self { by_name }
    }

    /// A resource by its place in URLs.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&std::sync::Arc<Served>> {
        let gv = GroupVersion { group: group.to_owned(), version: version.to_owned() };
        self.by_name.get(&(gv, plural.to_owned()))
    }

    /// A resource of a group in the version in which it is stored.
    pub fn stored(&self, group: &str, plural: &str) -> Option<&std::sync::Arc<Served>> {
        let of = |s: &&std::sync::Arc<Served>| s.resource.gv.group == group && s.resource.plural == plural;
        self.by_name.values().filter(of).find(|s| s.conversion.is_none())
    }

    /// Whether a group and version is served.
    pub fn has_version(&self, gv: &GroupVersion) -> bool {
        self.by_name.keys().any(|(have, _)| have == gv)
    }

    /// All, sorted by group, version and name.
    pub fn all(&self) -> impl Iterator<Item = &std::sync::Arc<Served>> {
        self.by_name.values()
    }
}
