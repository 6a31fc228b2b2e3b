//! Label selectors, wherever they are (apimachinery `ValidateLabelSelector`).

use crate::rules::Registry;
use crate::{Errors, Place, metadata};
use trireme_schema::names;

pub(crate) fn register(registry: &mut Registry) {
    registry.on_type("meta.v1.LabelSelector", selector);
    registry.on_type("meta.v1.LabelSelectorRequirement", requirement);
}

fn selector(place: &Place<'_>, errors: &mut Errors) {
    if let Some(labels) = place.field("matchLabels") {
        metadata::labels(&labels, errors);
    }
}

fn requirement(place: &Place<'_>, errors: &mut Errors) {
    match place.text("operator") {
        "In" | "NotIn" => {
            if place.list("values").is_empty() {
                errors.required(&place.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
        }
        "Exists" | "DoesNotExist" => {
            if !place.list("values").is_empty() {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&place.child("values"), why);
            }
        }
        other => errors.invalid_value(&place.child("operator"), other, "not a valid selector operator"),
    }
    let key = place.text("key");
    errors.format(&place.child("key"), key, names::qualified_name(key));
    for value in place.items("values") {
        errors.format(&value, value.str(), names::label_value(value.str()));
    }
}
