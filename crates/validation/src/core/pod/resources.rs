//! What containers and pods ask for and may have.

use super::for_each_container;
use crate::{Errors, Place};
use std::collections::{BTreeSet, HashSet};
use trireme_schema::{Map, Quantity, Value, names};

/// Counted resources that are whole numbers.
const COUNTED: [&str; 9] = [
    "pods",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
    "resourcequotas",
];

fn is_standard(name: &str) -> bool {
    matches!(
        name,
        "cpu"
            | "memory"
            | "ephemeral-storage"
            | "requests.cpu"
            | "requests.memory"
            | "requests.ephemeral-storage"
            | "limits.cpu"
            | "limits.memory"
            | "limits.ephemeral-storage"
            | "storage"
            | "requests.storage"
    ) || COUNTED.contains(&name)
        || is_huge(name)
        || name.starts_with("requests.hugepages-")
}

pub(crate) fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether a container may ask for less than its limit.
pub(crate) fn is_overcommitted(name: &str) -> bool {
    is_native(name) && !is_huge(name)
}

/// The name of a resource of any kind; false when it is wrong.
pub(crate) fn resource_name(place: &Place<'_>, name: &str, errors: &mut Errors) -> bool {
    let wrong = names::qualified_name(name);
    if !wrong.is_empty() {
        errors.format(place, name, wrong);
        return false;
    }
    if !name.contains('/') && !is_standard(name) {
        errors.invalid_value(place, name, "must be a standard resource type or fully qualified");
        return false;
    }
    true
}

/// The name of a resource that containers can have.
pub(crate) fn container_resource_name(place: &Place<'_>, name: &str, errors: &mut Errors) {
    resource_name(place, name, errors);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge(name) {
            errors.invalid_value(place, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid_value(place, name, "doesn't follow extended resource name standard");
    }
}

fn pod_resource_name(place: &Place<'_>, name: &str, errors: &mut Errors) {
    if resource_name(place, name, errors) && !matches!(name, "cpu" | "memory") && !is_huge(name) {
        errors.not_supported(place, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// The amount of a resource: not negative, and whole for what is counted.
pub(crate) fn quantity_value(place: &Place<'_>, name: &str, errors: &mut Errors) {
    let Some(amount) = place.quantity() else { return };
    if amount.is_negative() {
        errors.invalid(place, "must be greater than or equal to 0");
    }
    if (COUNTED.contains(&name) || is_extended(name)) && amount.milli_value() % 1000 != 0 {
        errors.invalid(place, "must be an integer");
    }
}

type NameCheck = fn(&Place<'_>, &str, &mut Errors);

/// Limits and requests, with what they have to do with each other.
pub(crate) fn requirements(place: &Place<'_>, name_check: NameCheck, errors: &mut Errors) {
    let (mut huge, mut common) = (false, false);
    for (name, limit) in place.entries("limits") {
        one(&limit, name, name_check, errors);
        huge |= is_huge(name);
        common |= matches!(name, "cpu" | "memory");
    }
    for (name, request) in place.entries("requests") {
        one(&request, name, name_check, errors);
        huge |= is_huge(name);
        common |= matches!(name, "cpu" | "memory");
        let limit = place.entry("limits", name);
        match (request.quantity(), limit.quantity()) {
            (Some(request), Some(limit)) => {
                let why = if request != limit && !is_overcommitted(name) {
                    "equal to"
                } else if request > limit {
                    "less than or equal to"
                } else {
                    continue;
                };
                let why = format!("must be {why} {name} limit of {limit}");
                errors.invalid_value(&place.child("requests"), request.to_string(), why);
            }
            (_, None) if !is_overcommitted(name) => {
                errors.required(&place.child("limits"), "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
    if huge && !common {
        errors.forbidden(place, "HugePages require cpu or memory");
    }
}

fn one(amount: &Place<'_>, name: &str, name_check: NameCheck, errors: &mut Errors) {
    name_check(amount, name, errors);
    quantity_value(amount, name, errors);
    if let (Some(size), Some(value)) = (name.strip_prefix("hugepages-"), amount.quantity()) {
        let size = size.parse::<Quantity>().map_or(0, |q| q.value());
        if size <= 0 || value.value() % size != 0 || !value.is_whole() {
            let shown = value.to_string();
            errors.invalid_value(amount, shown.as_str(), format!("{shown} is not positive integer multiple of {name}"));
        }
    }
}

pub(super) fn of_container(spec: &Place<'_>, container: &Place<'_>, errors: &mut Errors) {
    let place = container.child("resources");
    requirements(&place, container_resource_name, errors);
    claims(spec, &place, errors);
}

/// Upstream reads the overhead as limits, which shows in the path.
pub(crate) fn overhead(overhead: &Place<'_>, errors: &mut Errors) {
    let limits = Value::Object(Map::from_iter([("limits", overhead.value.clone())]));
    requirements(&overhead.with(&limits), container_resource_name, errors);
}

/// KEP-4381: devices of claims that the pod has.
fn claims(spec: &Place<'_>, place: &Place<'_>, errors: &mut Errors) {
    let mut seen: HashSet<String> = HashSet::new();
    for claim in place.items("claims") {
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            errors.required(&claim, "");
            continue;
        }
        if seen.contains(name) {
            errors.duplicate(&claim, name);
        } else {
            let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            if !request.is_empty() {
                errors.format(&claim.child("request"), request, names::dns1123_label(request));
            }
            let overlaps = request.is_empty() && seen.iter().any(|k| k.split_once('/').is_some_and(|(n, _)| n == name));
            if seen.contains(&key) || overlaps {
                errors.duplicate(&claim, key.as_str());
            }
            seen.insert(key);
        }
        let known: BTreeSet<&str> =
            spec.list("resourceClaims").iter().map(|c| c.str_at(&["name"])).filter(|n| !n.is_empty()).collect();
        if !known.contains(name) {
            let names = known.into_iter().collect::<Vec<_>>().join(", ");
            let rest = if names.is_empty() { " which is empty".to_owned() } else { format!(": {names}") };
            errors.not_found_because(
                &claim,
                name,
                format!("must be one of the names in pod.spec.resourceClaims{rest}"),
            );
        }
    }
}

/// KEP-2837: what a pod has as a whole.
pub(super) fn of_pod(spec: &Place<'_>, place: &Place<'_>, errors: &mut Errors) {
    if place.has("claims") {
        errors.forbidden(&place.child("claims"), "claims cannot be set for Resources at pod-level");
    }
    requirements(place, pod_resource_name, errors);
    for (name, sum) in requested(spec) {
        let own = place.entry("requests", &name);
        let have = own.quantity().unwrap_or(Quantity::ZERO);
        if sum > have {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid_value(&own, have.to_string(), why);
        }
    }
    for (i, container) in spec.items("containers").enumerate() {
        let resources = container.child("resources");
        for (name, limit) in resources.entries("limits") {
            let most = place.entry("limits", name);
            if let (Some(limit), Some(most)) = (limit.quantity(), most.quantity())
                && limit > most
            {
                let containers = place.child("containers");
                let path = containers.index(i);
                let path = path.key(name);
                let why = format!("must be less than or equal to pod limits of {most}");
                errors.invalid_value(&path.child("limits"), limit.to_string(), why);
            }
        }
    }
}

/// What all containers ask for: those that run together added up, or an init container's if that is more.
fn requested(spec: &Place<'_>) -> std::collections::BTreeMap<String, Quantity> {
    let mut running = std::collections::BTreeMap::<String, Quantity>::new();
    let mut peak = std::collections::BTreeMap::<String, Quantity>::new();
    for_each_container(spec, |container| {
        let resources = container.child("resources");
        let list = container.to_string();
        for (name, amount) in resources.entries("requests") {
            let Some(amount) = amount.quantity() else { continue };
            let sum = running.get(name).copied().unwrap_or(Quantity::ZERO).plus(amount);
            if list.contains("initContainers") && container.text("restartPolicy") != "Always" {
                let most = peak.entry(name.to_owned()).or_insert(sum);
                *most = if sum > *most { sum } else { *most };
            } else if !list.contains("ephemeralContainers") {
                running.insert(name.to_owned(), sum);
            }
        }
    });
    for (name, most) in peak {
        let sum = running.entry(name).or_insert(most);
        *sum = if most > *sum { most } else { *sum };
    }
    running
}
