use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// The name of an object within its resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
}

impl Key {
    /// The key of an object; `namespace` is empty for cluster-scoped ones.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// What is kept decoded of every object that an informer follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Namespace and name.
    pub key: Key,
    /// Unique id.
    pub uid: Box<str>,
    /// Resource version.
    pub resource_version: Box<str>,
    /// The owner that manages this object, if one does.
    pub controller: Option<Owner>,
    /// Whether the object is being deleted.
    pub deleting: bool,
    /// Labels, sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
}

/// The managing owner of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Kind, such as `ReplicaSet`.
    pub kind: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// Unique id.
    pub uid: Box<str>,
}

/// An object in an informer: its metadata, and its encoded bytes to decode when somebody looks.
pub struct Entry<K> {
    /// Decoded metadata.
    pub meta: Meta,
    /// The object as JSON.
    pub bytes: Bytes,
    kind: PhantomData<fn() -> K>,
}

#[derive(Deserialize)]
struct Head {
    metadata: HeadMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMeta {
    #[serde(default)]
    namespace: Box<str>,
    name: Box<str>,
    #[serde(default)]
    uid: Box<str>,
    #[serde(default)]
    resource_version: Box<str>,
    #[serde(default)]
    deletion_timestamp: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    owner_references: Option<Vec<HeadOwner>>,
    #[serde(default)]
    labels: Option<std::collections::BTreeMap<Box<str>, Box<str>>>,
}

#[derive(Deserialize)]
struct HeadOwner {
    kind: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    #[serde(default)]
    controller: Option<bool>,
}

impl Meta {
    /// Reads the metadata of an encoded object.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let head: Head = serde_json::from_slice(bytes)
            .map_err(|source| Error::Decode { what: "the metadata of a watched object".to_owned(), source })?;
        let meta = head.metadata;
        let owners = meta.owner_references.unwrap_or_default();
        Ok(Self {
            key: Key { namespace: meta.namespace, name: meta.name },
            uid: meta.uid,
            resource_version: meta.resource_version,
            controller: owners.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| Owner {
                kind: owner.kind,
                name: owner.name,
                uid: owner.uid,
            }),
            deleting: meta.deletion_timestamp.is_some(),
            labels: meta.labels.unwrap_or_default().into_iter().collect(),
        })
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        self.labels.get(at).map(|(_, value)| &**value)
    }
}

impl<K> Entry<K> {
    /// Wraps an encoded object.
    pub fn new(bytes: Bytes) -> Result<Self, Error> {
        Ok(Self { meta: Meta::read(&bytes)?, bytes, kind: PhantomData })
    }

    /// Decodes the object as another view of it.
    pub fn decode_as<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.bytes)
            .map_err(|source| Error::Decode { what: format!("object {}", self.meta.key), source })
    }
}

impl<K: DeserializeOwned> Entry<K> {
    /// Decodes the object.
    pub fn decode(&self) -> Result<K, Error> {
        self.decode_as()
    }
}

impl<K> fmt::Debug for Entry<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("meta", &self.meta).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_without_decoding_the_rest() {
        let meta = Meta::read(
            br#"{"kind":"Pod","metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"7",
                "labels":{"b":"2","a":"1"},"deletionTimestamp":"2026-01-01T00:00:00Z",
                "ownerReferences":[{"kind":"X","name":"x","uid":"1","apiVersion":"v1"},
                                   {"kind":"ReplicaSet","name":"rs","uid":"2","apiVersion":"apps/v1","controller":true}]},
                "spec":{"containers":[]}}"#,
        )
        .unwrap();
        assert_eq!(meta.key.to_string(), "n/a");
        assert_eq!(meta.controller.as_ref().map(|owner| &*owner.uid), Some("2"));
        assert!(meta.deleting);
        assert_eq!(meta.label("b"), Some("2"));
        assert_eq!(meta.label("c"), None);
        assert!(Meta::read(b"{}").is_err());
    }
}
