//! Services.

use super::service_change;
use crate::rules::Registry;
use crate::{Errors, Place, Subject, formats, internal, metadata};
use std::collections::HashSet;
use std::net::IpAddr;
use trireme_schema::field::quote;
use trireme_schema::{Value, names};

const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";
const LONGEST_AFFINITY: i64 = 86_400;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("core.v1.Service", "", check);
    registry.on_kind("core.v1.Service", "status", status);
    registry.on_warning("core.v1.Service", warnings);
}

pub(super) fn is_headless(service: &Value) -> bool {
    matches!(service.list_at(&["spec", "clusterIPs"]), [only] if only.as_str() == Some("None"))
}

fn check(service: &Place<'_>, errors: &mut Errors) {
    if let Some(old) = service.old {
        service_change::check(service, old, errors);
    }
    hints(service, errors);
    let spec = service.child("spec");
    let kind = spec.text("type");
    let headless = is_headless(service.value);
    if spec.list("ports").is_empty() && !headless && kind != "ExternalName" {
        errors.required(&spec.child("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let ips = spec.child("clusterIPs");
            errors.invalid(&ips.index(0), format!("may not be set to 'None' for {kind} services"));
        }
        "ExternalName" => external_name(&spec, errors),
        _ => {}
    }
    ports(&spec, errors);
    if let Some(selector) = spec.field("selector") {
        metadata::labels(&selector, errors);
    }
    affinity(&spec, errors);
    if kind != "ExternalName" {
        addresses(&spec, headless, errors);
    }
    for ip in spec.items("externalIPs") {
        let wrong = formats::ip(ip.str());
        if wrong.is_empty() {
            non_special_ip(&ip, errors);
        }
        errors.format(&ip, ip.str(), wrong);
    }
    source_ranges(service, &spec, errors);
    if spec.has("allocateLoadBalancerNodePorts") && kind != "LoadBalancer" {
        errors.forbidden(&spec.child("allocateLoadBalancerNodePorts"), ONLY_BALANCED);
    }
    class(&spec, errors);
    traffic(&spec, errors);
}

/// Two annotations that mean the same.
fn hints(service: &Place<'_>, errors: &mut Errors) {
    let annotations = service.child("metadata.annotations");
    let (hints, mode) = (annotations.value.get(HINTS), annotations.value.get(MODE));
    if hints.is_some() && mode.is_some() && hints != mode {
        errors.invalid(&annotations.key(MODE), format!("must match annotations[{HINTS}] when both are specified"));
    }
}

fn external_name(spec: &Place<'_>, errors: &mut Errors) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let there = spec.has(field) && (field == "ipFamilyPolicy" || !spec.list(field).is_empty());
        if there {
            errors.forbidden(&spec.child(field), "may not be set for ExternalName services");
        }
    }
    let name = spec.child("externalName");
    match name.str().strip_suffix('.').unwrap_or(name.str()) {
        "" => errors.required(&name, ""),
        text => errors.format(&name, text, names::dns1123_subdomain(text)),
    }
}

fn ports(spec: &Place<'_>, errors: &mut Errors) {
    let list = spec.list("ports");
    let of = |i: usize, field: &str| list[i].get(field);
    let mut seen = HashSet::new();
    for (i, port) in spec.items("ports").enumerate() {
        match port.text("name") {
            "" if list.len() > 1 => errors.required(&port.child("name"), ""),
            "" => {}
            name => {
                errors.format(&port.child("name"), name, names::dns1123_label(name));
                if !seen.insert(name) {
                    errors.duplicate(&port.child("name"), name);
                }
            }
        }
        if let Some(number) = port.int("nodePort").filter(|n| *n != 0) {
            if spec.text("type") == "ClusterIP" {
                errors.forbidden(&port.child("nodePort"), "may not be used when `type` is 'ClusterIP'");
            }
            let same = |j: usize| of(j, "nodePort") == of(i, "nodePort") && of(j, "protocol") == of(i, "protocol");
            if (0..i).any(same) {
                errors.duplicate(&port.child("nodePort"), number);
            }
        }
        if (0..i).any(|j| of(j, "port") == of(i, "port") && of(j, "protocol") == of(i, "protocol")) {
            let mut key = Value::object();
            for field in ["port", "protocol"] {
                key.set_at(&[field], of(i, field).cloned().unwrap_or_default());
            }
            errors.duplicate_shown(&port, internal::show("core.v1.ServicePort", &key));
        }
    }
}

fn affinity(spec: &Place<'_>, errors: &mut Errors) {
    let config = spec.child("sessionAffinityConfig");
    match spec.text("sessionAffinity") {
        "ClientIP" => {
            const WHEN: &str = "when session affinity type is ClientIP";
            let seconds = config.child("clientIP.timeoutSeconds");
            if !config.is_set() {
                errors.required(&config, WHEN);
            } else if !config.has("clientIP") {
                errors.required(&config.child("clientIP"), WHEN);
            } else {
                match seconds.value.as_int() {
                    None => errors.required(&seconds, WHEN),
                    Some(n) if n <= 0 || n > LONGEST_AFFINITY => {
                        errors.invalid(&seconds, format!("must be greater than 0 and less than {LONGEST_AFFINITY}"));
                    }
                    Some(_) => {}
                }
            }
        }
        "None" if config.is_set() => {
            errors.forbidden(&config, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

/// Cluster addresses and their families, as they fit together.
fn addresses(spec: &Place<'_>, headless: bool, errors: &mut Errors) {
    let (one, all) = (spec.text("clusterIP"), spec.list("clusterIPs"));
    let ips = spec.child("clusterIPs");
    match (one, all.first().and_then(Value::as_str)) {
        ("", None) => {}
        ("", Some(_)) => errors.invalid(&ips, "must be empty when `clusterIP` is not specified"),
        (_, None) => errors.required(&ips, ""),
        (one, Some(first)) if one != first => errors.invalid(&ips, "first value must match `clusterIP`"),
        _ => {}
    }
    let families = spec.list("ipFamilies");
    for (i, family) in spec.items("ipFamilies").enumerate() {
        if !matches!(family.str(), "IPv4" | "IPv6") {
            errors.not_supported(&family, family.str(), &["IPv4", "IPv6"]);
        }
        if families[..i].contains(family.value) {
            errors.duplicate(&family, family.str());
        }
    }
    let mut wrong = false;
    for (i, ip) in spec.items("clusterIPs").enumerate() {
        if i == 0 && ip.str() == "None" {
            if all.len() > 1 {
                wrong = true;
                errors.invalid(&ips, "'None' must be the first and only value");
            }
            continue;
        }
        let why = formats::ip(ip.str());
        wrong |= !why.is_empty();
        errors.format(&ip, ip.str(), why);
    }
    if all.len() > 2 {
        errors.invalid(&ips, "may only hold up to 2 values");
    }
    if wrong {
        return;
    }
    let parsed: Vec<IpAddr> = all.iter().filter_map(|ip| ip.as_str()?.parse().ok()).collect();
    if all.len() > 1 && !(parsed.iter().any(IpAddr::is_ipv4) && parsed.iter().any(IpAddr::is_ipv6)) {
        errors.invalid(&ips, "may specify no more than one IP for each IP family");
    }
    if headless {
        return;
    }
    for (i, (ip, family)) in parsed.iter().zip(families).enumerate() {
        let want = family.as_str().unwrap_or_default();
        if (want == "IPv4" && ip.is_ipv6()) || (want == "IPv6" && ip.is_ipv4()) {
            errors.invalid(&ips.index(i), format!("expected an {want} value as indicated by `ipFamilies[{i}]`"));
        }
    }
}

/// An address that others can reach and that means one machine.
pub(crate) fn non_special_ip(place: &Place<'_>, errors: &mut Errors) {
    let text = place.str();
    let Ok(ip) = text.parse::<IpAddr>() else {
        return errors.invalid_value(place, text, "must be a valid IP address");
    };
    let (local, multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    if ip.is_unspecified() {
        errors.invalid_value(place, text, format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        errors.invalid_value(place, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if local {
        errors.invalid_value(place, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        let why = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.invalid_value(place, text, why);
    }
}

/// Who may come through the balancer: a field, and before it an annotation. Both may be padded with spaces.
fn source_ranges(service: &Place<'_>, spec: &Place<'_>, errors: &mut Errors) {
    let balanced = spec.text("type") == "LoadBalancer";
    let place = spec.child("LoadBalancerSourceRanges");
    let ranges = spec.list("loadBalancerSourceRanges");
    if !ranges.is_empty() {
        if !balanced {
            errors.forbidden(&place, ONLY_BALANCED);
        }
        for (i, range) in ranges.iter().enumerate() {
            let text = range.as_str().unwrap_or_default().trim();
            errors.format(&place.index(i), text, formats::cidr(text));
        }
        return;
    }
    let annotations = service.child("metadata.annotations");
    let Some(text) = annotations.value.get(SOURCE_RANGES).and_then(Value::as_str) else { return };
    let place = annotations.key(SOURCE_RANGES);
    if !balanced {
        errors.forbidden(&place, ONLY_BALANCED);
    }
    for text in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
        errors.format(&place, text, formats::cidr(text));
    }
}

fn class(spec: &Place<'_>, errors: &mut Errors) {
    let Some(class) = spec.field("loadBalancerClass") else { return };
    if spec.text("type") == "LoadBalancer" {
        errors.format(&class, class.str(), names::qualified_name(class.str()));
    } else {
        errors.forbidden(&class, ONLY_BALANCED);
    }
}

fn traffic(spec: &Place<'_>, errors: &mut Errors) {
    let kind = spec.text("type");
    let external =
        matches!(kind, "LoadBalancer" | "NodePort") || (kind == "ClusterIP" && !spec.list("externalIPs").is_empty());
    let policy = spec.child("externalTrafficPolicy");
    match policy.str() {
        "" if external => errors.required(&policy, ""),
        "" => {}
        text if !external => {
            errors.invalid_value(&policy, text, "may only be set for externally-accessible services");
        }
        "Cluster" | "Local" => {}
        text => errors.not_supported(&policy, text, &["Cluster", "Local"]),
    }
    let port = spec.child("healthCheckNodePort");
    let number = spec.int("healthCheckNodePort").unwrap_or_default();
    let checked = kind == "LoadBalancer" && policy.str() == "Local";
    if !checked && number != 0 {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid_value(&port, number, why);
    } else if checked && number == 0 {
        errors.required(&port, "");
    } else if checked && !(1..=65_535).contains(&number) {
        errors.invalid_value(&port, number, "must be between 1 and 65535, inclusive");
    }
    if !spec.has("internalTrafficPolicy") && matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer") {
        errors.required(&spec.child("internalTrafficPolicy"), "");
    }
}

fn status(service: &Place<'_>, errors: &mut Errors) {
    load_balancer(&service.child("status.loadBalancer"), service.value.str_at(&["spec", "type"]), errors);
}

/// Where a load balancer can be reached.
pub(crate) fn load_balancer(status: &Place<'_>, kind: &str, errors: &mut Errors) {
    if kind != "LoadBalancer" && !status.list("ingress").is_empty() {
        let why = "may only be used when `spec.type` is 'LoadBalancer'";
        return errors.forbidden(&status.child("ingress"), why);
    }
    for ingress in status.items("ingress") {
        let (ip, mode, host) = (ingress.child("ip"), ingress.child("ipMode"), ingress.child("hostname"));
        if !ip.str().is_empty() {
            errors.format(&ip, ip.str(), formats::ip(ip.str()));
        }
        match (ip.str().is_empty(), mode.is_set()) {
            (false, false) => errors.required(&mode, "must be specified when `ip` is set"),
            (true, true) => errors.forbidden(&mode, "may not be specified when `ip` is not set"),
            (false, true) if !matches!(mode.str(), "VIP" | "Proxy") => {
                errors.not_supported(&mode, mode.str(), &["Proxy", "VIP"]);
            }
            _ => {}
        }
        if !host.str().is_empty() {
            errors.format(&host, host.str(), names::dns1123_subdomain(host.str()));
            if host.str().parse::<IpAddr>().is_ok() {
                errors.invalid(&host, "must be a DNS name, not an IP address");
            }
        }
    }
}

fn warnings(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    if !subject.subresource.is_empty() {
        return;
    }
    let service = Place::root(subject);
    let spec = service.child("spec");
    if subject.new.at(&["metadata", "annotations", HINTS]).is_some() {
        warnings.push(format!("annotation {HINTS} is deprecated, please use {MODE} instead"));
    }
    let headless = spec.text("type") == "ClusterIP" && spec.text("clusterIP") == "None";
    let external = !spec.list("externalIPs").is_empty();
    let by_name = spec.text("type") == "ExternalName";
    if headless {
        if !spec.text("loadBalancerIP").is_empty() {
            warnings.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if external {
            warnings.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if spec.text("sessionAffinity") != "None" {
            warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    if external && !headless && !by_name {
        warnings.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    if by_name && external {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !by_name && !spec.text("externalName").is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.text("trafficDistribution") == "PreferClose" {
        let (old, new) = (quote("PreferClose"), quote("PreferSameZone"));
        warnings.push(format!("spec.trafficDistribution: {old} is deprecated; use {new}"));
    }
}
