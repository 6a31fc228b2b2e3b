//! What may change in a job.

use super::job::is_indexed;
use crate::{Errors, Place};
use trireme_schema::Value;

pub(super) fn check(job: &Place<'_>, errors: &mut Errors) {
    let spec = job.child("spec");
    completions(&spec, errors);
    let selector = spec.child("selector");
    if selector.is_changed() {
        errors.invalid_shown(&selector, crate::selectors::shown(selector.value), "field is immutable");
    }
    template(job, &spec.child("template.spec"), errors);
    immutable(&spec.child("completionMode"), errors);
    let policy = spec.child("podFailurePolicy");
    if policy.is_changed() {
        errors.invalid_internal(&policy, "batch.v1.PodFailurePolicy", "field is immutable");
    }
    immutable(&spec.child("backoffLimitPerIndex"), errors);
    immutable(&spec.child("managedBy"), errors);
    let policy = spec.child("successPolicy");
    if policy.is_changed() {
        errors.invalid_internal(&policy, "batch.v1.SuccessPolicy", "field is immutable");
    }
}

fn immutable(place: &Place<'_>, errors: &mut Errors) {
    if place.is_changed() {
        errors.invalid(place, "field is immutable");
    }
}

/// Indexed jobs grow and shrink, with as many pods at once as there are indexes.
fn completions(spec: &Place<'_>, errors: &mut Errors) {
    let completions = spec.child("completions");
    if !completions.is_changed() {
        return;
    }
    if !is_indexed(spec) {
        errors.invalid(&completions, "field is immutable");
    } else if completions.is_set() && spec.child("parallelism").value != completions.value {
        errors.invalid(&completions, "can only be modified in tandem with spec.parallelism");
    }
}

/// The pods stay as they are, but where they are to run may change while there are none.
fn template(job: &Place<'_>, pods: &Place<'_>, errors: &mut Errors) {
    if !pods.is_changed() {
        return;
    }
    let same = match pods.old.filter(|_| is_at_rest(job)) {
        Some(old) => directed_as(old, pods.value) == *pods.value,
        None => false,
    };
    if !same {
        errors.invalid_internal(pods, "core.v1.PodSpec", "field is immutable");
    }
}

/// Suspended, and without pods: not started yet, or told to be suspended.
fn is_at_rest(job: &Place<'_>) -> bool {
    let Some(old) = job.old.filter(|old| old.bool_at(&["spec", "suspend"])) else { return false };
    let suspended = |c: &Value| c.str_at(&["type"]) == "Suspended" && c.str_at(&["status"]) == "True";
    old.at(&["status", "startTime"]).is_none()
        || (old.list_at(&["status", "conditions"]).iter().any(suspended)
            && old.int_at(&["status", "active"]).unwrap_or_default() == 0)
}

/// The old pods with what the new ones say of where to run, and of what they need there.
fn directed_as(old: &Value, new: &Value) -> Value {
    let mut made = old.clone();
    let mut take = |path: &[&str]| match new.at(path) {
        Some(value) => made.set_at(path, value.clone()),
        None => drop(made.remove_at(path)),
    };
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        take(&[field]);
    }
    take(&["affinity", "nodeAffinity"]);
    // An affinity that has nothing else comes and goes with that of nodes.
    if made.at(&["affinity"]).and_then(Value::as_object).is_some_and(trireme_schema::Map::is_empty)
        && new.get("affinity").is_none()
    {
        made.remove_at(&["affinity"]);
    }
    for list in ["initContainers", "containers"] {
        let wanted = new.list_at(&[list]);
        let containers = made.at_mut(&[list]).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, wanted) in containers.zip(wanted) {
            match wanted.get("resources") {
                Some(resources) => container.set_at(&["resources"], resources.clone()),
                None => drop(container.remove_at(&["resources"])),
            }
        }
    }
    made
}
