//! The group `authorization.k8s.io`: questions about what somebody may do.

use crate::rules::Registry;
use crate::{Errors, Place};
use trireme_schema::{Map, Value, json, names};

pub(crate) fn register(registry: &mut Registry) {
    registry.on_kind("authorization.v1.SubjectAccessReview", "", review);
    registry.on_kind("authorization.v1.SelfSubjectAccessReview", "", own_review);
    registry.on_kind("authorization.v1.LocalSubjectAccessReview", "", local_review);
}

fn review(root: &Place<'_>, errors: &mut Errors) {
    subject(root, errors);
    metadata(root, false, errors);
}

fn own_review(root: &Place<'_>, errors: &mut Errors) {
    action(&root.child("spec"), errors);
    metadata(root, false, errors);
}

fn local_review(root: &Place<'_>, errors: &mut Errors) {
    subject(root, errors);
    metadata(root, true, errors);
    let spec = root.child("spec");
    if let Some(resource) = spec.field("resourceAttributes") {
        let namespace = resource.child("namespace");
        if namespace.str() != root.value.str_at(&["metadata", "namespace"]) {
            errors.invalid_value(&namespace, namespace.str(), "must match metadata.namespace");
        }
    }
    if let Some(path) = spec.field("nonResourceAttributes") {
        errors.invalid_shown(&path, shown(&path), "disallowed on this kind of request");
    }
}

fn subject(root: &Place<'_>, errors: &mut Errors) {
    let spec = root.child("spec");
    action(&spec, errors);
    if spec.text("user").is_empty() && spec.list("groups").is_empty() {
        errors.invalid_value(&spec.child("user"), "", "at least one of user or group must be specified");
    }
}

/// Reviews are not kept, and so have no metadata.
fn metadata(root: &Place<'_>, in_namespace: bool, errors: &mut Errors) {
    let given: Map = root
        .map("metadata")
        .into_iter()
        .flat_map(Map::iter)
        .filter(|(name, _)| *name != "managedFields" && !(in_namespace && *name == "namespace"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !given.is_empty() {
        let why = if in_namespace { "must be empty except for namespace" } else { "must be empty" };
        errors.invalid(&root.child("metadata"), why);
    }
}

/// Attributes of a path, as messages show them.
fn shown(path: &Place<'_>) -> String {
    let (path, verb) = (json::to_string(&path.text("path").into()), json::to_string(&path.text("verb").into()));
    format!("{{\"Path\":{path},\"Verb\":{verb}}}")
}

fn action(spec: &Place<'_>, errors: &mut Errors) {
    let resource = spec.child("resourceAttributes");
    match (resource.is_set(), spec.field("nonResourceAttributes")) {
        (true, Some(path)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            errors.invalid_shown(&path, shown(&path), why);
        }
        (false, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.invalid_value(&resource, Value::Null, why);
        }
        _ => {}
    }
    for selector in ["fieldSelector", "labelSelector"] {
        if let Some(place) = resource.field(selector) {
            requirements(&place, selector == "labelSelector", errors);
        }
    }
}

/// A selector that a request was limited to (KEP-4601): raw, or in parts.
fn requirements(selector: &Place<'_>, of_labels: bool, errors: &mut Errors) {
    let (raw, parts) = (selector.text("rawSelector"), selector.list("requirements"));
    if !raw.is_empty() && !parts.is_empty() {
        let why = "may not specified at the same time as requirements";
        errors.invalid(&selector.child("rawSelector"), why);
    }
    if raw.is_empty() && parts.is_empty() {
        let why = format!("when {selector} is specified, requirements or rawSelector is required");
        errors.required(&selector.child("requirements"), why);
    }
    for part in selector.items("requirements") {
        let values = part.child("values");
        let (key, given) = (part.child("key"), part.list("values"));
        if !of_labels && key.str().is_empty() {
            errors.required(&key, "must be specified");
        }
        match part.text("operator") {
            "In" | "NotIn" if given.is_empty() => {
                errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !given.is_empty() => {
                errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            _ => {}
        }
        if of_labels {
            errors.format(&key, key.str(), names::qualified_name(key.str()));
            for (i, value) in given.iter().enumerate() {
                let text = value.as_str().unwrap_or_default();
                errors.format(&values.index(i), text, names::label_value(text));
            }
        }
    }
}
