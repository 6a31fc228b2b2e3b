//! Deployments.

use super::percent;
use crate::core::pod;
use crate::rules::Registry;
use crate::{Errors, Place, Subject, selectors};

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("apps.v1.Deployment", "", check);
    registry.on_kind("apps.v1.Deployment", "status", |c, errors| status(&c.child("status"), errors));
    registry.on_warning("apps.v1.Deployment", warnings);
}

fn check(deployment: &Place<'_>, errors: &mut Errors) {
    let spec = deployment.child("spec");
    pods(&spec, errors);
    strategy(&spec.child("strategy"), errors);
    if let Some(deadline) = spec.field("progressDeadlineSeconds") {
        let ready = spec.int("minReadySeconds").unwrap_or_default();
        if deadline.value.as_int().is_some_and(|n| n <= ready) {
            errors.invalid(&deadline, "must be greater than minReadySeconds");
        }
    }
    super::keeps_selector(&spec, errors);
}

/// The selector and the template, as deployments and their replica sets have them.
pub(super) fn pods(spec: &Place<'_>, errors: &mut Errors) {
    if !super::selector(spec, "deployment", errors) {
        let selector = spec.child("selector");
        return errors.invalid_shown(&selector, selectors::shown(selector.value), "invalid label selector");
    }
    super::selects_template(spec, errors);
    super::template(&spec.child("template"), "ReplicaSet", errors);
}

fn strategy(strategy: &Place<'_>, errors: &mut Errors) {
    match (strategy.text("type"), strategy.field("rollingUpdate")) {
        ("Recreate", Some(rolling)) => {
            errors.forbidden(&rolling, "may not be specified when strategy `type` is 'Recreate'");
        }
        ("Recreate", None) => {}
        ("RollingUpdate", Some(rolling)) => {
            let (unavailable, surge) = (rolling.child("maxUnavailable"), rolling.child("maxSurge"));
            percent::check(&unavailable, errors);
            percent::check(&surge, errors);
            if percent::number(unavailable.value) == 0 && percent::number(surge.value) == 0 {
                errors.invalid(&unavailable, "may not be 0 when `maxSurge` is 0");
            }
            percent::at_most_all(&unavailable, errors);
        }
        ("RollingUpdate", None) => {
            errors.required(&strategy.child("rollingUpdate"), "this should be defaulted and never be nil");
        }
        _ => errors.not_supported_internal(strategy, "apps.v1.DeploymentStrategy", &["Recreate", "RollingUpdate"]),
    }
}

fn status(status: &Place<'_>, errors: &mut Errors) {
    const COUNTS: [&str; 8] = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    super::counts(status, &COUNTS, errors);
    let some = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    super::not_above(status, &some, "replicas", "cannot be greater than status.replicas", errors);
    let why = "cannot be greater than readyReplicas";
    super::not_above(status, &["availableReplicas"], "readyReplicas", why, errors);
    super::collisions(status, errors);
}

fn warnings(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    pod::workload_warnings(subject, &["spec", "template"], true, warnings);
}
