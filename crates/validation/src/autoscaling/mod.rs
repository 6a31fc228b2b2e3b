//! The group `autoscaling`.

mod metric;

use crate::rules::Registry;
use crate::{Errors, Place};
use trireme_schema::{Value, names};

pub(crate) const RULES: &str = include_str!("rules.txt");

pub(crate) fn register(registry: &mut Registry) {
    registry.on_type("autoscaling.v2.HorizontalPodAutoscalerSpec", spec);
    registry.on_kind("autoscaling.v2.HorizontalPodAutoscaler", "status", status);
    registry.on_kind("autoscaling.v1.Scale", "", scale);
}

fn scale(scale: &Place<'_>, errors: &mut Errors) {
    let spec = scale.child("spec");
    let replicas = spec.child("replicas");
    if replicas.value.as_int().is_some_and(|n| n < 0) {
        errors.invalid(&replicas, "must be greater than or equal to 0");
    }
}

fn spec(spec: &Place<'_>, errors: &mut Errors) {
    // Whoever already scales to zero may go on (KEP-2021: the feature is off, and so the least is one).
    let of = |value: Option<&Value>| value.and_then(|v| v.int_at(&["minReplicas"]));
    let least = if of(spec.old) == Some(0) { 0 } else { 1 };
    let (min, max) = (of(Some(spec.value)), spec.int("maxReplicas").unwrap_or_default());
    if min.is_some_and(|n| n < least) {
        let why = format!("must be greater than or equal to {least}");
        errors.invalid(&spec.child("minReplicas"), why);
    }
    let most = spec.child("maxReplicas");
    match max {
        0 => errors.required(&most, "must be set and greater than 0"),
        n if n < 0 => errors.invalid_value(&most, max, "must be greater than or equal to 1"),
        _ => {}
    }
    if min.is_some_and(|n| max < n) {
        errors.invalid_value(&most, max, "must be greater than or equal to `minReplicas`");
    }
    let scaled = spec.child("scaleTargetRef");
    target(&scaled, errors);
    let core = scaled.text("kind") == "ReplicationController";
    // What was wrong before may stay.
    if spec.old.and_then(|old| old.get("scaleTargetRef")).is_none_or(|old| version_problem(old, core).is_none())
        && let Some(why) = version_problem(scaled.value, core)
    {
        errors.invalid_value(&scaled.child("apiVersion"), scaled.text("apiVersion"), why);
    }
    metric::all(spec, min, errors);
    if let Some(behavior) = spec.field("behavior") {
        for direction in ["scaleUp", "scaleDown"] {
            if let Some(rules) = behavior.field(direction) {
                scaling(&rules, errors);
            }
        }
    }
}

/// A reference to what is scaled or measured.
fn target(target: &Place<'_>, errors: &mut Errors) {
    for field in ["kind", "name"] {
        let place = target.child(field);
        if place.str().is_empty() {
            errors.required(&place, "");
        } else {
            errors.format(&place, place.str(), names::path_segment(place.str()));
        }
    }
}

/// What is wrong with the version of a reference; only the core group may go without a name.
fn version_problem(reference: &Value, may_be_core: bool) -> Option<String> {
    let version = reference.str_at(&["apiVersion"]);
    match version.matches('/').count() {
        0 if !may_be_core => Some("apiVersion must specify API group".to_owned()),
        0 | 1 => None,
        _ => Some(format!("unexpected GroupVersion string: {version}")),
    }
}

fn scaling(rules: &Place<'_>, errors: &mut Errors) {
    const LONGEST_WINDOW: i64 = 3600;
    const LONGEST_PERIOD: i64 = 1800;
    let window = rules.child("stabilizationWindowSeconds");
    match window.value.as_int() {
        Some(n) if n < 0 => errors.invalid(&window, "must be greater than or equal to zero"),
        Some(n) if n > LONGEST_WINDOW => {
            errors.invalid(&window, format!("must be less than or equal to {LONGEST_WINDOW}"));
        }
        _ => {}
    }
    if let Some(select) = rules.field("selectPolicy") {
        const POLICIES: [&str; 3] = ["Disabled", "Max", "Min"];
        if !POLICIES.contains(&select.str()) {
            errors.not_supported(&select, select.str(), &POLICIES);
        }
    }
    if rules.list("policies").is_empty() {
        errors.required(&rules.child("policies"), "must specify at least one Policy");
    }
    for policy in rules.items("policies") {
        const TYPES: [&str; 2] = ["Percent", "Pods"];
        let kind = policy.child("type");
        if !TYPES.contains(&kind.str()) {
            errors.not_supported(&kind, kind.str(), &TYPES);
        }
        for field in ["value", "periodSeconds"] {
            let number = policy.int(field).unwrap_or_default();
            if number <= 0 {
                errors.invalid_value(&policy.child(field), number, "must be greater than zero");
            }
        }
        let period = policy.child("periodSeconds");
        if period.value.as_int().is_some_and(|n| n > LONGEST_PERIOD) {
            errors.invalid(&period, format!("must be less than or equal to {LONGEST_PERIOD}"));
        }
    }
    if let Some(tolerance) = rules.field("tolerance")
        && tolerance.quantity().is_some_and(|q| q.is_negative())
    {
        errors.invalid(&tolerance, "must be greater than or equal to 0");
    }
}

fn status(root: &Place<'_>, errors: &mut Errors) {
    let status = root.child("status");
    for field in ["currentReplicas", "desiredReplicas"] {
        let place = status.child(field);
        if place.value.as_int().is_some_and(|n| n < 0) {
            errors.invalid(&place, "must be greater than or equal to 0");
        }
    }
}
