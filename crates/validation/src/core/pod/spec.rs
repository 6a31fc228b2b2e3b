//! A pod's spec as a whole.

use super::{container, for_each_container, resources, windows};
use crate::core::volume;
use crate::{Errors, Place, engine};
use std::collections::HashSet;
use trireme_schema::names;

const NAMESERVERS: usize = 3;
const SEARCHES: usize = 32;
const SEARCH_CHARACTERS: usize = 2048;

pub(super) fn check(spec: &Place<'_>, errors: &mut Errors) {
    // Only a pod's own name tells how its ephemeral claims are called.
    let pod_name = if of_a_pod(spec) { spec.subject.new.str_at(&["metadata", "name"]) } else { "" };
    let volumes = volume::check_all(spec, pod_name, errors);
    resource_claims(spec, errors);
    container::check_all(spec, &volumes, errors);
    if let Some(place) = spec.field("resources") {
        resources::of_pod(spec, &place, errors);
    }
    host_ports(spec, errors);
    dns(spec, errors);
    scheduling_gates(spec, errors);
    super::spread::repeated(spec, errors);
    windows::host_process(spec, errors);
    host_users(spec, errors);
    hostname_override(spec, errors);
    if let Some(overhead) = spec.field("overhead") {
        resources::overhead(&overhead, errors);
    }
    operating_system(spec, errors);
}

/// Whether this is the spec of a pod, not of a template.
pub(super) fn of_a_pod(spec: &Place<'_>) -> bool {
    spec.subject.kind == "Pod" && spec.parent().is_some_and(|p| p.parent().is_none())
}

/// What holds for pods, and for reasons of history not for templates.
pub(super) fn of_pod(spec: &Place<'_>, errors: &mut Errors) {
    if spec.text("serviceAccountName").is_empty() {
        for volume in spec.items("volumes") {
            let projected = volume.child("projected");
            for source in projected.items("sources") {
                if let Some(token) = source.field("serviceAccountToken") {
                    errors.forbidden(&token, "must not be specified when serviceAccountName is not set");
                }
            }
        }
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec.items(list) {
            let image = container.text("image");
            if image.trim() != image {
                errors.invalid(&container.child("image"), "must not have leading or trailing whitespace");
            }
        }
    }
}

fn resource_claims(spec: &Place<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for claim in spec.items("resourceClaims") {
        let name = claim.child("name");
        match claim.text("name") {
            "" => errors.required(&name, ""),
            text if !seen.insert(text) => errors.duplicate(&name, text),
            text => errors.format(&name, text, names::dns1123_label(text)),
        }
        let given = ["resourceClaimName", "resourceClaimTemplateName"].map(|f| claim.has(f));
        let why = match given {
            [true, true] => "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            [false, false] => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            _ => "",
        };
        if !why.is_empty() {
            errors.invalid_internal(&claim, "core.v1.PodResourceClaim", why);
        }
        for field in ["resourceClaimName", "resourceClaimTemplateName"] {
            if let Some(place) = claim.field(field) {
                errors.format(&place, place.str(), names::dns1123_subdomain(place.str()));
            }
        }
    }
}

fn host_ports(spec: &Place<'_>, errors: &mut Errors) {
    if !spec.is("hostNetwork") {
        return;
    }
    // A template's ports get their host ports when the pod is made.
    let must = of_a_pod(spec);
    for container in spec.items("containers") {
        for port in container.items("ports") {
            let (host, own) = (port.int("hostPort").unwrap_or(0), port.int("containerPort").unwrap_or(0));
            if host != own && (must || host != 0) {
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid_value(&port.child("hostPort"), host, why);
            }
        }
    }
}

fn dns(spec: &Place<'_>, errors: &mut Errors) {
    let config = spec.child("dnsConfig");
    if spec.text("dnsPolicy") == "None" {
        if !config.is_set() {
            return errors.required(&config, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if config.list("nameservers").is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return errors.required(&config.child("nameservers"), why);
        }
    }
    if config.list("nameservers").len() > NAMESERVERS {
        errors.invalid(&config.child("nameservers"), format!("must not have more than {NAMESERVERS} nameservers"));
    }
    for server in config.items("nameservers") {
        errors.format(&server, server.str(), crate::formats::ip(server.str()));
    }
    let searches = config.child("searches");
    let count = config.list("searches").len();
    if count > SEARCHES {
        errors.invalid(&searches, format!("must not have more than {SEARCHES} search paths"));
    }
    let characters: usize = config.items("searches").map(|s| s.str().len()).sum();
    if characters + count.saturating_sub(1) > SEARCH_CHARACTERS {
        let why =
            format!("must not have more than {SEARCH_CHARACTERS} characters (including spaces) in the search list");
        errors.invalid(&searches, why);
    }
    for search in config.items("searches") {
        // A lone dot is the root, and underscores are used by services' records.
        let text = search.str().strip_suffix('.').unwrap_or(search.str());
        if search.str() != "." {
            errors.format(&search, text, names::dns1123_subdomain_with_underscore(text));
        }
    }
    for option in config.items("options") {
        if option.text("name").is_empty() {
            errors.required(&option, "must not be empty");
        }
    }
}

fn scheduling_gates(spec: &Place<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for gate in spec.items("schedulingGates") {
        let name = gate.text("name");
        errors.format(&gate, name, names::qualified_name(name));
        if !seen.insert(name) {
            errors.duplicate(&gate, name);
        }
    }
}

/// A pod with users of its own shares nothing else with the host.
fn host_users(spec: &Place<'_>, errors: &mut Errors) {
    if spec.value.at(&["hostUsers"]).and_then(trireme_schema::Value::as_bool) != Some(false) {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.is(field) {
            errors.forbidden(&spec.child(shown), "when `pod.Spec.HostUsers` is false");
        }
    }
}

/// KEP-4762: the name that a pod sees as its own.
fn hostname_override(spec: &Place<'_>, errors: &mut Errors) {
    let Some(place) = spec.field("hostnameOverride") else { return };
    errors.format(&place, place.str(), names::dns1123_subdomain(place.str()));
    if place.str().len() > 64 {
        errors.too_long(&place, 64);
    }
    if spec.is("setHostnameAsFQDN") {
        errors.forbidden(&place, "must not be set when setHostnameAsFQDN is true");
    }
    if spec.is("hostNetwork") {
        errors.forbidden(&place, "must not be set when hostNetwork is true");
    }
}

fn operating_system(spec: &Place<'_>, errors: &mut Errors) {
    let Some(os) = spec.field("os") else { return };
    match os.text("name") {
        "" => errors.required(&os.child("name"), ""),
        "linux" => {
            let why = "windows options cannot be set for a linux pod";
            if let Some(options) = spec.child("securityContext").field("windowsOptions") {
                errors.forbidden(&options, why);
            }
            for_each_container(spec, |container| {
                if let Some(options) = container.child("securityContext").field("windowsOptions") {
                    errors.forbidden(&options, why);
                }
            });
        }
        "windows" => windows::forbidden(spec, errors),
        other => errors.not_supported(&os, other, &["linux", "windows"]),
    }
}

/// Checks a container's or template's part by the rules of its type.
pub(super) fn by_type(name: &str, place: Option<Place<'_>>, errors: &mut Errors) {
    if let Some(place) = place {
        engine::walk_type(name, &place, errors);
    }
}
