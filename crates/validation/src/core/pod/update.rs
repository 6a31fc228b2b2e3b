//! What may change of a pod: little, and each part through its own door.

use super::{affinity, annotations};
use crate::{Errors, Place, diff, internal};
use trireme_schema::{Map, Quantity, Value};

const FIXED: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn pod(pod: &Place<'_>, errors: &mut Errors) {
    annotations::update(pod, errors);
    let spec = pod.child("spec");
    let Some(old) = spec.old else { return };
    for list in ["containers", "initContainers"] {
        if spec.list(list).len() != old.list_at(&[list]).len() {
            return errors.forbidden(&spec.child(list), "pod updates may not add or remove containers");
        }
        // Upstream looks at images a second time here.
        for container in spec.items(list) {
            let image = container.text("image");
            if image.is_empty() {
                errors.required(&container.child("image"), "");
            } else if image.trim() != image {
                errors.invalid(&container.child("image"), "must not have leading or trailing whitespace");
            }
        }
    }
    if !deadline(&spec, old, errors) {
        return;
    }
    tolerations(&spec, old, errors);
    gates(&spec, old, errors);
    if spec.value != old {
        rest(&spec, old, errors);
    }
}

/// A deadline can be set, and shortened; false when nothing else is to be told.
fn deadline(spec: &Place<'_>, old: &Value, errors: &mut Errors) -> bool {
    let place = spec.child("activeDeadlineSeconds");
    let before = old.int_at(&["activeDeadlineSeconds"]);
    match (spec.int("activeDeadlineSeconds"), before) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.invalid(&place, "must be between 0 and 2147483647, inclusive");
            false
        }
        (Some(new), Some(before)) if before < new => {
            errors.invalid(&place, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            errors.invalid(&place, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

/// Tolerations may be added, and last longer or shorter.
fn tolerations(spec: &Place<'_>, old: &Value, errors: &mut Errors) {
    let same =
        |a: &Value, b: &Value| ["key", "operator", "value", "effect"].iter().all(|field| a.get(field) == b.get(field));
    let kept = |old: &Value| spec.list("tolerations").iter().any(|new| same(old, new));
    if !old.list_at(&["tolerations"]).iter().all(kept) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.forbidden(&spec.child("tolerations"), why);
    }
}

fn gates(spec: &Place<'_>, old: &Value, errors: &mut Errors) {
    for gate in spec.items("schedulingGates") {
        let name = gate.text("name");
        if !old.list_at(&["schedulingGates"]).iter().any(|g| g.str_at(&["name"]) == name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&gate.child("name"), why);
        }
    }
}

/// Whether the specs are the same but for what may change.
fn rest(spec: &Place<'_>, old: &Value, errors: &mut Errors) {
    let mut new = spec.value.clone();
    let keep = |new: &mut Value, path: &[&str]| match old.at(path) {
        Some(value) => new.set_at(path, value.clone()),
        None => drop(new.remove_at(path)),
    };
    for list in ["containers", "initContainers"] {
        let before = old.list_at(&[list]);
        for (container, before) in new.at_mut(&[list]).and_then(Value::as_array_mut).into_iter().flatten().zip(before) {
            container.set_at(&["image"], before.str_at(&["image"]));
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        keep(&mut new, &[field]);
    }
    if old.int_at(&["terminationGracePeriodSeconds"]).is_some_and(|n| n < 0)
        && new.int_at(&["terminationGracePeriodSeconds"]) == Some(1)
    {
        keep(&mut new, &["terminationGracePeriodSeconds"]);
    }
    if !old.list_at(&["schedulingGates"]).is_empty() {
        gated(spec, old, errors);
        keep(&mut new, &["nodeSelector"]);
        keep(&mut new, &["affinity", "nodeAffinity"]);
        if new.at(&["affinity"]).and_then(Value::as_object).is_some_and(Map::is_empty) && old.get("affinity").is_none()
        {
            new.remove_at(&["affinity"]);
        }
    }
    if new != *old {
        let pretty = |spec: &Value| internal::tree("core.v1.PodSpec", spec).pretty();
        errors.forbidden(spec, format!("{FIXED}\n{}", diff::unified(&pretty(old), &pretty(&new))));
    }
}

/// A pod that waits at gates may be made choosier about its node (KEP-3838).
fn gated(spec: &Place<'_>, old: &Value, errors: &mut Errors) {
    let selector = spec.child("nodeSelector");
    let kept = |(key, value): (&trireme_schema::Key, &Value)| selector.value.get(key) == Some(value);
    if !old.get("nodeSelector").and_then(Value::as_object).into_iter().flat_map(Map::iter).all(kept) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.invalid(&selector, why);
    }
    const NODE: [&str; 2] = ["affinity", "nodeAffinity"];
    let (before, after) = (old.at(&NODE), spec.value.at(&NODE));
    if before != after {
        affinity::mutation(&spec.child("affinity.nodeAffinity"), before, after, errors);
    }
}

/// The subresource through which containers for debugging come (KEP-277).
pub(super) fn ephemeral_containers(pod: &Place<'_>, errors: &mut Errors) {
    if pod.old.is_some_and(annotations::is_mirror) {
        return errors.forbidden(&pod.child(""), "static pods do not support ephemeral containers");
    }
    whole(pod, errors);
    annotations::update(pod, errors);
    let spec = pod.child("spec");
    let place = spec.child("ephemeralContainers");
    let before = spec.old.map(|o| o.list_at(&["ephemeralContainers"])).unwrap_or_default();
    for old in before {
        let name = trireme_schema::field::quote(old.str_at(&["name"]));
        match spec.list("ephemeralContainers").iter().find(|c| c.get("name") == old.get("name")) {
            None => errors.forbidden(&place, format!("existing ephemeral containers {name} may not be removed\n")),
            Some(new) if new != old => {
                errors.forbidden(&place, format!("existing ephemeral containers {name} may not be changed\n"));
            }
            Some(_) => {}
        }
    }
}

/// What a subresource that writes the spec checks of all of it.
fn whole(pod: &Place<'_>, errors: &mut Errors) {
    let spec = pod.child("spec");
    crate::engine::walk_type("core.v1.PodSpec", &spec, errors);
    annotations::check(&pod.child("metadata.annotations"), &spec, errors);
    super::spec::of_pod(&spec, errors);
}

/// The subresource that changes what running containers have (KEP-1287).
pub(super) fn resize(pod: &Place<'_>, errors: &mut Errors) {
    let Some(old) = pod.old else { return };
    let whole_pod = pod.child("");
    if annotations::is_mirror(old) {
        return errors.forbidden(&whole_pod, "static pods cannot be resized");
    }
    if old.str_at(&["spec", "os", "name"]) == "windows" {
        return errors.forbidden(&whole_pod, "windows pods cannot be resized");
    }
    whole(pod, errors);
    let before = errors.len();
    let spec = pod.child("spec");
    let class = old.str_at(&["status", "qosClass"]);
    if !class.is_empty() && class != quality(pod.value) {
        errors.invalid_value(&spec, class, "Pod QOS Class may not change as a result of resizing");
    }
    let running = old.list_at(&["status", "containerStatuses"]).iter().find(|c| c.at(&["state", "running"]).is_some());
    if running.is_some_and(|c| c.get("resources").is_none()) {
        errors.forbidden(&spec, "Pod running on node without support for resize");
    }
    let Some(old_spec) = old.get("spec") else { return };
    let mut rest = pod.value.get("spec").cloned().unwrap_or_default();
    for list in ["initContainers", "containers"] {
        for (i, container) in spec.items(list).enumerate() {
            let Some(was) = old_spec.list_at(&[list]).get(i) else { continue };
            let sidecar = list == "containers" || container.text("restartPolicy") == "Always";
            if sidecar {
                removed(&container, was, errors);
            }
            let mut same = container.value.clone();
            if sidecar {
                common_resources(&mut same, was);
            }
            if same != *was {
                let why = match (list, sidecar) {
                    ("containers", _) => "only cpu and memory resources are mutable",
                    (_, true) => "only cpu and memory resources for sidecar containers are mutable",
                    (_, false) => "resources for non-sidecar init containers are immutable",
                };
                errors.forbidden(&spec, why);
            }
            if let Some(slot) = rest.at_mut(&[list]).and_then(Value::as_array_mut).and_then(|l| l.get_mut(i)) {
                *slot = same;
            }
        }
    }
    if errors.len() == before && rest != *old_spec {
        errors.forbidden(&spec, "only cpu and memory resources are mutable");
    }
}

fn removed(container: &Place<'_>, was: &Value, errors: &mut Errors) {
    let resources = container.child("resources");
    for (list, what) in [("requests", "resource requests"), ("limits", "resource limits")] {
        let before = was.at(&["resources", list]).and_then(Value::as_object);
        if before.into_iter().flat_map(Map::keys).any(|name| !resources.entry(list, name).is_set()) {
            errors.forbidden(&resources.child(list), format!("{what} cannot be removed"));
        }
    }
}

/// Puts back what may be resized, so that what may not shows.
fn common_resources(container: &mut Value, was: &Value) {
    for list in ["requests", "limits"] {
        for name in ["cpu", "memory"] {
            match was.at(&["resources", list, name]) {
                Some(amount) => container.set_at(&["resources", list, name], amount.clone()),
                None => drop(container.remove_at(&["resources", list, name])),
            }
        }
        if container.at(&["resources", list]).and_then(Value::as_object).is_some_and(Map::is_empty)
            && was.at(&["resources", list]).is_none()
        {
            container.remove_at(&["resources", list]);
        }
    }
    if container.get("resources").and_then(Value::as_object).is_some_and(Map::is_empty)
        && was.get("resources").is_none()
    {
        container.remove_at(&["resources"]);
    }
    match was.get("resizePolicy") {
        Some(policy) => container.set_at(&["resizePolicy"], policy.clone()),
        None => drop(container.remove_at(&["resizePolicy"])),
    }
}

/// The class of a pod by what its containers ask for (`pkg/apis/core/helper/qos`).
fn quality(pod: &Value) -> &'static str {
    let containers = || pod.list_at(&["spec", "containers"]).iter().chain(pod.list_at(&["spec", "initContainers"]));
    let amount = |c: &Value, of: &str, name: &str| {
        let text = c.at(&["resources", of, name]).and_then(Value::as_str)?;
        text.parse::<Quantity>().ok().filter(|q| !q.is_zero())
    };
    let (mut any, mut guaranteed) = (false, true);
    for container in containers() {
        for name in ["cpu", "memory"] {
            let (request, limit) = (amount(container, "requests", name), amount(container, "limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|r| Some(r) == limit);
        }
    }
    match (any, guaranteed) {
        (_, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, false) => "BestEffort",
    }
}
