//! Network policies.

use crate::rules::Registry;
use crate::{Errors, Place, formats};
use trireme_schema::{Value, names};

pub(super) fn register(registry: &mut Registry) {
    registry.on_type("networking.v1.NetworkPolicySpec", spec);
    registry.on_type("networking.v1.NetworkPolicyPort", port);
    registry.on_type("networking.v1.NetworkPolicyPeer", peer);
    registry.on_type("networking.v1.IPBlock", block);
}

fn spec(spec: &Place<'_>, errors: &mut Errors) {
    const TYPES: [&str; 2] = ["Egress", "Ingress"];
    let types = spec.child("policyTypes");
    if spec.list("policyTypes").len() > TYPES.len() {
        errors.invalid(&types, "may not specify more than two policyTypes");
        return;
    }
    for (i, kind) in spec.list("policyTypes").iter().enumerate() {
        let kind = kind.as_str().unwrap_or_default();
        if !TYPES.contains(&kind) {
            errors.not_supported(&types.index(i), kind, &TYPES);
        }
    }
}

fn port(port: &Place<'_>, errors: &mut Errors) {
    const RANGE: &str = "must be between 1 and 65535, inclusive";
    let (number, end) = (port.child("port"), port.child("endPort"));
    match (number.value, end.value.as_int()) {
        (Value::Int(n), last) => {
            if !(1..=65_535).contains(n) {
                errors.invalid(&number, RANGE);
            }
            if last.is_some_and(|last| last < *n) {
                errors.invalid_value(&end, *n, "must be greater than or equal to `port`");
            }
            if last.is_some_and(|last| !(1..=65_535).contains(&last)) {
                errors.invalid(&end, RANGE);
            }
        }
        (Value::String(name), last) => {
            if last.is_some() {
                errors.invalid(&end, "may not be specified when `port` is non-numeric");
            }
            errors.format(&number, name, names::port_name(name));
        }
        (_, Some(_)) => errors.invalid(&end, "may not be specified when `port` is not specified"),
        _ => {}
    }
}

fn peer(peer: &Place<'_>, errors: &mut Errors) {
    let kinds = ["podSelector", "namespaceSelector", "ipBlock"].iter().filter(|kind| peer.has(kind)).count();
    if kinds == 0 {
        errors.required(peer, "must specify a peer");
    } else if kinds > 1 && peer.has("ipBlock") {
        errors.forbidden(peer, "may not specify both ipBlock and another peer");
    }
}

fn block(block: &Place<'_>, errors: &mut Errors) {
    let cidr = block.child("cidr");
    if cidr.str().is_empty() {
        errors.required(&cidr, "");
        return;
    }
    let Some(whole) = formats::parse_cidr(cidr.str()) else {
        errors.format(&cidr, cidr.str(), formats::cidr(cidr.str()));
        return;
    };
    for except in block.items("except") {
        match formats::parse_cidr(except.str()) {
            None => errors.format(&except, except.str(), formats::cidr(except.str())),
            Some(part) if !formats::is_within(part, whole) => {
                errors.invalid(&except, "must be a strict subset of `cidr`");
            }
            Some(_) => {}
        }
    }
}
