//! Replication controllers, and what they share with replica sets.

use super::pod;
use crate::rules::Registry;
use crate::{Errors, Place, Subject};
use trireme_schema::Map;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("core.v1.ReplicationController", "", check);
    registry.on_kind("core.v1.ReplicationController", "status", |c, errors| status(&c.child("status"), errors));
    registry.on_warning("core.v1.ReplicationController", warnings);
}

fn check(controller: &Place<'_>, errors: &mut Errors) {
    let spec = controller.child("spec");
    let selector = spec.map("selector");
    if selector.is_none_or(Map::is_empty) {
        errors.required(&spec.child("selector"), "");
    }
    let Some(template) = spec.field("template") else {
        return errors.required(&spec.child("template"), "");
    };
    let labels = template.child("metadata.labels");
    if selector.into_iter().flat_map(Map::iter).any(|(key, value)| labels.value.get(key) != Some(value)) {
        errors.invalid(&labels, "`selector` does not match template `labels`");
    }
    always_running(&template, "ReplicationController", errors);
}

/// A template of pods that are to run until they are taken away.
pub(crate) fn always_running(template: &Place<'_>, of: &str, errors: &mut Errors) {
    let spec = template.child("spec");
    let policy = spec.child("restartPolicy");
    if policy.str() != "Always" {
        errors.not_supported(&policy, policy.str(), &["Always"]);
    }
    if let Some(deadline) = spec.field("activeDeadlineSeconds") {
        errors.forbidden(&deadline, format!("activeDeadlineSeconds in {of} is not Supported"));
    }
}

/// Counts of replicas.
pub(crate) fn status(status: &Place<'_>, errors: &mut Errors) {
    let of = |field: &str| status.int(field).unwrap_or_default();
    for field in ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"] {
        if of(field) < 0 {
            errors.invalid(&status.child(field), "must be greater than or equal to 0");
        }
    }
    for field in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
        if of(field) > of("replicas") {
            errors.invalid(&status.child(field), "cannot be greater than status.replicas");
        }
    }
    if of("availableReplicas") > of("readyReplicas") {
        errors.invalid(&status.child("availableReplicas"), "cannot be greater than readyReplicas");
    }
}

fn warnings(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    pod::workload_warnings(subject, &["spec", "template"], true, warnings);
}
