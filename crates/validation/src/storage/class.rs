//! Classes of volumes, and of their attributes.

use crate::rules::Registry;
use crate::{Errors, Place};
use std::collections::{BTreeMap, BTreeSet};
use trireme_schema::names;

const MOST_PARAMETERS: usize = 512;
const LARGEST_PARAMETERS: usize = 256 << 10;

pub(super) fn register(registry: &mut Registry) {
    registry.on_type("storage.v1.StorageClass", storage_class);
    registry.on_type("storage.v1.VolumeAttributesClass", attributes_class);
}

fn storage_class(class: &Place<'_>, errors: &mut Errors) {
    const RECLAIM: [&str; 2] = ["Delete", "Retain"];
    qualified_in_lower_case(&class.child("provisioner"), errors);
    let policy = class.child("reclaimPolicy");
    if !policy.str().is_empty() && !RECLAIM.contains(&policy.str()) {
        errors.not_supported(&policy, policy.str(), &RECLAIM);
    }
    parameters(&class.child("parameters"), true, errors);
    topologies(class, errors);
    if class.old.is_some() {
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            let place = class.child(field);
            if place.is_changed() && (field == "parameters" || place.is_set()) {
                errors.invalid(&place, "field is immutable");
            } else if place.is_changed() {
                errors.invalid_value(&place, "", "field is immutable");
            }
        }
    }
}

fn attributes_class(class: &Place<'_>, errors: &mut Errors) {
    let (driver, parameters_place) = (class.child("driverName"), class.child("parameters"));
    qualified_in_lower_case(&driver, errors);
    parameters(&parameters_place, false, errors);
    if class.old.is_some() {
        if driver.is_changed() {
            errors.forbidden(&driver, "updates to driverName are forbidden.");
        }
        if parameters_place.is_changed() {
            errors.forbidden(&parameters_place, "updates to parameters are forbidden.");
        }
    }
}

fn qualified_in_lower_case(place: &Place<'_>, errors: &mut Errors) {
    if !place.str().is_empty() {
        let lower = place.str().to_lowercase();
        errors.format(place, &lower, names::qualified_name(&lower));
    }
}

fn parameters(place: &Place<'_>, may_be_empty: bool, errors: &mut Errors) {
    let entries = place.value.as_object();
    let count = entries.map_or(0, trireme_schema::Map::len);
    if count > MOST_PARAMETERS {
        errors.too_long(place, MOST_PARAMETERS);
        return;
    }
    let mut size = 0;
    for (key, value) in entries.into_iter().flat_map(trireme_schema::Map::iter) {
        if key.is_empty() {
            errors.invalid_value(place, key.as_str(), "field can not be empty.");
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > LARGEST_PARAMETERS {
        errors.too_long(place, LARGEST_PARAMETERS);
    }
    if count == 0 && !may_be_empty {
        errors.required(place, "must contain at least one key/value pair");
    }
}

/// Terms of topology: keys with sets of values; no term says what another does.
fn topologies(class: &Place<'_>, errors: &mut Errors) {
    let mut terms: Vec<BTreeMap<String, BTreeSet<String>>> = Vec::new();
    for term in class.items("allowedTopologies") {
        let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for requirement in term.items("matchLabelExpressions") {
            let (key, values) = (requirement.child("key"), requirement.child("values"));
            let mut set = BTreeSet::new();
            if requirement.list("values").is_empty() {
                errors.required(&values, "");
            }
            for (i, value) in requirement.list("values").iter().enumerate() {
                let text = value.as_str().unwrap_or_default();
                if !set.insert(text.to_owned()) {
                    errors.duplicate(&values.index(i), text);
                }
            }
            errors.format(&key, key.str(), names::qualified_name(key.str()));
            if keys.contains_key(key.str()) {
                errors.duplicate(&key, key.str());
            }
            keys.insert(key.str().to_owned(), set);
        }
        // Upstream takes a term that says nothing for one that was there before.
        if keys.is_empty() || terms.contains(&keys) {
            errors.duplicate(&term.child("matchLabelExpressions"), "");
        }
        terms.push(keys);
    }
}
