//! Structural schemas (KEP-1979): every field has one type, and what only checks values says nothing about their shape.

use trireme_schema::field::{Error, Path};
use trireme_schema::{Map, Value, value};

/// Why a schema cannot be read as a structural one at all.
pub(super) fn unsupported(schema: &Value) -> Option<String> {
    let mut why = None;
    super::walk::any(schema, &mut |schema| {
        let names = ["id", "$schema", "$ref", "patternProperties", "dependencies", "additionalItems", "definitions"];
        let found = names.into_iter().find(|name| match schema.get(name) {
            Some(Value::Object(map)) => *name == "additionalItems" || !map.is_empty(),
            Some(Value::String(text)) => !text.is_empty(),
            other => other.is_some(),
        });
        if let Some(name) = found {
            let name = if name == "$schema" { "schema" } else { name };
            why = Some(format!("OpenAPIV3Schema '{name}' is not supported"));
        } else if schema.get("items").and_then(Value::as_array).is_some_and(|items| !items.is_empty()) {
            why = Some("OpenAPIV3Schema 'items' must be a schema, but is an array".into());
        } else if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            why = Some("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".into());
        }
        why.is_some()
    });
    why
}

/// What is not structural about a schema; in the order of the messages.
pub(super) fn check(schema: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    invariants(schema, Level::Root, path, &mut errors);
    completeness(schema, Some(schema), path, path, &mut errors);
    errors.sort_by_key(ToString::to_string);
    errors
}

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

fn members<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let map = schema.get(name).and_then(Value::as_object).into_iter().flat_map(Map::iter);
    map.map(|(name, value)| (name.as_str(), value))
}

/// The schema of elements; an empty list of them is none.
fn items(schema: &Value) -> Option<&Value> {
    schema.get("items").filter(|items| items.as_object().is_some())
}

fn invariants(schema: &Value, level: Level, path: &Path, errors: &mut Vec<Error>) {
    let kind = schema.str_at(&["type"]);
    let flag = |name: &str| schema.bool_at(&[name]);
    match items(schema) {
        Some(items) => invariants(items, Level::Item, &path.child("items"), errors),
        None if kind == "array" => errors.push(Error::required(&path.child("items"), "must be specified")),
        None => {}
    }
    for (name, property) in members(schema, "properties") {
        invariants(property, Level::Field, &path.child("properties").key(name), errors);
    }
    let additional = schema.get("additionalProperties");
    if let Some(additional) = additional {
        let at = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(Error::forbidden(&at, "must not be used at the root"));
        }
        if additional.as_object().is_some() {
            invariants(additional, Level::Field, &at, errors);
        }
    }
    let (preserve, embedded) = (flag("x-kubernetes-preserve-unknown-fields"), flag("x-kubernetes-embedded-resource"));
    let either = flag("x-kubernetes-int-or-string");
    for (set, name) in [(preserve, "preserve-unknown-fields"), (embedded, "embedded-resource")] {
        if either && set {
            let at = path.child(&format!("x-kubernetes-{name}"));
            errors.push(Error::invalid(&at, true, "must be false if x-kubernetes-int-or-string is true"));
        }
    }
    let int_or_string = value!([{"type": "integer"}, {"type": "string"}]);
    let skip_any = schema.get("anyOf") == Some(&int_or_string);
    let first = schema.list_at(&["allOf"]).first();
    let skip_first = first.is_some_and(|first| first.get("anyOf") == Some(&int_or_string));
    validations(schema, skip_any, skip_first, path, errors);

    let type_path = path.child("type");
    if embedded && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match kind {
            "" => Error::required(&type_path, why),
            kind => Error::invalid(&type_path, kind, why),
        });
    } else if kind.is_empty() && !either && !preserve {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(Error::required(&type_path, why));
    }
    if embedded && additional.is_some() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(Error::forbidden(&path.child("additionalProperties"), why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(Error::invalid(&type_path, kind, "must be object at the root"));
    }
    if level == Level::Root || embedded {
        for name in ["kind", "apiVersion"] {
            let wrong = schema.at(&["properties", name]).map(|p| p.str_at(&["type"])).filter(|kind| *kind != "string");
            if let Some(kind) = wrong {
                let at = path.child("properties").key(name).child("type");
                errors.push(Error::invalid(&at, kind, "must be string"));
            }
        }
    }
    if let Some(metadata) = schema.at(&["properties", "metadata"]) {
        let at = path.child("properties").key("metadata");
        let kind = metadata.str_at(&["type"]);
        if (level == Level::Root || embedded) && kind != "object" {
            errors.push(Error::invalid(&at.child("type"), kind, "must be object"));
        }
        if level == Level::Root && !says_nothing(metadata) {
            let why =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(Error::forbidden(&at, why));
        }
    }
    if embedded && !preserve && members(schema, "properties").next().is_none() {
        let why =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(Error::required(&path.child("properties"), why));
    }
}

/// Whether the schema of metadata is about nothing but names.
fn says_nothing(metadata: &Value) -> bool {
    let only_names = members(metadata, "properties").all(|(name, _)| matches!(name, "name" | "generateName"));
    let names = metadata.as_object().into_iter().flat_map(Map::keys);
    names.into_iter().all(|name| match name.as_str() {
        "type" | "default" => true,
        "properties" => only_names,
        _ => false,
    })
}

const COMBINED: [&str; 3] = ["anyOf", "allOf", "oneOf"];

/// What checks values beside their shape.
fn validations(schema: &Value, skip_any: bool, skip_first: bool, path: &Path, errors: &mut Vec<Error>) {
    for name in COMBINED {
        if name == "anyOf" && skip_any {
            continue;
        }
        for (i, part) in schema.list_at(&[name]).iter().enumerate() {
            let skip = name == "allOf" && i == 0 && skip_first;
            nested(part, skip, &path.child(name).index(i), errors);
        }
    }
    if let Some(not) = schema.get("not") {
        nested(not, false, &path.child("not"), errors);
    }
    let pattern = schema.str_at(&["pattern"]);
    if let Some(why) = Some(pattern).filter(|p| !p.is_empty()).and_then(crate::pattern::error) {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(Error::invalid(&path.child("pattern"), pattern, why));
    }
}

fn nested(schema: &Value, skip_any: bool, path: &Path, errors: &mut Vec<Error>) {
    validations(schema, skip_any, false, path, errors);
    if let Some(items) = items(schema) {
        nested(items, false, &path.child("items"), errors);
    }
    for (name, property) in members(schema, "properties") {
        nested(property, false, &path.child("properties").key(name), errors);
    }
    const EMPTY: &str = "must be empty to be structural";
    const UNDEFINED: &str = "must be undefined to be structural";
    const FALSE: &str = "must be false to be structural";
    for (name, why) in [
        ("type", EMPTY),
        ("additionalProperties", UNDEFINED),
        ("default", UNDEFINED),
        ("title", EMPTY),
        ("description", EMPTY),
        ("nullable", FALSE),
        ("x-kubernetes-preserve-unknown-fields", FALSE),
        ("x-kubernetes-embedded-resource", FALSE),
        ("x-kubernetes-int-or-string", FALSE),
        ("x-kubernetes-list-map-keys", EMPTY),
        ("x-kubernetes-list-type", UNDEFINED),
        ("x-kubernetes-map-type", UNDEFINED),
        ("x-kubernetes-validations", EMPTY),
    ] {
        let set = match schema.get(name) {
            None | Some(Value::Bool(false)) => false,
            Some(Value::Array(all)) => !all.is_empty(),
            Some(Value::Null) => name != "default",
            Some(_) => true,
        };
        if set {
            errors.push(Error::forbidden(&path.child(name), why));
        }
    }
    if schema.at(&["properties", "metadata"]).is_some() {
        let at = path.child("properties").key("metadata");
        errors.push(Error::forbidden(&at, "must not be specified in a nested context"));
    }
}

/// Whatever a check speaks of, the shape must have.
fn completeness(check: &Value, shape: Option<&Value>, shape_path: &Path, path: &Path, errors: &mut Vec<Error>) {
    if let Some(not) = check.get("not") {
        nested_completeness(not, shape, shape_path, &path.child("not"), errors);
    }
    for name in COMBINED {
        for (i, part) in check.list_at(&[name]).iter().enumerate() {
            nested_completeness(part, shape, shape_path, &path.child(name).index(i), errors);
        }
    }
}

fn nested_completeness(check: &Value, shape: Option<&Value>, shape_path: &Path, path: &Path, errors: &mut Vec<Error>) {
    let Some(shape) = shape else {
        errors.push(Error::required(shape_path, format!("because it is defined in {path}")));
        return;
    };
    completeness(check, Some(shape), shape_path, path, errors);
    if let Some(below) = items(check) {
        nested_completeness(below, items(shape), &shape_path.child("items"), &path.child("items"), errors);
    }
    for (name, below) in members(check, "properties") {
        let (shape_at, at) = (shape_path.child("properties").key(name), path.child("properties").key(name));
        match shape.at(&["properties", name]) {
            Some(shape) => nested_completeness(below, Some(shape), &shape_at, &at, errors),
            None => errors.push(Error::required(&shape_at, format!("because it is defined in {at}"))),
        }
    }
}
