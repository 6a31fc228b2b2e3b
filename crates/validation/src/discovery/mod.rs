//! The group `discovery.k8s.io`.

use crate::core::service;
use crate::rules::Registry;
use crate::{Errors, Place, formats, metadata};
use std::collections::BTreeSet;
use std::net::IpAddr;
use trireme_schema::names;

pub(crate) const RULES: &str = include_str!("rules.txt");

const MOST_ENDPOINTS: usize = 1000;
const MOST_ADDRESSES: usize = 100;
const MOST_PORTS: usize = 20_000;
const MOST_TOPOLOGY_LABELS: usize = 16;
const MOST_HINTS: usize = 8;

pub(crate) fn register(registry: &mut Registry) {
    registry.on_kind("discovery.v1.EndpointSlice", "", slice);
}

fn slice(slice: &Place<'_>, errors: &mut Errors) {
    let count = slice.list("endpoints").len();
    if count > MOST_ENDPOINTS {
        errors.too_many(&slice.child("endpoints"), count, MOST_ENDPOINTS);
    } else {
        slice.items("endpoints").for_each(|e| endpoint(&e, slice.text("addressType"), errors));
    }
    let count = slice.list("ports").len();
    if count > MOST_PORTS {
        errors.too_many(&slice.child("ports"), count, MOST_PORTS);
        return;
    }
    let mut seen = BTreeSet::new();
    for port in slice.items("ports") {
        let name = port.child("name");
        if !name.str().is_empty() {
            errors.format(&name, name.str(), names::dns1123_label(name.str()));
        }
        if !seen.insert(port.text("name")) {
            errors.duplicate(&name, name.str());
        }
    }
}

fn endpoint(endpoint: &Place<'_>, family: &str, errors: &mut Errors) {
    let addresses = endpoint.child("addresses");
    match endpoint.list("addresses").len() {
        0 => errors.required(&addresses, "must contain at least 1 address"),
        n if n > MOST_ADDRESSES => errors.too_many(&addresses, n, MOST_ADDRESSES),
        _ => {}
    }
    for place in endpoint.items("addresses") {
        match family {
            "IPv4" | "IPv6" => address(&place, family, errors),
            "FQDN" => errors.format(&place, place.str(), formats::domain_name(place.str())),
            _ => {}
        }
    }
    let topology = endpoint.child("deprecatedTopology");
    if let Some(count) = endpoint.map("deprecatedTopology").map(|m| m.len()).filter(|n| *n > MOST_TOPOLOGY_LABELS) {
        errors.too_many(&topology, count, MOST_TOPOLOGY_LABELS);
    }
    metadata::labels(&topology, errors);
    if let Some(hints) = endpoint.field("hints") {
        for (field, format) in
            [("forZones", names::label_value as formats::Format), ("forNodes", names::dns1123_subdomain)]
        {
            self::hints(&hints, field, format, errors);
        }
    }
}

fn hints(hints: &Place<'_>, field: &str, format: formats::Format, errors: &mut Errors) {
    let count = hints.list(field).len();
    if count > MOST_HINTS {
        errors.too_many(&hints.child(field), count, MOST_HINTS);
        return;
    }
    let mut seen = BTreeSet::new();
    for hint in hints.items(field) {
        let name = hint.child("name");
        if !seen.insert(hint.text("name")) {
            errors.duplicate(&name, name.str());
        }
        errors.format(&name, name.str(), format(name.str()));
    }
}

/// An address of a family that packets can be sent to.
fn address(place: &Place<'_>, family: &str, errors: &mut Errors) {
    let text = place.str();
    let Ok(address) = text.parse::<IpAddr>() else {
        errors.format(place, text, formats::ip(text));
        return;
    };
    if address.is_ipv4() != (family == "IPv4") {
        errors.invalid(place, format!("must be an {family} address"));
    }
    service::non_special_ip(place, errors);
}
