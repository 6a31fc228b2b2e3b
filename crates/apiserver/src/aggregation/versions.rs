//! What the server of an APIService tells of its resources, asked again and again (upstream's discovery manager).

use super::remote::Remote;
use crate::server::{ApiServer, header_text};
use crate::user::User;
use bytes::Bytes;
use http::{Response, header};
use std::sync::{Arc, Weak};
use std::time::Duration;
use trireme_client::Backoff;
use trireme_schema::{GroupVersion, Map, Value, json};

/// What is known of a version's resources.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    /// Entries of the aggregated document.
    pub resources: Vec<Value>,
    /// The server told it when it was asked last.
    pub current: bool,
    /// The tag of the document that it was in.
    tag: String,
}

/// A server answers within this.
const WITHIN: Duration = Duration::from_secs(5);
/// How soon one that failed is asked again, at first and at last.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// A server is asked again after this: it tells nobody when it changes.
const REFRESH: Duration = Duration::from_secs(60);
/// The aggregated document, in the version that is ours or the one before, or what there was before that.
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// Keeps what is known of a server's resources fresh, until its APIService is gone.
pub(super) async fn keep(server: Weak<ApiServer>, remote: Arc<Remote>) {
    let mut back_off = Backoff::new(AGAIN.0, AGAIN.1);
    loop {
        let Some(now) = server.upgrade() else { return };
        let known = remote.known.load_full();
        let wait = match fetch(&now, &remote, &known).await {
            Ok(fresh) => {
                remote.known.store(Arc::new(fresh));
                back_off.reset();
                REFRESH
            }
            Err(why) => {
                tracing::debug!(name = remote.name(), why, "the resources of a server are not known");
                // What was known stays, as that which was known.
                remote.known.store(Arc::new(Known { current: false, ..(*known).clone() }));
                back_off.step()
            }
        };
        let stopping = now.stopping.clone();
        drop(now);
        tokio::select! {
            () = stopping.cancelled() => return,
            () = remote.ended.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = remote.refresh[0].notified() => back_off.reset(),
        }
    }
}

async fn fetch(server: &ApiServer, remote: &Remote, known: &Known) -> Result<Known, String> {
    let mut user = User { name: "system:kube-aggregator".into(), ..User::default() };
    user.groups = vec!["system:masters".into()];
    let mut headers = vec![(header::ACCEPT, ACCEPT)];
    if !known.tag.is_empty() {
        headers.push((header::IF_NONE_MATCH, &known.tag));
    }
    let answer = remote.ask(server, &user, "/apis", &headers, WITHIN).await?;
    match answer.status().as_u16() {
        304 if !known.tag.is_empty() => return Ok(Known { current: true, ..known.clone() }),
        503 => return Err("returned non-success response code: 503".into()),
        200 if is_aggregated(&answer) => {
            let list = json::parse(answer.body()).map_err(|e| e.to_string())?;
            let tag = header_text(answer.headers(), header::ETAG);
            return Ok(Known { resources: of_document(&list, &remote.gv), current: true, tag });
        }
        _ => {}
    }
    // A server that does not know the aggregated document is asked for the list of the version.
    user.groups.clear();
    let path = remote.path();
    let answer = remote.ask(server, &user, &path, &[(header::ACCEPT, "application/json")], WITHIN).await?;
    if answer.status() != http::StatusCode::OK {
        return Err(format!("failed to download legacy discovery for {path}: {}", answer.status()));
    }
    let list = json::parse(answer.body()).map_err(|e| e.to_string())?;
    Ok(Known { resources: of_list(&list), current: true, tag: String::new() })
}

fn is_aggregated(answer: &Response<Bytes>) -> bool {
    let kind = header_text(answer.headers(), header::CONTENT_TYPE);
    kind.contains("g=apidiscovery.k8s.io") && kind.contains("as=APIGroupDiscoveryList") && kind.contains("v=v2")
}

/// The resources of a version in an aggregated document; none when it is not in there.
fn of_document(list: &Value, gv: &GroupVersion) -> Vec<Value> {
    let group = list.list_at(&["items"]).iter().find(|g| g.str_at(&["metadata", "name"]) == gv.group);
    let versions = group.map(|g| g.list_at(&["versions"])).unwrap_or_default();
    let version = versions.iter().find(|v| v.str_at(&["version"]) == gv.version);
    let mut resources = version.map(|v| v.list_at(&["resources"]).to_vec()).unwrap_or_default();
    // Old clients want a kind everywhere.
    let kind = |entry: &mut Value| {
        if entry.get("responseKind").is_none_or(Value::is_null) {
            entry.set_at(&["responseKind"], response_kind("", "", ""));
        }
    };
    for resource in &mut resources {
        kind(resource);
        if let Some(subresources) = resource.at_mut(&["subresources"]).and_then(Value::as_array_mut) {
            subresources.iter_mut().for_each(kind);
        }
    }
    resources
}

/// The resources of an `APIResourceList`, as the aggregated document has them.
fn of_list(list: &Value) -> Vec<Value> {
    let all = list.list_at(&["resources"]);
    let mut out: Vec<Map> = Vec::new();
    let scope = |entry: &Value| if entry.bool_at(&["namespaced"]) { "Namespaced" } else { "Cluster" };
    let kind =
        |entry: &Value| response_kind(entry.str_at(&["group"]), entry.str_at(&["version"]), entry.str_at(&["kind"]));
    for entry in all.iter().filter(|entry| !entry.str_at(&["name"]).contains('/')) {
        let mut resource = Map::new();
        resource.insert("resource", entry.str_at(&["name"]));
        resource.insert("responseKind", kind(entry));
        resource.insert("scope", scope(entry));
        resource.insert("singularResource", entry.str_at(&["singularName"]));
        for field in ["verbs", "shortNames", "categories"] {
            let values = entry.list_at(&[field]);
            if field == "verbs" || !values.is_empty() {
                resource.insert(field, Value::Array(values.to_vec()));
            }
        }
        out.push(resource);
    }
    for entry in all {
        let Some((name, subresource)) = entry.str_at(&["name"]).split_once('/') else { continue };
        let mut sub = Map::from_iter([("subresource", subresource)]);
        sub.insert("responseKind", kind(entry));
        sub.insert("verbs", Value::Array(entry.list_at(&["verbs"]).to_vec()));
        let at = out.iter().position(|resource| resource.str("resource") == name).unwrap_or_else(|| {
            // A subresource without its resource.
            let mut resource = Map::from_iter([("resource", name), ("scope", scope(entry))]);
            resource.insert("responseKind", response_kind("", "", ""));
            resource.insert("singularResource", "");
            resource.insert("verbs", Value::Array(Vec::new()));
            out.push(resource);
            out.len() - 1
        });
        if let Some(resource) = out.get_mut(at)
            && let Value::Array(all) = resource.entry("subresources", || Value::Array(Vec::new()))
        {
            all.push(Value::Object(sub));
        }
    }
    out.into_iter().map(Value::Object).collect()
}

fn response_kind(group: &str, version: &str, kind: &str) -> Value {
    Value::Object(Map::from_iter([("group", group), ("version", version), ("kind", kind)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_list_becomes_what_the_new_document_has() {
        let list = json::parse(
            br#"{"resources": [
                {"name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics", "verbs": ["get", "list"]},
                {"name": "pods/scale", "singularName": "", "namespaced": true, "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get"]},
                {"name": "ghosts/status", "singularName": "", "namespaced": false, "kind": "Ghost", "verbs": ["get"]}
            ]}"#,
        )
        .unwrap();
        let want = json::parse(
            concat!(
                r#"[{"resource":"pods","responseKind":{"group":"","version":"","kind":"PodMetrics"},"scope":"Namespaced","singularResource":"","verbs":["get","list"],"#,
                r#""subresources":[{"subresource":"scale","responseKind":{"group":"autoscaling","version":"v1","kind":"Scale"},"verbs":["get"]}]},"#,
                r#"{"resource":"ghosts","scope":"Cluster","responseKind":{"group":"","version":"","kind":""},"singularResource":"","verbs":[],"#,
                r#""subresources":[{"subresource":"status","responseKind":{"group":"","version":"","kind":"Ghost"},"verbs":["get"]}]}]"#
            )
            .as_bytes(),
        );
        assert_eq!(Value::Array(of_list(&list)), want.unwrap());
    }

    #[test]
    fn a_version_is_found_in_a_document_and_has_kinds_everywhere() {
        let list = json::parse(
            br#"{"items": [{"metadata": {"name": "g"}, "versions": [{"version": "v1", "resources": [{"resource": "a", "subresources": [{"subresource": "s"}]}]}]}]}"#,
        )
        .unwrap();
        let of = |version: &str| of_document(&list, &GroupVersion { group: "g".into(), version: version.into() });
        let found = of("v1");
        assert!(found[0].at(&["responseKind", "kind"]).is_some());
        assert!(found[0].list_at(&["subresources"])[0].get("responseKind").is_some());
        assert!(of("v2").is_empty());
    }
}
