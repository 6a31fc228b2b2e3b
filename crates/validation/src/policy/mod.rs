//! The group `policy`.

use crate::apps::percent;
use crate::rules::Registry;
use crate::{Errors, Place, conditions};

pub(crate) const RULES: &str = include_str!("rules.txt");

pub(crate) fn register(registry: &mut Registry) {
    registry.on_type("policy.v1.PodDisruptionBudgetSpec", spec);
    registry.on_kind("policy.v1.PodDisruptionBudget", "status", status);
}

fn spec(spec: &Place<'_>, errors: &mut Errors) {
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.invalid_internal(spec, "policy.v1.PodDisruptionBudgetSpec", why);
    }
    for field in ["minAvailable", "maxUnavailable"] {
        if let Some(amount) = spec.field(field) {
            percent::check(&amount, errors);
            percent::at_most_all(&amount, errors);
        }
    }
}

fn status(root: &Place<'_>, errors: &mut Errors) {
    let status = root.child("status");
    conditions::check(&status, errors);
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        let place = status.child(field);
        if place.value.as_int().is_some_and(|n| n < 0) {
            errors.invalid(&place, "must be greater than or equal to 0");
        }
    }
}
