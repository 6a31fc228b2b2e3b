//! What every cluster has from the start: namespaces, RBAC policy, priority classes, the `kubernetes` service.
//!
//! The policy is `bootstrap.txt`: `clusterrole NAME label=k=v`, under it `allow VERBS GROUPS RESOURCES [NAMES]`,
//! `url VERBS PATHS`, `aggregate k=v`; `clusterrolebinding NAME`, under it `to KIND NAME`, `subject KIND NAME`. A group
//! `core` is the empty one; what lies in a namespace is written `namespace/name`. `patches ACCOUNT GROUP RESOURCES` is a
//! role and its binding: our controllers send patches where upstream's roles let them send whole objects.

use crate::notes::Notes;
use crate::registry::{Target, WriteOptions};
use crate::server::ApiServer;
use crate::user::User;
use crate::warnings::Warnings;
use std::sync::Arc;
use trireme_schema::{Map, Status, Value};

const POLICY: &str = include_str!("bootstrap.txt");
const RBAC: &str = "rbac.authorization.k8s.io";

/// Writes what is missing. What an administrator changed stays as it is, but for rules of default roles that are missing.
pub(crate) async fn ensure(server: &ApiServer) -> Result<(), Status> {
    let first = server.read("", "namespaces", "", "default").is_none();
    for namespace in ["kube-system", "kube-public", "kube-node-lease", "default"] {
        let mut object = Value::object();
        object.set_at(&["metadata", "name"], namespace);
        object.set_at(&["metadata", "labels", "kubernetes.io/metadata.name"], namespace);
        create(server, "", "namespaces", "", object).await?;
    }
    if first || server.read(RBAC, "clusterroles", "", "cluster-admin").is_none() {
        for (plural, namespace, object) in policy() {
            create(server, RBAC, plural, &namespace, object).await?;
        }
    }
    for (name, value, description) in [
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ] {
        let mut object = Value::object();
        object.set_at(&["metadata", "name"], name);
        object.set_at(&["value"], value);
        object.set_at(&["description"], description);
        create(server, "scheduling.k8s.io", "priorityclasses", "", object).await?;
    }
    for (kind, object) in crate::flow::bootstrap_objects() {
        let plural = if kind == "FlowSchema" { "flowschemas" } else { "prioritylevelconfigurations" };
        let place = ("flowcontrol.apiserver.k8s.io", plural, "");
        create_as("api-priority-and-fairness-config-producer-v1", server, place, object).await?;
    }
    let mut range = Value::object();
    range.set_at(&["metadata", "name"], "kubernetes");
    let cidrs: Vec<String> = server.config.service_ranges.iter().map(ToString::to_string).collect();
    range.set_at(&["spec", "cidrs"], cidrs);
    create(server, "networking.k8s.io", "servicecidrs", "", range).await?;
    kubernetes_service(server).await
}

async fn create(server: &ApiServer, group: &str, plural: &str, namespace: &str, object: Value) -> Result<(), Status> {
    create_as("kube-apiserver", server, (group, plural, namespace), object).await
}

async fn create_as(
    manager: &str,
    server: &ApiServer,
    (group, plural, namespace): (&str, &str, &str),
    object: Value,
) -> Result<(), Status> {
    let Some(served) = server.catalogue.stored(group, plural) else { return Ok(()) };
    let name = object.str_at(&["metadata", "name"]);
    if server.store.get(&served.key(namespace, name)).is_some() {
        return Ok(());
    }
    let target = Target {
        served: served.clone(),
        namespace: namespace.to_owned(),
        name: String::new(),
        subresource: String::new(),
        user: Arc::new(User::new("system:apiserver", &["system:masters"])),
        warnings: Warnings::default(),
        empty: Default::default(),
        notes: Notes::default(),
    };
    let mut object = object;
    crate::defaults::apply(served.id, &mut object);
    let options = WriteOptions { field_manager: manager.into(), ..WriteOptions::default() };
    match server.create(&target, object, &options).await {
        Ok(_) => Ok(()),
        Err(status) if status.reason == "AlreadyExists" => Ok(()),
        Err(status) => Err(status),
    }
}

fn list(words: &str) -> Vec<String> {
    words.split(',').map(|w| if w == "core" { String::new() } else { w.to_owned() }).collect()
}

/// An object of the default policy with nothing in it yet.
fn default_policy(name: &str) -> Value {
    let mut object = Value::object();
    object.set_at(&["metadata", "name"], name);
    object.set_at(&["metadata", "labels", "kubernetes.io/bootstrapping"], "rbac-defaults");
    object.set_at(&["metadata", "annotations", "rbac.authorization.kubernetes.io/autoupdate"], "true");
    object
}

/// The role and the binding by which a controller's account may patch resources.
fn patches(account: &str, group: &str, resources: &str) -> [(&'static str, String, Value); 2] {
    let name = format!("system:trireme:controller:{account}");
    let mut role = default_policy(&name);
    let rule = Map::from_iter([("verbs", list("patch")), ("apiGroups", list(group)), ("resources", list(resources))]);
    role.set_at(&["rules"], vec![Value::Object(rule)]);
    let mut binding = default_policy(&name);
    let to = Map::from_iter([("apiGroup", RBAC), ("kind", "ClusterRole"), ("name", name.as_str())]);
    binding.set_at(&["roleRef"], Value::Object(to));
    let subject = Map::from_iter([("kind", "ServiceAccount"), ("name", account), ("namespace", "kube-system")]);
    binding.set_at(&["subjects"], vec![Value::Object(subject)]);
    [("clusterroles", String::new(), role), ("clusterrolebindings", String::new(), binding)]
}

/// The policy as objects: resource, namespace, object.
fn policy() -> Vec<(&'static str, String, Value)> {
    let mut out: Vec<(&'static str, String, Value)> = Vec::new();
    for line in POLICY.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let Some((head, rest)) = words.split_first() else { continue };
        if let ("patches", [account, group, resources]) = (*head, rest) {
            out.extend(patches(account, group, resources));
            continue;
        }
        if !line.starts_with(' ') {
            let plural = match *head {
                "clusterrole" => "clusterroles",
                "role" => "roles",
                "clusterrolebinding" => "clusterrolebindings",
                _ => "rolebindings",
            };
            let Some((place, labels)) = rest.split_first() else { continue };
            // Names hold no slash, but for those that stand behind their namespace.
            let (namespace, name) = match plural {
                "roles" | "rolebindings" => place.split_once('/').unwrap_or(("", place)),
                _ => ("", *place),
            };
            let mut object = default_policy(name);
            for label in labels {
                if let Some((key, value)) = label.strip_prefix("label=").and_then(|l| l.split_once('=')) {
                    object.set_at(&["metadata", "labels", key], value);
                }
            }
            out.push((plural, namespace.to_owned(), object));
            continue;
        }
        let Some((_, _, object)) = out.last_mut() else { continue };
        let Some(map) = object.as_object_mut() else { continue };
        let mut push = |field: &str, item: Map| {
            if let Value::Array(items) = map.entry(field, || Value::Array(Vec::new())) {
                items.push(Value::Object(item));
            }
        };
        match (*head, rest) {
            ("allow", [verbs, groups, resources, names @ ..]) => {
                let mut rule = Map::from_iter([
                    ("verbs", list(verbs)),
                    ("apiGroups", list(groups)),
                    ("resources", list(resources)),
                ]);
                if let Some(names) = names.first() {
                    rule.insert("resourceNames", list(names));
                }
                push("rules", rule);
            }
            ("url", [verbs, urls]) => {
                push("rules", Map::from_iter([("verbs", list(verbs)), ("nonResourceURLs", list(urls))]));
            }
            ("aggregate", [label, ..]) => {
                if let Some((key, value)) = label.split_once('=') {
                    let labels = Map::from_iter([(key, value)]);
                    let selector = Value::Object(Map::from_iter([("matchLabels", labels)]));
                    map.object("aggregationRule").insert("clusterRoleSelectors", vec![selector]);
                }
            }
            ("to", [kind, name]) => {
                let role = Map::from_iter([("apiGroup", RBAC), ("kind", kind), ("name", name)]);
                map.insert("roleRef", role);
            }
            ("subject", [kind, name]) => {
                let mut subject = Map::from_iter([("kind", *kind)]);
                match (*kind, name.split_once('/')) {
                    ("ServiceAccount", Some((namespace, name))) => {
                        subject.insert("name", name);
                        subject.insert("namespace", namespace);
                    }
                    _ => {
                        subject.insert("apiGroup", RBAC);
                        subject.insert("name", *name);
                    }
                }
                push("subjects", subject);
            }
            _ => {}
        }
    }
    out
}

/// `default/kubernetes` and where it leads.
async fn kubernetes_service(server: &ApiServer) -> Result<(), Status> {
    let config = &server.config;
    let Some(range) = config.service_ranges.first() else { return Ok(()) };
    let address = range.address(1).to_string();
    let mut service = Value::object();
    service.set_at(&["metadata", "name"], "kubernetes");
    service.set_at(&["metadata", "labels", "component"], "apiserver");
    service.set_at(&["metadata", "labels", "provider"], "kubernetes");
    service.set_at(&["spec", "clusterIP"], address.as_str());
    service.set_at(&["spec", "clusterIPs"], vec![address]);
    let mut port = Map::from_iter([("name", "https"), ("protocol", "TCP")]);
    port.insert("port", 443);
    port.insert("targetPort", i64::from(config.advertise_port));
    service.set_at(&["spec", "ports"], vec![Value::Object(port)]);
    create(server, "", "services", "default", service).await?;

    if config.advertise_address.is_loopback() {
        // No endpoint may have such an address: from a pod it would lead to the pod.
        tracing::warn!(
            address = %config.advertise_address,
            "the service default/kubernetes leads nowhere: nobody else reaches this address; name another with --advertise-address"
        );
        return Ok(());
    }
    let here = config.advertise_address.to_string();
    let port = || {
        let mut port = Map::from_iter([("name", "https"), ("protocol", "TCP")]);
        port.insert("port", i64::from(config.advertise_port));
        vec![Value::Object(port)]
    };
    let mut endpoints = Value::object();
    endpoints.set_at(&["metadata", "name"], "kubernetes");
    endpoints.set_at(&["metadata", "labels", "endpointslice.kubernetes.io/skip-mirror"], "true");
    let mut subset = Map::new();
    subset.insert("addresses", vec![Value::Object(Map::from_iter([("ip", here.as_str())]))]);
    subset.insert("ports", port());
    endpoints.set_at(&["subsets"], vec![Value::Object(subset)]);
    replace(server, "", "endpoints", endpoints).await?;

    let mut slice = Value::object();
    slice.set_at(&["metadata", "name"], "kubernetes");
    slice.set_at(&["metadata", "labels", "kubernetes.io/service-name"], "kubernetes");
    slice.set_at(&["addressType"], if config.advertise_address.is_ipv4() { "IPv4" } else { "IPv6" });
    let mut endpoint = Map::new();
    endpoint.insert("addresses", vec![here]);
    endpoint.insert("conditions", Map::from_iter([("ready", true)]));
    slice.set_at(&["endpoints"], vec![Value::Object(endpoint)]);
    slice.set_at(&["ports"], port());
    replace(server, "discovery.k8s.io", "endpointslices", slice).await
}

/// Creates an object in `default`, or brings it up to date: the server may have moved.
async fn replace(server: &ApiServer, group: &str, plural: &str, object: Value) -> Result<(), Status> {
    let name = object.str_at(&["metadata", "name"]).to_owned();
    let Some(served) = server.catalogue.stored(group, plural) else { return Ok(()) };
    if server.store.get(&served.key("default", &name)).is_none() {
        return create(server, group, plural, "default", object).await;
    }
    let target = Target {
        served: served.clone(),
        namespace: "default".into(),
        name,
        subresource: String::new(),
        user: Arc::new(User::new("system:apiserver", &["system:masters"])),
        warnings: Warnings::default(),
        empty: Default::default(),
        notes: Notes::default(),
    };
    let mut wanted = object;
    crate::defaults::apply(served.id, &mut wanted);
    let change = |old: &Value| {
        let mut new = old.clone();
        for field in ["subsets", "addressType", "endpoints", "ports"] {
            if let Some(value) = wanted.get(field) {
                new.set_at(&[field], value.clone());
            }
        }
        Ok(new)
    };
    let options = WriteOptions { field_manager: "kube-apiserver".into(), ..WriteOptions::default() };
    server.update(&target, &change, &options).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_whole() {
        let policy = policy();
        let count = |plural: &str| policy.iter().filter(|(p, ..)| *p == plural).count();
        assert!(count("clusterroles") > 60 && count("clusterrolebindings") > 50);
        let (_, _, admin) = policy.iter().find(|(_, _, o)| o.str_at(&["metadata", "name"]) == "cluster-admin").unwrap();
        assert_eq!(admin.list_at(&["rules"]).len(), 2);
        for (plural, namespace, object) in &policy {
            assert!(!object.str_at(&["metadata", "name"]).contains('/'), "{plural} {object:?}");
            assert_eq!(namespace.is_empty(), plural.starts_with("cluster"));
        }
    }
}
