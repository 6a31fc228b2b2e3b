//! A pod's status, as its node writes it.

use super::annotations;
use crate::{Errors, Place, formats};
use std::collections::HashSet;
use std::net::IpAddr;
use trireme_schema::{Value, names};

pub(super) fn update(pod: &Place<'_>, errors: &mut Errors) {
    annotations::update(pod, errors);
    annotations::check(&pod.child("metadata.annotations"), &pod.child("spec"), errors);
    let status = pod.child("status");
    conditions(pod, &status, errors);
    let nominated = status.child("nominatedNodeName");
    if nominated.is_set() && nominated.is_changed() {
        errors.format(&nominated, nominated.str(), names::dns1123_subdomain(nominated.str()));
    }
    let class = status.child("qosClass");
    if class.is_changed() {
        errors.invalid_value(&class, class.str(), "field is immutable");
    }
    let spec = pod.child("spec");
    let policy = spec.text("restartPolicy");
    for (list, policy) in
        [("containerStatuses", policy), ("initContainerStatuses", policy), ("ephemeralContainerStatuses", "Never")]
    {
        transitions(&spec, &status, list, policy, errors);
        users(&spec, &status, list, errors);
        health(&spec, &status, list, errors);
    }
    claims(&spec, &status, errors);
    addresses(&status, "podIPs", errors);
    if let Some(first) = status.list("hostIPs").first()
        && first.str_at(&["ip"]) != status.text("hostIP")
    {
        let list = status.child("hostIPs");
        errors.invalid_value(&list.index(0).child("ip"), first.str_at(&["ip"]), "must be equal to `hostIP`");
    }
    addresses(&status, "hostIPs", errors);
}

/// Upstream tells these by the metadata.
fn conditions(pod: &Place<'_>, status: &Place<'_>, errors: &mut Errors) {
    let meta = pod.child("metadata");
    let list = meta.child("conditions");
    for (i, condition) in status.list("conditions").iter().enumerate() {
        let ty = condition.str_at(&["type"]);
        if !matches!(ty, "PodScheduled" | "Ready" | "Initialized") {
            errors.format(&list.index(i).child("Type"), ty, names::qualified_name(ty));
        }
    }
}

/// A container that ended stays ended, unless it is to be started again.
fn transitions(spec: &Place<'_>, status: &Place<'_>, list: &str, policy: &str, errors: &mut Errors) {
    if policy == "Always" {
        return;
    }
    let place = status.child(list);
    for (i, old) in status.old.map(|o| o.list_at(&[list])).unwrap_or_default().iter().enumerate() {
        let Some(code) = old.at(&["state", "terminated"]).map(|t| t.int_at(&["exitCode"]).unwrap_or_default()) else {
            continue;
        };
        let name = old.get("name");
        let own = spec
            .list("initContainers")
            .iter()
            .chain(spec.list("containers"))
            .find(|c| c.get("name") == name && list != "ephemeralContainerStatuses");
        let restarted = own.is_some_and(|c| {
            !c.list_at(&["restartPolicyRules"]).is_empty()
                || matches!(c.str_at(&["restartPolicy"]), "Always")
                || (c.str_at(&["restartPolicy"]) == "OnFailure" && code != 0)
        });
        if restarted || (code != 0 && policy == "OnFailure") {
            continue;
        }
        for new in status.list(list).iter().filter(|n| n.get("name") == name) {
            if new.at(&["state", "terminated"]).is_none() {
                errors.forbidden(&place.index(i).child("state"), "may not be transitioned to non-terminated state");
            }
        }
    }
}

fn users(spec: &Place<'_>, status: &Place<'_>, list: &str, errors: &mut Errors) {
    const IDS: std::ops::RangeInclusive<i64> = 0..=i32::MAX as i64;
    const WHY: &str = "must be between 0 and 2147483647, inclusive";
    let windows = spec.value.str_at(&["os", "name"]) == "windows";
    for container in status.items(list) {
        let Some(linux) = container.value.at(&["user", "linux"]) else { continue };
        let place = container.child("linux").with(linux);
        if windows {
            errors.forbidden(&place, "cannot be set for a windows pod");
            continue;
        }
        for field in ["uid", "gid"] {
            let id = linux.int_at(&[field]).unwrap_or_default();
            if !IDS.contains(&id) {
                errors.invalid_value(&place.child(field), id, WHY);
            }
        }
        for group in place.items("supplementalGroups") {
            if group.value.as_int().is_some_and(|id| !IDS.contains(&id)) {
                errors.invalid(&group, WHY);
            }
        }
    }
}

/// KEP-4680: how devices of a container are.
fn health(spec: &Place<'_>, status: &Place<'_>, list: &str, errors: &mut Errors) {
    const STATES: [&str; 3] = ["Healthy", "Unhealthy", "Unknown"];
    let of = if list == "initContainerStatuses" { "initContainers" } else { "containers" };
    for container in status.items(list) {
        if list == "ephemeralContainerStatuses" {
            if !container.list("allocatedResourcesStatus").is_empty() {
                let place = container.child("allocatedResourcesStatus");
                errors.forbidden(&place, "must not be specified in container status");
            }
            continue;
        }
        let own = spec.list(of).iter().find(|c| c.get("name") == container.value.get("name"));
        for resource in container.items("allocatedResourcesStatus") {
            if let Some(own) = own {
                allocated(own, &resource, errors);
            }
            let mut seen = HashSet::new();
            for device in resource.items("resources") {
                let health = device.text("health");
                if !STATES.contains(&health) {
                    errors.not_supported(&device.child("health"), health, &STATES);
                }
                if !seen.insert(device.text("resourceID")) {
                    errors.duplicate(&device.child("resourceID"), device.text("resourceID"));
                }
            }
        }
    }
}

fn allocated(container: &Value, resource: &Place<'_>, errors: &mut Errors) {
    let name = resource.text("name");
    let place = resource.child("name");
    if let Some(claim) = name.strip_prefix("claim:") {
        let known = container.list_at(&["resources", "claims"]).iter().any(|c| {
            let (name, request) = (c.str_at(&["name"]), c.str_at(&["request"]));
            if request.is_empty() { claim == name } else { claim == format!("{name}/{request}") }
        });
        if !known {
            let why = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty";
            errors.invalid_value(&place, name, why);
        }
    } else if container.at(&["resources", "requests", name]).is_none() {
        errors.invalid_value(&place, name, "must match one of the container's resource requests");
    }
}

fn claims(spec: &Place<'_>, status: &Place<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for claim in status.items("resourceClaimStatuses") {
        let name = claim.text("name");
        if !spec.list("resourceClaims").iter().any(|c| c.str_at(&["name"]) == name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid_value(&claim.child("name"), name, why);
        }
        if !seen.insert(name) {
            errors.duplicate(&claim.child("name"), name);
        }
        if let Some(own) = claim.field("resourceClaimName") {
            errors.format(&claim.child("name"), own.str(), names::dns1123_subdomain(own.str()));
        }
    }
}

fn addresses(status: &Place<'_>, list: &str, errors: &mut Errors) {
    let place = status.child(list);
    let all: Vec<&str> = status.list(list).iter().map(|a| a.str_at(&["ip"])).collect();
    for (i, text) in all.iter().enumerate() {
        errors.format(&place.index(i), text, formats::ip(text));
    }
    if all.len() < 2 {
        return;
    }
    let parsed: Vec<IpAddr> = all.iter().filter_map(|t| t.parse().ok()).collect();
    let both = parsed.iter().any(IpAddr::is_ipv4) && parsed.iter().any(IpAddr::is_ipv6);
    if !both || all.len() > 2 {
        let ty = if list == "podIPs" { "core.v1.PodIP" } else { "core.v1.HostIP" };
        let shown = crate::internal::show_list(ty, status.value.get(list));
        errors.invalid_shown(&place, shown, "may specify no more than one IP for each IP family");
    }
    let mut seen = HashSet::new();
    for (i, text) in all.iter().enumerate() {
        if !seen.insert(*text) {
            errors.duplicate_shown(&place.index(i), format!("{{\"IP\":{}}}", trireme_schema::field::quote(text)));
        }
    }
}
