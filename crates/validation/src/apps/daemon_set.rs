//! Daemon sets.

use super::percent;
use crate::core::pod;
use crate::rules::Registry;
use crate::{Errors, Place, Subject, engine};

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("apps.v1.DaemonSet", "", check);
    registry.on_kind("apps.v1.DaemonSet", "status", |c, errors| status(&c.child("status"), errors));
    registry.on_warning("apps.v1.DaemonSet", warnings);
}

fn check(set: &Place<'_>, errors: &mut Errors) {
    let spec = set.child("spec");
    let selector = spec.child("selector");
    let before = errors.len();
    engine::walk_type("meta.v1.LabelSelector", &selector, errors);
    if errors.len() == before {
        super::selects_template(&spec, errors);
    }
    super::not_empty(&selector, "daemonset", errors);
    super::template(&spec.child("template"), "DaemonSet", errors);
    strategy(&spec.child("updateStrategy"), errors);
    super::keeps_selector(&spec, errors);
}

fn strategy(strategy: &Place<'_>, errors: &mut Errors) {
    let rolling = strategy.child("rollingUpdate");
    match strategy.text("type") {
        "OnDelete" => {}
        "RollingUpdate" if rolling.is_set() => {
            let (unavailable, surge) = (rolling.child("maxUnavailable"), rolling.child("maxSurge"));
            for place in [&unavailable, &surge] {
                percent::check(place, errors);
            }
            for place in [&unavailable, &surge] {
                percent::at_most_all(place, errors);
            }
            match (percent::number(unavailable.value) != 0, percent::number(surge.value) != 0) {
                (true, true) => errors.invalid(&surge, "may not be set when maxUnavailable is non-zero"),
                (false, false) => errors.required(&unavailable, "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        "RollingUpdate" => errors.required(&rolling, ""),
        _ => errors.not_supported_internal(strategy, "apps.v1.DaemonSetUpdateStrategy", &["RollingUpdate", "OnDelete"]),
    }
}

fn status(status: &Place<'_>, errors: &mut Errors) {
    const COUNTS: [&str; 9] = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    super::counts(status, &COUNTS, errors);
    super::collisions(status, errors);
}

fn warnings(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    pod::workload_warnings(subject, &["spec", "template"], false, warnings);
}
