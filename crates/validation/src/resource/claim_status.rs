//! What claims were given, and to whom.

use super::claim::{known_requests, reference, toleration};
use super::{configuration, names, slice};
use crate::rules::Registry;
use crate::{Errors, Place, conditions, engine};
use std::collections::BTreeSet;
use trireme_schema::{Value, names as formats};

const MOST_CONSUMERS: usize = 256;
const MOST_RESULTS: usize = 32;
const MOST_CONFIGURATIONS: usize = 64;
const MOST_CONDITIONS: usize = 8;
const MOST_BINDING_CONDITIONS: usize = 4;
const MOST_ADDRESSES: usize = 16;
const LONGEST_INTERFACE: usize = 256;
const LONGEST_HARDWARE_ADDRESS: usize = 128;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("resource.v1.ResourceClaim", "status", check);
}

fn check(root: &Place<'_>, errors: &mut Errors) {
    let status = root.child("status");
    consumers(&status, errors);
    devices(&status, errors);
    if !status.list("reservedFor").is_empty() {
        let place = status.child("reservedFor");
        let old = status.old.map(|old| old.list_at(&["reservedFor"])).unwrap_or_default();
        if !status.has("allocation") {
            errors.forbidden(&place, "may not be specified when `allocated` is not set");
        } else if root.child("metadata").has("deletionTimestamp")
            && status.list("reservedFor").iter().any(|consumer| !old.contains(consumer))
        {
            let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.forbidden(&place, why);
        }
    }
    let Some(allocation) = status.field("allocation") else { return };
    if allocation.old.is_some_and(|old| !old.is_null()) {
        if allocation.is_changed() {
            errors.invalid_internal(&allocation, "resource.v1.AllocationResult", "field is immutable");
        }
    } else {
        results(&allocation, &known_requests(&root.child("spec").child("devices")), errors);
    }
}

fn consumers(status: &Place<'_>, errors: &mut Errors) {
    let count = status.list("reservedFor").len();
    if count > MOST_CONSUMERS {
        errors.too_many(&status.child("reservedFor"), count, MOST_CONSUMERS);
        return;
    }
    for consumer in status.items("reservedFor") {
        for field in ["resource", "name", "uid"] {
            if consumer.text(field).is_empty() {
                errors.required(&consumer.child(field), "");
            }
        }
    }
    let mut seen = BTreeSet::new();
    for consumer in status.items("reservedFor") {
        if !seen.insert(consumer.text("uid")) {
            errors.duplicate(&consumer, consumer.text("uid"));
        }
    }
}

/// What tells a device from others: upstream shows it thus.
fn identity(device: &Value) -> String {
    let own = ["driver", "pool", "device"].map(|field| device.str_at(&[field])).join("/");
    match device.str_at(&["shareID"]) {
        "" => own,
        share => format!("{own}/{share}"),
    }
}

fn devices(status: &Place<'_>, errors: &mut Errors) {
    let allocation = status.child("allocation");
    let given = allocation.child("devices");
    let given: BTreeSet<String> = given.list("results").iter().map(identity).collect();
    for device in status.items("devices") {
        place_of(&device, errors);
        if !given.contains(&identity(device.value)) {
            errors.invalid_value(&device, identity(device.value), "must be an allocated device in the claim");
        }
        let count = device.list("conditions").len();
        if count > MOST_CONDITIONS {
            errors.too_many(&device.child("conditions"), count, MOST_CONDITIONS);
        }
        conditions::check(&device, errors);
        if let Some(data) = device.field("data") {
            configuration::raw_object(&data, errors);
        }
        network(&device.child("networkData"), errors);
    }
    let mut seen = BTreeSet::new();
    for device in status.items("devices") {
        if !seen.insert(identity(device.value)) {
            errors.duplicate(&device, identity(device.value));
        }
    }
}

/// The driver, pool and name of a device.
fn place_of(owner: &Place<'_>, errors: &mut Errors) {
    names::driver(&owner.child("driver"), owner.text("driver"), errors);
    slice::pool_name(&owner.child("pool"), errors);
    errors.format(&owner.child("device"), owner.text("device"), formats::dns1123_label(owner.text("device")));
}

fn network(data: &Place<'_>, errors: &mut Errors) {
    for (field, longest) in [("interfaceName", LONGEST_INTERFACE), ("hardwareAddress", LONGEST_HARDWARE_ADDRESS)] {
        if data.text(field).len() > longest {
            errors.too_long(&data.child(field), longest);
        }
    }
    let count = data.list("ips").len();
    if count > MOST_ADDRESSES {
        errors.too_many(&data.child("ips"), count, MOST_ADDRESSES);
        return;
    }
    let mut seen = BTreeSet::new();
    for address in data.items("ips") {
        errors.format(&address, address.str(), crate::formats::interface_address(address.str()));
        if !seen.insert(address.str()) {
            errors.duplicate(&address, address.str());
        }
    }
}

fn results(allocation: &Place<'_>, known: &BTreeSet<String>, errors: &mut Errors) {
    let devices = allocation.child("devices");
    let count = devices.list("results").len();
    if count > MOST_RESULTS {
        errors.too_many(&devices.child("results"), count, MOST_RESULTS);
    } else {
        devices.items("results").for_each(|result| self::result(&result, known, errors));
    }
    configuration::up_to(MOST_CONFIGURATIONS, &devices, errors, |config, errors| {
        let source = config.child("source");
        match source.str() {
            "" => errors.required(&source, ""),
            "FromClaim" | "FromClass" => {}
            other => errors.not_supported(&source, other, &["FromClaim", "FromClass"]),
        }
        super::claim::references(config, known, errors);
    });
    if let Some(selector) = allocation.field("nodeSelector") {
        engine::walk_type("core.v1.NodeSelector", &selector, errors);
    }
}

fn result(result: &Place<'_>, known: &BTreeSet<String>, errors: &mut Errors) {
    reference(&result.child("request"), known, errors);
    place_of(result, errors);
    for field in ["bindingConditions", "bindingFailureConditions"] {
        let count = result.list(field).len();
        if count > MOST_BINDING_CONDITIONS {
            errors.too_many(&result.child(field), count, MOST_BINDING_CONDITIONS);
            continue;
        }
        for condition in result.items(field) {
            errors.format(&condition, condition.str(), formats::qualified_name(condition.str()));
        }
    }
    result.items("tolerations").for_each(|t| toleration(&t, errors));
}
