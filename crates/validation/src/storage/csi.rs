//! Drivers of the Container Storage Interface, the nodes they run on, and what room they have.

use crate::rules::Registry;
use crate::{Errors, Place, Subject, internal};
use std::collections::BTreeSet;
use trireme_schema::names;

const LONGEST_DRIVER_NAME: usize = 63;
const LONGEST_NODE_ID: usize = 256;

pub(super) fn register(registry: &mut Registry) {
    registry.on_type("storage.v1.CSIDriverSpec", driver);
    registry.on_warning("storage.v1.CSIDriver", driver_warnings);
    registry.on_type("storage.v1.CSINodeSpec", node);
    registry.on_type("storage.v1.CSIStorageCapacity", capacity);
}

fn driver(spec: &Place<'_>, errors: &mut Errors) {
    const MODES: [&str; 2] = ["Persistent", "Ephemeral"];
    let (attach, modes) = (spec.child("attachRequired"), spec.child("volumeLifecycleModes"));
    if !attach.is_set() {
        errors.required(&attach.shown_as("attachedRequired"), "");
    }
    for mode in spec.list("volumeLifecycleModes") {
        let mode = mode.as_str().unwrap_or_default();
        if !MODES.contains(&mode) {
            errors.not_supported(&modes, mode, &MODES);
        }
    }
    tokens(spec, errors);
    let period = spec.child("nodeAllocatableUpdatePeriodSeconds");
    if period.value.as_int().is_some_and(|seconds| seconds < 10) {
        errors.invalid(&period, "must be greater than or equal to 10 seconds");
    }
    if spec.old.is_some() {
        for place in [attach.shown_as("attachedRequired"), modes] {
            if place.is_changed() {
                errors.invalid(&place, "field is immutable");
            }
        }
    }
}

fn tokens(spec: &Place<'_>, errors: &mut Errors) {
    let mut audiences = BTreeSet::new();
    for request in spec.items("tokenRequests") {
        let audience = request.child("audience");
        if !audiences.insert(request.text("audience")) {
            errors.duplicate(&audience, audience.str());
            continue;
        }
        let seconds = request.child("expirationSeconds");
        match seconds.value.as_int() {
            Some(n) if n < 600 => errors.invalid(&seconds, "may not specify a duration less than 10 minutes"),
            Some(n) if n > 1 << 32 => errors.invalid(&seconds, "may not specify a duration larger than 2^32 seconds"),
            _ => {}
        }
    }
}

fn driver_warnings(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    let exposed = |driver: &trireme_schema::Value| {
        let tokens = !driver.list_at(&["spec", "tokenRequests"]).is_empty();
        tokens && driver.at(&["spec", "serviceAccountTokenInSecrets"]).is_none()
    };
    if exposed(subject.new) && !subject.old.is_some_and(exposed) {
        warnings.push(
            "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent \
             possible logging of tokens in volume attributes"
                .to_owned(),
        );
    }
}

/// The name of a driver: a short domain, in any case.
pub(super) fn driver_name(place: &Place<'_>, errors: &mut Errors) {
    let name = place.str();
    if name.is_empty() {
        errors.required(place, "");
    }
    if name.len() > LONGEST_DRIVER_NAME {
        errors.too_long(place, LONGEST_DRIVER_NAME);
    }
    if !name.is_empty() {
        errors.format(place, name, names::dns1123_subdomain(&name.to_lowercase()));
    }
}

fn node(spec: &Place<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for driver in spec.items("drivers") {
        let (name, id) = (driver.child("name"), driver.child("nodeID"));
        driver_name(&name, errors);
        if !seen.insert(driver.text("name")) {
            errors.duplicate(&name, name.str());
        }
        if id.str().len() > LONGEST_NODE_ID {
            errors.invalid(&id, format!("must be {LONGEST_NODE_ID} characters or less"));
        }
        let mut keys = BTreeSet::new();
        for key in driver.list("topologyKeys") {
            let key = key.as_str().unwrap_or_default();
            if key.is_empty() {
                errors.required(&driver, key);
            }
            if !keys.insert(key) {
                errors.duplicate(&driver, key);
            }
            errors.format(&driver, key, names::qualified_name(key));
        }
        // What a driver has said of a node stays as it is, but for the room that it counts.
        let same = |other: &&trireme_schema::Value| other.str_at(&["name"]) == name.str();
        let before = spec.old.and_then(|old| old.list_at(&["drivers"]).iter().find(same));
        let fixed = |value: &trireme_schema::Value| {
            let mut value = value.clone();
            value.remove_at(&["allocatable"]);
            value
        };
        if before.is_some_and(|before| fixed(before) != fixed(driver.value)) {
            let root = Place::root(driver.subject);
            let shown = internal::show("storage.v1.CSINodeDriver", driver.value);
            errors.invalid_shown(&root.child("CSINodeDriver"), shown, "field is immutable");
        }
    }
}

fn capacity(capacity: &Place<'_>, errors: &mut Errors) {
    for field in ["capacity", "maximumVolumeSize"] {
        let place = capacity.child(field);
        if place.quantity().is_some_and(|q| q.is_negative()) {
            errors.invalid(&place, "must be greater than or equal to 0");
        }
    }
}
