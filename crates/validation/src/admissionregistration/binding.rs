//! Bindings of policies.

use super::{matching, policy};
use crate::rules::Registry;
use crate::{Errors, Place};
use std::collections::BTreeSet;
use trireme_schema::names;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("admissionregistration.v1.ValidatingAdmissionPolicyBinding", "", validating);
    registry.on_kind("admissionregistration.v1.MutatingAdmissionPolicyBinding", "", mutating);
}

fn shared(spec: &Place<'_>, errors: &mut Errors) {
    let name = spec.child("policyName");
    if name.str().is_empty() {
        errors.required(&name, "");
    } else {
        errors.format(&name, name.str(), names::dns1123_subdomain(name.str()));
    }
    if let Some(param) = spec.field("paramRef") {
        param_ref(&param, errors);
    }
    if let Some(matched) = spec.field("matchResources") {
        matching::resources(&matched, errors);
    }
}

fn param_ref(param: &Place<'_>, errors: &mut Errors) {
    let (name, selector) = (param.child("name"), param.child("selector"));
    if !name.str().is_empty() {
        errors.format(&name, name.str(), names::path_segment(name.str()));
    }
    match (name.str().is_empty(), selector.is_set()) {
        (false, true) => {
            for place in [&name, &selector] {
                errors.forbidden(place, "name and selector are mutually exclusive");
            }
        }
        (true, false) => errors.required(param, "one of name or selector must be specified"),
        _ => {}
    }
    let action = param.child("parameterNotFoundAction");
    match action.str() {
        "" => errors.required(&action, ""),
        "Allow" | "Deny" => {}
        other => errors.not_supported(&action, other, &["Deny", "Allow"]),
    }
}

fn validating(root: &Place<'_>, errors: &mut Errors) {
    const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
    let spec = root.child("spec");
    shared(&spec, errors);
    let place = spec.child("validationActions");
    let mut seen = BTreeSet::new();
    for action in spec.items("validationActions") {
        if !ACTIONS.contains(&action.str()) {
            errors.not_supported(&action, action.str(), &ACTIONS);
        }
        if !seen.insert(action.str().to_owned()) {
            errors.duplicate(&action, action.str());
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        errors.invalid(&place, why);
    }
    if seen.is_empty() {
        errors.required(&place, "at least one validation action is required");
    }
}

fn mutating(root: &Place<'_>, errors: &mut Errors) {
    let spec = root.child("spec");
    shared(&spec, errors);
    policy::only_changes(&spec.child("matchResources"), errors);
}
