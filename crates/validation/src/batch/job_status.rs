//! The status of jobs, which only their controller writes.

use super::indexes;
use super::job::is_indexed;
use crate::rules::Registry;
use crate::{Errors, Place};
use std::collections::HashSet;
use trireme_schema::Value;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("batch.v1.Job", "status", check);
}

fn is_true(status: &Value, condition: &str) -> bool {
    let is = |c: &Value| c.str_at(&["type"]) == condition && c.str_at(&["status"]) == "True";
    status.list_at(&["conditions"]).iter().any(is)
}

fn check(job: &Place<'_>, errors: &mut Errors) {
    static NOTHING: Value = Value::Null;
    let status = job.child("status");
    let old = status.old.unwrap_or(&NOTHING);
    counts(&status, errors);
    // What was wrong before may stay: each rule holds when what it is about changed.
    let conditions = status.child("conditions");
    let mut clash = |both: bool, why: &str| {
        if both {
            errors.invalid_shown(&conditions, "", why);
        }
    };
    let now = |condition: &str| is_true(status.value, condition);
    let before = |condition: &str| is_true(old, condition);
    let (complete, failed) = (now("Complete"), now("Failed"));
    let new_complete = complete != before("Complete");
    let new_failed = failed != before("Failed");
    let new_target = now("FailureTarget") != before("FailureTarget");
    clash(complete && failed && (new_complete || new_failed), "cannot set Complete=True and Failed=true conditions");
    clash(
        complete && now("FailureTarget") && (new_complete || new_target),
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    clash(
        failed && !now("FailureTarget") && new_failed,
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    for condition in ["Failed", "Complete", "FailureTarget", "SuccessCriteriaMet"] {
        let gone = before(condition) && !now(condition);
        clash(gone, &format!("cannot disable the terminal {condition}=True condition"));
    }
    times(&status, complete, new_complete, errors);
    finished(&status, (complete || failed) && (new_complete || new_failed), errors);
    indexes(&job.child("spec"), &status, errors);
}

fn counts(status: &Place<'_>, errors: &mut Errors) {
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        let count = status.child(field);
        if count.value.as_int().is_some_and(|n| n < 0) {
            errors.invalid(&count, "must be greater than or equal to 0");
        }
    }
    let uncounted = status.child("uncountedTerminatedPods");
    let mut seen = HashSet::new();
    for list in ["succeeded", "failed"] {
        for pod in uncounted.items(list) {
            match pod.str() {
                "" => errors.invalid(&pod, "must not be empty"),
                uid if !seen.insert(uid.to_owned()) => errors.duplicate(&pod, uid),
                _ => {}
            }
        }
    }
    let (ready, active) = (status.child("ready"), status.int("active").unwrap_or_default());
    let changed = ready.is_changed() || status.child("active").is_changed();
    if changed && ready.value.as_int().is_some_and(|n| n > active) {
        errors.invalid(&ready, "cannot set more ready pods than active");
    }
}

fn times(status: &Place<'_>, complete: bool, new_complete: bool, errors: &mut Errors) {
    let (end, start) = (status.child("completionTime"), status.child("startTime"));
    if !complete && end.is_set() && (new_complete || end.is_changed()) {
        errors.invalid(&end, "cannot set completionTime when there is no Complete=True condition");
    }
    if complete && !end.is_set() && (new_complete || end.is_changed()) {
        errors.required(&end, "completionTime is required for Complete jobs");
    }
    // Times are written so that they sort as they follow each other.
    let changed = end.is_changed() || start.is_changed();
    if changed && end.is_set() && start.is_set() && end.str() < start.str() {
        errors.invalid(&end, "completionTime cannot be set before startTime");
    }
    if end.old.is_some_and(|old| !old.is_null()) && end.is_set() && end.is_changed() {
        errors.invalid(&end, "field is immutable");
    }
}

fn finished(status: &Place<'_>, newly: bool, errors: &mut Errors) {
    if !newly {
        return;
    }
    for field in ["active", "terminating"] {
        let count = status.child(field);
        if count.value.as_int().is_some_and(|n| n > 0) {
            errors.invalid(&count, format!("{field}>0 is invalid for finished job"));
        }
    }
    if !status.has("startTime") {
        errors.required(&status.child("startTime"), "startTime is required for finished job");
    }
    let uncounted = status.child("uncountedTerminatedPods");
    if !uncounted.list("succeeded").is_empty() || !uncounted.list("failed").is_empty() {
        let ty = "batch.v1.UncountedTerminatedPods";
        errors.invalid_internal(&uncounted, ty, "uncountedTerminatedPods needs to be empty for finished job");
    }
}

fn indexes(spec: &Place<'_>, status: &Place<'_>, errors: &mut Errors) {
    let completions = spec.int("completions").unwrap_or(i64::MAX);
    for field in ["completedIndexes", "failedIndexes"] {
        let Some(place) = status.field(field).filter(Place::is_changed) else { continue };
        if let Err(why) = indexes::count(place.str(), completions) {
            errors.invalid(&place, format!("error parsing {field}: {why}"));
        }
    }
    let completed = status.child("completedIndexes");
    if completed.is_changed() && !completed.str().is_empty() && !is_indexed(spec) {
        errors.invalid(&completed, "cannot set non-empty completedIndexes when non-indexed completion mode");
    }
    let failed = status.child("failedIndexes");
    if failed.is_changed() && failed.is_set() && !spec.has("backoffLimitPerIndex") {
        errors.invalid(&failed, "cannot set non-null failedIndexes when backoffLimitPerIndex is null");
    }
}
