//! RuntimeClass (KEP-585): overhead and scheduling of the class that a pod names.

use super::Attributes;
use trireme_quota::read;
use trireme_schema::{Status, Value};

/// The class of a new pod, if it names one.
fn class_of(attributes: &Attributes<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let name = pod.str_at(&["spec", "runtimeClassName"]);
    if name.is_empty() {
        return Ok(None);
    }
    let found = attributes.server.read("node.k8s.io", "runtimeclasses", "", name);
    let why = format!("pod rejected: RuntimeClass \"{name}\" not found");
    found.map(Some).ok_or_else(|| attributes.forbidden(pod, &why))
}

const OTHER_OVERHEAD: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

/// Gives a new pod what its class says.
pub(super) fn apply(attributes: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    if !attributes.creates("", "pods") {
        return Ok(());
    }
    let Some(class) = class_of(attributes, object)? else { return Ok(()) };
    if let Some(overhead) = class.at(&["overhead", "podFixed"]) {
        let given = read(object.at(&["spec", "overhead"]));
        if !given.is_empty() && given != read(Some(overhead)) {
            return Err(attributes.forbidden(object, OTHER_OVERHEAD));
        }
        object.set_at(&["spec", "overhead"], overhead.clone());
    }
    let selector = class.at(&["scheduling", "nodeSelector"]).and_then(Value::as_object);
    for (key, value) in selector.into_iter().flat_map(|m| m.iter()) {
        let wanted = value.as_str().unwrap_or_default();
        match object.at(&["spec", "nodeSelector", key]).and_then(Value::as_str) {
            Some(given) if given != wanted => {
                let why = format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {given}"
                );
                return Err(attributes.forbidden(object, &why));
            }
            _ => object.set_at(&["spec", "nodeSelector", key], wanted),
        }
    }
    let more = class.list_at(&["scheduling", "tolerations"]);
    if !more.is_empty() {
        let mut all = object.list_at(&["spec", "tolerations"]).to_vec();
        for toleration in more {
            if !all.contains(toleration) {
                all.push(toleration.clone());
            }
        }
        object.set_at(&["spec", "tolerations"], Value::Array(all));
    }
    Ok(())
}

/// Refuses an overhead that is not that of the class.
pub(super) fn check(attributes: &Attributes<'_>, object: &Value, _: Option<&Value>) -> Result<(), Status> {
    if !attributes.creates("", "pods") {
        return Ok(());
    }
    let class = class_of(attributes, object)?;
    let defined = class.as_ref().and_then(|c| c.at(&["overhead", "podFixed"]));
    let given = read(object.at(&["spec", "overhead"]));
    let why = match defined {
        Some(overhead) if read(Some(overhead)) != given => OTHER_OVERHEAD,
        None if !given.is_empty() => {
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        }
        _ => return Ok(()),
    };
    Err(attributes.forbidden(object, why))
}
