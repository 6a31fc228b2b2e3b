//! The group `events.k8s.io`. Its messages name fields as the core group does, whose events these are.

use crate::rules::Registry;
use crate::{Errors, Place};
use trireme_schema::names;

const LONGEST: usize = 128;
const LONGEST_NOTE: usize = 1024;

pub(crate) const RULES: &str = include_str!("rules.txt");

pub(crate) fn register(registry: &mut Registry) {
    registry.on_kind("events.v1.Event", "", event);
}

fn event(event: &Place<'_>, errors: &mut Errors) {
    who_and_what(event, errors);
    if event.old.is_some() {
        update(event, errors);
    } else {
        create(event, errors);
    }
}

/// What events of both groups must say.
fn who_and_what(event: &Place<'_>, errors: &mut Errors) {
    let namespace = event.value.str_at(&["metadata", "namespace"]);
    let regarding = event.child("regarding");
    let regarding = regarding.shown_as("involvedObject");
    let about = regarding.child("namespace");
    let mismatch = "does not match event.namespace";
    if !event.has("eventTime") {
        let fits = match about.str() {
            "" => matches!(namespace, "" | "default"),
            other => other == namespace,
        };
        if !fits {
            errors.invalid_value(&about, about.str(), mismatch);
        }
        return;
    }
    if about.str().is_empty() && !matches!(namespace, "default" | "kube-system") {
        errors.invalid_value(&about, about.str(), mismatch);
    }
    let controller = event.child("reportingController");
    if controller.str().is_empty() {
        errors.required(&controller, "");
    }
    errors.format(&controller, controller.str(), names::qualified_name(controller.str()));
    for field in ["reportingInstance", "action", "reason"] {
        let place = event.child(field);
        if place.str().is_empty() {
            errors.required(&place, "");
        }
        if place.str().len() > LONGEST {
            errors.invalid_value(&place, "", format!("can have at most {LONGEST} characters"));
        }
    }
    if event.text("note").len() > LONGEST_NOTE {
        let why = format!("can have at most {LONGEST_NOTE} characters");
        errors.invalid_value(&event.child("message"), "", why);
    }
}

fn create(event: &Place<'_>, errors: &mut Errors) {
    series(event, errors);
    if !event.has("eventTime") {
        errors.required(&event.child("eventTime"), "");
    }
    let kind = event.child("type");
    if !matches!(kind.str(), "Normal" | "Warning") {
        errors.invalid_value(&kind, "", format!("has invalid value: {}", kind.str()));
    }
    // What the core group's events had before.
    let old = [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ];
    for (field, shown) in old {
        if event.has(field) {
            errors.invalid_value(&event.child(shown), "", "needs to be unset");
        }
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

fn update(event: &Place<'_>, errors: &mut Errors) {
    if event.child("series").is_changed() {
        series(event, errors);
    }
    let references = [("regarding", "involvedObject"), ("related", "related"), ("deprecatedSource", "source")];
    for (field, shown) in references {
        let place = event.child(field);
        if place.is_changed() {
            let ty = if shown == "source" { "core.v1.EventSource" } else { "core.v1.ObjectReference" };
            errors.invalid_internal(&place.shown_as(shown), ty, "field is immutable");
        }
    }
    let texts = [
        ("reason", "reason"),
        ("note", "message"),
        ("type", "type"),
        ("action", "action"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ];
    for (field, shown) in texts {
        let place = event.child(field);
        if place.is_changed() {
            errors.invalid_value(&place.shown_as(shown), place.str(), "field is immutable");
        }
    }
    let times = [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("eventTime", "eventTime"),
    ];
    for (field, shown) in times {
        let place = event.child(field);
        if place.is_changed() {
            errors.invalid(&place.shown_as(shown), "field is immutable");
        }
    }
    let count = event.child("deprecatedCount");
    if count.is_changed() {
        let value = count.value.as_int().unwrap_or_default();
        errors.invalid_value(&count.shown_as("count"), value, "field is immutable");
    }
}
