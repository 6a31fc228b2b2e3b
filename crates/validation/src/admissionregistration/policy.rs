//! Policies in the expression language (KEP-3488, KEP-3962).

use super::expressions::{self, Scope, Wanted};
use super::{given_one_of, matching, one_of};
use crate::rules::Registry;
use crate::{Errors, Place};
use std::collections::BTreeSet;
use trireme_schema::names;

const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const CHANGES: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const MOST_ANNOTATIONS: usize = 20;
const LONGEST_ANNOTATION: usize = 5 << 10;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("admissionregistration.v1.ValidatingAdmissionPolicy", "", validating);
    registry.on_kind("admissionregistration.v1.MutatingAdmissionPolicy", "", mutating);
}

/// What both kinds have; gives what expressions can speak of.
fn shared(spec: &Place<'_>, errors: &mut Errors) -> Scope {
    given_one_of(spec, "failurePolicy", &["Fail", "Ignore"], errors);
    let with_params = spec.has("paramKind");
    if let Some(kind) = spec.field("paramKind") {
        param_kind(&kind, errors);
    }
    match spec.field("matchConstraints") {
        None => errors.required(&spec.child("matchConstraints"), ""),
        Some(constraints) => {
            matching::resources(&constraints, errors);
            if constraints.list("resourceRules").is_empty() {
                errors.required(&constraints.child("resourceRules"), "");
            }
        }
    }
    let mut scope = Scope::of_requests(with_params);
    matching::conditions(spec, &scope, errors);
    if !spec.list("variables").is_empty() {
        scope = scope.with_variables();
    }
    for variable in spec.items("variables") {
        self::variable(&variable, &mut scope, errors);
    }
    scope
}

fn param_kind(kind: &Place<'_>, errors: &mut Errors) {
    let (version, name) = (kind.child("apiVersion"), kind.child("kind"));
    let text = version.str();
    match (text, text.matches('/').count()) {
        ("", _) => errors.required(&version, ""),
        ("/", _) => errors.invalid(&version, "version must be specified"),
        (_, 0 | 1) => {
            let (group, number) = text.split_once('/').unwrap_or(("", text));
            if !group.is_empty() {
                let wrong = names::dns1123_subdomain(group);
                if !wrong.is_empty() {
                    errors.invalid_value(&version, group, wrong.join(","));
                }
            }
            let wrong = names::dns1035_label(number);
            if number.is_empty() {
                errors.invalid(&version, "version must be specified");
            } else if !wrong.is_empty() {
                errors.invalid_value(&version, number, wrong.join(","));
            }
        }
        _ => errors.invalid(&version, format!("unexpected GroupVersion string: {text}")),
    }
    let wrong = names::dns1035_label(&name.str().to_lowercase());
    if name.str().is_empty() {
        errors.required(&name, "");
    } else if !wrong.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        errors.invalid(&name, why);
    }
}

fn variable(variable: &Place<'_>, scope: &mut Scope, errors: &mut Errors) {
    let (name, expression) = (variable.child("name"), variable.child("expression"));
    if name.str().trim().is_empty() {
        errors.required(&name, "name is not specified");
    } else if !expressions::is_identifier(name.str()) {
        errors.invalid(&name, "name is not a valid CEL identifier");
    }
    if expression.str().trim().is_empty() {
        errors.required(&expression, "expression is not specified");
        return;
    }
    let text = expression.str();
    let compiled = expressions::check(&expression, text, text, scope, &[Wanted::Anything], errors);
    scope.declare(name.str(), compiled.as_ref());
}

fn validating(root: &Place<'_>, errors: &mut Errors) {
    let spec = root.child("spec");
    let scope = shared(&spec, errors);
    if spec.list("validations").is_empty() && spec.list("auditAnnotations").is_empty() {
        for field in ["validations", "auditAnnotations"] {
            errors.required(&spec.child(field), "validations or auditAnnotations must contain at least one item");
        }
        return;
    }
    let words = Scope::of_messages(spec.has("paramKind"));
    let words = if spec.list("variables").is_empty() { words } else { words.with_variables_of(&scope) };
    spec.items("validations").for_each(|v| validation(&v, &scope, &words, errors));
    if spec.list("auditAnnotations").len() > MOST_ANNOTATIONS {
        let why = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
        errors.invalid(&spec.child("auditAnnotations"), why);
    }
    let mut keys = BTreeSet::new();
    for annotation in spec.items("auditAnnotations") {
        audit_annotation(root.value.str_at(&["metadata", "name"]), &annotation, &scope, errors);
        if !keys.insert(annotation.text("key")) {
            errors.duplicate(&annotation.child("key"), annotation.text("key"));
        }
    }
}

fn validation(validation: &Place<'_>, scope: &Scope, scope_of_words: &Scope, errors: &mut Errors) {
    let (expression, words, message) =
        (validation.child("expression"), validation.child("messageExpression"), validation.child("message"));
    let text = expression.str().trim();
    if text.is_empty() {
        errors.required(&expression, "expression is not specified");
    } else {
        expressions::check(&expression, text, text, scope, &[Wanted::Bool], errors);
    }
    match (words.str(), words.str().trim()) {
        ("", _) => {}
        (_, "") => errors.invalid(&words, "must be non-empty if specified"),
        (whole, _) => {
            expressions::check(&words, whole, whole, scope_of_words, &[Wanted::String], errors);
        }
    }
    let trimmed = message.str().trim();
    if !message.str().is_empty() && trimmed.is_empty() {
        errors.invalid(&message, "message must be non-empty if specified");
    } else if trimmed.contains('\n') {
        errors.invalid(&message, "must not contain line breaks");
    } else if text.contains('\n') && trimmed.is_empty() {
        errors.required(&message, "message must be specified if expression contains line breaks");
    }
    one_of(validation, "reason", &REASONS, errors);
}

fn audit_annotation(policy: &str, annotation: &Place<'_>, scope: &Scope, errors: &mut Errors) {
    let (key, value) = (annotation.child("key"), annotation.child("valueExpression"));
    let full = if policy.is_empty() { key.str().to_owned() } else { format!("{policy}/{}", key.str()) };
    errors.format(&key, &full, names::qualified_name(&full));
    let text = value.str().trim();
    if text.is_empty() {
        errors.required(&value, "valueExpression is not specified");
    } else if text.len() > LONGEST_ANNOTATION {
        errors.required(&value, format!("must not exceed {LONGEST_ANNOTATION} bytes in length"));
    } else {
        expressions::check(&value, text, value.str(), scope, &[Wanted::String, Wanted::Null], errors);
    }
}

fn mutating(root: &Place<'_>, errors: &mut Errors) {
    let spec = root.child("spec");
    let scope = shared(&spec, errors).with_objects();
    let constraints = spec.child("matchConstraints");
    only_changes(&constraints, errors);
    if spec.list("mutations").is_empty() {
        errors.required(&spec.child("mutations"), "mutations must contain at least one item");
    }
    spec.items("mutations").for_each(|m| mutation(&m, &scope, errors));
    match spec.text("reinvocationPolicy") {
        "" => errors.required(&spec.child("reinvocationPolicy"), ""),
        _ => one_of(&spec, "reinvocationPolicy", &["IfNeeded", "Never"], errors),
    }
}

/// There is nothing to change in what goes.
pub(super) fn only_changes(matched: &Place<'_>, errors: &mut Errors) {
    for rule in matched.list("resourceRules") {
        for operation in rule.list_at(&["operations"]) {
            let operation = operation.as_str().unwrap_or_default();
            if !CHANGES.contains(&operation) {
                let rules = matched.child("resourceRules");
                errors.not_supported(&rules.child("operations"), operation, &CHANGES);
            }
        }
    }
}

fn mutation(mutation: &Place<'_>, scope: &Scope, errors: &mut Errors) {
    let forms =
        [("JSONPatch", "jsonPatch", Wanted::JsonPatch), ("ApplyConfiguration", "applyConfiguration", Wanted::Object)];
    let kind = mutation.child("patchType");
    if kind.str().is_empty() {
        errors.required(&kind, "");
        return;
    }
    let Some((_, own, wanted)) = forms.iter().find(|(name, ..)| *name == kind.str()) else {
        errors.not_supported(&kind, kind.str(), &["ApplyConfiguration", "JSONPatch"]);
        return;
    };
    for (_, other, _) in forms.iter().filter(|(_, field, _)| field != own) {
        if let Some(place) = mutation.field(other) {
            let why = format!("must not be specified when patchType is {}", kind.str());
            errors.invalid_value(&place, format!("{{{other}}}"), why);
        }
    }
    let Some(form) = mutation.field(own) else {
        errors.required(&mutation.child(own), format!("must be specified when patchType is {}", kind.str()));
        return;
    };
    let expression = form.child("expression");
    if expression.str().trim().is_empty() {
        errors.required(&expression, "expression is not specified");
    } else {
        expressions::check(&expression, expression.str(), expression.str(), scope, &[*wanted], errors);
    }
}
