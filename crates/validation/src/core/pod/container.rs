//! Containers: regular, init and ephemeral.

use super::spec::by_type;
use super::{env, handlers, mounts, resources};
use crate::core::volume::Volumes;
use crate::{Errors, Place, engine};
use std::collections::HashSet;
use trireme_schema::{Value, names};

/// Fields that ephemeral containers cannot have (they are no part of the workload).
const NOT_EPHEMERAL: [&str; 8] = [
    "ports",
    "resources",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resizePolicy",
    "restartPolicyRules",
];

pub(super) fn check_all(spec: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    regular(spec, volumes, errors);
    init(spec, volumes, errors);
    ephemeral(spec, volumes, errors);
}

fn regular(spec: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    if spec.list("containers").is_empty() {
        errors.required(&spec.child("containers"), "");
    }
    let mut seen = HashSet::new();
    let mut ports = HashSet::new();
    for container in spec.items("containers") {
        common("core.v1.Container", spec, &container, volumes, errors);
        if !seen.insert(container.text("name")) {
            errors.duplicate(&container.child("name"), container.text("name"));
        }
        running(spec, &container, errors);
        host_ports(&container, &mut ports, errors);
        restart_policy(&container, true, errors);
    }
}

fn init(spec: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    let mut seen: HashSet<&str> = spec.list("containers").iter().map(|c| c.str_at(&["name"])).collect();
    for container in spec.items("initContainers") {
        common("core.v1.Container", spec, &container, volumes, errors);
        let name = container.text("name");
        if !seen.insert(name) && !name.is_empty() {
            errors.duplicate(&container.child("name"), name);
        }
        // They run one by one, so that only their own ports can be in each other's way.
        host_ports(&container, &mut HashSet::new(), errors);
        restart_policy(&container, false, errors);
        if container.text("restartPolicy") == "Always" {
            running(spec, &container, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if let Some(place) = container.field(field) {
                errors.forbidden(&place, "may not be set for init containers without restartPolicy=Always");
            }
        }
    }
}

fn ephemeral(spec: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    let others = || spec.list("containers").iter().chain(spec.list("initContainers")).map(|c| c.str_at(&["name"]));
    let mut seen: HashSet<&str> = others().collect();
    for container in spec.items("ephemeralContainers") {
        common("core.v1.EphemeralContainer", spec, &container, volumes, errors);
        if !seen.insert(container.text("name")) {
            errors.duplicate(&container.child("name"), container.text("name"));
        }
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others().any(|name| name == target) {
            errors.not_found(&container.child("targetContainerName"), target);
        }
        for field in NOT_EPHEMERAL {
            if container.value.get(field).is_some_and(|v| !v.as_object().is_some_and(trireme_schema::Map::is_empty)) {
                errors.forbidden(&container.child(field), "cannot be set for an Ephemeral Container");
            }
        }
        for mount in container.items("volumeMounts") {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text(field).is_empty() {
                    errors.forbidden(&mount.child(field), "cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

/// What all kinds of containers share.
fn common(ty: &str, spec: &Place<'_>, container: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    engine::walk_type(ty, container, errors);
    port_names(container, errors);
    env::sources(container, errors);
    mounts::mounts(container, volumes, errors);
    mounts::devices(container, volumes, errors);
    resources::of_container(spec, container, errors);
    resize_policy(spec, container, errors);
}

/// Probes and hooks of containers that run as long as the pod does.
fn running(spec: &Place<'_>, container: &Place<'_>, errors: &mut Errors) {
    let grace = spec.int("terminationGracePeriodSeconds");
    if let Some(lifecycle) = container.field("lifecycle") {
        handlers::lifecycle(&lifecycle, grace, errors);
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.field(name) else { continue };
        handlers::probe(&probe, errors);
        by_type("core.v1.Probe", Some(probe), errors);
        let threshold = probe.int("successThreshold").unwrap_or_default();
        if name != "readinessProbe" && threshold != 1 {
            errors.invalid_value(&probe.child("successThreshold"), threshold, "must be 1");
        }
        if let (Some(place), "readinessProbe") = (probe.field("terminationGracePeriodSeconds"), name) {
            errors.invalid(&place, "must not be set for readinessProbes");
        }
    }
}

fn port_names(container: &Place<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for port in container.items("ports") {
        let name = port.text("name");
        if name.is_empty() {
            continue;
        }
        let wrong = names::port_name(name);
        if wrong.is_empty() && !seen.insert(name) {
            errors.duplicate(&port.child("name"), name);
        }
        errors.format(&port.child("name"), name, wrong);
    }
}

fn host_ports(container: &Place<'_>, taken: &mut HashSet<String>, errors: &mut Errors) {
    for port in container.items("ports") {
        let Some(number) = port.int("hostPort").filter(|n| *n != 0) else { continue };
        let key = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
        if !taken.insert(key.clone()) {
            errors.duplicate(&port.child("hostPort"), key);
        }
    }
}

fn resize_policy(spec: &Place<'_>, container: &Place<'_>, errors: &mut Errors) {
    const POLICIES: [&str; 2] = ["NotRequired", "RestartContainer"];
    let mut seen = HashSet::new();
    let list = container.child("resizePolicy");
    for policy in container.items("resizePolicy") {
        let (resource, restart) = (policy.text("resourceName"), policy.text("restartPolicy"));
        if !seen.insert(resource) {
            errors.duplicate(&policy, resource);
        }
        match resource {
            "" => errors.required(&list, ""),
            "cpu" | "memory" => {}
            _ => errors.not_supported(&list, resource, &["cpu", "memory"]),
        }
        match restart {
            "" => errors.required(&list, ""),
            _ if POLICIES.contains(&restart) => {}
            _ => errors.not_supported(&list, restart, &POLICIES),
        }
        if spec.text("restartPolicy") == "Never" && restart != "NotRequired" {
            errors.invalid_value(&list, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}

/// A container's own restart policy and rules (KEP-5307); init containers may be `Always`.
fn restart_policy(container: &Place<'_>, regular: bool, errors: &mut Errors) {
    const POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
    if let Some(policy) = container.field("restartPolicy")
        && !POLICIES.contains(&policy.str())
    {
        errors.not_supported(&policy, policy.str(), &POLICIES);
    }
    let rules = container.child("restartPolicyRules");
    let count = container.list("restartPolicyRules").len();
    if count == 0 {
        return;
    }
    if !container.has("restartPolicy") {
        errors.required(&container.child("restartPolicy"), "must specify restartPolicy when restart rules are used");
    } else if !regular && container.text("restartPolicy") == "Always" {
        errors.forbidden(&rules, "restartPolicyRules are not allowed for init containers with restart policy Always");
    }
    if count > 20 {
        errors.too_long(&rules, 20);
    }
    for rule in container.items("restartPolicyRules") {
        restart_rule(&rule, errors);
    }
}

fn restart_rule(rule: &Place<'_>, errors: &mut Errors) {
    const ACTIONS: [&str; 2] = ["Restart", "RestartAllContainers"];
    let action = rule.child("action");
    match action.str() {
        "" => errors.required(&action, ""),
        text if ACTIONS.contains(&text) => {}
        text => errors.not_supported(&action, text, &ACTIONS),
    }
    let codes = rule.child("exitCodes");
    if !codes.is_set() {
        return errors.required(&codes, "must be specified");
    }
    let operator = codes.child("operator");
    match operator.str() {
        "" => errors.required(&operator, ""),
        "In" | "NotIn" => {}
        text => errors.not_supported(&operator, text, &["In", "NotIn"]),
    }
    let values = codes.list("values");
    if values.is_empty() {
        errors.invalid_value(&codes.child("values"), Value::Array(Vec::new()), "at least one value is required");
    } else if values.len() > 255 {
        errors.too_many(&codes.child("values"), values.len(), 255);
    }
    for (i, value) in codes.items("values").enumerate() {
        if values[..i].contains(value.value) {
            errors.duplicate(&value, value.value.clone());
        }
    }
}
