//! What an autoscaler goes by.

use super::target;
use crate::core::pod;
use crate::{Errors, Place};
use trireme_schema::{Value, names};

/// The kinds of metrics, with the fields that hold them.
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

pub(super) fn all(spec: &Place<'_>, min: Option<i64>, errors: &mut Errors) {
    spec.items("metrics").for_each(|m| metric(&m, errors));
    let wakes = |m: &Value| matches!(m.str_at(&["type"]), "Object" | "External");
    if min == Some(0) && !spec.list("metrics").iter().any(wakes) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(&spec.child("metrics"), why);
    }
}

fn metric(metric: &Place<'_>, errors: &mut Errors) {
    let kind = metric.child("type");
    if kind.str().is_empty() {
        errors.required(&kind, "must specify a metric source type");
    }
    let source = SOURCES.iter().find(|(name, _)| *name == kind.str());
    if source.is_none() {
        let known: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
        // Upstream asks twice.
        errors.not_supported(&kind, kind.str(), &known);
        errors.not_supported(&kind, kind.str(), &known);
    }
    // The order in which upstream looks at what is there.
    for field in ["object", "external", "pods", "resource", "containerResource"] {
        let Some(place) = metric.field(field) else { continue };
        match source {
            Some((_, wanted)) if *wanted != field => {
                errors.forbidden(&place, "must populate the given metric source only");
            }
            _ => one(field, &place, errors),
        }
    }
    if let Some((_, wanted)) = source
        && !metric.has(wanted)
    {
        errors.required(&metric.child(wanted), "must populate information for the given metric source");
    }
}

fn one(field: &str, source: &Place<'_>, errors: &mut Errors) {
    match field {
        "resource" | "containerResource" => resource(field, source, errors),
        _ => {
            if field == "object" {
                target(&source.child("describedObject"), errors);
            }
            identifier(&source.child("metric"), errors);
            let aim = source.child("target");
            self::aim(&aim, errors);
            let missing = |field: &str| !aim.has(field);
            match field {
                "object" if missing("value") && missing("averageValue") => {
                    let why = "must set either a target value or averageValue";
                    errors.required(&aim.child("averageValue"), why);
                }
                "external" if missing("value") && missing("averageValue") => {
                    let why = "must set either a target value for metric or a per-pod target";
                    errors.required(&aim.child("averageValue"), why);
                }
                "external" if !missing("value") && !missing("averageValue") => {
                    let why = "may not set both a target value for metric and a per-pod target";
                    errors.forbidden(&aim.child("value"), why);
                }
                "pods" if missing("averageValue") => {
                    errors.required(&aim.child("averageValue"), "must specify a positive target averageValue");
                }
                _ => {}
            }
        }
    }
}

fn resource(field: &str, source: &Place<'_>, errors: &mut Errors) {
    let name = source.child("name");
    if field == "containerResource" {
        if source.text("container").is_empty() {
            errors.required(&source.child("container"), "must specify a container");
        }
        if name.str().is_empty() {
            errors.required(&name, "must specify a resource name");
        } else {
            pod::container_resource_name(&name, name.str(), errors);
        }
    } else if name.str().is_empty() {
        errors.required(&name, "must specify a resource name");
    }
    let aim = source.child("target");
    self::aim(&aim, errors);
    match (aim.has("averageUtilization"), aim.has("averageValue")) {
        (false, false) => {
            let why = "must set either a target raw value or a target utilization";
            errors.required(&aim.child("averageUtilization"), why);
        }
        (true, true) => {
            let why = "may not set both a target raw value and a target utilization";
            errors.forbidden(&aim.child("averageValue"), why);
        }
        _ => {}
    }
}

fn identifier(metric: &Place<'_>, errors: &mut Errors) {
    let name = metric.child("name");
    if name.str().is_empty() {
        errors.required(&name, "must specify a metric name");
    } else {
        errors.format(&name, name.str(), names::path_segment(name.str()));
    }
}

fn aim(aim: &Place<'_>, errors: &mut Errors) {
    let kind = aim.child("type");
    if kind.str().is_empty() {
        errors.required(&kind, "must specify a metric target type");
    }
    if !matches!(kind.str(), "Utilization" | "Value" | "AverageValue") {
        errors.invalid_value(&kind, kind.str(), "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"] {
        let place = aim.child(field);
        if place.quantity().is_some_and(|q| q.is_zero() || q.is_negative()) {
            errors.invalid(&place, "must be positive");
        }
    }
    let share = aim.child("averageUtilization");
    if share.value.as_int().is_some_and(|n| n < 1) {
        errors.invalid(&share, "must be greater than 0");
    }
}
