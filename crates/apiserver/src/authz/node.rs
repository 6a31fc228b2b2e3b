//! The node authorizer: a node agent reads what the pods on its node refer to, and nothing else of that kind.

use super::pods::{claims, resource_claims};
use super::{Action, Decision};
use crate::server::ApiServer;
use crate::user::User;
use trireme_schema::{Value, json};

pub use super::pods::NodePods;
pub(crate) use super::pods::references;

/// Whether a node agent may do something because a pod on its node needs it.
pub(super) fn decide(server: &ApiServer, user: &User, action: &Action) -> Decision {
    let Some(node) = user.node() else { return Decision::no_opinion("") };
    if node.is_empty() {
        return Decision::no_opinion(format!("unknown node for user \"{}\"", user.name));
    }
    match part(server, node, action) {
        Some(Ok(())) => Decision::allow(""),
        Some(Err(why)) => Decision::no_opinion(why),
        // The rest is what upstream's role for nodes says; it is bound to nobody but known to this authorizer.
        None if super::rbac::role_allows(server, "system:node", action) => Decision::allow(""),
        None => Decision::no_opinion(""),
    }
}

type Verdict = Result<(), String>;

fn no<T>(why: &str) -> Result<T, String> {
    Err(why.to_owned())
}

/// The verdict about a resource of which nodes get their part; nothing for others.
fn part(server: &ApiServer, node: &str, action: &Action) -> Option<Verdict> {
    let graph = Graph { server, node, action };
    Some(match (action.group.as_str(), action.resource.as_str()) {
        ("", "secrets") => {
            graph.read(|pod| references(pod, "secret").any(|n| n == action.name) || graph.secret_of_volume(pod))
        }
        ("", "configmaps") => graph.read(|pod| references(pod, "configMap").any(|n| n == action.name)),
        ("", "persistentvolumeclaims") if action.subresource == "status" => {
            if matches!(action.verb.as_str(), "update" | "patch") {
                graph.related(|pod| graph.has_claim(pod))
            } else {
                no("can only get/update/patch this type")
            }
        }
        ("", "persistentvolumeclaims") => graph.get(|pod| graph.has_claim(pod)),
        ("", "persistentvolumes") => {
            graph.get(|pod| graph.volumes(pod).any(|pv| pv.str_at(&["metadata", "name"]) == action.name))
        }
        ("resource.k8s.io", "resourceclaims") => graph.get(|pod| {
            pod.str_at(&["metadata", "namespace"]) == action.namespace && resource_claims(pod).any(|n| n == action.name)
        }),
        ("storage.k8s.io", "volumeattachments") => graph.attachment(),
        ("", "serviceaccounts") => graph.account(),
        ("coordination.k8s.io", "leases") => lease(node, action),
        ("storage.k8s.io", "csinodes") => csi_node(node, action),
        ("resource.k8s.io", "resourceslices") => graph.slice(),
        ("", "nodes") => own_node(node, action),
        ("", "pods") => graph.pod(),
        _ => return None,
    })
}

/// What pods on a node lead to.
struct Graph<'a> {
    server: &'a ApiServer,
    node: &'a str,
    action: &'a Action,
}

impl Graph<'_> {
    fn pods(&self) -> impl Iterator<Item = Value> {
        self.server.node_pods.on(self.node).into_iter().filter_map(|record| json::parse(&record.value).ok())
    }

    /// Whether a pod on the node leads to the object. Mirrors of what the node runs by itself lead nowhere.
    fn related(&self, leads: impl Fn(&Value) -> bool) -> Verdict {
        if self.action.name.is_empty() {
            return no("No Object name found");
        }
        let mirror = |pod: &Value| pod.at(&["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some();
        if self.pods().any(|pod| !mirror(&pod) && leads(&pod)) { Ok(()) } else { self.unrelated() }
    }

    fn unrelated(&self) -> Verdict {
        Err(format!("no relationship found between node '{}' and this object", self.node))
    }

    /// A namespaced object that may be read alone.
    fn read(&self, leads: impl Fn(&Value) -> bool) -> Verdict {
        let action = self.action;
        if !matches!(action.verb.as_str(), "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !action.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if action.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(|pod| pod.str_at(&["metadata", "namespace"]) == action.namespace && leads(pod))
    }

    fn get(&self, leads: impl Fn(&Value) -> bool) -> Verdict {
        if self.action.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !self.action.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(leads)
    }

    fn has_claim(&self, pod: &Value) -> bool {
        pod.str_at(&["metadata", "namespace"]) == self.action.namespace && claims(pod).any(|c| c == self.action.name)
    }

    /// The volumes that a pod's claims are bound to.
    fn volumes(&self, pod: &Value) -> impl Iterator<Item = Value> {
        let namespace = pod.str_at(&["metadata", "namespace"]).to_owned();
        claims(pod).collect::<Vec<_>>().into_iter().filter_map(move |claim| {
            let claim = self.server.read("", "persistentvolumeclaims", &namespace, &claim)?;
            self.server.read("", "persistentvolumes", "", claim.str_at(&["spec", "volumeName"]))
        })
    }

    /// Whether a volume of a pod names the secret.
    fn secret_of_volume(&self, pod: &Value) -> bool {
        self.volumes(pod).any(|pv| {
            let spec = pv.at(&["spec"]).and_then(Value::as_object);
            let mut sources = spec.into_iter().flat_map(|s| s.values());
            sources.any(|source| {
                let direct = (source.str_at(&["secretName"]), source.str_at(&["secretNamespace"]));
                let named = source.as_object().into_iter().flat_map(|m| m.values());
                direct == (&self.action.name, &self.action.namespace)
                    || named.into_iter().any(|reference| {
                        reference.str_at(&["name"]) == self.action.name
                            && matches!(reference.str_at(&["namespace"]), n if n == self.action.namespace)
                    })
            })
        })
    }

    fn attachment(&self) -> Verdict {
        let action = self.action;
        if action.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !action.subresource.is_empty() {
            return no("cannot get subresource");
        }
        let found = self.server.read("storage.k8s.io", "volumeattachments", "", &action.name);
        if found.is_some_and(|va| va.str_at(&["spec", "nodeName"]) == self.node) { Ok(()) } else { self.unrelated() }
    }

    fn account(&self) -> Verdict {
        let action = self.action;
        let runs = |pod: &Value| {
            pod.str_at(&["metadata", "namespace"]) == action.namespace
                && pod.str_at(&["spec", "serviceAccountName"]) == action.name
        };
        if action.verb == "get" && action.subresource.is_empty() {
            return self.related(runs);
        }
        if action.verb != "create" || action.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if action.subresource != "token" {
            return no("can only create token subresource of service account");
        }
        self.related(runs)
    }

    fn selects(&self, field: &str) -> bool {
        self.action.fields.exact(field) == Some(self.node)
    }

    fn slice(&self) -> Verdict {
        let action = self.action;
        if !action.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match action.verb.as_str() {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => {
                let found = self.server.read("resource.k8s.io", "resourceslices", "", &action.name);
                let own = found.is_some_and(|slice| slice.str_at(&["spec", "nodeName"]) == self.node);
                if own { Ok(()) } else { self.unrelated() }
            }
            "list" | "watch" | "deletecollection" if self.selects("spec.nodeName") => Ok(()),
            "list" | "watch" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn pod(&self) -> Verdict {
        let action = self.action;
        let own = || {
            self.related(|pod| {
                pod.str_at(&["metadata", "namespace"]) == action.namespace
                    && pod.str_at(&["metadata", "name"]) == action.name
            })
        };
        match (action.subresource.as_str(), action.verb.as_str()) {
            ("", "get") => {
                // A mirror is the node's own as well.
                let mut here = self.pods();
                let is = |pod: Value| {
                    pod.str_at(&["metadata", "namespace"]) == action.namespace
                        && pod.str_at(&["metadata", "name"]) == action.name
                };
                if here.any(is) { Ok(()) } else { own() }
            }
            ("", "list" | "watch") if self.selects("spec.nodeName") => Ok(()),
            ("", "list" | "watch") if !action.name.is_empty() => own(),
            ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
            // NodeRestriction looks at which.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => no(""),
        }
    }
}

const FIVE: [&str; 5] = ["get", "create", "update", "patch", "delete"];

fn lease(node: &str, action: &Action) -> Verdict {
    if !FIVE.contains(&action.verb.as_str()) {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if action.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    if action.verb != "create" && action.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

fn csi_node(node: &str, action: &Action) -> Verdict {
    if !action.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if !FIVE.contains(&action.verb.as_str()) {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if action.verb != "create" && action.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    Ok(())
}

fn own_node(node: &str, action: &Action) -> Verdict {
    match (action.subresource.as_str(), action.verb.as_str()) {
        // NodeRestriction looks at which.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") => match action.name.as_str() {
            name if name == node => Ok(()),
            "" => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
            name => Err(format!("node '{node}' cannot read '{name}', only its own Node object")),
        },
        _ => no(""),
    }
}

/// Whether a pod asks for tokens for an audience: in a projected volume, or by a CSI driver that gets tokens.
pub(crate) fn is_named_by(server: &ApiServer, pod: &Value, audience: &str) -> bool {
    let projected = pod.list_at(&["spec", "volumes"]).iter().flat_map(|v| v.list_at(&["projected", "sources"]));
    let mut tokens = projected.filter_map(|s| s.get("serviceAccountToken"));
    if tokens.any(|token| token.str_at(&["audience"]) == audience) {
        return true;
    }
    let inline = pod.list_at(&["spec", "volumes"]).iter().map(|v| v.str_at(&["csi", "driver"]).to_owned());
    let action = Action::default();
    let graph = Graph { server, node: "", action: &action };
    let bound = graph.volumes(pod).map(|pv| pv.str_at(&["spec", "csi", "driver"]).to_owned());
    inline.chain(bound).filter(|driver| !driver.is_empty()).any(|driver| {
        let driver = server.read("storage.k8s.io", "csidrivers", "", &driver).unwrap_or_default();
        driver.list_at(&["spec", "tokenRequests"]).iter().any(|r| r.str_at(&["audience"]) == audience)
    })
}
