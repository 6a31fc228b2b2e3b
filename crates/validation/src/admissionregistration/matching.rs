//! Which requests a webhook or policy is about.

use super::expressions::{self, Scope};
use super::{given_one_of, one_of};
use crate::{Errors, Place};
use std::collections::BTreeSet;
use trireme_schema::names;

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
const MOST_CONDITIONS: usize = 64;

/// What a policy or binding is about.
pub(super) fn resources(matched: &Place<'_>, errors: &mut Errors) {
    given_one_of(matched, "matchPolicy", &["Equivalent", "Exact"], errors);
    for field in ["namespaceSelector", "objectSelector"] {
        if !matched.has(field) {
            errors.required(&matched.child(field), "");
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for rule in matched.items(field) {
            let mut seen = BTreeSet::new();
            for name in rule.items("resourceNames") {
                errors.format(&name, name.str(), names::path_segment(name.str()));
                if !seen.insert(name.str().to_owned()) {
                    errors.duplicate(&name, name.str());
                }
            }
            operations(&rule, errors);
        }
    }
}

/// Operations on resources.
pub(super) fn operations(rule: &Place<'_>, errors: &mut Errors) {
    let place = rule.child("operations");
    all_or_some(rule, "operations", "operations", errors);
    for (i, operation) in rule.list("operations").iter().enumerate() {
        let operation = operation.as_str().unwrap_or_default();
        if !OPERATIONS.contains(&operation) {
            errors.not_supported(&place.index(i), operation, &OPERATIONS);
        }
    }
    all_or_some(rule, "apiGroups", "API groups", errors);
    all_or_some(rule, "apiVersions", "API versions", errors);
    for version in rule.items("apiVersions") {
        if version.str().is_empty() {
            errors.required(&version, "");
        }
    }
    names_of_resources(rule, errors);
    one_of(rule, "scope", &SCOPES, errors);
}

/// A list that says something, and nothing besides `*`.
fn all_or_some(rule: &Place<'_>, field: &str, what: &str, errors: &mut Errors) {
    let (place, all) = (rule.child(field), rule.list(field));
    if all.is_empty() {
        errors.required(&place, "");
    } else if all.len() > 1 && all.iter().any(|v| v.as_str() == Some("*")) {
        errors.invalid(&place, format!("if '*' is present, must not specify other {what}"));
    }
}

/// `pods`, `pods/status`, `pods/*`, `*/scale`, `*`, `*/*`: none that another covers.
fn names_of_resources(rule: &Place<'_>, errors: &mut Errors) {
    let (place, all) = (rule.child("resources"), rule.list("resources"));
    if all.is_empty() {
        errors.required(&place, "");
    }
    let (mut whole, mut everywhere) = (BTreeSet::new(), BTreeSet::new());
    let (mut any, mut any_with_parts, mut plain) = (false, false, false);
    for (i, resource) in all.iter().enumerate() {
        let text = resource.as_str().unwrap_or_default();
        let item = place.index(i);
        any |= text == "*";
        any_with_parts |= text == "*/*";
        match text.split_once('/') {
            None if text.is_empty() => errors.required(&item, ""),
            // Upstream remembers what it saw last.
            None => plain = text != "*",
            Some((name, part)) => {
                if whole.contains(name) {
                    errors.invalid_value(&item, text, format!("if '{name}/*' is present, must not specify {text}"));
                }
                if everywhere.contains(part) {
                    errors.invalid_value(&item, text, format!("if '*/{part}' is present, must not specify {text}"));
                }
                if part == "*" {
                    whole.insert(name);
                }
                if name == "*" {
                    everywhere.insert(part);
                }
            }
        }
    }
    if all.len() > 1 && any_with_parts {
        errors.invalid(&place, "if '*/*' is present, must not specify other resources");
    }
    if any && plain {
        errors.invalid(&place, "if '*' is present, must not specify other resources without subresources");
    }
}

/// Conditions in the expression language.
pub(super) fn conditions(owner: &Place<'_>, scope: &Scope, errors: &mut Errors) {
    let count = owner.list("matchConditions").len();
    if count > MOST_CONDITIONS {
        errors.too_many(&owner.child("matchConditions"), count, MOST_CONDITIONS);
    }
    let mut seen = BTreeSet::new();
    for condition in owner.items("matchConditions") {
        let (name, expression) = (condition.child("name"), condition.child("expression"));
        let text = expression.str().trim();
        if text.is_empty() {
            errors.required(&expression, "");
        } else {
            expressions::check(&expression, text, text, scope, &[expressions::Wanted::Bool], errors);
        }
        if name.str().is_empty() {
            errors.required(&name, "");
        } else {
            errors.format(&name, name.str(), names::qualified_name(name.str()));
            if !seen.insert(condition.text("name")) {
                errors.duplicate(&name, name.str());
            }
        }
    }
}
