//! Slices: the devices of a pool.

use super::claim::set;
use super::names;
use crate::rules::Registry;
use crate::{Errors, Place, engine};
use trireme_schema::{Map, Value, names as formats};

const MOST_DEVICES: usize = 128;
/// Devices with taints or shared counters are costlier.
const MOST_COSTLY_DEVICES: usize = 64;
const MOST_ATTRIBUTES: usize = 32;
const MOST_TAINTS: usize = 16;
const LONGEST_POOL: usize = 253;
const LONGEST_ATTRIBUTE: usize = 64;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("resource.v1.ResourceSlice", "", slice);
}

fn slice(root: &Place<'_>, errors: &mut Errors) {
    let spec = root.child("spec");
    let driver = spec.child("driver");
    names::driver(&driver, driver.str(), errors);
    let pool = spec.child("pool");
    self::pool(&pool, errors);
    if spec.old.is_some() {
        for place in [pool.child("name"), spec.child("driver")] {
            if place.is_changed() {
                errors.invalid_value(&place, place.str(), "field is immutable");
            }
        }
        let node = spec.child("nodeName");
        if node.is_changed() {
            errors.invalid(&node, "field is immutable");
        }
    }
    nodes(&spec, true, errors);
    let costly = |d: &Value| !d.list_at(&["taints"]).is_empty() || !d.list_at(&["consumesCounters"]).is_empty();
    let most = if spec.list("devices").iter().any(costly) { MOST_COSTLY_DEVICES } else { MOST_DEVICES };
    let per_device = spec.is("perDeviceNodeSelection");
    set(&spec, "devices", most, errors, |d, errors| device(d, per_device, errors));
}

fn pool(pool: &Place<'_>, errors: &mut Errors) {
    pool_name(&pool.child("name"), errors);
    let count = pool.int("resourceSliceCount").unwrap_or_default();
    if count <= 0 {
        errors.invalid_value(&pool.child("resourceSliceCount"), count, "must be greater than zero");
    }
}

/// Domains, separated by slashes.
pub(super) fn pool_name(name: &Place<'_>, errors: &mut Errors) {
    if name.str().is_empty() {
        errors.required(name, "");
        return;
    }
    if name.str().len() > LONGEST_POOL {
        errors.too_long(name, LONGEST_POOL);
    }
    for part in name.str().split('/') {
        errors.format(name, part, formats::dns1123_subdomain(part));
    }
}

/// Where devices can be used: one way of saying so.
fn nodes(owner: &Place<'_>, of_slice: bool, errors: &mut Errors) {
    let mut given = Vec::new();
    if let Some(name) = owner.field("nodeName") {
        given.push("`nodeName`");
        if name.str().is_empty() {
            errors.invalid(&name, "must be either unset or set to a non-empty string");
        } else {
            errors.format(&name, name.str(), formats::dns1123_subdomain(name.str()));
        }
    }
    if let Some(selector) = owner.field("nodeSelector") {
        given.push("`nodeSelector`");
        engine::walk_type("core.v1.NodeSelector", &selector, errors);
        if selector.list("nodeSelectorTerms").len() != 1 {
            let terms = selector.child("nodeSelectorTerms");
            errors.invalid(&terms, "must have exactly one node selector term");
        }
    }
    for (field, quoted) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        match owner.field(field) {
            Some(place) if place.value.as_bool() == Some(true) => given.push(quoted),
            Some(place) => errors.invalid(&place, "must be either unset or set to true"),
            None => {}
        }
    }
    let ways = if of_slice {
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
    } else {
        "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
    };
    match given.len() {
        0 => errors.required(owner, ways),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", given.join(", "));
            errors.invalid_value(owner, shown, format!("{ways}, but multiple fields are set"));
        }
    }
}

fn device(device: &Place<'_>, per_device: bool, errors: &mut Errors) {
    let name = device.child("name");
    errors.format(&name, name.str(), formats::dns1123_label(name.str()));
    for field in ["attributes", "capacity"] {
        let place = device.child(field);
        for key in device.map(field).into_iter().flat_map(Map::keys) {
            names::qualified(&place, key, errors);
        }
    }
    device.entries("attributes").for_each(|(_, a)| attribute(&a, errors));
    let count = ["attributes", "capacity"].iter().map(|f| device.map(f).map_or(0, Map::len)).sum::<usize>();
    if count > MOST_ATTRIBUTES {
        let why = format!("the total number of attributes and capacities must not exceed {MOST_ATTRIBUTES}");
        errors.invalid_value(device, Value::Int(count as i64), why);
    }
    let taints = device.list("taints").len();
    if taints > MOST_TAINTS {
        errors.too_many(&device.child("taints"), taints, MOST_TAINTS);
    }
    device.items("taints").for_each(|t| taint(&t, errors));
    if per_device {
        nodes(device, false, errors);
    } else {
        for field in ["nodeName", "nodeSelector", "allNodes"] {
            if let Some(place) = device.field(field) {
                let why = "must not be set when `perDeviceNodeSelection` is not set to true in the ResourceSlice spec";
                errors.invalid(&place, why);
            }
        }
    }
}

fn attribute(attribute: &Place<'_>, errors: &mut Errors) {
    let kinds = ["bool", "int", "string", "version", "bools", "ints", "strings", "versions"];
    if let Some(text) = attribute.field("string")
        && text.str().len() > LONGEST_ATTRIBUTE
    {
        errors.too_long(&text, LONGEST_ATTRIBUTE);
    }
    if let Some(version) = attribute.field("version") {
        if !is_version(version.str()) {
            errors.invalid(&version, "must be a string compatible with semver.org spec 2.0.0");
        }
        if version.str().len() > LONGEST_ATTRIBUTE {
            errors.too_long(&version, LONGEST_ATTRIBUTE);
        }
    }
    if kinds.iter().filter(|kind| attribute.has(kind)).count() != 1 {
        errors.invalid_value(attribute, "", "exactly one value must be specified");
    }
}

/// A version as <https://semver.org> 2.0.0 has it.
fn is_version(text: &str) -> bool {
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, early) = text.split_once('-').map_or((text, None), |(core, early)| (core, Some(early)));
    let number = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part.len() == 1 || !part.starts_with('0'))
    };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let identifier = |part: &str| word(part) && (!part.bytes().all(|b| b.is_ascii_digit()) || number(part));
    core.split('.').count() == 3
        && core.split('.').all(number)
        && early.is_none_or(|early| early.split('.').all(identifier))
        && build.is_none_or(|build| build.split('.').all(word))
}

fn taint(taint: &Place<'_>, errors: &mut Errors) {
    let (key, value) = (taint.child("key"), taint.child("value"));
    errors.format(&key, key.str(), formats::qualified_name(key.str()));
    if !value.str().is_empty() {
        errors.format(&value, value.str(), formats::label_value(value.str()));
    }
    effect(&taint.child("effect"), true, errors);
}

/// What a taint does to who does not tolerate it.
pub(super) fn effect(place: &Place<'_>, required: bool, errors: &mut Errors) {
    const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];
    match place.str() {
        "" if required => errors.required(place, ""),
        "" => {}
        text if EFFECTS.contains(&text) => {}
        other => errors.not_supported(place, other, &EFFECTS),
    }
}

#[cfg(test)]
mod tests {
    use super::is_version;

    #[test]
    fn versions_are_those_of_semver() {
        for (text, fine) in [
            ("1.2.3", true),
            ("1.2.3-rc.1+b.5", true),
            ("1.2", false),
            ("01.2.3", false),
            ("1.2.3-", false),
            ("1.2.3-01", false),
            ("v1.2.3", false),
        ] {
            assert_eq!(is_version(text), fine, "{text}");
        }
    }
}
