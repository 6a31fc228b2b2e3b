//! Label selectors, wherever they are (apimachinery `ValidateLabelSelector`).

use crate::rules::Registry;
use crate::{Errors, Place, internal, metadata};
use trireme_schema::{Map, Value, builtin, names};

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

/// Whether a selector is there and selects everything.
pub(crate) fn is_empty(selector: &Value) -> bool {
    let none = |field: &str| match selector.get(field) {
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        _ => true,
    };
    selector.as_object().is_some() && none("matchLabels") && none("matchExpressions")
}

/// Whether a selector that can be read matches labels; no selector matches nothing.
pub(crate) fn matches(selector: Option<&Value>, labels: &Value) -> bool {
    let Some(selector) = selector else { return false };
    let wanted = selector.get("matchLabels").and_then(Value::as_object);
    let alike = wanted.into_iter().flat_map(Map::iter).all(|(key, value)| labels.get(key) == Some(value));
    alike
        && selector.list_at(&["matchExpressions"]).iter().all(|requirement| {
            let found = labels.get(requirement.str_at(&["key"]));
            let listed = || found.is_some_and(|f| requirement.list_at(&["values"]).contains(f));
            match requirement.str_at(&["operator"]) {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => found.is_some(),
                _ => found.is_none(),
            }
        })
}

/// The selector's JSON in the order of its type.
pub(crate) fn shown(selector: &Value) -> String {
    let id = builtin().type_named("meta.v1.LabelSelector").filter(|_| !selector.is_null());
    id.map_or_else(|| "null".to_owned(), |id| internal::api_json(builtin(), id, selector))
}
