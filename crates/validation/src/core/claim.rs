//! Claims of persistent volumes, and templates of such.

use super::pod;
use crate::rules::Registry;
use crate::{Errors, Place, Subject, diff, engine, internal, metadata};
use trireme_schema::field::quote;
use trireme_schema::{Quantity, Value, names};

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn register(registry: &mut Registry) {
    registry.on_type("core.v1.PersistentVolumeClaimSpec", spec);
    registry.on_kind("core.v1.PersistentVolumeClaim", "", update);
    registry.on_kind("core.v1.PersistentVolumeClaim", "status", status);
    registry.on_warning("core.v1.PersistentVolumeClaim", warnings);
}

/// A template: its metadata may have labels and annotations only.
pub(super) fn template(template: &Place<'_>, errors: &mut Errors) {
    let meta = template.child("metadata");
    metadata::labels(&meta.child("labels"), errors);
    metadata::annotations(&meta.child("annotations"), errors);
    for (key, _) in template.entries("metadata").filter(|(key, _)| !matches!(*key, "labels" | "annotations")) {
        errors.forbidden(&meta.child(key), "cannot be set");
    }
    engine::walk_type("core.v1.PersistentVolumeClaimSpec", &template.child("spec"), errors);
}

/// Ways of access, told by the list; `ReadWriteOncePod` goes with no other.
pub(super) fn access_modes(spec: &Place<'_>, errors: &mut Errors) {
    let place = spec.child("accessModes");
    let (mut alone, mut others) = (false, false);
    for mode in spec.list("accessModes") {
        let mode = mode.as_str().unwrap_or_default();
        if !MODES.contains(&mode) {
            errors.not_supported(&place, mode, &MODES);
        } else if mode == "ReadWriteOncePod" {
            alone = true;
        } else {
            others = true;
        }
    }
    if alone && others {
        errors.forbidden(&place, "may not use ReadWriteOncePod with other access modes");
    }
}

fn spec(spec: &Place<'_>, errors: &mut Errors) {
    access_modes(spec, errors);
    let resources = spec.child("resources");
    let place = resources.key("storage");
    let requested = resources.entry("requests", "storage");
    let place = place.with(requested.value);
    match requested.quantity() {
        None => errors.required(&place, ""),
        Some(size) if size.is_negative() || size.is_zero() => errors.invalid(&place, "must be greater than zero"),
        Some(_) => pod::quantity_value(&place, "storage", errors),
    }
    for (name, empty_too) in [("storageClassName", false), ("volumeAttributesClassName", false)] {
        if let Some(class) = spec.field(name)
            && (empty_too || !class.str().is_empty())
        {
            errors.format(&class, class.str(), names::dns1123_subdomain(class.str()));
        }
    }
    data_source(spec, errors);
}

fn data_source(spec: &Place<'_>, errors: &mut Errors) {
    for field in ["dataSource", "dataSourceRef"] {
        let Some(source) = spec.field(field) else { continue };
        for required in ["name", "kind"] {
            if source.text(required).is_empty() {
                errors.required(&source.child(required), "");
            }
        }
        let (group, kind) = (source.text("apiGroup"), source.text("kind"));
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.invalid_value(&source, kind, why);
        }
        // What was stored with a wrong group stays valid.
        let tolerated =
            spec.parent().is_some_and(|p| p.old.is_some_and(|old| old.at(&["spec", field, "apiGroup"]).is_some()));
        if !group.is_empty() && !tolerated {
            errors.format(&source.child("apiGroup"), group, names::dns1123_subdomain(group));
        }
        let namespace = source.child("namespace");
        if !namespace.str().is_empty() {
            errors.format(&namespace, namespace.str(), names::dns1123_label(namespace.str()));
        }
    }
    let (Some(source), Some(reference)) = (spec.field("dataSource"), spec.field("dataSourceRef")) else { return };
    let why = if !reference.text("namespace").is_empty() {
        "may not be specified when dataSourceRef.namespace is specified"
    } else if ["apiGroup", "kind", "name"].iter().any(|f| source.value.get(f) != reference.value.get(f)) {
        "must match dataSourceRef"
    } else {
        return;
    };
    // Upstream shows the inside of a Go path here.
    errors.invalid_shown(spec, "{}", why);
}

/// A claim is as it was made, but for its size and class once it is bound.
fn update(claim: &Place<'_>, errors: &mut Errors) {
    const STORAGE: [&str; 3] = ["resources", "requests", "storage"];
    let Some(old) = claim.old else { return };
    let empty = Value::object();
    let (old_spec, new_spec) = (old.get("spec").unwrap_or(&empty), claim.value.get("spec").unwrap_or(&empty));
    let annotation = |claim: &Value| {
        claim.at(&["metadata", "annotations", CLASS_ANNOTATION]).and_then(Value::as_str).map(str::to_owned)
    };
    let (old_class, new_class) = (annotation(old), annotation(claim.value));
    let (mut before, mut after) = (old_spec.clone(), new_spec.clone());
    let keep = |into: &mut Value, path: &[&str], from: &Value| match from.at(path) {
        Some(value) => into.set_at(path, value.clone()),
        None => drop(into.remove_at(path)),
    };
    if old_spec.str_at(&["volumeName"]).is_empty() {
        keep(&mut before, &["volumeName"], new_spec);
    }
    let class = new_spec.get("storageClassName").and_then(Value::as_str);
    let unset = old_spec.get("storageClassName").is_none();
    let upgraded = unset
        && old_class.is_some()
        && class == old_class.as_deref()
        && new_class.as_ref().is_none_or(|c| Some(c) == old_class.as_ref());
    if upgraded {
        after.remove_at(&["storageClassName"]);
    } else {
        if old_class != new_class {
            let meta = claim.child("metadata.annotations");
            errors.invalid_value(
                &meta.child(CLASS_ANNOTATION),
                new_class.as_deref().unwrap_or_default(),
                "field is immutable",
            );
        }
        if unset && class.is_some() && old_class.as_deref().is_none_or(|c| class == Some(c)) {
            keep(&mut after, &["storageClassName"], old_spec);
        }
    }
    if claim.value.str_at(&["status", "phase"]) == "Bound" {
        if new_spec.at(&["resources", "requests"]).is_some() {
            keep(&mut after, &STORAGE, old_spec);
        }
        if new_spec.get("volumeAttributesClassName").is_some() {
            keep(&mut after, &["volumeAttributesClassName"], old_spec);
        }
    }
    let spec = claim.child("spec");
    if before != after {
        let pretty = |v: &Value| internal::tree("core.v1.PersistentVolumeClaimSpec", v).pretty();
        let why =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.forbidden(&spec, format!("{why}\n{}", diff::unified(&pretty(&before), &pretty(&after))));
    }
    let size = |v: Option<&Value>| v.and_then(Value::as_str).and_then(|t| t.parse().ok()).unwrap_or(Quantity::ZERO);
    let (was, is) = (size(old_spec.at(&STORAGE)), size(new_spec.at(&STORAGE)));
    if is < was && is <= size(old.at(&["status", "capacity", "storage"])) {
        errors.forbidden(&spec.child("resources.requests.storage"), "field can not be less than status.capacity");
    }
    let mode = spec.child("volumeMode");
    if mode.is_changed() {
        errors.invalid(&claim.child("volumeMode").with(mode.value), "field is immutable");
    }
}

fn status(claim: &Place<'_>, errors: &mut Errors) {
    const STATES: [&str; 5] = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    let status = claim.child("status");
    for (_, amount) in status.entries("capacity") {
        basic_quantity(&amount, errors);
    }
    let place = status.child("allocatedResourceStatus");
    for (name, state) in status.entries("allocatedResourceStatuses") {
        resource_key(&place, name, errors);
        if !STATES.contains(&state.str()) {
            let mut sorted = STATES;
            sorted.sort_unstable();
            errors.not_supported(&place, name, &sorted);
        }
    }
    let place = status.child("allocatedResources");
    for (name, amount) in status.entries("allocatedResources") {
        if resource_key(&place, name, errors) && basic_quantity(&amount, errors) {
            pod::quantity_value(&amount, "storage", errors);
        }
    }
}

/// An amount that is not negative; true when it is right.
pub(super) fn basic_quantity(amount: &Place<'_>, errors: &mut Errors) -> bool {
    match amount.quantity().map(|q| q.value()).filter(|n| *n < 0) {
        Some(value) => {
            errors.invalid_value(amount, value, "must be a valid resource quantity");
            false
        }
        None => true,
    }
}

fn resource_key(place: &Place<'_>, name: &str, errors: &mut Errors) -> bool {
    let wrong = names::qualified_name(name);
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    let right = wrong.is_empty() && (!native || name == "storage");
    if !wrong.is_empty() {
        errors.format(place, name, wrong);
    } else if !right {
        errors.not_supported(place, name, &["storage"]);
    }
    right
}

fn warnings(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    if subject.subresource.is_empty() {
        spec_warnings(&Place::root(subject).child("spec"), warnings);
    }
}

/// Sizes that are no whole number of bytes.
pub(super) fn spec_warnings(spec: &Place<'_>, warnings: &mut Vec<String>) {
    let resources = spec.child("resources");
    for list in ["requests", "limits"] {
        let place = resources.entry(list, "storage");
        if let Some(size) = place.quantity().filter(|q| q.milli_value() % 1000 != 0) {
            let shown = quote(&size.to_string());
            warnings.push(format!("{place}: fractional byte value {shown} is invalid, must be an integer"));
        }
    }
}
