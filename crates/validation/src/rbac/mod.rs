//! The group `rbac.authorization.k8s.io`.

use crate::rules::Registry;
use crate::{Errors, Place, engine};
use trireme_schema::names;

pub(crate) const RULES: &str = include_str!("rules.txt");

const GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) fn register(registry: &mut Registry) {
    registry.on_type("rbac.v1.PolicyRule", rule);
    registry.on_type("rbac.v1.Subject", subject);
    registry.on_kind("rbac.v1.ClusterRole", "", aggregation);
    registry.on_kind("rbac.v1.RoleBinding", "", role_ref);
    registry.on_kind("rbac.v1.ClusterRoleBinding", "", role_ref);
}

fn rule(rule: &Place<'_>, errors: &mut Errors) {
    let urls = rule.child("nonResourceURLs");
    if rule.list("nonResourceURLs").is_empty() {
        if rule.list("apiGroups").is_empty() {
            errors.required(&rule.child("apiGroups"), "resource rules must supply at least one api group");
        }
        if rule.list("resources").is_empty() {
            errors.required(&rule.child("resources"), "resource rules must supply at least one resource");
        }
        return;
    }
    if rule.subject.namespaced {
        errors.invalid(&urls, "namespaced rules cannot apply to non-resource URLs");
    }
    if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !rule.list(field).is_empty()) {
        errors.invalid(&urls, "rules cannot apply to both regular resources and non-resource URLs");
    }
}

fn aggregation(role: &Place<'_>, errors: &mut Errors) {
    let Some(rule) = role.field("aggregationRule") else { return };
    if rule.list("clusterRoleSelectors").is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.required(&rule.child("clusterRoleSelectors"), why);
    }
    for selector in rule.items("clusterRoleSelectors") {
        let mut wrong = Errors::default();
        engine::walk_type("meta.v1.LabelSelector", &selector, &mut wrong);
        // Upstream shows the selector that it could not make.
        if !wrong.is_empty() {
            errors.invalid_shown(&selector, "null", "invalid label selector.");
        }
    }
}

fn role_ref(binding: &Place<'_>, errors: &mut Errors) {
    let role = binding.child("roleRef");
    let (group, kind) = (role.child("apiGroup"), role.child("kind"));
    if group.str() != GROUP {
        errors.not_supported(&group, group.str(), &[GROUP]);
    }
    let kinds: &[&str] = if binding.subject.namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&kind.str()) {
        errors.not_supported(&kind, kind.str(), kinds);
    }
    if role.old.is_some() && role.is_changed() {
        errors.invalid_internal(&role, "rbac.v1.RoleRef", "cannot change roleRef");
    }
}

fn subject(subject: &Place<'_>, errors: &mut Errors) {
    let (kind, name, group) = (subject.child("kind"), subject.child("name"), subject.child("apiGroup"));
    match kind.str() {
        "ServiceAccount" => {
            if !name.str().is_empty() {
                errors.format(&name, name.str(), names::dns1123_subdomain(name.str()));
            }
            if !subject.subject.namespaced && subject.text("namespace").is_empty() {
                errors.required(&subject.child("namespace"), "");
            }
            if !group.str().is_empty() {
                errors.not_supported(&group, group.str(), &[""]);
            }
        }
        "User" | "Group" if group.str() != GROUP => errors.not_supported(&group, group.str(), &[GROUP]),
        "User" | "Group" => {}
        other => errors.not_supported(&kind, other, &["ServiceAccount", "User", "Group"]),
    }
}
