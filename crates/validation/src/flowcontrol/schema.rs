//! Flow schemas: which requests belong together, and how important they are.

use crate::rules::Registry;
use crate::{Errors, Place, internal};
use trireme_schema::{Value, json, names};

const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const LAST_PRECEDENCE: i64 = 10_000;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("flowcontrol.v1.FlowSchema", "", schema);
}

fn schema(root: &Place<'_>, errors: &mut Errors) {
    let spec = root.child("spec");
    let name = root.value.str_at(&["metadata", "name"]);
    let precedence = spec.int("matchingPrecedence").unwrap_or_default();
    let place = spec.child("matchingPrecedence");
    if precedence <= 0 {
        errors.invalid_value(&place, precedence, "must be a positive value");
    }
    if precedence > LAST_PRECEDENCE {
        errors.invalid(&place, format!("must not be greater than {LAST_PRECEDENCE}"));
    }
    if precedence == 1 && name != "exempt" {
        errors.invalid(&place, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    if let Some(method) = spec.field("distinguisherMethod") {
        let kind = method.child("type");
        if !matches!(kind.str(), "ByNamespace" | "ByUser") {
            let shown = internal::show("flowcontrol.v1.FlowDistinguisherMethod", method.value);
            errors.not_supported_shown(&kind, shown, &["ByNamespace", "ByUser"]);
        }
    }
    let level = spec.child("priorityLevelConfiguration");
    let level = level.child("name");
    if level.str().is_empty() {
        errors.required(&level, "must reference a priority level");
    } else {
        errors.format(&level, level.str(), names::dns1123_subdomain(level.str()));
    }
    spec.items("rules").for_each(|r| rules(&r, errors));
}

fn rules(rules: &Place<'_>, errors: &mut Errors) {
    if rules.list("subjects").is_empty() {
        errors.required(&rules.child("subjects"), "subjects must contain at least one value");
    }
    rules.items("subjects").for_each(|s| subject(&s, errors));
    if rules.list("resourceRules").is_empty() && rules.list("nonResourceRules").is_empty() {
        errors.required(rules, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    rules.items("resourceRules").for_each(|r| resource_rule(&r, errors));
    rules.items("nonResourceRules").for_each(|r| path_rule(&r, errors));
}

fn subject(subject: &Place<'_>, errors: &mut Errors) {
    let kind = subject.child("kind");
    let fields = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let Some((_, own)) = fields.iter().find(|(name, _)| *name == kind.str()) else {
        errors.not_supported(&kind, kind.str(), &["Group", "ServiceAccount", "User"]);
        return;
    };
    let place = subject.child(own);
    if place.is_set() {
        let name = place.child("name");
        match *own {
            "serviceAccount" => {
                if name.str().is_empty() {
                    errors.required(&name, "");
                } else if name.str() != "*" {
                    errors.format(&name, name.str(), names::dns1123_subdomain(name.str()));
                }
                let namespace = place.child("namespace");
                if namespace.str().is_empty() {
                    let why = "must specify namespace for service account";
                    errors.required(&namespace, why);
                } else {
                    errors.format(&namespace, namespace.str(), names::dns1123_label(namespace.str()));
                }
            }
            _ if name.str().is_empty() => errors.required(&name, ""),
            _ => {}
        }
    } else {
        errors.required(&place, format!("{own} is required when subject kind is '{}'", kind.str()));
    }
    for (name, field) in fields {
        if field != *own && subject.has(field) {
            errors.forbidden(&subject.child(field), format!("{field} is forbidden when subject kind is not '{name}'"));
        }
    }
}

fn texts<'a>(rule: &Place<'a>, field: &str) -> Vec<&'a str> {
    rule.list(field).iter().map(|v| v.as_str().unwrap_or_default()).collect()
}

fn verbs(rule: &Place<'_>, errors: &mut Errors) {
    let (place, verbs) = (rule.child("verbs"), texts(rule, "verbs"));
    if verbs.is_empty() {
        errors.required(&place, "verbs must contain at least one value");
    } else if verbs.contains(&"*") {
        if verbs.len() > 1 {
            errors.invalid(&place, "if '*' is present, must not specify other verbs");
        }
    } else if verbs.iter().any(|verb| !VERBS.contains(verb)) {
        errors.not_supported_shown(&place, json::to_string(place.value), &VERBS);
    }
}

fn resource_rule(rule: &Place<'_>, errors: &mut Errors) {
    verbs(rule, errors);
    for (field, missing, others) in [
        ("apiGroups", "resource rules must supply at least one api group", "api groups"),
        ("resources", "resource rules must supply at least one resource", "resources"),
    ] {
        let (place, all) = (rule.child(field), texts(rule, field));
        if all.is_empty() {
            errors.required(&place, missing);
        } else if all.len() > 1 && all.contains(&"*") {
            errors.invalid(&place, format!("if '*' is present, must not specify other {others}"));
        }
    }
    let namespaces = texts(rule, "namespaces");
    let place = rule.child("namespaces");
    if namespaces.is_empty() && !rule.is("clusterScope") {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&place, why);
    } else if namespaces.contains(&"*") {
        if namespaces.len() > 1 {
            errors.invalid(&place, "if '*' is present, must not specify other namespaces");
        }
    } else {
        for (i, namespace) in namespaces.iter().enumerate() {
            for why in names::dns1123_label(namespace) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                errors.invalid_value(&place.index(i), *namespace, why);
            }
        }
    }
}

fn path_rule(rule: &Place<'_>, errors: &mut Errors) {
    verbs(rule, errors);
    let (place, urls) = (rule.child("nonResourceURLs"), texts(rule, "nonResourceURLs"));
    if urls.is_empty() {
        errors.required(&place, "nonResourceURLs must contain at least one value");
    } else if urls.contains(&"*") {
        if urls.len() > 1 {
            errors.invalid(&place, "if '*' is present, must not specify other non-resource URLs");
        }
    } else {
        for (i, url) in urls.iter().enumerate() {
            path(&place.index(i), url, errors);
        }
    }
}

/// A path, or the beginning of some, ended by `*`.
fn path(place: &Place<'_>, url: &str, errors: &mut Errors) {
    let wrong = |errors: &mut Errors, why: &str| errors.invalid_value(place, Value::from(url), why);
    if url.is_empty() {
        errors.required(place, "");
    } else if url.contains(' ') {
        wrong(errors, "must not contain white-space");
    } else if !url.starts_with('/') {
        wrong(errors, "must start with slash");
    } else if url != "/" && url.contains("//") {
        wrong(errors, "must not contain double slash");
    } else if let Some(at) = url.find('*')
        && (at + 1 != url.len() || !url.ends_with("/*"))
    {
        wrong(errors, "wildcard can only do suffix matching");
    }
}
