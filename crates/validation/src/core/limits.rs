//! Resource quotas and limit ranges.

use super::pod;
use crate::rules::Registry;
use crate::{Errors, Place};
use std::collections::{BTreeSet, HashSet};
use trireme_schema::{Quantity, Value, names};

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("core.v1.ResourceQuota", "", quota);
    registry.on_kind("core.v1.ResourceQuota", "status", quota_status);
    registry.on_type("core.v1.LimitRangeItem", limit);
    registry.on_kind("core.v1.LimitRange", "", limit_types);
}

fn quota(quota: &Place<'_>, errors: &mut Errors) {
    let spec = quota.child("spec");
    amounts(&spec, "hard", errors);
    scopes(&spec, errors);
    selector(&spec, errors);
    if let Some(old) = quota.old {
        let set = |v: &Value| -> BTreeSet<String> {
            v.list_at(&["spec", "scopes"]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        if set(old) != set(quota.value) {
            errors.invalid(&spec.child("scopes"), "field is immutable");
        }
    } else {
        quota_status(quota, errors);
    }
}

fn quota_status(quota: &Place<'_>, errors: &mut Errors) {
    let status = quota.child("status");
    amounts(&status, "hard", errors);
    amounts(&status, "used", errors);
}

fn amounts(place: &Place<'_>, list: &str, errors: &mut Errors) {
    for (name, amount) in place.entries(list) {
        pod::resource_name(&amount, name, errors);
        if !name.contains('/') && !is_counted(name) {
            errors.invalid_value(&amount, name, "must be a standard resource for quota");
        }
        pod::quantity_value(&amount, name, errors);
    }
}

/// What a quota can limit, of the names without a group.
fn is_counted(name: &str) -> bool {
    const NAMES: [&str; 20] = [
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.storage",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "persistentvolumeclaims",
        "configmaps",
        "services.nodeports",
        "services.loadbalancers",
        "storage",
    ];
    (NAMES.contains(&name) && name != "storage")
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
}

/// Whether a scope says something about what a resource counts.
fn fits(scope: &str, resource: &str) -> bool {
    let compute = matches!(
        resource,
        "pods"
            | "cpu"
            | "memory"
            | "requests.cpu"
            | "requests.memory"
            | "limits.cpu"
            | "limits.memory"
            | "ephemeral-storage"
            | "requests.ephemeral-storage"
            | "limits.ephemeral-storage"
    );
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => compute,
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn conflicts(scopes: &HashSet<&str>) -> usize {
    [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]]
        .iter()
        .filter(|pair| pair.iter().all(|s| scopes.contains(s)))
        .count()
}

fn scopes(spec: &Place<'_>, errors: &mut Errors) {
    let place = spec.child("scopes");
    let mut seen = HashSet::new();
    for scope in spec.list("scopes") {
        let scope = scope.as_str().unwrap_or_default();
        if !SCOPES.contains(&scope) {
            errors.invalid(&place, "unsupported scope");
        }
        for _resource in spec.entries("hard").filter(|(r, _)| is_counted(r) && !fits(scope, r)) {
            errors.invalid(&place, "unsupported scope applied to resource");
        }
        seen.insert(scope);
    }
    for _pair in 0..conflicts(&seen) {
        errors.invalid(&place, "conflicting scopes");
    }
}

/// Requirements are told by their list, without the index.
fn selector(spec: &Place<'_>, errors: &mut Errors) {
    const EXISTS: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
    let selector = spec.child("scopeSelector");
    let place = selector.child("matchExpressions");
    let mut seen = HashSet::new();
    for requirement in selector.list("matchExpressions") {
        let (scope, operator) = (requirement.str_at(&["scopeName"]), requirement.str_at(&["operator"]));
        let values = requirement.list_at(&["values"]);
        if !SCOPES.contains(&scope) {
            errors.invalid_value(&place.child("scopeName"), scope, "unsupported scope");
        }
        for _resource in spec.entries("hard").filter(|(r, _)| is_counted(r) && !fits(scope, r)) {
            let shown = crate::internal::show("core.v1.ScopeSelector", selector.value);
            errors.invalid_shown(&place, shown, "unsupported scope applied to resource");
        }
        let is_switch = SCOPES[..4].contains(&scope) || scope == "CrossNamespacePodAffinity";
        if is_switch && operator != "Exists" {
            errors.invalid_value(&place.child("operator"), operator, EXISTS);
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&place.child("values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid_value(&place.child("values"), Value::Array(values.to_vec()), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid_value(&place.child("operator"), other, "not a valid selector operator"),
        }
        seen.insert(scope);
    }
    for _pair in 0..conflicts(&seen) {
        errors.invalid(&spec.child("scopes"), "conflicting scopes");
    }
}

fn limit_types(range: &Place<'_>, errors: &mut Errors) {
    let spec = range.child("spec");
    let mut seen = HashSet::new();
    for item in spec.items("limits") {
        if !seen.insert(item.text("type")) {
            errors.duplicate(&item.child("type"), item.text("type"));
        }
    }
}

fn limit(item: &Place<'_>, errors: &mut Errors) {
    let kind = item.text("type");
    let place = item.child("type");
    let wrong = names::qualified_name(kind);
    if wrong.is_empty() && !kind.contains('/') && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") {
        errors.invalid_value(&place, kind, "must be a standard limit type or fully qualified");
    }
    errors.format(&place, kind, wrong);
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        if kind == "Pod" && list.starts_with("default") {
            if item.map(list).is_some_and(|m| !m.is_empty()) {
                errors.forbidden(&item.child(list), "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, amount) in item.entries(list) {
            if matches!(kind, "Pod" | "Container") {
                pod::container_resource_name(&amount, name, errors);
            } else {
                pod::resource_name(&amount, name, errors);
            }
        }
    }
    if kind == "PersistentVolumeClaim" && ["min", "max"].iter().all(|l| !item.entry(l, "storage").is_set()) {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&item.child("limits"), why);
    }
    let lists: &[&str] = if kind == "Pod" {
        &["max", "min", "maxLimitRequestRatio"]
    } else {
        &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"]
    };
    let names: BTreeSet<&str> =
        lists.iter().filter_map(|l| item.map(l)).flat_map(trireme_schema::Map::keys).map(|k| k.as_str()).collect();
    for name in names {
        order(item, name, kind != "Pod", errors);
    }
}

/// What amounts of one resource have to do with each other.
fn order(item: &Place<'_>, name: &str, defaults: bool, errors: &mut Errors) {
    let of = |list: &str| item.entry(list, name).quantity();
    let (min, max, ratio) = (of("min"), of("max"), of("maxLimitRequestRatio"));
    let (default, request) = (of("default").filter(|_| defaults), of("defaultRequest").filter(|_| defaults));
    let mut above =
        |a: Option<Quantity>, b: Option<Quantity>, list: &str, shown: Option<Quantity>, words: [&str; 2]| {
            if let (Some(a), Some(b), Some(shown)) = (a, b, shown)
                && a > b
            {
                let why = format!("{} value {a} is greater than {} value {b}", words[0], words[1]);
                errors.invalid_value(&item.entry(list, name), shown.to_string(), why);
            }
        };
    above(min, max, "min", min, ["min", "max"]);
    above(min, request, "defaultRequest", request, ["min", "default request"]);
    above(request, max, "defaultRequest", request, ["default request", "max"]);
    above(request, default, "defaultRequest", request, ["default request", "default limit"]);
    above(min, default, "default", min, ["min", "default"]);
    above(default, max, "default", max, ["default", "max"]);
    let place = item.entry("maxLimitRequestRatio", name);
    if let Some(ratio) = ratio {
        if ratio.milli_value() < 1000 {
            errors.invalid(&place, format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (min, max) {
            let most = max.milli_value() as f64 / min.milli_value() as f64;
            if ratio.milli_value() as f64 / 1000.0 > most {
                errors.invalid(&place, format!("ratio {ratio} is greater than max/min = {most:.6}"));
            }
        }
    }
    if let (Some(default), Some(request)) = (default, request)
        && default != request
        && !pod::is_overcommitted(name)
    {
        let why = format!("default value {default} must equal to defaultRequest value {request} in {name}");
        errors.invalid_value(&item.entry("defaultRequest", name), request.to_string(), why);
    }
}
