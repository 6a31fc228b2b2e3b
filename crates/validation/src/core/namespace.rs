//! Namespaces.

use crate::rules::Registry;
use crate::{Errors, Place};
use trireme_schema::names;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("core.v1.Namespace", "", create);
    registry.on_kind("core.v1.Namespace", "status", status);
    registry.on_kind("core.v1.Namespace", "finalize", finalize);
}

fn finalizer(place: &Place<'_>, text: &str, errors: &mut Errors) {
    errors.format(place, text, names::qualified_name(text));
    if !text.contains('/') && !matches!(text, "orphan" | "foregroundDeletion" | "kubernetes") {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.invalid_value(place, text, why);
    }
}

/// Finalizers of new namespaces are told without their index.
fn create(namespace: &Place<'_>, errors: &mut Errors) {
    if namespace.old.is_some() {
        return;
    }
    let spec = namespace.child("spec");
    for text in spec.list("finalizers") {
        finalizer(&spec.child("finalizers"), text.as_str().unwrap_or_default(), errors);
    }
}

fn finalize(namespace: &Place<'_>, errors: &mut Errors) {
    let spec = namespace.child("spec");
    for place in spec.items("finalizers") {
        finalizer(&place, place.str(), errors);
    }
}

fn status(namespace: &Place<'_>, errors: &mut Errors) {
    let deleted = namespace.value.at(&["metadata", "deletionTimestamp"]).is_some();
    let status = namespace.child("status");
    let (phase, want, when) = (status.text("phase"), if deleted { "Terminating" } else { "Active" }, deleted);
    if phase != want {
        let state = if when { "is not empty" } else { "is empty" };
        let why = format!("may only be '{want}' if `deletionTimestamp` {state}");
        errors.invalid_value(&status.child("Phase"), phase, why);
    }
}
