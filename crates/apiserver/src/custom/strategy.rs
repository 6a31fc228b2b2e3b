//! What is special when definitions and custom objects are written.

use super::definitions::{CLEANUP, condition};
use crate::registry::Target;
use trireme_schema::{Map, Value};

/// Whether a target is a definition.
pub(crate) fn is_definition(target: &Target) -> bool {
    target.served.group() == "apiextensions.k8s.io" && target.served.kind() == "CustomResourceDefinition"
}

/// Whether all that is done to a definition is to let it go, which its state must not prevent: a status that names a stored
/// version that there is no more is accepted, and would be refused with the rest.
pub(crate) fn lets_go(target: &Target, old: Option<&Value>, new: &Value) -> bool {
    let held = |crd: &Value| crd.list_at(&["metadata", "finalizers"]).iter().any(|f| f.as_str() == Some(CLEANUP));
    is_definition(target)
        && old.is_some_and(|old| {
            old.at(&["metadata", "deletionTimestamp"]).is_some()
                && held(old)
                && !held(new)
                && old.get("spec") == new.get("spec")
        })
}

fn storage(crd: &Value) -> Option<Value> {
    let versions = crd.list_at(&["spec", "versions"]);
    versions.iter().find(|v| v.bool_at(&["storage"])).map(|v| v.str_at(&["name"]).into())
}

/// The status of a new definition: no name is accepted, and what will be stored is known.
pub(crate) fn definition_created(crd: &mut Value) {
    let mut status = Map::new();
    if let Some(version) = storage(crd) {
        status.insert("storedVersions", Value::Array(vec![version]));
    }
    crd.set_at(&["status"], status);
}

/// A changed definition stores in its new version from now on.
pub(crate) fn definition_updated(crd: &mut Value) {
    let Some(version) = storage(crd) else { return };
    let mut stored = crd.list_at(&["status", "storedVersions"]).to_vec();
    if !stored.contains(&version) {
        stored.push(version);
        crd.set_at(&["status", "storedVersions"], Value::Array(stored));
    }
}

/// A definition that is to be deleted is held until its objects are gone.
pub(crate) fn definition_deleted(crd: &mut Value) {
    if crd.at(&["metadata", "deletionTimestamp"]).is_some() {
        return;
    }
    let mut finalizers = crd.list_at(&["metadata", "finalizers"]).to_vec();
    if !finalizers.iter().any(|f| f.as_str() == Some(CLEANUP)) {
        finalizers.push(CLEANUP.into());
        crd.set_at(&["metadata", "finalizers"], Value::Array(finalizers));
    }
    let mut status = crd.at(&["status"]).cloned().unwrap_or_else(Value::object);
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    condition(&mut status, "Terminating", true, "InstanceDeletionPending", message);
    crd.set_at(&["status"], status);
}

/// A status is written without the rest; the rest, without a status that has a subresource of its own. What is asked for is
/// everything but the metadata.
pub(crate) fn object_updated(target: &Target, old: &Value, new: &mut Value) {
    let keep = |from: &Value, into: &mut Value, field: &str| match from.get(field) {
        Some(value) => into.set_at(&[field], value.clone()),
        None => drop(into.as_object_mut().and_then(|map| map.remove(field))),
    };
    if target.subresource == "status" {
        let mut kept = old.clone();
        keep(new, &mut kept, "status");
        // Whose the fields are is worked out after this.
        for field in ["managedFields", "resourceVersion"] {
            match new.at(&["metadata", field]) {
                Some(value) => kept.set_at(&["metadata", field], value.clone()),
                None => drop(kept.remove_at(&["metadata", field])),
            }
        }
        *new = kept;
        return;
    }
    if target.served.has_subresource("status") {
        keep(old, new, "status");
    }
    let differs = |a: &Map, b: &Map| a.iter().any(|(name, value)| name != "metadata" && b.get(name) != Some(value));
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else { return };
    if differs(before, after) || differs(after, before) {
        let generation = old.int_at(&["metadata", "generation"]).unwrap_or_default();
        new.set_at(&["metadata", "generation"], generation + 1);
    }
}
