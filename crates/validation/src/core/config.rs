//! ConfigMaps and Secrets.

use crate::rules::Registry;
use crate::{Errors, Place};
use trireme_schema::{Value, names};

/// What the data of one object may hold, in bytes.
const LARGEST: usize = 1 << 20;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("core.v1.ConfigMap", "", config_map);
}

fn config_map(map: &Place<'_>, errors: &mut Errors) {
    let mut size = 0;
    for (field, other) in [("data", "binaryData"), ("binaryData", "data")] {
        for (key, value) in map.entries(field) {
            errors.format(&value, key, names::config_map_key(key));
            if map.entry(other, key).is_set() {
                errors.invalid_value(&value, key, format!("duplicate of key present in {other}"));
            }
            size += if field == "data" { value.str().len() } else { bytes(value.value) };
        }
    }
    if size > LARGEST {
        errors.too_long(&map.child(""), LARGEST);
    }
    frozen(map, &["data", "binaryData"], errors);
}

/// How many bytes a base64 text stands for.
fn bytes(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.len() / 4 * 3 - text.bytes().rev().take(2).filter(|b| *b == b'=').count()
}

/// What is immutable stays immutable, and its data with it.
fn frozen(object: &Place<'_>, fields: &[&str], errors: &mut Errors) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if !object.old.is_some_and(|old| old.bool_at(&["immutable"])) {
        return;
    }
    if !object.is("immutable") {
        errors.forbidden(&object.child("immutable"), WHY);
    }
    for field in fields {
        let place = object.child(field);
        if place.is_changed() {
            errors.forbidden(&place, WHY);
        }
    }
}
