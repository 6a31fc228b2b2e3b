//! Events: those of the core group are held to little, those of `events.k8s.io` to more (`ValidateEventCreate`).

use crate::rules::Registry;
use crate::{Errors, Place, internal};
use trireme_schema::{Value, names};

const SHORT: usize = 128;
const NOTE: usize = 1024;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("core.v1.Event", "", check);
}

/// Both groups' events come here in the core group's form.
fn check(event: &Place<'_>, errors: &mut Errors) {
    legacy(event, errors);
    if event.subject.group != "events.k8s.io" {
        return;
    }
    match event.old {
        None => create(event, errors),
        Some(old) => update(event, old, errors),
    }
}

/// An event is where its object is; objects without a namespace have theirs in `default`.
fn legacy(event: &Place<'_>, errors: &mut Errors) {
    let namespace = event.value.str_at(&["metadata", "namespace"]);
    let place = event.child("involvedObject.namespace");
    let own = place.str();
    let new_style = event.has("eventTime");
    let fits = match (new_style, own.is_empty()) {
        (false, true) => namespace.is_empty() || namespace == "default",
        (false, false) => namespace == own,
        (true, true) => matches!(namespace, "default" | "kube-system"),
        (true, false) => true,
    };
    if !fits {
        errors.invalid_value(&place, own, "does not match event.namespace");
    }
    if new_style {
        let controller = event.child("reportingComponent").shown_as("reportingController");
        if controller.str().is_empty() {
            errors.required(&controller, "");
        }
        errors.format(&controller, controller.str(), names::qualified_name(controller.str()));
        for field in ["reportingInstance", "action", "reason"] {
            let place = event.child(field);
            if place.str().is_empty() {
                errors.required(&place, "");
            }
            at_most(&place, SHORT, errors);
        }
        at_most(&event.child("message"), NOTE, errors);
    }
    errors.format(&event.child("namespace"), namespace, names::dns1123_subdomain(namespace));
}

fn at_most(place: &Place<'_>, limit: usize, errors: &mut Errors) {
    if place.str().len() > limit {
        errors.invalid_value(place, "", format!("can have at most {limit} characters"));
    }
}

fn series(event: &Place<'_>, errors: &mut Errors) {
    let Some(series) = event.field("series") else { return };
    if series.int("count").unwrap_or_default() < 2 {
        errors.invalid_value(&series.child("count"), "", "should be at least 2");
    }
    if !series.has("lastObservedTime") {
        errors.required(&series.child("lastObservedTime"), "");
    }
}

fn create(event: &Place<'_>, errors: &mut Errors) {
    series(event, errors);
    if !event.has("eventTime") {
        errors.required(&event.child("eventTime"), "");
    }
    let kind = event.text("type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.invalid_value(&event.child("type"), "", format!("has invalid value: {kind}"));
    }
    let given = |field: &str| {
        event.value.get(field).is_some_and(|v| match v {
            Value::Object(map) => map.values().any(|v| v.as_str().is_some_and(|t| !t.is_empty())),
            Value::Int(n) => *n != 0,
            other => !other.is_null(),
        })
    };
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        if given(field) {
            errors.invalid_value(&event.child(field), "", "needs to be unset");
        }
    }
}

fn update(event: &Place<'_>, old: &Value, errors: &mut Errors) {
    if old.get("series") != event.value.get("series") {
        series(event, errors);
    }
    const WHY: &str = "field is immutable";
    for (field, shown) in [
        ("involvedObject", "involvedObject"),
        ("reason", "reason"),
        ("message", "message"),
        ("source", "source"),
        ("firstTimestamp", "firstTimestamp"),
        ("lastTimestamp", "lastTimestamp"),
        ("count", "count"),
        ("reason", "reason"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        let place = event.child(field);
        if !place.is_changed() {
            continue;
        }
        let at = place.shown_as(shown);
        match field {
            "related" => errors.invalid_internal(&at, "core.v1.ObjectReference", WHY),
            // These are no pointers in Go.
            "involvedObject" => {
                errors.invalid_shown(&at, internal::show_struct("core.v1.ObjectReference", place.value), WHY)
            }
            "source" => errors.invalid_shown(&at, internal::show_struct("core.v1.EventSource", place.value), WHY),
            "count" => errors.invalid_value(&at, place.value.as_int().unwrap_or_default(), WHY),
            "firstTimestamp" | "lastTimestamp" | "eventTime" => errors.invalid(&at, WHY),
            _ => errors.invalid_value(&at, place.str(), WHY),
        }
    }
}
