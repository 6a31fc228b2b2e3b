//! What a job does when its pods fail in certain ways.

use crate::{Errors, Place};
use std::collections::HashSet;
use trireme_schema::names;

const MOST_RULES: usize = 20;
const MOST_CONDITIONS: usize = 20;
const MOST_CODES: usize = 255;

/// Texts as Go's `%q` lists them.
fn listed(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|v| trireme_schema::field::quote(v)).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

/// One of these, which are told when none is given.
fn one_of(place: &Place<'_>, known: &[&str], errors: &mut Errors) {
    match place.str() {
        "" => errors.required(place, listed(known)),
        text if known.contains(&text) => {}
        text => errors.not_supported(place, text, known),
    }
}

pub(super) fn check(spec: &Place<'_>, policy: &Place<'_>, errors: &mut Errors) {
    let rules = policy.list("rules").len();
    if rules > MOST_RULES {
        errors.too_many(&policy.child("rules"), rules, MOST_RULES);
    }
    let pods = spec.child("template.spec");
    let all = pods.list("containers").iter().chain(pods.list("initContainers"));
    let containers: HashSet<&str> = all.map(|c| c.str_at(&["name"])).collect();
    for rule in policy.items("rules") {
        let action = rule.child("action");
        if action.str() != "FailIndex" {
            one_of(&action, &["Count", "FailIndex", "FailJob", "Ignore"], errors);
        } else if !spec.has("backoffLimitPerIndex") {
            errors.invalid(&action, "requires the backoffLimitPerIndex to be set");
        }
        let codes = rule.field("onExitCodes");
        if let Some(codes) = &codes {
            exit_codes(codes, &containers, errors);
        }
        let conditions = !rule.list("onPodConditions").is_empty();
        if conditions {
            pod_conditions(&rule, errors);
        }
        match (codes.is_some(), conditions) {
            (true, true) => {
                errors.invalid_shown(&rule, "", "specifying both OnExitCodes and OnPodConditions is not supported");
            }
            (false, false) => {
                errors.invalid_shown(&rule, "", "specifying one of OnExitCodes and OnPodConditions is required");
            }
            _ => {}
        }
    }
}

fn pod_conditions(rule: &Place<'_>, errors: &mut Errors) {
    let count = rule.list("onPodConditions").len();
    if count > MOST_CONDITIONS {
        errors.too_many(&rule.child("onPodConditions"), count, MOST_CONDITIONS);
    }
    for pattern in rule.items("onPodConditions") {
        let ty = pattern.text("type");
        errors.format(&pattern.child("type"), ty, names::qualified_name(ty));
        one_of(&pattern.child("status"), &["False", "True", "Unknown"], errors);
    }
}

fn exit_codes(codes: &Place<'_>, containers: &HashSet<&str>, errors: &mut Errors) {
    one_of(&codes.child("operator"), &["In", "NotIn"], errors);
    if let Some(name) = codes.field("containerName").filter(|name| !containers.contains(name.str())) {
        errors.invalid(&name, "must be one of the container or initContainer names in the pod template");
    }
    let values = codes.child("values");
    let list = codes.list("values");
    if list.is_empty() {
        errors.invalid(&values, "at least one value is required");
    } else if list.len() > MOST_CODES {
        errors.too_many(&values, list.len(), MOST_CODES);
    }
    let mut seen = HashSet::new();
    for code in codes.items("values") {
        let number = code.value.as_int().unwrap_or_default();
        if number == 0 && codes.text("operator") == "In" {
            errors.invalid(&code, "must not be 0 for the In operator");
        }
        if !seen.insert(number) {
            errors.duplicate(&code, number);
        }
    }
    if !list.iter().filter_map(trireme_schema::Value::as_int).is_sorted() {
        errors.invalid(&values, "must be ordered");
    }
}
