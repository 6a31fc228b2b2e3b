//! Nodes.

use super::pod;
use crate::formats::Format;
use crate::rules::Registry;
use crate::{Errors, Place, formats, internal};
use trireme_schema::{Value, names};

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("core.v1.Node", "", check);
    registry.on_kind("core.v1.Node", "status", update);
}

fn check(node: &Place<'_>, errors: &mut Errors) {
    taints(node, errors);
    if node.old.is_some() {
        update(node, errors);
    } else {
        resources(node, errors);
    }
    ranges(&node.child("spec"), errors);
}

/// The ranges of pods' addresses: one of each family.
fn ranges(spec: &Place<'_>, errors: &mut Errors) {
    let all: Vec<&str> = spec.list("podCIDRs").iter().map(|c| c.as_str().unwrap_or_default()).collect();
    for cidr in spec.items("podCIDRs") {
        errors.format(&cidr, cidr.str(), formats::cidr(cidr.str()));
    }
    if all.len() < 2 {
        return;
    }
    let place = spec.child("podCIDRs");
    if let Some((i, text)) = all.iter().enumerate().find(|(_, t)| formats::parse_cidr(t).is_none()) {
        let why = format!(
            "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[{i}]: <nil> (invalid CIDR address: {text})"
        );
        errors.internal(&place, why);
    }
    let families: Vec<bool> = all.iter().filter_map(|t| formats::parse_cidr(t)).map(|(ip, _)| ip.is_ipv4()).collect();
    let both = families.len() == all.len() && families.contains(&true) && families.contains(&false);
    if !both || all.len() > 2 {
        errors.invalid(&place, "may specify no more than one CIDR for each IP family");
    }
}

/// Upstream tells the taints of the spec by the metadata.
fn taints(node: &Place<'_>, errors: &mut Errors) {
    let meta = node.child("metadata");
    let list = node.value.list_at(&["spec", "taints"]);
    let place = meta.child("taints");
    for (i, value) in list.iter().enumerate() {
        let at = place.index(i);
        let taint = at.with(value);
        let (key, text) = (taint.text("key"), taint.text("value"));
        errors.format(&taint.child("key"), key, names::qualified_name(key));
        let wrong = names::label_value(text);
        if !wrong.is_empty() {
            errors.invalid_value(&taint.child("value"), text, wrong.join(";"));
        }
        pod::taint_effect(&taint.child("effect"), errors);
        let same = |other: &Value| ["key", "effect"].iter().all(|f| other.get(f) == value.get(f));
        if list[..i].iter().any(same) {
            let shown = internal::show("core.v1.Taint", value);
            errors.duplicate_because(&taint, shown, "taints must be unique by key and effect pair");
        }
    }
}

fn resources(node: &Place<'_>, errors: &mut Errors) {
    let status = node.child("status");
    for list in ["capacity", "allocatable"] {
        let place = status.child(list);
        for (name, amount) in status.entries(list) {
            pod::quantity_value(&place.child(name).with(amount.value), name, errors);
        }
    }
}

fn update(node: &Place<'_>, errors: &mut Errors) {
    let Some(old) = node.old else { return };
    resources(node, errors);
    let status = node.child("status");
    let addresses = status.list("addresses");
    for (i, address) in status.items("addresses").enumerate() {
        if addresses[..i].contains(address.value) {
            errors.duplicate_shown(&address, internal::show("core.v1.NodeAddress", address.value));
        }
    }
    let spec = node.child("spec");
    let cidrs = (old.list_at(&["spec", "podCIDRs"]), spec.list("podCIDRs"));
    const CIDR: &str = "node updates may not change podCIDR except from \"\" to valid";
    if !cidrs.0.is_empty() {
        if cidrs.0.len() != cidrs.1.len() {
            errors.forbidden(&spec.child("podCIDRs"), CIDR);
        } else {
            for _changed in cidrs.0.iter().zip(cidrs.1).filter(|(a, b)| a != b) {
                errors.forbidden(&spec.child("podCIDRs"), CIDR);
            }
        }
    }
    let provider = old.str_at(&["spec", "providerID"]);
    if !provider.is_empty() && provider != spec.text("providerID") {
        let why = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(&spec.child("providerID"), why);
    }
    if let Some(source) = spec.field("configSource") {
        config_source(&source, false, errors);
    }
    for name in ["assigned", "active", "lastKnownGood"] {
        if let Some(source) = status.child("config").field(name) {
            config_source(&source, true, errors);
        }
    }
    taints(node, errors);
    if spec.child("externalID").is_changed() {
        errors.forbidden(&spec.child("externalID"), "may not be updated");
    }
}

/// Configuration from a ConfigMap, which nodes no longer follow.
fn config_source(source: &Place<'_>, in_status: bool, errors: &mut Errors) {
    let Some(map) = source.field("configMap") else {
        let why = "exactly one reference subfield must be non-nil";
        return errors.invalid_internal(source, "core.v1.NodeConfigSource", why);
    };
    for field in ["uid", "resourceVersion"] {
        match (in_status, map.text(field).is_empty()) {
            (false, false) => errors.forbidden(&map.child(field), format!("{field} must not be set in spec")),
            (true, true) => errors.required(&map.child(field), format!("{field} must be set in status")),
            _ => {}
        }
    }
    let formats: [(&str, Format); 3] = [
        ("namespace", names::dns1123_label),
        ("name", names::dns1123_subdomain),
        ("kubeletConfigKey", names::config_map_key),
    ];
    for (field, format) in formats {
        let place = map.child(field);
        match place.str() {
            "" => errors.required(&place, format!("{field} must be set")),
            text => errors.format(&place, text, format(text)),
        }
    }
}
