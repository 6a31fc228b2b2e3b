//! What is served: resources by group, version and name.

use crate::convert::{self, Conversion};
use crate::custom::Custom;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use trireme_schema::{GroupVersion, Resource, Schema, StructId, Value, builtin, decode, encode, json};

/// A resource as it is served.
#[derive(Debug)]
pub struct Served {
    /// What the API says of it.
    pub resource: Resource,
    /// The type of its objects; of custom ones, that of what all objects have.
    pub id: StructId,
    /// What a definition says of it, if it is custom.
    pub(crate) custom: Option<Arc<Custom>>,
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

    /// The kind of a list of its objects.
    pub fn list_kind(&self) -> String {
        match &self.custom {
            Some(custom) => custom.list_kind.clone(),
            None => format!("{}List", self.resource.kind),
        }
    }

    /// The types.
    pub fn schema(&self) -> &'static Schema {
        builtin()
    }

    /// Stored bytes as a canonical object.
    pub fn read(&self, bytes: &[u8]) -> Value {
        let tree = json::parse(bytes).unwrap_or_default();
        match &self.custom {
            Some(_) => tree,
            None => decode::decode(self.schema(), self.id, tree).map(|d| d.value).unwrap_or_default(),
        }
    }

    /// A canonical object as JSON.
    pub fn write(&self, value: &Value) -> Vec<u8> {
        match &self.custom {
            Some(_) => json::to_vec(value),
            None => encode::to_vec(self.schema(), self.id, value),
        }
    }

    /// A canonical object as the JSON tree that clients see.
    pub fn tree(&self, value: &Value) -> Value {
        match &self.custom {
            Some(_) => value.clone(),
            None => encode::to_tree(self.schema(), self.id, value),
        }
    }
}

/// All that is served: read without a lock, replaced as a whole when definitions change.
#[derive(Debug)]
pub struct Catalogue {
    builtin: Vec<Arc<Served>>,
    shelf: ArcSwap<Shelf>,
}

/// What is served at one time.
#[derive(Debug, Default)]
pub struct Shelf {
    by_name: BTreeMap<(GroupVersion, String), Arc<Served>>,
    versions: Vec<GroupVersion>,
}

impl Catalogue {
    /// The built-in API.
    pub fn builtin() -> Self {
        let schema = builtin();
        let mut all = Vec::new();
        for resource in schema.resources().iter().filter(|r| r.served) {
            let Some(id) = schema.kind(&resource.gv, &resource.kind) else { continue };
            let conversion = convert::of(&resource.gv, &resource.plural);
            let topic_group = conversion.map_or(resource.gv.group.as_str(), |c| c.stored()[0]);
            let topic = topic(topic_group, &resource.plural);
            let head = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\"", resource.kind, resource.gv);
            all.push(Arc::new(Served { resource: resource.clone(), id, custom: None, topic, conversion, head }));
        }
        let shelf = ArcSwap::from_pointee(Shelf::of(all.iter().cloned()));
        Self { builtin: all, shelf }
    }

    /// Serves these custom resources, and no others, besides what is built in. What is built in is never replaced.
    pub fn serve_custom(&self, custom: Vec<Arc<Served>>) {
        self.shelf.store(Arc::new(Shelf::of(custom.into_iter().chain(self.builtin.iter().cloned()))));
    }

    /// Whether a group is built in.
    pub fn is_builtin_group(&self, group: &str) -> bool {
        self.builtin.iter().any(|s| s.resource.gv.group == group)
    }

    /// Whether a resource of a group is built in.
    pub fn is_builtin(&self, group: &str, plural: &str) -> bool {
        self.builtin.iter().any(|s| s.resource.gv.group == group && s.resource.plural == plural)
    }

    /// What is served now.
    pub fn now(&self) -> Arc<Shelf> {
        self.shelf.load_full()
    }

    /// A resource by its place in URLs.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Served>> {
        let gv = GroupVersion { group: group.to_owned(), version: version.to_owned() };
        self.shelf.load().by_name.get(&(gv, plural.to_owned())).cloned()
    }

    /// A resource of a group in the version in which it is stored.
    pub fn stored(&self, group: &str, plural: &str) -> Option<Arc<Served>> {
        // Versions of a group stand together; every authorization comes by here.
        let first = (GroupVersion { group: group.to_owned(), version: String::new() }, String::new());
        let shelf = self.shelf.load();
        let of_group = shelf.by_name.range(first..).take_while(|((gv, _), _)| gv.group == group).map(|(_, s)| s);
        of_group.into_iter().find(|s| s.resource.plural == plural && s.conversion.is_none()).cloned()
    }
}

impl Shelf {
    /// Of two resources in one place the later is served.
    fn of(all: impl Iterator<Item = Arc<Served>>) -> Self {
        let by_name: BTreeMap<_, _> =
            all.map(|served| ((served.resource.gv.clone(), served.resource.plural.clone()), served)).collect();
        let mut versions: Vec<GroupVersion> = by_name.keys().map(|(gv, _)| gv.clone()).collect();
        // They stand together.
        versions.dedup();
        Self { by_name, versions }
    }

    /// Whether a group and version is served.
    pub fn has_version(&self, gv: &GroupVersion) -> bool {
        self.versions.contains(gv)
    }

    /// Groups and versions, sorted.
    pub fn versions(&self) -> impl Iterator<Item = &GroupVersion> {
        self.versions.iter()
    }

    /// All, sorted by group, version and name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.by_name.values()
    }
}

/// The store's topic of a resource.
pub(crate) fn topic(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}
