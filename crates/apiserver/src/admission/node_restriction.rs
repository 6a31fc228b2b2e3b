//! NodeRestriction: a node agent writes its own node, its own pods and what belongs to them.

use super::{Attributes, Operation};
use crate::authz::node::is_named_by;
use trireme_schema::{Map, Status, Value};

/// Labels below the domains of Kubernetes that a node agent may set on its node.
const LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

fn is_below(prefix: &str, domain: &str) -> bool {
    prefix == domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

fn may_set_label(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    let below = |domain| is_below(prefix, domain);
    if below("node-restriction.kubernetes.io") {
        return false;
    }
    let ours = below("kubernetes.io") || below("k8s.io");
    !ours || LABELS.contains(&key) || below("kubelet.kubernetes.io") || below("node.kubernetes.io")
}

/// Labels that differ and that a node agent may not set.
fn forbidden_labels(new: &Value, old: Option<&Value>) -> Vec<String> {
    let labels = |v: Option<&Value>| v.and_then(|v| v.at(&["metadata", "labels"])).and_then(Value::as_object).cloned();
    let (new, old) = (labels(Some(new)).unwrap_or_default(), labels(old).unwrap_or_default());
    let mut changed: Vec<String> = [&new, &old].into_iter().flat_map(Map::keys).map(|k| k.to_string()).collect();
    changed.retain(|key| new.get(key) != old.get(key) && !may_set_label(key));
    changed.sort();
    changed.dedup();
    changed
}

/// Whether a pod refers to objects of a kind (`secret`, `configMap`) anywhere.
pub(super) fn refers_to(pod: &Value, kind: &str) -> bool {
    crate::authz::node::references(pod, kind).next().is_some()
}

/// Refuses what a node agent may not write.
pub(super) fn check(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    let target = attributes.target;
    if !target.user.is_in("system:nodes") {
        return Ok(());
    }
    let Some(node) = target.user.node().filter(|n| !n.is_empty()) else {
        let name = &target.user.name;
        return if target.user.name.starts_with("system:node:") {
            Err(attributes.forbidden(object, &format!("could not determine node from user {name:?}")))
        } else {
            Ok(())
        };
    };
    let served = &target.served;
    let verdict = match (served.group(), served.plural()) {
        ("", "pods") => match (attributes.operation, target.subresource.as_str()) {
            (Operation::Connect, _) => Ok(()),
            (_, "") => pod(attributes, node, object, old),
            (_, "status") => pod_status(node, object, old),
            (Operation::Create, "eviction") => eviction(node, &evicted(attributes)?),
            (_, other) => {
                Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
            }
        },
        ("", "nodes") if attributes.operation != Operation::Connect => own_node(attributes, node, object, old),
        ("", "persistentvolumeclaims") if target.subresource == "status" => claim_status(node, object, old),
        ("", "serviceaccounts") if target.subresource == "token" => Ok(()),
        ("coordination.k8s.io", "leases") => lease(attributes, node, object),
        ("storage.k8s.io", "csinodes") if attributes.name(object) != node => {
            Err("can only access CSINode with the same name as the requesting node".to_owned())
        }
        ("resource.k8s.io", "resourceslices") => slice(attributes, node, object, old),
        _ => Ok(()),
    };
    verdict.map_err(|why| attributes.forbidden(object, &why))
}

fn own_node(attributes: &Attributes<'_>, node: &str, object: &Value, old: Option<&Value>) -> Result<(), String> {
    let name = attributes.name(object);
    if name != node {
        return Err(format!("node \"{node}\" is not allowed to modify node \"{name}\""));
    }
    let forbidden = forbidden_labels(object, old);
    match (attributes.operation, old) {
        (Operation::Create, _) if !forbidden.is_empty() => {
            Err(format!("is not allowed to set the following labels: {}", forbidden.join(", ")))
        }
        (Operation::Update, Some(old)) => {
            if object.at(&["spec", "configSource"]) != old.at(&["spec", "configSource"])
                && object.at(&["spec", "configSource"]).is_some()
            {
                return Err(format!(
                    "node \"{node}\" is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if object.at(&["spec", "taints"]) != old.at(&["spec", "taints"]) {
                return Err(format!("node \"{node}\" is not allowed to modify taints"));
            }
            if !forbidden.is_empty() {
                return Err(format!("is not allowed to modify labels: {}", forbidden.join(", ")));
            }
            if object.at(&["metadata", "ownerReferences"]) != old.at(&["metadata", "ownerReferences"]) {
                return Err(format!("node \"{node}\" is not allowed to modify ownerReferences"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn on(pod: &Value) -> &str {
    pod.str_at(&["spec", "nodeName"])
}

fn pod(attributes: &Attributes<'_>, node: &str, object: &Value, old: Option<&Value>) -> Result<(), String> {
    match attributes.operation {
        Operation::Create => new_pod(attributes, node, object),
        Operation::Delete if old.is_some_and(|old| on(old) != node) => {
            Err(format!("node \"{node}\" can only delete pods with spec.nodeName set to itself"))
        }
        Operation::Delete | Operation::Connect => Ok(()),
        Operation::Update => Err("unexpected operation \"UPDATE\", node can only create and delete pods".to_owned()),
    }
}

fn new_pod(attributes: &Attributes<'_>, node: &str, object: &Value) -> Result<(), String> {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    if object.at(&["metadata", "annotations", MIRROR]).is_none() {
        return Err(format!("pod does not have \"{MIRROR}\" annotation, node \"{node}\" can only create mirror pods"));
    }
    if on(object) != node {
        return Err(format!("node \"{node}\" can only create pods with spec.nodeName set to itself"));
    }
    let [owner] = object.list_at(&["metadata", "ownerReferences"]) else {
        let what = match object.list_at(&["metadata", "ownerReferences"]) {
            [] => "an owner reference",
            _ => "a single owner reference",
        };
        return Err(format!("node \"{node}\" can only create pods with {what} set to itself"));
    };
    let text = |field: &str| owner.str_at(&[field]);
    if (text("apiVersion"), text("kind"), text("name")) != ("v1", "Node", node) {
        return Err(format!("node \"{node}\" can only create pods with an owner reference set to itself"));
    }
    if !owner.bool_at(&["controller"]) {
        return Err(format!("node \"{node}\" can only create pods with a controller owner reference set to itself"));
    }
    if owner.bool_at(&["blockOwnerDeletion"]) {
        return Err(format!("node \"{node}\" must not set blockOwnerDeletion on an owner reference"));
    }
    let there = attributes.server.read("", "nodes", "", node).unwrap_or_default();
    let uid = there.str_at(&["metadata", "uid"]);
    if text("uid") != uid {
        return Err(format!("node {node} UID mismatch: expected {} got {uid}", text("uid")));
    }
    let volume = |source: &str| object.list_at(&["spec", "volumes"]).iter().any(|v| v.get(source).is_some());
    let bundles = || {
        let sources = object.list_at(&["spec", "volumes"]).iter().flat_map(|v| v.list_at(&["projected", "sources"]));
        sources.into_iter().any(|s| s.get("clusterTrustBundle").is_some())
    };
    let what = if !object.str_at(&["spec", "serviceAccountName"]).is_empty() {
        "a service account"
    } else if refers_to(object, "secret") {
        "secrets"
    } else if refers_to(object, "configMap") {
        "configmaps"
    } else if bundles() {
        "clustertrustbundles"
    } else if volume("persistentVolumeClaim") {
        "persistentvolumeclaims"
    } else if !object.list_at(&["spec", "resourceClaims"]).is_empty() {
        "resourceclaims"
    } else {
        return Ok(());
    };
    Err(format!("node \"{node}\" can not create pods that reference {what}"))
}

fn pod_status(node: &str, object: &Value, old: Option<&Value>) -> Result<(), String> {
    let Some(old) = old else { return Ok(()) };
    if on(old) != node {
        return Err(format!("node \"{node}\" can only update pod status for pods with spec.nodeName set to itself"));
    }
    if object.at(&["metadata", "labels"]) != old.at(&["metadata", "labels"]) {
        return Err(format!("node \"{node}\" cannot update labels through pod status"));
    }
    for field in ["resourceClaimStatuses", "extendedResourceClaimStatus"] {
        if object.at(&["status", field]) != old.at(&["status", field]) {
            return Err(format!("node \"{node}\" cannot update resource claim statuses"));
        }
    }
    Ok(())
}

/// The pod that is to be evicted. That there is none is told by the singular, as upstream's lister does.
fn evicted(attributes: &Attributes<'_>) -> Result<Value, Status> {
    let target = attributes.target;
    let pod = attributes.server.read("", "pods", &target.namespace, &target.name);
    pod.ok_or_else(|| Status::not_found("", "pod", &target.name))
}

fn eviction(node: &str, pod: &Value) -> Result<(), String> {
    if on(pod) == node {
        Ok(())
    } else {
        Err(format!("node {node} can only evict pods with spec.nodeName set to itself"))
    }
}

/// A node agent tells of a claim's size, and nothing else.
fn claim_status(node: &str, object: &Value, old: Option<&Value>) -> Result<(), String> {
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        for field in [
            "capacity",
            "conditions",
            "allocatedResources",
            "allocatedResourceStatuses",
            "currentVolumeAttributesClassName",
            "modifyVolumeStatus",
        ] {
            claim.remove_at(&["status", field]);
        }
        for field in ["resourceVersion", "managedFields"] {
            claim.remove_at(&["metadata", field]);
        }
        if claim.at(&["status"]).and_then(Value::as_object).is_some_and(Map::is_empty) {
            claim.remove_at(&["status"]);
        }
        claim
    };
    match old {
        Some(old) if rest(old) != rest(object) => Err(format!(
            "node \"{node}\" is not allowed to update fields other than status.quantity and status.conditions"
        )),
        _ => Ok(()),
    }
}

fn lease(attributes: &Attributes<'_>, node: &str, object: &Value) -> Result<(), String> {
    if attributes.target.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    if attributes.name(object) != node {
        return Err("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(())
}

fn slice(attributes: &Attributes<'_>, node: &str, object: &Value, old: Option<&Value>) -> Result<(), String> {
    let of = |slice: &Value| slice.str_at(&["spec", "nodeName"]).to_owned();
    let (what, owner) = match attributes.operation {
        Operation::Create => ("create", of(object)),
        Operation::Update => ("update", old.map(of).unwrap_or_default()),
        Operation::Delete => ("delete", old.map(of).unwrap_or_default()),
        Operation::Connect => return Ok(()),
    };
    if owner == node {
        Ok(())
    } else {
        Err(format!("can only {what} ResourceSlice with the same NodeName as the requesting node"))
    }
}

/// Whether a node agent may have a token for an account: for a pod of its own, for an audience that this pod speaks of
/// (KEP-4412).
///
/// # Errors
/// 403.
pub(crate) fn check_token(attributes: &Attributes<'_>, request: &Value) -> Result<(), Status> {
    let target = attributes.target;
    let Some(node) = target.user.node().filter(|n| !n.is_empty()) else { return Ok(()) };
    let refuse = |why: &str| Err(attributes.forbidden(&Value::Null, why));
    let Some(reference) = request.at(&["spec", "boundObjectRef"]) else {
        return refuse("node requested token not bound to a pod");
    };
    if reference.str_at(&["kind"]) != "Pod" || reference.str_at(&["apiVersion"]) != "v1" {
        return refuse("node requested token not bound to a pod");
    }
    let (name, uid) = (reference.str_at(&["name"]), reference.str_at(&["uid"]));
    if name.is_empty() {
        return refuse("node requested token not bound to a pod");
    }
    if uid.is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let Some(pod) = attributes.server.read("", "pods", &target.namespace, name) else {
        return Err(Status::not_found("", "pods", name));
    };
    if uid != pod.str_at(&["metadata", "uid"]) {
        return refuse(&format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    if on(&pod) != node {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    let audience = match request.list_at(&["spec", "audiences"]) {
        [] => "",
        [only] => only.as_str().unwrap_or_default(),
        _ => return refuse("node may only request 0 or 1 audiences"),
    };
    if is_named_by(attributes.server, &pod, audience) {
        return Ok(());
    }
    let name = &target.user.name;
    refuse(&format!(
        "audience {audience:?} not found in pod spec volume, {name} is not authorized to request service account tokens"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_kubernetes_are_not_a_nodes_to_set() {
        for (key, may) in [
            ("free", true),
            ("example.com/x", true),
            ("kubernetes.io/os", true),
            ("kubernetes.io/bogus", false),
            ("sub.node.kubernetes.io/x", true),
            ("node-restriction.kubernetes.io/x", false),
            ("a.node-restriction.kubernetes.io/x", false),
            ("notkubernetes.io/x", true),
        ] {
            assert_eq!(may_set_label(key), may, "{key}");
        }
    }
}
