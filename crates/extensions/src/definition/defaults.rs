//! Defaults must themselves satisfy the schema that they stand in.

use crate::compile::Compiler;
use crate::node::Node;
use crate::{prune, rules, validate};
use trireme_schema::field::{Error, Path};
use trireme_schema::{Map, Value};

/// What is wrong with the defaults of a resource's schema.
pub(super) fn check(schema: &Value, pruned: bool, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    walk(schema, &Place { root: true, metadata: false, pruned }, path, &mut errors);
    errors
}

/// Whether a default holds fields that its schema does not have.
pub(super) fn are_unpruned(schema: &Value) -> bool {
    super::walk::any(schema, &mut |schema| match schema.get("default") {
        Some(default) => {
            let node = Compiler::default().schema(schema);
            !prune::value(&mut default.clone(), &node)
        }
        None => false,
    })
}

struct Place {
    root: bool,
    /// Within what all objects have.
    metadata: bool,
    pruned: bool,
}

fn walk(schema: &Value, place: &Place, path: &Path, errors: &mut Vec<Error>) {
    let embedded = place.root || schema.bool_at(&["x-kubernetes-embedded-resource"]);
    let metadata = place.metadata && !embedded;
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        let mut compiler = Compiler::default();
        let node = if place.root { compiler.resource(schema) } else { compiler.schema(schema) };
        errors.extend(one(default, &node, embedded, place.pruned && !metadata, &path.child("default")));
    }
    if let Some(items) = schema.get("items").filter(|items| items.as_object().is_some()) {
        walk(items, &Place { root: false, metadata, ..*place }, &path.child("items"), errors);
    }
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::iter);
    for (name, property) in properties {
        let metadata = metadata || (embedded && matches!(name.as_str(), "metadata" | "apiVersion" | "kind"));
        let place = Place { root: false, metadata, ..*place };
        walk(property, &place, &path.child("properties").key(name), errors);
    }
}

fn one(default: &Value, node: &Node, embedded: bool, pruned: bool, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if pruned {
        let mut rest = default.clone();
        let whole = match embedded {
            true => prune::object(&mut rest, Some(node)).is_empty(),
            false => prune::value(&mut rest, node),
        };
        if !whole {
            errors.push(Error::invalid(path, default.clone(), "must not have unknown fields"));
        }
    }
    let mut within = validate::embedded_in(path, default, node, embedded);
    if within.is_empty() {
        within = validate::value(path, default, node);
    }
    if within.is_empty() {
        within = rules::check(path, default, None, node);
    }
    errors.extend(within);
    errors
}
