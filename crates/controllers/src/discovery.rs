//! Which resources the server has, for the controllers that treat all of them alike.

use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use trireme_client::{Client, Resource};

use crate::Error;

/// A resource and what can be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) resource: Resource,
    pub(crate) verbs: Vec<String>,
}

/// What discovery found, and the groups that did not answer.
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    pub(crate) resources: Vec<Served>,
    pub(crate) failed: Vec<String>,
}

#[derive(Deserialize)]
struct Groups {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    preferred_version: Option<Version>,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    group_version: String,
}

#[derive(Deserialize)]
struct Resources {
    #[serde(default)]
    resources: Vec<ApiResource>,
}

#[derive(Deserialize)]
struct ApiResource {
    name: String,
    kind: String,
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

impl Served {
    /// Whether all these verbs are supported.
    pub(crate) fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|supported| supported == verb))
    }
}

/// Asks the server for all resources in their preferred versions.
pub(crate) async fn discover(client: &Client) -> Result<Discovered, Error> {
    let groups: Groups = get(client, "/apis").await?;
    let preferred = groups.groups.into_iter().filter_map(|group| {
        let first = group.versions.into_iter().next();
        group.preferred_version.or(first).map(|version| version.group_version)
    });
    let mut discovered = Discovered::default();
    for group_version in std::iter::once("v1".to_owned()).chain(preferred) {
        let path = match group_version.split_once('/') {
            Some(_) => format!("/apis/{group_version}"),
            None => format!("/api/{group_version}"),
        };
        let listed: Result<Resources, Error> = get(client, &path).await;
        match listed {
            Ok(listed) => add(&mut discovered.resources, &group_version, listed),
            Err(error) => discovered.failed.push(format!("{group_version}: {error}")),
        }
    }
    Ok(discovered)
}

fn add(into: &mut Vec<Served>, group_version: &str, listed: Resources) {
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let resources = listed.resources.into_iter().filter(|resource| !resource.name.contains('/'));
    into.extend(resources.map(|resource| Served {
        resource: Resource {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            kind: resource.kind.into(),
            plural: resource.name.into(),
            namespaced: resource.namespaced,
        },
        verbs: resource.verbs,
    }));
}

async fn get<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T, Error> {
    let answer = client.request(Method::GET, path, None).await?;
    serde_json::from_slice(answer.body())
        .map_err(|source| trireme_client::Error::Decode { what: path.to_owned(), source }.into())
}
