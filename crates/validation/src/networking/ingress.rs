//! Ingresses.

use crate::rules::Registry;
use crate::{Errors, Place, Subject, formats};
use std::net::IpAddr;
use trireme_schema::{Value, names};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const NO_ADDRESS: &str = "must be a DNS name, not an IP address";

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("networking.v1.Ingress", "", ingress);
    registry.on_kind("networking.v1.Ingress", "status", status);
    registry.on_warning("networking.v1.Ingress", warnings);
}

fn warnings(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    if subject.is_create() && subject.new.at(&["metadata", "annotations", CLASS_ANNOTATION]).is_some() {
        warnings
            .push(format!("annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead"));
    }
}

fn ingress(ingress: &Place<'_>, errors: &mut Errors) {
    let spec = ingress.child("spec");
    if ingress.old.is_none() {
        let meta = ingress.child("metadata");
        let annotations = meta.child("annotations");
        let annotation = annotations.child(CLASS_ANNOTATION);
        if annotation.is_set() && spec.has("ingressClassName") && annotation.str() != spec.text("ingressClassName") {
            errors.invalid(&annotation, "must match `ingressClassName` when both are specified");
        }
    }
    let rules = spec.child("rules");
    if spec.list("rules").is_empty() && !spec.has("defaultBackend") {
        errors.invalid_value(&spec, rules.value.clone(), "either `defaultBackend` or `rules` must be specified");
    }
    if let Some(backend) = spec.field("defaultBackend") {
        self::backend(&backend, errors);
    }
    spec.items("rules").for_each(|r| rule(&r, errors));
    for tls in spec.items("tls") {
        for host in tls.items("hosts") {
            errors.format(&host, host.str(), host_format(host.str())(host.str()));
        }
        let secret = tls.child("secretName");
        // A name that did before does still.
        let kept = ingress.old.is_some_and(|old| {
            old.list_at(&["spec", "tls"])
                .iter()
                .any(|t| !names::dns1123_subdomain(t.str_at(&["secretName"])).is_empty())
        });
        if !secret.str().is_empty() && !kept {
            errors.format(&secret, secret.str(), names::dns1123_subdomain(secret.str()));
        }
    }
}

fn host_format(host: &str) -> formats::Format {
    if host.contains('*') { formats::wildcard } else { names::dns1123_subdomain }
}

fn rule(rule: &Place<'_>, errors: &mut Errors) {
    let host = rule.child("host");
    if !host.str().is_empty() {
        if host.str().parse::<IpAddr>().is_ok() {
            errors.invalid(&host, NO_ADDRESS);
        }
        errors.format(&host, host.str(), host_format(host.str())(host.str()));
    }
    if let Some(http) = rule.field("http") {
        if http.list("paths").is_empty() {
            errors.required(&http.child("paths"), "");
        }
        http.items("paths").for_each(|p| path(&p, errors));
    }
}

fn path(path: &Place<'_>, errors: &mut Errors) {
    const TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
    let (kind, text) = (path.child("pathType"), path.child("path"));
    if !kind.is_set() {
        errors.required(&kind, "pathType must be specified");
        return;
    }
    let is_absolute = text.str().starts_with('/');
    match kind.str() {
        "Exact" | "Prefix" => {
            if !is_absolute {
                errors.invalid_value(&text, text.str(), "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.str().contains(part) {
                    errors.invalid(&text, format!("must not contain '{part}'"));
                }
            }
            for end in ["/..", "/."] {
                if text.str().ends_with(end) {
                    errors.invalid(&text, format!("cannot end with '{end}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.str().is_empty() && !is_absolute {
                errors.invalid(&text, "must be an absolute path");
            }
        }
        other => errors.not_supported(&kind, other, &TYPES),
    }
    backend(&path.child("backend"), errors);
}

fn backend(backend: &Place<'_>, errors: &mut Errors) {
    match (backend.field("resource"), backend.field("service")) {
        (Some(_), Some(_)) => errors.invalid_value(backend, "", "cannot set both resource and service backends"),
        (Some(resource), None) => reference(&resource, errors),
        (None, Some(service)) => {
            let name = service.child("name");
            if name.str().is_empty() {
                errors.required(&name, "");
            } else {
                errors.format(&name, name.str(), names::dns1035_label(name.str()));
            }
            let port = service.child("port");
            let (by_name, by_number) = (port.text("name"), port.int("number").unwrap_or_default());
            match (by_name, by_number) {
                ("", 0) => errors.required(backend, "port name or number is required"),
                ("", n) if !(1..=65_535).contains(&n) => {
                    errors.invalid(&port.child("number"), "must be between 1 and 65535, inclusive");
                }
                ("", _) => {}
                (name, 0) => errors.format(&port.child("name"), name, names::port_name(name)),
                _ => errors.invalid_value(backend, "", "cannot set both port name & port number"),
            }
        }
        (None, None) => errors.invalid_value(backend, "", "resource or service backend is required"),
    }
}

/// A reference to an object of any kind.
pub(super) fn reference(reference: &Place<'_>, errors: &mut Errors) {
    if let Some(group) = reference.field("apiGroup") {
        errors.format(&group, group.str(), names::dns1123_subdomain(group.str()));
    }
    for field in ["kind", "name"] {
        let place = reference.child(field);
        if place.str().is_empty() {
            errors.required(&place, "");
        } else {
            errors.format(&place, place.str(), names::path_segment(place.str()));
        }
    }
}

fn status(root: &Place<'_>, errors: &mut Errors) {
    let status = root.child("status");
    let balancer = status.child("loadBalancer");
    for ingress in balancer.items("ingress") {
        let (ip, host) = (ingress.child("ip"), ingress.child("hostname"));
        if !ip.str().is_empty() {
            errors.format(&ip, ip.str(), formats::ip(ip.str()));
        }
        if let Value::String(name) = host.value
            && !name.is_empty()
        {
            errors.format(&host, name, names::dns1123_subdomain(name));
            if name.parse::<IpAddr>().is_ok() {
                errors.invalid(&host, NO_ADDRESS);
            }
        }
    }
}
