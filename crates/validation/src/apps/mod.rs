//! The group `apps`.

mod controller_revision;
mod daemon_set;
mod deployment;
pub(crate) mod percent;
mod replica_set;
mod stateful_set;

use crate::core::replication_controller::always_running;
use crate::rules::Registry;
use crate::{Errors, Place, engine, selectors};

pub(crate) fn register(registry: &mut Registry) {
    controller_revision::register(registry);
    daemon_set::register(registry);
    deployment::register(registry);
    replica_set::register(registry);
    stateful_set::register(registry);
}

/// Checks a selector that must be there and select something; false when it cannot be read. `whose` names the kind as
/// messages do.
fn selector(spec: &Place<'_>, whose: &str, errors: &mut Errors) -> bool {
    let selector = spec.child("selector");
    if !selector.is_set() {
        errors.required(&selector, "");
        return true;
    }
    let before = errors.len();
    engine::walk_type("meta.v1.LabelSelector", &selector, errors);
    let readable = errors.len() == before;
    not_empty(&selector, whose, errors);
    readable
}

fn not_empty(selector: &Place<'_>, whose: &str, errors: &mut Errors) {
    if selectors::is_empty(selector.value) {
        errors.invalid_shown(selector, "{}", format!("empty selector is invalid for {whose}"));
    }
}

/// The selector must match the template's labels. No selector matches nothing.
fn selects_template(spec: &Place<'_>, errors: &mut Errors) {
    let labels = spec.child("template.metadata.labels");
    if !selectors::matches(spec.value.get("selector"), labels.value) {
        errors.invalid(&labels, "`selector` does not match template `labels`");
    }
}

/// A template of pods that are kept running.
fn template(template: &Place<'_>, of: &str, errors: &mut Errors) {
    engine::walk_type("core.v1.PodTemplateSpec", template, errors);
    always_running(template, of, errors);
}

/// Once there, a workload keeps its selector.
fn keeps_selector(spec: &Place<'_>, errors: &mut Errors) {
    let selector = spec.child("selector");
    if spec.subject.old.is_some() && selector.is_changed() {
        errors.invalid_shown(&selector, selectors::shown(selector.value), "field is immutable");
    }
}

/// Counts of a status: none negative, and some no higher than another.
fn counts(status: &Place<'_>, fields: &[&str], errors: &mut Errors) {
    for field in fields {
        let count = status.child(field);
        if count.value.as_int().is_some_and(|n| n < 0) {
            errors.invalid(&count, "must be greater than or equal to 0");
        }
    }
}

fn not_above(status: &Place<'_>, fields: &[&str], most: &str, why: &str, errors: &mut Errors) {
    for field in fields {
        let count = status.int(field).unwrap_or_default();
        if count > status.int(most).unwrap_or_default() {
            errors.invalid_value(&status.child(field), count, why);
        }
    }
}

/// Collisions of names are only ever counted up.
fn collisions(status: &Place<'_>, errors: &mut Errors) {
    let count = status.child("collisionCount");
    let before = count.old.and_then(trireme_schema::Value::as_int);
    let now = count.value.as_int();
    if before.is_some_and(|before| now.is_none_or(|now| now < before)) {
        errors.invalid_value(&count, now.unwrap_or_default(), "cannot be decremented");
    }
}
