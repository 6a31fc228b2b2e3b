//! What OpenAPI v3 schemas of definitions may say, besides being structural.

use super::{parts, shown};
use trireme_schema::field::{Error, Path};
use trireme_schema::{Map, Value};

/// Rules that came after definitions that break them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Types are those of OpenAPI.
    pub kinds: bool,
    /// Elements of sets are replaced as a whole.
    pub atomic_sets: bool,
    /// Keys of lists are always there.
    pub keys: bool,
    /// Defaults hold no unknown fields.
    pub pruned_defaults: bool,
}

const KINDS: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

pub(super) fn is_kind(kind: &str) -> bool {
    kind.is_empty() || KINDS.contains(&kind)
}

/// What is wrong with the schema of a resource.
pub(super) fn check(schema: &Value, limits: &Limits, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    walk(schema, &Place { root: true, metadata: false, no_defaults: None, limits }, path, &mut errors);
    errors
}

#[derive(Clone, Copy)]
struct Place<'a> {
    root: bool,
    /// Within what all objects have.
    metadata: bool,
    /// Why there may be no defaults.
    no_defaults: Option<&'static str>,
    limits: &'a Limits,
}

fn members<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let map = schema.get(name).and_then(Value::as_object).into_iter().flat_map(Map::iter);
    map.map(|(name, value)| (name.as_str(), value))
}

fn is_set(schema: &Value, name: &str) -> bool {
    match schema.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Array(all)) => !all.is_empty(),
        Some(_) => true,
    }
}

fn walk(schema: &Value, place: &Place<'_>, path: &Path, errors: &mut Vec<Error>) {
    let inner = Place { root: false, ..*place };
    standard(schema, place, path, errors);
    if schema.bool_at(&["uniqueItems"]) {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(Error::forbidden(&path.child("uniqueItems"), why));
    }
    if let Some(additional) = schema.get("additionalProperties") {
        let at = path.child("additionalProperties");
        if is_set(schema, "properties") && *additional != Value::Bool(true) {
            errors.push(Error::forbidden(&at, "additionalProperties and properties are mutual exclusive"));
        }
        if additional.as_object().is_some() {
            let why = "inside additionalProperties applying to object metadata";
            let no_defaults = if place.metadata { Some(why) } else { inner.no_defaults };
            walk(additional, &Place { no_defaults, ..inner }, &at, errors);
        }
    }
    let object = place.root || schema.bool_at(&["x-kubernetes-embedded-resource"]);
    for (name, property) in members(schema, "properties") {
        let mut below = inner;
        if object && matches!(name, "metadata" | "kind" | "apiVersion") {
            below.metadata = true;
            if place.root {
                below.no_defaults = Some(match name {
                    "metadata" => "in top-level metadata",
                    "kind" => "in top-level kind",
                    _ => "in top-level apiVersion",
                });
            }
        }
        walk(property, &below, &path.child("properties").key(name), errors);
    }
    if let Some(not) = schema.get("not") {
        walk(not, &inner, &path.child("not"), errors);
    }
    for name in ["allOf", "oneOf", "anyOf"] {
        for (i, part) in schema.list_at(&[name]).iter().enumerate() {
            walk(part, &inner, &path.child(name).index(i), errors);
        }
    }
    for (name, part) in members(schema, "definitions") {
        walk(part, &inner, &path.child("definitions").key(name), errors);
    }
    match schema.get("items") {
        Some(Value::Array(all)) => {
            for (i, part) in all.iter().enumerate() {
                walk(part, &inner, &path.child("items").index(i), errors);
            }
        }
        Some(items) => walk(items, &inner, &path.child("items"), errors),
        None => {}
    }
    for (name, part) in members(schema, "dependencies").filter(|(_, part)| part.as_object().is_some()) {
        walk(part, &inner, &path.child("dependencies").key(name), errors);
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let at = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(Error::invalid(&at, false, "must be true or undefined"));
    }
    merging(schema, place.limits, path, errors);
    rules(schema, path, errors);
}

/// Keywords that are not supported, and types that there are not.
fn standard(schema: &Value, place: &Place<'_>, path: &Path, errors: &mut Vec<Error>) {
    let kind = schema.str_at(&["type"]);
    if place.limits.kinds && !is_kind(kind) {
        errors.push(Error::not_supported(&path.child("type"), kind, &KINDS));
    }
    if let (Some(why), true) = (place.no_defaults, schema.get("default").is_some()) {
        errors.push(Error::forbidden(&path.child("default"), format!("must not be set {why}")));
    }
    // An empty map of dependencies counts: it is a field that Go can tell from none.
    let there = |name: &str| match name {
        "dependencies" | "$ref" | "additionalItems" => schema.get(name).is_some(),
        name => is_set(schema, name),
    };
    for name in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if there(name) {
            errors.push(Error::forbidden(&path.child(name), format!("{name} is not supported")));
        }
    }
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(Error::forbidden(&path.child("type"), why));
    }
    if schema.get("items").and_then(Value::as_array).is_some_and(|items| !items.is_empty()) {
        errors.push(Error::forbidden(&path.child("items"), "items must be a schema object and not an array"));
    }
    if place.metadata && schema.bool_at(&["x-kubernetes-embedded-resource"]) {
        let at = path.child("x-kubernetes-embedded-resource");
        errors.push(Error::forbidden(&at, "must not be used inside of resource meta"));
    }
}

fn of_type(schema: &Value, wanted: &str, keyword: &str, path: &Path, errors: &mut Vec<Error>) {
    let why = format!("must be {wanted} if {keyword} is specified");
    match schema.str_at(&["type"]) {
        kind if kind == wanted => {}
        "" => errors.push(Error::required(&path.child("type"), why)),
        kind => errors.push(Error::invalid(&path.child("type"), kind, why)),
    }
}

/// The keyword that a set of objects or lists lacks or has wrong; `None` when there is nothing to say.
pub(super) fn set_of_compounds(schema: &Value) -> Option<&'static str> {
    let items = schema.get("items").filter(|items| items.as_object().is_some())?;
    if schema.str_at(&["x-kubernetes-list-type"]) != "set" {
        return None;
    }
    let text = |name: &str| items.get(name).and_then(Value::as_str);
    match items.str_at(&["type"]) {
        "array" => {
            text("x-kubernetes-list-type").is_some_and(|kind| kind != "atomic").then_some("x-kubernetes-list-type")
        }
        "object" => (text("x-kubernetes-map-type") != Some("atomic")).then_some("x-kubernetes-map-type"),
        _ => None,
    }
}

/// How lists and maps are merged.
fn merging(schema: &Value, limits: &Limits, path: &Path, errors: &mut Vec<Error>) {
    let text = |name: &str| schema.get(name).and_then(Value::as_str);
    let (list, map) = ("x-kubernetes-list-type", "x-kubernetes-map-type");
    if let Some(kind) = text(map) {
        of_type(schema, "object", map, path, errors);
        if !matches!(kind, "atomic" | "granular") {
            errors.push(Error::not_supported(&path.child(map), kind, &["atomic", "granular"]));
        }
    }
    let keys = schema.list_at(&["x-kubernetes-list-map-keys"]);
    let keys_path = path.child("x-kubernetes-list-map-keys");
    if let Some(kind) = text(list) {
        of_type(schema, "array", list, path, errors);
        if let (true, Some(keyword)) =
            (limits.atomic_sets && schema.str_at(&["type"]) == "array", set_of_compounds(schema))
        {
            let given = schema.at(&["items", "x-kubernetes-list-type"]).cloned().unwrap_or_default();
            let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
            errors.push(Error::invalid(&path.child("items").child(keyword), given, why));
        }
        if !matches!(kind, "atomic" | "set" | "map") {
            errors.push(Error::not_supported(&path.child(list), kind, &["atomic", "set", "map"]));
        }
    }
    if !keys.is_empty() {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        match text(list) {
            None => errors.push(Error::required(&path.child(list), why)),
            Some("map") => {}
            Some(other) => errors.push(Error::invalid(&path.child(list), other, why)),
        }
    }
    if text(list) == Some("map") {
        if keys.is_empty() {
            errors.push(Error::required(&keys_path, "must not be empty if x-kubernetes-list-type is map"));
        }
        keyed(schema, keys, &keys_path, path, errors);
    }
    if limits.keys {
        errors.extend(self::keys(schema, path));
    }
}

fn keyed(schema: &Value, keys: &[Value], keys_path: &Path, path: &Path, errors: &mut Vec<Error>) {
    let at = path.child("items");
    let items = match schema.get("items") {
        None => {
            errors.push(Error::required(&at, "must have a schema if x-kubernetes-list-type is map"));
            return;
        }
        Some(items @ Value::Array(_)) => {
            let why = "must only have a single schema if x-kubernetes-list-type is map";
            errors.push(Error::invalid(&at, "", why).showing(shown::items(items)));
            return;
        }
        Some(items) => items,
    };
    let kind = items.str_at(&["type"]);
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(Error::invalid(&at.child("type"), kind, why));
        return;
    }
    for (i, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        let shown = || Value::Array(keys.to_vec());
        match items.at(&["properties", name]).map(|p| p.str_at(&["type"])) {
            None => errors.push(Error::invalid(keys_path, shown(), "entries must all be names of item properties")),
            Some("array" | "object") => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let at = at.child("properties").key(name).child("type");
                errors.push(Error::invalid(&at, kind, why));
            }
            Some(_) => {}
        }
        if keys[..i].contains(key) {
            errors.push(Error::invalid(keys_path, shown(), "must not contain duplicate entries"));
        }
    }
}

/// Elements of sets and keyed lists, and their keys, are always there.
pub(super) fn keys(schema: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let list = schema.str_at(&["x-kubernetes-list-type"]);
    let Some(items) = schema.get("items").filter(|i| i.as_object().is_some() && matches!(list, "set" | "map")) else {
        return errors;
    };
    let at = path.child("items");
    if items.bool_at(&["nullable"]) {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list}");
        errors.push(Error::forbidden(&at.child("nullable"), why));
    }
    if list != "map" {
        return errors;
    }
    for key in schema.list_at(&["x-kubernetes-list-map-keys"]) {
        let name = key.as_str().unwrap_or_default();
        let Some(property) = items.at(&["properties", name]) else { continue };
        let at = at.child("properties").key(name);
        const IS: &str = "this property is in x-kubernetes-list-map-keys, so it";
        if !items.list_at(&["required"]).contains(key) && property.get("default").is_none() {
            errors.push(Error::required(
                &at.child("default"),
                format!("{IS} must have a default or be a required property"),
            ));
        }
        if property.bool_at(&["nullable"]) {
            errors.push(Error::forbidden(&at.child("nullable"), format!("{IS} cannot be nullable")));
        }
    }
    errors
}

/// What is said around CEL expressions; the expressions themselves are compiled when all else is right.
fn rules(schema: &Value, path: &Path, errors: &mut Vec<Error>) {
    const REASONS: [&str; 4] =
        ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    for (i, rule) in schema.list_at(&["x-kubernetes-validations"]).iter().enumerate() {
        let at = |name: &str| path.child("x-kubernetes-validations").index(i).child(name);
        let text = |name: &str| rule.str_at(&[name]);
        let has_lines = |text: &str| text.contains(['\n', '\r']);
        let (trimmed, message) = (text("rule").trim(), text("message").trim());
        if trimmed.is_empty() {
            errors.push(Error::required(&at("rule"), "rule is not specified"));
        } else if message.is_empty() && !text("message").is_empty() {
            errors.push(Error::invalid(&at("message"), text("message"), "must be non-empty if specified"));
        } else if has_lines(message) {
            errors.push(Error::invalid(&at("message"), text("message"), "must not contain line breaks"));
        } else if has_lines(trimmed) && message.is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(Error::required(&at("message"), why));
        }
        if !text("messageExpression").is_empty() && text("messageExpression").trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.push(Error::required(&at("messageExpression"), why));
        }
        if let Some(reason) = rule.get("reason").and_then(Value::as_str).filter(|r| !REASONS.contains(r)) {
            errors.push(Error::not_supported(&at("reason"), reason, &REASONS));
        }
        let field = text("fieldPath");
        if field.is_empty() {
            continue;
        }
        if field.trim().is_empty() {
            errors.push(Error::invalid(&at("fieldPath"), field, "must be non-empty if specified"));
        }
        if has_lines(field) {
            errors.push(Error::invalid(&at("fieldPath"), field, "must not contain line breaks"));
        }
        if parts::field_path(field, schema, true).is_err() {
            errors.push(Error::invalid(&at("fieldPath"), field, "must be a valid path"));
        }
    }
}
