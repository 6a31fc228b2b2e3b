//! The group `admissionregistration.k8s.io`.

mod binding;
mod expressions;
mod matching;
mod policy;
mod webhook;

use crate::rules::Registry;
use crate::{Errors, Place};

pub(crate) const RULES: &str = include_str!("rules.txt");

pub(crate) fn register(registry: &mut Registry) {
    webhook::register(registry);
    policy::register(registry);
    binding::register(registry);
}

/// One of the values, when given.
fn one_of(owner: &Place<'_>, field: &str, values: &[&str], errors: &mut Errors) {
    let place = owner.child(field);
    if place.is_set() && !values.contains(&place.str()) {
        errors.not_supported(&place, place.str(), values);
    }
}

/// One of the values, and given.
fn given_one_of(owner: &Place<'_>, field: &str, values: &[&str], errors: &mut Errors) {
    if owner.has(field) {
        one_of(owner, field, values, errors);
    } else {
        errors.required(&owner.child(field), "");
    }
}
