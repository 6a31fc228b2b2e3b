//! Parts of v2 documents, and one document made of several.

use std::collections::{BTreeMap, BTreeSet};
use trireme_schema::{Map, Value};

const DEFINITIONS: &str = "#/definitions/";
const PARAMETERS: &str = "#/parameters/";
const KINDS: &str = "x-kubernetes-group-version-kind";

/// As much of a document as is about paths that begin so: those paths, and the definitions that they need. Parameters that
/// several paths share are put into each.
pub(super) fn filter(mut document: Value, prefix: &str) -> Value {
    let parameters = document.get("parameters").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut definitions = document.remove_at(&["definitions"]).unwrap_or_default();
    let mut paths = Map::new();
    if let Some(Value::Object(all)) = document.remove_at(&["paths"]) {
        for (path, item) in all.iter().filter(|(path, _)| path.starts_with(prefix)) {
            let mut item = item.clone();
            inline(&mut item, &parameters);
            paths.insert(path.to_string(), item);
        }
    }
    let (mut open, mut needed) = (BTreeSet::new(), Map::new());
    paths.values().for_each(|item| references(item, &mut open));
    while let Some(name) = open.pop_first() {
        if let Some(definition) = definitions.remove_at(&[name.as_str()]) {
            references(&definition, &mut open);
            needed.insert(name, definition);
        }
    }
    let mut out = Value::object();
    out.set_at(&["swagger"], document.str_at(&["swagger"]));
    out.set_at(&["info"], document.get("info").cloned().unwrap_or_else(Value::object));
    out.set_at(&["paths"], paths);
    out.set_at(&["definitions"], needed);
    out
}

/// Puts shared parameters where they are referred to.
fn inline(value: &mut Value, parameters: &Map) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| inline(item, parameters)),
        Value::Object(map) => {
            let shared = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(PARAMETERS));
            match shared.and_then(|name| parameters.get(name)).cloned() {
                Some(parameter) => *value = parameter,
                None => map.iter_mut().for_each(|(_, value)| inline(value, parameters)),
            }
        }
        _ => {}
    }
}

/// The definitions that a value refers to.
fn references(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, out)),
        Value::Object(map) => {
            let name = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(DEFINITIONS));
            out.extend(name.map(str::to_owned));
            map.values().for_each(|value| references(value, out));
        }
        _ => {}
    }
}

/// Adds a part to a document. Paths that are there stay; of definitions that are called the same and are not, the new one
/// gets another name; of those that are the same but for the kinds that they are of, there is one with all kinds.
pub(in super::super) fn merge(into: &mut Value, mut part: Value) {
    let own = into.get("paths").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut paths = match part.remove_at(&["paths"]) {
        Some(Value::Object(paths)) => paths,
        _ => return,
    };
    paths.retain(|path, _| !own.contains_key(path));
    // Definitions of paths that are left out are left out.
    let mut part = filter_definitions(part, &paths);
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    let known = into.get("definitions").and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, definition) in part.iter() {
        let Some(there) = known.get(name) else { continue };
        if !same_but_for_kinds(there, definition) {
            let free = (2..).map(|n| format!("{name}_v{n}")).find(|new| {
                let taken = known.get(new).or_else(|| part.get(new));
                taken.is_none_or(|other| same_but_for_kinds(other, definition))
            });
            renamed.extend(free.map(|new| (name.to_string(), new)));
        }
    }
    let rename = |value: &mut Value| rename(value, &renamed);
    paths.iter_mut().for_each(|(_, item)| rename(item));
    part.iter_mut().for_each(|(_, definition)| rename(definition));
    for (path, item) in paths.iter() {
        if let Some(all) = into.at_mut(&["paths"]).and_then(Value::as_object_mut) {
            all.insert(path.to_string(), item.clone());
        }
    }
    let Some(all) = into.at_mut(&["definitions"]).and_then(Value::as_object_mut) else { return };
    for (name, definition) in part.iter() {
        let name = renamed.get(&**name).map_or_else(|| name.to_string(), Clone::clone);
        match all.get_mut(&name) {
            None => drop(all.insert(name, definition.clone())),
            Some(there) => add_kinds(there, definition),
        }
    }
}

fn filter_definitions(mut part: Value, paths: &Map) -> Map {
    let mut document = Value::object();
    document.set_at(&["paths"], paths.clone());
    document.set_at(&["definitions"], part.remove_at(&["definitions"]).unwrap_or_default());
    match filter(document, "").remove_at(&["definitions"]) {
        Some(Value::Object(definitions)) => definitions,
        _ => Map::new(),
    }
}

fn same_but_for_kinds(a: &Value, b: &Value) -> bool {
    let bare = |value: &Value| {
        let mut value = value.clone();
        value.remove_at(&[KINDS]);
        value
    };
    bare(a) == bare(b)
}

fn add_kinds(into: &mut Value, from: &Value) {
    let mut kinds = into.list_at(&[KINDS]).to_vec();
    for kind in from.list_at(&[KINDS]) {
        if !kinds.contains(kind) {
            kinds.push(kind.clone());
        }
    }
    if !kinds.is_empty() {
        into.set_at(&[KINDS], Value::Array(kinds));
    }
}

fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        Value::Object(map) => {
            let name = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(DEFINITIONS));
            if let Some(new) = name.and_then(|name| names.get(name)).map(|new| format!("{DEFINITIONS}{new}")) {
                map.insert("$ref", new);
            }
            map.iter_mut().for_each(|(_, value)| rename(value, names));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    fn value(text: &str) -> Value {
        json::parse(text.as_bytes()).unwrap()
    }

    const REMOTE: &str = r##"{"swagger": "2.0", "info": {"title": "r"},
        "parameters": {"ns": {"name": "namespace", "in": "path"}},
        "paths": {
            "/apis/g/v1/things": {"parameters": [{"$ref": "#/parameters/ns"}], "get": {"schema": {"$ref": "#/definitions/Thing"}}},
            "/apis/g/v1/shared": {"get": {"schema": {"$ref": "#/definitions/Options"}}},
            "/version/": {"get": {"schema": {"$ref": "#/definitions/Version"}}}
        },
        "definitions": {
            "Thing": {"properties": {"meta": {"$ref": "#/definitions/Meta"}}},
            "Meta": {"type": "object", "x": 1}, "Version": {"type": "object"},
            "Options": {"type": "object", "x-kubernetes-group-version-kind": [{"kind": "O", "group": "g"}]}
        }}"##;

    #[test]
    fn a_part_has_its_paths_and_what_they_need() {
        let part = filter(value(REMOTE), "/apis/g/v1/");
        let keys = |field: &str| {
            let map = part.get(field).and_then(Value::as_object).unwrap();
            map.keys().map(ToString::to_string).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys("paths"), "/apis/g/v1/shared /apis/g/v1/things");
        assert_eq!(keys("definitions"), "Meta Options Thing");
        let inlined = part.list_at(&["paths", "/apis/g/v1/things", "parameters"]);
        assert_eq!(inlined[0].str_at(&["name"]), "namespace");
    }

    #[test]
    fn definitions_that_differ_are_renamed_and_those_that_do_not_are_one() {
        let mut own = value(
            r##"{"paths": {"/apis/g/v1/shared": {"own": true}},
                "definitions": {"Meta": {"type": "object", "x": 2}, "Options": {"type": "object", "x-kubernetes-group-version-kind": [{"kind": "O", "group": ""}]}}}"##,
        );
        merge(&mut own, filter(value(REMOTE), "/apis/g/v1/"));
        assert!(own.bool_at(&["paths", "/apis/g/v1/shared", "own"]), "paths that are there stay");
        assert_eq!(own.str_at(&["definitions", "Thing", "properties", "meta", "$ref"]), "#/definitions/Meta_v2");
        assert_eq!(own.int_at(&["definitions", "Meta_v2", "x"]), Some(1));
        assert_eq!(own.int_at(&["definitions", "Meta", "x"]), Some(2));
        assert_eq!(own.list_at(&["definitions", "Options", KINDS]).len(), 1, "its path was left out");
        let before = own.clone();
        let other = REMOTE.replace("/apis/g/v1/things", "/apis/g/v1/others");
        merge(&mut own, filter(value(&other), "/apis/g/v1/"));
        assert!(own.at(&["definitions", "Meta_v3"]).is_none(), "the same is renamed to the same");
        assert_ne!(own, before);
        let mut both = value(
            r#"{"paths": {}, "definitions": {"Options": {"type": "object", "x-kubernetes-group-version-kind": [{"kind": "O", "group": ""}]}}}"#,
        );
        merge(&mut both, filter(value(REMOTE), "/apis/g/v1/"));
        assert_eq!(both.list_at(&["definitions", "Options", KINDS]).len(), 2);
    }
}
