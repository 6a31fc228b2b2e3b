//! Claims of devices, and templates of claims.

use super::{configuration, names, selector};
use crate::rules::Registry;
use crate::{Errors, Place, internal, metadata};
use std::collections::BTreeSet;
use trireme_schema::{Map, Value, json, names as formats};

const MOST: usize = 32;
const MOST_ALTERNATIVES: usize = 8;
const MOST_TOLERATIONS: usize = 16;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("resource.v1.ResourceClaim", "", claim);
    registry.on_kind("resource.v1.ResourceClaimTemplate", "", template);
}

fn claim(root: &Place<'_>, errors: &mut Errors) {
    let spec = root.child("spec");
    if root.old.is_some() && spec.is_changed() {
        errors.invalid_internal(&spec, "resource.v1.ResourceClaimSpec", "field is immutable");
    }
    self::spec(&spec, errors);
}

fn template(root: &Place<'_>, errors: &mut Errors) {
    let spec = root.child("spec");
    let meta = spec.child("metadata");
    metadata::labels(&meta.child("labels"), errors);
    metadata::annotations(&meta.child("annotations"), errors);
    self::spec(&spec.child("spec"), errors);
    if root.old.is_some() && spec.is_changed() {
        errors.invalid_shown(&spec, shown(&spec), "field is immutable");
    }
}

/// The server's own type of a template has its metadata's fields as its own.
fn shown(spec: &Place<'_>) -> String {
    let member = |(name, value): (&trireme_schema::Key, &Value)| {
        format!("{}:{}", json::to_string(&name.as_str().into()), json::to_string(value))
    };
    let mut members: Vec<String> = spec.map("metadata").into_iter().flat_map(Map::iter).map(member).collect();
    let inner = spec.child("spec");
    members.push(format!("\"Spec\":{}", internal::show_struct("resource.v1.ResourceClaimSpec", inner.value)));
    format!("{{{}}}", members.join(","))
}

fn spec(spec: &Place<'_>, errors: &mut Errors) {
    let devices = spec.child("devices");
    let known = known_requests(&devices);
    set(&devices, "requests", MOST, errors, request);
    let count = devices.list("constraints").len();
    if count > MOST {
        errors.too_many(&devices.child("constraints"), count, MOST);
    }
    for constraint in devices.items("constraints") {
        references(&constraint, &known, errors);
        match (constraint.field("matchAttribute"), constraint.field("distinctAttribute")) {
            (Some(name), _) | (None, Some(name)) => names::fully_qualified(&name, errors),
            (None, None) => errors.required(&constraint.child("matchAttribute"), ""),
        }
    }
    configuration::all(&devices, errors, |config, errors| references(config, &known, errors));
}

/// What constraints and configurations can refer to: `request`, `request/alternative`.
pub(super) fn known_requests(devices: &Place<'_>) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for request in devices.list("requests") {
        let name = request.str_at(&["name"]);
        known.insert(name.to_owned());
        for alternative in request.list_at(&["firstAvailable"]) {
            known.insert(format!("{name}/{}", alternative.str_at(&["name"])));
        }
    }
    known
}

pub(super) fn references(owner: &Place<'_>, known: &BTreeSet<String>, errors: &mut Errors) {
    let count = owner.list("requests").len();
    if count > MOST {
        errors.too_many(&owner.child("requests"), count, MOST);
    }
    let mut seen = BTreeSet::new();
    for reference in owner.items("requests") {
        self::reference(&reference, known, errors);
        if !seen.insert(reference.str()) {
            errors.duplicate(&reference, reference.str());
        }
    }
}

/// The name of a request.
pub(super) fn reference(place: &Place<'_>, known: &BTreeSet<String>, errors: &mut Errors) {
    let text = place.str();
    let parts: Vec<&str> = text.split('/').collect();
    if parts.len() <= 2 {
        for part in &parts {
            errors.format(place, part, formats::dns1123_label(part));
        }
    }
    if !known.contains(text) {
        let why =
            "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        errors.invalid(place, why);
    }
}

/// Elements told apart by their names.
pub(super) fn set(
    owner: &Place<'_>,
    field: &str,
    most: usize,
    errors: &mut Errors,
    check: impl Fn(&Place<'_>, &mut Errors),
) {
    let mut seen = BTreeSet::new();
    for item in owner.items(field) {
        check(&item, errors);
        if !seen.insert(item.text("name")) {
            errors.duplicate(&item, item.text("name"));
        }
    }
    let count = owner.list(field).len();
    if count > most {
        errors.too_many(&owner.child(field), count, most);
    }
}

fn request(request: &Place<'_>, errors: &mut Errors) {
    let name = request.child("name");
    errors.format(&name, name.str(), formats::dns1123_label(name.str()));
    match (request.field("exactly"), request.list("firstAvailable").is_empty()) {
        (None, true) => errors.required(request, "exactly one of `exactly` or `firstAvailable` is required"),
        (Some(_), false) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.invalid_value(request, Value::Null, why);
        }
        _ => {}
    }
    set(request, "firstAvailable", MOST_ALTERNATIVES, errors, |alternative, errors| {
        let name = alternative.child("name");
        errors.format(&name, name.str(), formats::dns1123_label(name.str()));
        wish(alternative, errors);
    });
    if let Some(exactly) = request.field("exactly") {
        wish(&exactly, errors);
    }
}

/// Which devices, and how many.
fn wish(wish: &Place<'_>, errors: &mut Errors) {
    const MODES: [&str; 2] = ["All", "ExactCount"];
    let class = wish.child("deviceClassName");
    if class.str().is_empty() {
        errors.required(&class, "");
    } else {
        errors.format(&class, class.str(), formats::dns1123_subdomain(class.str()));
    }
    selector::all(wish, errors);
    let (mode, count) = (wish.child("allocationMode"), wish.int("count").unwrap_or_default());
    match mode.str() {
        "ExactCount" if count <= 0 => errors.invalid_value(&wish.child("count"), count, "must be greater than zero"),
        "All" if count != 0 => {
            errors.invalid(&wish.child("count"), "must not be specified when allocationMode is 'All'");
        }
        other if !MODES.contains(&other) => errors.not_supported(&mode, other, &MODES),
        _ => {}
    }
    let tolerations = wish.list("tolerations").len();
    if tolerations > MOST_TOLERATIONS {
        errors.too_many(&wish.child("tolerations"), tolerations, MOST_TOLERATIONS);
    }
    wish.items("tolerations").for_each(|t| toleration(&t, errors));
}

pub(super) fn toleration(toleration: &Place<'_>, errors: &mut Errors) {
    let (key, value) = (toleration.child("key"), toleration.child("value"));
    let operator = toleration.child("operator");
    if !key.str().is_empty() {
        errors.format(&key, key.str(), formats::qualified_name(key.str()));
    }
    match operator.str() {
        "Exists" if !value.str().is_empty() => errors.invalid(&value, "must be empty for operator `Exists`"),
        "Exists" => {}
        "Equal" => errors.format(&value, value.str(), formats::label_value(value.str())),
        other => errors.not_supported(&operator, other, &["Equal", "Exists"]),
    }
    super::slice::effect(&toleration.child("effect"), false, errors);
}
