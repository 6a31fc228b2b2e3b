//! Jobs, and templates of jobs.

use super::{job_change, pod_failure_policy, success_policy};
use crate::core::pod;
use crate::rules::Registry;
use crate::{Errors, Place, Subject, engine, formats, selectors};
use trireme_schema::{Value, names};

/// Beyond so many, indexed jobs are kept from growing too large to be tracked.
const MANY: i64 = 100_000;
const FEWER: i64 = 10_000;

pub(super) fn register(registry: &mut Registry) {
    registry.on_type("batch.v1.Job", generated_selector);
    registry.on_type("batch.v1.JobSpec", spec);
    registry.on_kind("batch.v1.Job", "", check);
    registry.on_warning("batch.v1.Job", warnings);
}

fn check(job: &Place<'_>, errors: &mut Errors) {
    let spec = job.child("spec");
    selects_template(&spec, errors);
    hostnames(job, &spec, errors);
    if job.old.is_some() {
        // Upstream checks a changed job as a new one, then as a change, and tells what is wrong with the spec twice.
        engine::walk_type("batch.v1.JobSpec", &spec, errors);
        selects_template(&spec, errors);
        job_change::check(job, errors);
    }
}

fn selects_template(spec: &Place<'_>, errors: &mut Errors) {
    let selector = spec.child("selector");
    let before = errors.len();
    if selector.is_set() {
        engine::walk_type("meta.v1.LabelSelector", &selector, errors);
    } else {
        errors.required(&selector, "");
    }
    let labels = spec.child("template.metadata.labels");
    let readable = !selector.is_set() || errors.len() == before;
    if readable && !selectors::matches(spec.value.get("selector"), labels.value) {
        errors.invalid(&labels, "`selector` does not match template `labels`");
    }
}

/// Pods of indexed jobs are named by the job and their index.
fn hostnames(job: &Place<'_>, spec: &Place<'_>, errors: &mut Errors) {
    let Some(last) = spec.int("completions").filter(|n| *n > 0 && is_indexed(spec)) else { return };
    let name = job.child("metadata.name");
    let hostname = format!("{}-{}", name.str(), last - 1);
    if !names::dns1123_label(&hostname).is_empty() {
        let why = format!("will not able to create pod with invalid DNS label: {hostname}");
        errors.invalid(&name, why);
    }
}

pub(super) fn is_indexed(spec: &Place<'_>) -> bool {
    spec.text("completionMode") == "Indexed"
}

/// A selector that was generated must be the one that would be.
fn generated_selector(job: &Place<'_>, errors: &mut Errors) {
    let spec = job.child("spec");
    if spec.is("manualSelector") || !spec.has("selector") {
        return;
    }
    let meta = job.child("metadata");
    let (uid, name) = (meta.text("uid"), meta.text("name"));
    if uid.is_empty() {
        errors.required(&meta.child("uid"), "");
    }
    let expected = [
        ("controller-uid", uid),
        ("batch.kubernetes.io/controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/job-name", name),
    ];
    let labels = spec.child("template.metadata.labels");
    for (key, value) in expected {
        let label = labels.key(key);
        if !label.is_set() {
            errors.required(&label, format!("must be '{value}'"));
        } else if label.str() != value {
            errors.invalid(&label.with(labels.value), format!("must be '{value}'"));
        }
    }
    let all: Value = expected.into_iter().fold(Value::object(), |mut all, (key, value)| {
        all.set_at(&[key], value);
        all
    });
    if !selectors::matches(spec.value.get("selector"), &all) {
        let selector = spec.child("selector");
        errors.invalid_shown(&selector, selectors::shown(selector.value), "`selector` not auto-generated");
    }
}

/// What jobs and the templates of cron jobs have in common.
fn spec(spec: &Place<'_>, errors: &mut Errors) {
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        errors.required(&spec.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = spec.field("managedBy") {
        formats::domain_prefixed_path(&manager, errors);
        if manager.str().len() > 63 {
            errors.too_long(&manager, 63);
        }
    }
    completion_mode(spec, errors);
    if let Some(policy) = spec.field("podFailurePolicy") {
        pod_failure_policy::check(spec, &policy, errors);
    }
    if let Some(policy) = spec.field("successPolicy") {
        if is_indexed(spec) {
            success_policy::check(spec, &policy, errors);
        } else {
            errors.invalid_internal(&policy, "batch.v1.SuccessPolicy", "requires indexed completion mode");
        }
    }
    if let Some(policy) = spec.field("podReplacementPolicy") {
        // With a failure policy, pods are replaced only once it is known that they failed.
        let all: &[&str] = &["Failed", "TerminatingOrFailed"];
        let known = if spec.has("podFailurePolicy") { &all[..1] } else { all };
        if !known.contains(&policy.str()) {
            errors.not_supported(&policy, policy.str(), known);
        }
    }
    let template = spec.child("template");
    engine::walk_type("core.v1.PodTemplateSpec", &template, errors);
    let restart = template.child("spec.restartPolicy");
    match restart.str() {
        "" | "Always" => errors.required(&restart, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.has("podFailurePolicy") => {
            errors.invalid(&restart, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        other => errors.not_supported(&restart, other, &["OnFailure", "Never"]),
    }
}

fn completion_mode(spec: &Place<'_>, errors: &mut Errors) {
    let mode = spec.child("completionMode");
    if mode.is_set() && !matches!(mode.str(), "NonIndexed" | "Indexed") {
        errors.not_supported(&mode, mode.str(), &["NonIndexed", "Indexed"]);
    }
    if is_indexed(spec) {
        indexed(spec, errors);
    }
    if !mode.is_set() || mode.str() == "NonIndexed" {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(given) = spec.field(field) {
                errors.invalid(&given, "requires indexed completion mode");
            }
        }
    }
}

fn indexed(spec: &Place<'_>, errors: &mut Errors) {
    let (parallelism, failed) = (spec.child("parallelism"), spec.child("maxFailedIndexes"));
    let more = |place: &Place<'_>, than: i64| place.value.as_int().is_some_and(|n| n > than);
    let Some(completions) = spec.int("completions") else {
        return errors.required(&spec.child("completions"), "when completion mode is Indexed");
    };
    if more(&parallelism, MANY) {
        let why = format!("must be less than or equal to {MANY} when completion mode is Indexed");
        errors.invalid(&parallelism, why);
    }
    if more(&failed, completions) {
        errors.invalid(&failed, "must be less than or equal to completions");
    }
    if more(&failed, MANY) {
        errors.invalid(&failed, format!("must be less than or equal to {MANY}"));
    }
    if completions > MANY && spec.has("backoffLimitPerIndex") {
        if !failed.is_set() {
            errors.required(&failed, format!("must be specified when completions is above {MANY}"));
        }
        for place in [&parallelism, &failed] {
            if more(place, FEWER) {
                let why = format!(
                    "must be less than or equal to {FEWER} when completions are above {MANY} and used with backoff limit per index"
                );
                errors.invalid(place, why);
            }
        }
    }
}

fn warnings(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    large(subject, &["spec"], warnings);
    pod::workload_warnings(subject, &["spec", "template"], true, warnings);
}

/// Warns of indexed jobs that may grow beyond what can be tracked.
pub(super) fn large(subject: &Subject<'_>, path: &[&str], warnings: &mut Vec<String>) {
    let Some(spec) = subject.new.at(path).filter(|_| subject.subresource.is_empty()) else { return };
    let above = |field: &str, n: i64| spec.int_at(&[field]).is_some_and(|value| value > n);
    if spec.str_at(&["completionMode"]) == "Indexed" && above("completions", MANY) && above("parallelism", FEWER) {
        warnings.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            path.join(".")
        ));
    }
}
