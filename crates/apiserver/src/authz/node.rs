//! The node authorizer: a node agent reads what the pods on its node refer to, and nothing else of that kind.

use super::Action;
use crate::server::ApiServer;
use crate::user::User;
use trireme_schema::{Value, json};

/// Whether a node agent may do something because a pod on its node needs it.
pub(super) fn allows(server: &ApiServer, user: &User, action: &Action) -> bool {
    let Some(node) = user.node() else { return false };
    let read = matches!(action.verb.as_str(), "get" | "list" | "watch");
    match (action.group.as_str(), action.resource.as_str(), action.subresource.as_str()) {
        ("", "secrets" | "configmaps" | "persistentvolumeclaims", "") => {
            // A list or watch of one by its name counts as that one.
            read && !action.name.is_empty()
                && pods_on(server, node).iter().any(|pod| {
                    pod.str_at(&["metadata", "namespace"]) == action.namespace
                        && refers(pod, &action.resource, &action.name)
                })
        }
        ("", "serviceaccounts", "token") => {
            action.verb == "create"
                && pods_on(server, node).iter().any(|pod| {
                    pod.str_at(&["metadata", "namespace"]) == action.namespace
                        && pod.str_at(&["spec", "serviceAccountName"]) == action.name
                })
        }
        ("", "persistentvolumes", "") => {
            action.verb == "get"
                && pods_on(server, node).iter().any(|pod| {
                    let namespace = pod.str_at(&["metadata", "namespace"]);
                    claims(pod).iter().any(|claim| {
                        server
                            .read("", "persistentvolumeclaims", namespace, claim)
                            .is_some_and(|c| c.str_at(&["spec", "volumeName"]) == action.name)
                    })
                })
        }
        ("coordination.k8s.io", "leases", "") => {
            action.namespace == "kube-node-lease"
                && (action.name == node || action.verb == "create")
                && matches!(action.verb.as_str(), "get" | "create" | "update" | "patch" | "delete")
        }
        ("storage.k8s.io", "csinodes", "") => {
            (action.name == node || action.verb == "create")
                && matches!(action.verb.as_str(), "get" | "create" | "update" | "patch" | "delete")
        }
        // The rest is what upstream's role for nodes says; it is bound to nobody but known to this authorizer.
        _ => super::rbac::role_allows(server, "system:node", action),
    }
}

fn pods_on(server: &ApiServer, node: &str) -> Vec<Value> {
    let Some(served) = server.catalogue.stored("", "pods") else { return Vec::new() };
    let snapshot = server.store.topic(&served.topic).snapshot();
    // The name is looked for in the bytes before they are parsed: most pods are elsewhere.
    let mark = format!("\"nodeName\":{}", json::to_string(&Value::from(node)));
    let here = snapshot.keys.values().filter(|r| r.value.windows(mark.len()).any(|w| w == mark.as_bytes()));
    here.map(|r| served.read(&r.value)).filter(|pod| pod.str_at(&["spec", "nodeName"]) == node).collect()
}

fn claims(pod: &Value) -> Vec<String> {
    let name = pod.str_at(&["metadata", "name"]);
    pod.list_at(&["spec", "volumes"])
        .iter()
        .filter_map(|v| {
            let named = v.at(&["persistentVolumeClaim", "claimName"]).and_then(Value::as_str).map(str::to_owned);
            named.or_else(|| v.get("ephemeral").map(|_| format!("{name}-{}", v.str_at(&["name"]))))
        })
        .collect()
}

/// Whether a pod names an object.
fn refers(pod: &Value, resource: &str, name: &str) -> bool {
    if resource == "persistentvolumeclaims" {
        return claims(pod).iter().any(|c| c == name);
    }
    let secret = resource == "secrets";
    if secret && pod.list_at(&["spec", "imagePullSecrets"]).iter().any(|s| s.str_at(&["name"]) == name) {
        return true;
    }
    let in_volume = |v: &Value| {
        let direct = if secret { v.str_at(&["secret", "secretName"]) } else { v.str_at(&["configMap", "name"]) };
        let kind = if secret { "secret" } else { "configMap" };
        direct == name || v.list_at(&["projected", "sources"]).iter().any(|s| s.str_at(&[kind, "name"]) == name)
    };
    if pod.list_at(&["spec", "volumes"]).iter().any(in_volume) {
        return true;
    }
    let (from, key) = if secret { ("secretRef", "secretKeyRef") } else { ("configMapRef", "configMapKeyRef") };
    ["containers", "initContainers", "ephemeralContainers"].into_iter().any(|list| {
        pod.list_at(&["spec", list]).iter().any(|c| {
            c.list_at(&["envFrom"]).iter().any(|e| e.str_at(&[from, "name"]) == name)
                || c.list_at(&["env"]).iter().any(|e| e.str_at(&["valueFrom", key, "name"]) == name)
        })
    })
}
