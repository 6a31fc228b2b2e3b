//! Configuration for drivers, and classes of devices.

use super::{names, selector};
use crate::core::pod;
use crate::rules::Registry;
use crate::{Errors, Place};
use trireme_schema::{Value, json};

const MOST: usize = 32;
const LARGEST_OBJECT: usize = 10 << 10;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("resource.v1.DeviceClass", "", class);
}

fn class(root: &Place<'_>, errors: &mut Errors) {
    let spec = root.child("spec");
    selector::all(&spec, errors);
    all(&spec, errors, |_, _| {});
    if let Some(name) = spec.field("extendedResourceName")
        && !pod::is_extended(name.str())
    {
        errors.invalid(&name, "must be a valid extended resource name");
    }
}

/// Configurations of a claim or class; `before` looks at what an element has besides.
pub(super) fn all(owner: &Place<'_>, errors: &mut Errors, before: impl Fn(&Place<'_>, &mut Errors)) {
    up_to(MOST, owner, errors, before);
}

pub(super) fn up_to(most: usize, owner: &Place<'_>, errors: &mut Errors, before: impl Fn(&Place<'_>, &mut Errors)) {
    let count = owner.list("config").len();
    if count > most {
        errors.too_many(&owner.child("config"), count, most);
    }
    for config in owner.items("config") {
        before(&config, errors);
        match config.field("opaque") {
            None => errors.required(&config.child("opaque"), ""),
            Some(opaque) => {
                let driver = opaque.child("driver");
                names::driver(&driver, driver.str(), errors);
                raw_object(&opaque.child("parameters"), errors);
            }
        }
    }
}

/// What a driver understands: a JSON object that is not large.
pub(super) fn raw_object(place: &Place<'_>, errors: &mut Errors) {
    const OMITTED: &str = "<value omitted>";
    match place.value {
        Value::Null => errors.required(place, ""),
        Value::Object(_) if place.subject.old.is_none() && json::to_vec(place.value).len() > LARGEST_OBJECT => {
            errors.too_long(place, LARGEST_OBJECT);
        }
        Value::Object(_) => {}
        _ => errors.invalid_value(place, OMITTED, "must be a valid JSON object"),
    }
}
