//! What is scaled: from a reference to a resource, and the scale of an object of it.

use http::Method;
use serde::Deserialize;
use serde_json::Value;
use trireme_client::{Client, Error, Resource};

/// Where the objects of a kind are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) resource: Resource,
}

/// The size of an object, read and to be written.
pub(super) struct Scale {
    resource: Resource,
    namespace: String,
    name: String,
    document: Value,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    group_version: String,
    version: String,
}

#[derive(Deserialize)]
struct Resources {
    #[serde(default)]
    resources: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    kind: String,
    namespaced: bool,
}

/// The kinds that are scaled mostly: nobody has to be asked where they are.
const USUAL: [(&str, &str, &str, &str); 4] = [
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("", "v1", "ReplicationController", "replicationcontrollers"),
];

impl Mapping {
    /// The resource and its group, as upstream writes them together.
    pub(super) fn qualified(&self) -> String {
        let Resource { group, plural, .. } = &self.resource;
        if group.is_empty() { plural.to_string() } else { format!("{plural}.{group}") }
    }
}

/// The group of an `apiVersion`.
///
/// # Errors
/// Upstream's words for a version that is none.
pub(super) fn group_of(api_version: &str) -> Result<&str, String> {
    match api_version.split('/').collect::<Vec<_>>()[..] {
        [_] => Ok(""),
        [group, _] => Ok(group),
        _ => Err(format!("unexpected GroupVersion string: {api_version}")),
    }
}

/// Where objects of a kind are, in each version that is served.
///
/// # Errors
/// Upstream's words when nothing serves the kind, or what the server said.
pub(super) async fn mappings(client: &Client, group: &str, kind: &str) -> Result<Vec<Mapping>, String> {
    if let Some((group, version, kind, plural)) = USUAL.iter().copied().find(|(g, _, k, _)| (*g, *k) == (group, kind)) {
        let resource = Resource {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: plural.into(),
            namespaced: true,
        };
        return Ok(vec![Mapping { resource }]);
    }
    let mut found = Vec::new();
    for Version { group_version, version } in versions(client, group).await? {
        let root = if group.is_empty() { "api" } else { "apis" };
        let listed: Option<Resources> = get(client, &format!("/{root}/{group_version}")).await?;
        let of_kind = listed.into_iter().flat_map(|listed| listed.resources);
        let of_kind = of_kind.filter(|listed| listed.kind == kind && !listed.name.contains('/'));
        found.extend(of_kind.map(|listed| Mapping {
            resource: Resource {
                group: group.to_owned().into(),
                version: version.clone().into(),
                kind: kind.to_owned().into(),
                plural: listed.name.into(),
                namespaced: listed.namespaced,
            },
        }));
    }
    if found.is_empty() {
        return Err(format!("no matches for kind {kind:?} in group {group:?}"));
    }
    Ok(found)
}

async fn versions(client: &Client, group: &str) -> Result<Vec<Version>, String> {
    if group.is_empty() {
        return Ok(vec![Version { group_version: "v1".to_owned(), version: "v1".to_owned() }]);
    }
    let group: Option<Group> = get(client, &format!("/apis/{group}")).await?;
    Ok(group.map(|group| group.versions).unwrap_or_default())
}

async fn get<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<Option<T>, String> {
    match client.request(Method::GET, path, None).await {
        Ok(answer) => serde_json::from_slice(answer.body()).map(Some).map_err(|error| error.to_string()),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

impl Scale {
    /// Reads the scale of an object where the first of the mappings has one; else the error of the first.
    pub(super) async fn read(
        client: &Client,
        namespace: &str,
        name: &str,
        mappings: &[Mapping],
    ) -> Result<Self, String> {
        let mut first = None;
        for mapping in mappings {
            let path = format!("{}/scale", mapping.resource.object(Some(namespace), name));
            let read = match client.request(Method::GET, &path, None).await {
                Ok(answer) => serde_json::from_slice(answer.body()).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match read {
                Ok(document) => {
                    let resource = mapping.resource.clone();
                    return Ok(Self { resource, namespace: namespace.to_owned(), name: name.to_owned(), document });
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| "unrecognized resource".to_owned()))
    }

    fn number(&self, pointer: &str) -> i32 {
        let number = self.document.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        i32::try_from(number).unwrap_or(i32::MAX)
    }

    /// How many pods there are to be.
    pub(super) fn wanted(&self) -> i32 {
        self.number("/spec/replicas")
    }

    /// How many pods there are.
    pub(super) fn there(&self) -> i32 {
        self.number("/status/replicas")
    }

    /// The selector of the pods, as text.
    pub(super) fn selector(&self) -> &str {
        self.document.pointer("/status/selector").and_then(Value::as_str).unwrap_or("")
    }

    /// Asks for another number of pods; only of the object as it was read.
    pub(super) async fn write(mut self, client: &Client, replicas: i32) -> Result<(), Error> {
        if let Some(spec) = self.document.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert("replicas".to_owned(), replicas.into());
        } else if let Some(scale) = self.document.as_object_mut() {
            // A scale of nothing has no spec.
            scale.insert("spec".to_owned(), serde_json::json!({ "replicas": replicas }));
        }
        let api = client.dynamic::<serde::de::IgnoredAny>(self.resource, Some(&self.namespace));
        api.put(&self.name, Some("scale"), &self.document).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_of_versions() {
        assert_eq!(group_of("v1"), Ok(""));
        assert_eq!(group_of(""), Ok(""));
        assert_eq!(group_of("apps/v1"), Ok("apps"));
        assert_eq!(group_of("a/b/c"), Err("unexpected GroupVersion string: a/b/c".to_owned()));
    }

    #[tokio::test]
    async fn kinds_are_looked_up_where_they_are_served() {
        use crate::fake_api::{FakeApi, clock_at};
        use serde_json::json;
        let api = FakeApi::default();
        let context = api.context(crate::Options::default(), clock_at("2026-01-01T00:00:00Z"));
        let usual = mappings(&context.client, "apps", "Deployment").await.unwrap();
        assert_eq!(usual[0].qualified(), "deployments.apps");
        api.document("/apis/example.com", json!({"versions": [{"groupVersion": "example.com/v1", "version": "v1"}]}));
        api.document(
            "/apis/example.com/v1",
            json!({"resources": [{"name": "webs/scale", "kind": "Scale", "namespaced": true},
                {"name": "webs", "kind": "Web", "namespaced": true}]}),
        );
        let custom = mappings(&context.client, "example.com", "Web").await.unwrap();
        assert_eq!(custom[0].resource.object(Some("n"), "a"), "/apis/example.com/v1/namespaces/n/webs/a");
        let none = mappings(&context.client, "example.com", "Nothing").await.unwrap_err();
        assert_eq!(none, "no matches for kind \"Nothing\" in group \"example.com\"");
    }
}
