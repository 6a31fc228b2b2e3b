//! Taints and tolerations: TaintNodesByCondition, DefaultTolerationSeconds, ExtendedResourceToleration.

use super::Attributes;
use std::collections::BTreeSet;
use trireme_schema::{Map, Status, Value};

/// TaintNodesByCondition: a new node takes no pods before it is ready.
pub(super) fn taint_new_node(attributes: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    if !attributes.creates("", "nodes") {
        return Ok(());
    }
    const TAINT: &str = "node.kubernetes.io/not-ready";
    let there = object.list_at(&["spec", "taints"]).iter().any(|t| t.str_at(&["key"]) == TAINT);
    if !there {
        let mut taints = object.list_at(&["spec", "taints"]).to_vec();
        taints.push(Value::Object(Map::from_iter([("key", TAINT), ("effect", "NoSchedule")])));
        object.set_at(&["spec", "taints"], Value::Array(taints));
    }
    Ok(())
}

/// DefaultTolerationSeconds: a pod stays five minutes on a node that is away.
pub(super) fn default_seconds(
    attributes: &Attributes<'_>,
    object: &mut Value,
    _: Option<&Value>,
) -> Result<(), Status> {
    if !attributes.writes() || !attributes.is("", "pods", "") {
        return Ok(());
    }
    let mut tolerations = object.list_at(&["spec", "tolerations"]).to_vec();
    let before = tolerations.len();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|t| {
            let (k, effect) = (t.str_at(&["key"]), t.str_at(&["effect"]));
            (k == key || k.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !tolerated {
            let mut toleration = Map::from_iter([("key", key), ("operator", "Exists"), ("effect", "NoExecute")]);
            toleration.insert("tolerationSeconds", 300);
            tolerations.push(Value::Object(toleration));
        }
    }
    if tolerations.len() > before {
        object.set_at(&["spec", "tolerations"], Value::Array(tolerations));
    }
    Ok(())
}

/// Whether a resource is a device of some sort rather than the system's own.
fn is_extended(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
        && !name.starts_with("requests.")
}

/// ExtendedResourceToleration: a pod that asks for a device tolerates the taint that keeps others off its nodes.
pub(super) fn extended_resources(
    attributes: &Attributes<'_>,
    object: &mut Value,
    _: Option<&Value>,
) -> Result<(), Status> {
    if !attributes.writes() || !attributes.is("", "pods", "") {
        return Ok(());
    }
    let lists = ["containers", "initContainers"];
    let asked: BTreeSet<String> = lists
        .into_iter()
        .flat_map(|list| object.list_at(&["spec", list]))
        .filter_map(|c| c.at(&["resources", "requests"]).and_then(Value::as_object))
        .flat_map(|m| m.keys())
        .map(|k| k.to_string())
        .filter(|name| is_extended(name))
        .collect();
    let mut tolerations = object.list_at(&["spec", "tolerations"]).to_vec();
    let before = tolerations.len();
    for name in &asked {
        let wanted = Map::from_iter([("key", name.as_str()), ("operator", "Exists"), ("effect", "NoSchedule")]);
        let wanted = Value::Object(wanted);
        if !tolerations.contains(&wanted) {
            tolerations.push(wanted);
        }
    }
    if tolerations.len() > before {
        object.set_at(&["spec", "tolerations"], Value::Array(tolerations));
    }
    Ok(())
}
