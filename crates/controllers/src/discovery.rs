//! Which resources the server has, for the controllers that treat all of them alike.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use trireme_client::{Client, Resource};

use crate::Error;

/// A resource and what can be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) resource: Resource,
    pub(crate) verbs: Vec<String>,
}

/// What discovery found, and the versions that did not answer: `GROUP/VERSION` with why.
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    pub(crate) resources: Vec<Served>,
    pub(crate) failed: BTreeMap<String, String>,
}

/// The aggregated document (KEP-3352), as far as it is read.
#[derive(Deserialize)]
struct Groups {
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: Name,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
struct Name {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    freshness: String,
    #[serde(default)]
    resources: Vec<ApiResource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiResource {
    resource: String,
    response_kind: Option<ResponseKind>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct ResponseKind {
    #[serde(default)]
    kind: String,
}

impl Served {
    /// Whether all these verbs are supported.
    pub(crate) fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|supported| supported == verb))
    }
}

impl Discovered {
    /// Why not all is known, as client-go says it; `None` when all is.
    pub(crate) fn failure(&self) -> Option<String> {
        let failed: Vec<String> = self.failed.iter().map(|(version, why)| format!("{version}: {why}")).collect();
        let text = "unable to retrieve the complete list of server APIs";
        (!failed.is_empty()).then(|| format!("{text}: {}", failed.join(", ")))
    }

    /// Each resource in the first version of its group that has it, which is the preferred one unless that has it not.
    fn add(&mut self, groups: Groups) {
        for group in groups.items {
            let name = group.metadata.name;
            let mut known = HashSet::new();
            for version in group.versions {
                let full = match name.as_str() {
                    "" => version.version.clone(),
                    name => format!("{name}/{}", version.version),
                };
                // What its server told when it was asked last may be wrong by now.
                if version.freshness == "Stale" {
                    self.failed.insert(full.clone(), format!("stale GroupVersion discovery: {full}"));
                    continue;
                }
                for found in version.resources {
                    let kind = found.response_kind.map(|kind| kind.kind).unwrap_or_default();
                    if kind.is_empty() || !known.insert(found.resource.clone()) {
                        continue;
                    }
                    let resource = Resource {
                        group: name.clone().into(),
                        version: version.version.clone().into(),
                        kind: kind.into(),
                        plural: found.resource.into(),
                        namespaced: found.scope == "Namespaced",
                    };
                    self.resources.push(Served { resource, verbs: found.verbs });
                }
            }
        }
    }
}

/// Asks the server for all resources in their preferred versions: two documents, whatever there is.
pub(crate) async fn discover(client: &Client) -> Result<Discovered, Error> {
    let mut discovered = Discovered::default();
    for path in ["/api", "/apis"] {
        discovered.add(get(client, path).await?);
    }
    Ok(discovered)
}

async fn get(client: &Client, path: &str) -> Result<Groups, Error> {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let answer = client.document(path, accept).await?;
    serde_json::from_slice(answer.body())
        .map_err(|source| trireme_client::Error::Decode { what: path.to_owned(), source }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_version_that_is_stale_fails_and_the_rest_is_known() {
        let resource = |name: &str, kind: &str| json!({"resource": name, "responseKind": {"kind": kind}, "scope": "Namespaced", "verbs": ["list"]});
        let groups = json!({"items": [
            {"metadata": {"name": "a"}, "versions": [
                {"version": "v2", "freshness": "Current", "resources": [resource("xs", "X")]},
                {"version": "v1", "freshness": "Current", "resources": [resource("xs", "X"), resource("ys", "Y")]}]},
            {"metadata": {"name": "m"}, "versions": [{"version": "v1", "freshness": "Stale", "resources": [resource("zs", "Z")]}]},
            {"metadata": {}, "versions": [{"version": "v1", "freshness": "Current", "resources": [resource("pods", "Pod")]}]},
        ]});
        let mut discovered = Discovered::default();
        discovered.add(serde_json::from_value(groups).unwrap());
        let found: Vec<String> = discovered
            .resources
            .iter()
            .map(|s| format!("{}/{}/{}", s.resource.group, s.resource.version, s.resource.plural))
            .collect();
        assert_eq!(found, ["a/v2/xs", "a/v1/ys", "/v1/pods"]);
        assert_eq!(
            discovered.failure().unwrap(),
            "unable to retrieve the complete list of server APIs: m/v1: stale GroupVersion discovery: m/v1"
        );
    }
}
