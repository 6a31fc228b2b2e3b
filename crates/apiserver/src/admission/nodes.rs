//! NodeRestriction: a node agent changes its own node and its own pods.

use super::{Attributes, Operation};
use trireme_schema::{Map, Status, Value};

/// Label prefixes that a node agent may set on its node.
fn allowed_label(key: &str) -> bool {
    const ALLOWED: [&str; 13] = [
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
        "node.kubernetes.io/windows-build",
        "kubernetes.io/instance-type",
    ];
    let prefix = key.split('/').next().unwrap_or_default();
    let ours = prefix == "kubernetes.io"
        || prefix.ends_with(".kubernetes.io")
        || prefix == "k8s.io"
        || prefix.ends_with(".k8s.io");
    !key.contains('/')
        || !ours
        || ALLOWED.contains(&key)
        || prefix == "kubelet.kubernetes.io"
        || prefix.ends_with(".kubelet.kubernetes.io")
        || prefix == "node.kubernetes.io"
        || prefix.ends_with(".node.kubernetes.io")
}

fn changed_labels(new: Option<&Map>, old: Option<&Map>) -> Vec<String> {
    let keys = |map: Option<&Map>| map.into_iter().flat_map(Map::keys).map(|k| k.to_string()).collect::<Vec<_>>();
    let mut all = keys(new);
    all.extend(keys(old));
    all.sort_unstable();
    all.dedup();
    all.retain(|k| new.and_then(|m| m.get(k)) != old.and_then(|m| m.get(k)));
    all
}

/// Refuses what a node agent may not write.
pub(super) fn restriction(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    let target = attributes.target;
    let Some(node) = target.user.node() else { return Ok(()) };
    let refuse = |why: String| Err(attributes.forbidden(object, &why));
    let served = &target.served;
    match (served.group(), served.plural()) {
        ("", "pods") => pod(attributes, node, object, old),
        ("", "nodes") => {
            let name = if target.name.is_empty() { object.str_at(&["metadata", "name"]) } else { &target.name };
            if name != node {
                return refuse(format!("node \"{node}\" is not allowed to modify node \"{name}\""));
            }
            let labels =
                |v: Option<&Value>| v.and_then(|v| v.at(&["metadata", "labels"])).and_then(Value::as_object).cloned();
            let (new_labels, old_labels) = (labels(Some(object)), labels(old));
            if attributes.operation != Operation::Delete {
                let bad: Vec<String> = changed_labels(new_labels.as_ref(), old_labels.as_ref())
                    .into_iter()
                    .filter(|k| !allowed_label(k) || k.split('/').next() == Some("node-restriction.kubernetes.io"))
                    .collect();
                if !bad.is_empty() {
                    let verb = if old.is_none() { "set" } else { "modify" };
                    return refuse(format!("is not allowed to {verb} the following labels: {}", bad.join(", ")));
                }
            }
            if let Some(old) = old
                && attributes.operation == Operation::Update
                && old.at(&["spec", "taints"]) != object.at(&["spec", "taints"])
            {
                return refuse(format!("node \"{node}\" is not allowed to modify taints"));
            }
            Ok(())
        }
        ("coordination.k8s.io", "leases") => {
            let name = if target.name.is_empty() { object.str_at(&["metadata", "name"]) } else { &target.name };
            if target.namespace != "kube-node-lease" {
                return refuse("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
            }
            if name != node {
                return refuse("can only access node lease with the same name as the requesting node".to_owned());
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn pod(attributes: &Attributes<'_>, node: &str, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    let target = attributes.target;
    let refuse = |why: String| Err(attributes.forbidden(object, &why));
    let on = |pod: &Value| pod.str_at(&["spec", "nodeName"]).to_owned();
    match (attributes.operation, target.subresource.as_str()) {
        (Operation::Create, "") => {
            let mirror = object.at(&["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some();
            if !mirror {
                return refuse(format!(
                    "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"{node}\" can only create mirror pods"
                ));
            }
            if on(object) != node {
                return refuse(format!("node \"{node}\" can only create pods with spec.nodeName set to itself"));
            }
            Ok(())
        }
        (Operation::Delete, _) => match old {
            Some(old) if on(old) != node => {
                refuse(format!("node \"{node}\" can only delete pods with spec.nodeName set to itself"))
            }
            _ => Ok(()),
        },
        (Operation::Update, "status") => match old {
            Some(old) if on(old) != node => {
                refuse(format!("node \"{node}\" can only update pod status for pods with spec.nodeName set to itself"))
            }
            _ => Ok(()),
        },
        (Operation::Update, "") => refuse(format!("node \"{node}\" cannot update pods")),
        _ => Ok(()),
    }
}
