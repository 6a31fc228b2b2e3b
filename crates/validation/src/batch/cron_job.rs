//! Cron jobs.

use super::{job, schedule};
use crate::core::pod;
use crate::rules::Registry;
use crate::{Errors, Place, Subject, engine, selectors};

/// A job's name is that of its cron job and eleven characters more.
const LONGEST_NAME: usize = 52;

pub(super) fn register(registry: &mut Registry) {
    registry.on_type("batch.v1.CronJobSpec", spec);
    registry.on_kind("batch.v1.CronJob", "", name);
    registry.on_warning("batch.v1.CronJob", warnings);
}

fn name(cron: &Place<'_>, errors: &mut Errors) {
    let name = cron.child("metadata.name");
    if cron.old.is_none() && name.str().len() > LONGEST_NAME {
        errors.invalid(&name, format!("must be no more than {LONGEST_NAME} characters"));
    }
}

fn spec(spec: &Place<'_>, errors: &mut Errors) {
    when(spec, errors);
    non_negative(spec, "startingDeadlineSeconds", errors);
    if let Some(zone) = spec.field("timeZone").filter(Place::is_changed) {
        time_zone(&zone, errors);
    }
    let policy = spec.child("concurrencyPolicy");
    match policy.str() {
        "" => errors.required(&policy, ""),
        "Allow" | "Forbid" | "Replace" => {}
        other => errors.not_supported(&policy, other, &["Allow", "Forbid", "Replace"]),
    }
    let made = spec.child("jobTemplate.spec");
    engine::walk_type("batch.v1.JobSpec", &made, errors);
    if let Some(selector) = made.field("selector") {
        let shown = selectors::shown(selector.value);
        errors.invalid_shown(&selector, shown, "`selector` will be auto-generated");
    }
    if made.is("manualSelector") {
        errors.not_supported(&made.child("manualSelector"), true, &["nil", "false"]);
    }
    non_negative(spec, "successfulJobsHistoryLimit", errors);
    non_negative(spec, "failedJobsHistoryLimit", errors);
}

fn non_negative(spec: &Place<'_>, field: &str, errors: &mut Errors) {
    let number = spec.child(field);
    if number.value.as_int().is_some_and(|n| n < 0) {
        errors.invalid(&number, "must be greater than or equal to 0");
    }
}

fn when(spec: &Place<'_>, errors: &mut Errors) {
    let place = spec.child("schedule");
    let text = place.str();
    if text.is_empty() {
        return errors.required(&place, "");
    }
    if let Err(why) = schedule::check(text) {
        errors.invalid(&place, why);
    }
    // Zones in schedules are of old days, and kept where they are.
    let allowed = place.old.and_then(trireme_schema::Value::as_str).is_some_and(|old| old.contains("TZ"));
    match (allowed, text.contains("TZ")) {
        (true, true) if spec.has("timeZone") => {
            errors.invalid(&place, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
        }
        (false, true) => errors.invalid(&place, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"),
        _ => {}
    }
}

fn time_zone(zone: &Place<'_>, errors: &mut Errors) {
    let name = zone.str();
    if name.is_empty() {
        errors.invalid(zone, "timeZone must be nil or non-empty string");
    } else if name.eq_ignore_ascii_case("local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(zone, why);
    } else if !schedule::is_time_zone(name) {
        errors.invalid(zone, format!("unknown time zone {name}"));
    }
}

fn warnings(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    if subject.subresource.is_empty() && subject.new.str_at(&["spec", "schedule"]).contains("TZ") {
        warnings.push(
            "CRON_TZ or TZ used in spec.schedule is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                .to_owned(),
        );
    }
    job::large(subject, &["spec", "jobTemplate", "spec"], warnings);
    pod::workload_warnings(subject, &["spec", "jobTemplate", "spec", "template"], true, warnings);
}
