//! Endpoints.

use super::service::non_special_ip;
use crate::rules::Registry;
use crate::{Errors, Place, formats};
use trireme_schema::names;

pub(super) fn register(registry: &mut Registry) {
    registry.on_type("core.v1.EndpointSubset", subset);
}

fn subset(subset: &Place<'_>, errors: &mut Errors) {
    let lists = ["addresses", "notReadyAddresses"];
    if lists.iter().all(|l| subset.list(l).is_empty()) {
        errors.required(subset, "must specify `addresses` or `notReadyAddresses`");
    }
    for address in lists.iter().flat_map(|l| subset.items(l)) {
        let (ip, host) = (address.child("ip"), address.child("hostname"));
        errors.format(&ip, ip.str(), formats::ip(ip.str()));
        if !host.str().is_empty() {
            errors.format(&host, host.str(), names::dns1123_label(host.str()));
        }
        if let Some(node) = address.field("nodeName") {
            errors.format(&node, node.str(), names::dns1123_subdomain(node.str()));
        }
        non_special_ip(&ip, errors);
    }
    for port in subset.items("ports") {
        let name = port.child("name");
        match name.str() {
            "" if subset.list("ports").len() > 1 => errors.required(&name, ""),
            "" => {}
            text => errors.format(&name, text, names::dns1123_label(text)),
        }
    }
}
