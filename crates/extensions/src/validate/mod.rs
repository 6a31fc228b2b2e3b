//! Whether a value satisfies its schema, in the words of upstream's OpenAPI validation (`kube-openapi/pkg/validation`).

mod embedded;
mod finding;
mod lists;
mod numbers;

pub use embedded::embedded;
pub(crate) use embedded::embedded_in;
pub use finding::Finding;
pub use lists::lists;

use crate::formats;
use crate::node::{Additional, Checks, Kind, List, Node};
use finding::{Findings, Place};
use trireme_schema::field::{Error, Path};
use trireme_schema::{Map, Value};

/// What is wrong with a value at a path.
pub fn value(path: &Path, value: &Value, schema: &Node) -> Vec<Error> {
    let findings = check(schema, &Place::root(""), value, None);
    findings.into_iter().map(|finding| finding.error(path)).collect()
}

/// What is wrong with a changed value: what was wrong before at the same place, with the same value, is let pass (KEP-4008).
pub fn update(path: &Path, new: &Value, old: Option<&Value>, schema: &Node) -> Vec<Error> {
    let findings = check(schema, &Place::root(""), new, old);
    findings.into_iter().map(|finding| finding.error(path)).collect()
}

fn check(schema: &Node, at: &Place<'_>, value: &Value, old: Option<&Value>) -> Findings {
    let found = all(schema, at, value, old);
    if !found.is_valid() && old == Some(value) { Findings::matching(found.matches) } else { found }
}

fn all(schema: &Node, at: &Place<'_>, value: &Value, old: Option<&Value>) -> Findings {
    let mut found = Findings::default();
    let none = Checks::default();
    let checks = schema.checks.as_deref().unwrap_or(&none);
    if has_type(schema) || !checks.format.is_empty() {
        found.merge(kind(schema, checks, at, value));
        found.matches += 1;
    }
    if value.is_null() {
        found.merge(enumeration(checks, at, value));
        return found;
    }
    combinations(checks, at, value, old, &mut found);
    found.matches += 1;
    match value {
        Value::String(text) => {
            found.merge(string(checks, at, text));
            found.matches += 1;
            if !checks.format.is_empty() && formats::is_known(&checks.format) {
                if !formats::holds(&checks.format, text) {
                    found.add(Finding::of_type(at, &checks.format, text.as_str().into()));
                }
                found.matches += 1;
            }
        }
        Value::Int(_) | Value::Float(_) => {
            found.merge(numbers::check(schema, checks, at, value));
            found.matches += 1;
        }
        Value::Array(items) => {
            found.merge(elements(schema, checks, at, items, old));
            found.matches += 1;
        }
        _ => {}
    }
    found.merge(enumeration(checks, at, value));
    found.matches += 1;
    if let Value::Object(map) = value {
        found.merge(members(schema, checks, at, map, old));
        found.matches += 1;
    }
    found.matches += 1;
    found
}

fn has_type(schema: &Node) -> bool {
    schema.kind != Kind::Any || schema.int_or_string
}

/// The types of a schema as messages list them.
fn type_names(schema: &Node) -> &str {
    if schema.int_or_string { "integer,string" } else { schema.kind.name() }
}

fn asks_for(schema: &Node, kind: &Kind) -> bool {
    match schema.int_or_string {
        true => matches!(kind, Kind::Integer | Kind::String),
        false => schema.kind == *kind,
    }
}

fn kind(schema: &Node, checks: &Checks, at: &Place<'_>, value: &Value) -> Findings {
    let mut found = Findings::default();
    let have = match value {
        Value::Null => {
            if has_type(schema) && !schema.nullable {
                found.add(Finding::of_type(at, type_names(schema), "null".into()));
            } else {
                found.matches += 1;
            }
            return found;
        }
        Value::Bool(_) => Kind::Boolean,
        Value::Int(_) => Kind::Integer,
        Value::Float(_) => Kind::Number,
        Value::String(_) => Kind::String,
        Value::Array(_) => Kind::Array,
        Value::Object(_) => Kind::Object,
    };
    let whole = matches!(value, Value::Float(n) if numbers::is_whole(*n)) && asks_for(schema, &Kind::Integer);
    let fits = asks_for(schema, &have) || whole || (have == Kind::Integer && asks_for(schema, &Kind::Number));
    let sized = matches!(have, Kind::String | Kind::Array);
    if !sized && !checks.format.is_empty() && !fits {
        let own = match have {
            Kind::Integer => "int64",
            Kind::Number => "double",
            _ => "",
        };
        if own != &*checks.format {
            found.add(Finding::of_type(at, &checks.format, own.into()));
            return found;
        }
    }
    let numeric = asks_for(schema, &Kind::Number) || asks_for(schema, &Kind::Integer);
    // What has a format of texts is checked by that.
    if fits || (!numeric && !checks.format.is_empty() && sized) {
        found.matches += 1;
    } else {
        found.add(Finding::of_type(at, type_names(schema), have.name().into()));
    }
    found
}

fn string(checks: &Checks, at: &Place<'_>, text: &str) -> Findings {
    let mut found = Findings::default();
    let length = || text.chars().count() as i64;
    if let Some(limit) = checks.max_length.filter(|limit| length() > *limit) {
        found.add(Finding::too_long(at, text, limit));
    } else if let Some(limit) = checks.min_length.filter(|limit| length() < *limit) {
        found.add(Finding::invalid(at, text.into(), format!("should be at least {limit} chars long")));
    } else if let Some(pattern) = checks.pattern.as_ref().filter(|pattern| !pattern.holds(text)) {
        found.add(Finding::invalid(at, text.into(), format!("should match '{}'", pattern.text)));
    }
    found
}

fn enumeration(checks: &Checks, at: &Place<'_>, value: &Value) -> Findings {
    let mut found = Findings::default();
    let same = |allowed: &Value| match (value, allowed) {
        (Value::Null, _) | (_, Value::Null) => false,
        (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => *a as f64 == *b,
        (value, allowed) => value == allowed,
    };
    if !checks.enumeration.is_empty() && !checks.enumeration.iter().any(same) {
        found.add(Finding::not_supported(at, value, &checks.enumeration));
    }
    found
}

fn elements(schema: &Node, checks: &Checks, at: &Place<'_>, items: &[Value], old: Option<&Value>) -> Findings {
    let mut found = Findings::default();
    if let Some(element) = &schema.items {
        for (i, item) in items.iter().enumerate() {
            let before = old.and_then(|old| correlated(schema, old, item));
            found.merge(check(element, &at.index(i), item, before));
        }
    }
    let size = items.len() as i64;
    if let Some(limit) = checks.min_items.filter(|limit| size < *limit) {
        found.add(Finding::invalid(at, size.into(), format!("should have at least {limit} items")));
    }
    if let Some(limit) = checks.max_items.filter(|limit| size > *limit) {
        found.add(Finding::too_many(at, size, limit, "items"));
    }
    found.matches += 1;
    found
}

/// The element of an older list that stands for this one: only keyed lists know.
pub(crate) fn correlated<'a>(schema: &Node, old: &'a Value, item: &Value) -> Option<&'a Value> {
    let List::Map(keys) = &schema.list else { return None };
    let default = |key: &str| {
        let node = schema.items.as_ref()?.property(key)?;
        node.default.as_deref().cloned()
    };
    let key = |item: &Value| -> Vec<Option<Value>> {
        keys.iter().map(|key| item.get(key).cloned().or_else(|| default(key))).collect()
    };
    let wanted = key(item);
    old.as_array()?.iter().find(|old| key(old) == wanted)
}

fn members(schema: &Node, checks: &Checks, at: &Place<'_>, map: &Map, old: Option<&Value>) -> Findings {
    let mut found = Findings::default();
    let size = map.len() as i64;
    if let Some(limit) = checks.min_properties.filter(|limit| size < *limit) {
        found.add(Finding::invalid(at, size.into(), format!("should have at least {limit} properties")));
    }
    if let Some(limit) = checks.max_properties.filter(|limit| size > *limit) {
        found.add(Finding::too_many(at, size, limit, "properties"));
    }
    for (name, value) in map.iter() {
        let before = if schema.atomic { None } else { old.and_then(|old| old.get(name)) };
        // What an object is cannot be let pass.
        let before = before.filter(|_| !(at.is_root() && matches!(name.as_str(), "kind" | "apiVersion")));
        match (schema.property(name), &schema.additional) {
            (Some(node), _) => found.merge(check(node, &at.member(name), value, before)),
            (None, Additional::Of(node)) => found.merge(check(node, &at.member(name), value, before)),
            (None, Additional::Allowed(false)) => found.add(Finding::forbidden_member(at, name)),
            (None, _) => {}
        }
    }
    for name in checks.required.iter().filter(|name| !map.contains_key(name)) {
        found.add(Finding::required(&at.member(name)));
    }
    found
}

fn combinations(checks: &Checks, at: &Place<'_>, value: &Value, old: Option<&Value>, found: &mut Findings) {
    if !checks.any_of.is_empty() {
        let mut best: Option<Findings> = None;
        let success = checks.any_of.iter().map(|schema| check(schema, at, value, old)).find_map(|result| {
            if result.is_valid() {
                return Some(result);
            }
            keep_better(&mut best, result);
            None
        });
        if success.is_none() {
            found.add(Finding::composite(at, "must validate at least one schema (anyOf)"));
        }
        found.merge(success.or(best).unwrap_or_default());
    }
    if !checks.one_of.is_empty() {
        let (mut best, mut first, mut holding): (Option<Findings>, Option<Findings>, usize) = (None, None, 0);
        for schema in &checks.one_of {
            let result = check(schema, at, value, old);
            if result.is_valid() {
                holding += 1;
                first.get_or_insert(result);
            } else if holding == 0 {
                keep_better(&mut best, result);
            }
        }
        match holding {
            1 => found.merge(first.unwrap_or_default()),
            0 => {
                found.add(Finding::composite(at, "must validate one and only one schema (oneOf). Found none valid"));
                found.merge(best.unwrap_or_default());
            }
            n => found.add(Finding::composite(
                at,
                &format!("must validate one and only one schema (oneOf). Found {n} valid alternatives"),
            )),
        }
    }
    if !checks.all_of.is_empty() {
        let mut holding = 0;
        for schema in &checks.all_of {
            let result = check(schema, at, value, old);
            holding += usize::from(result.is_valid());
            found.merge(result);
        }
        if holding != checks.all_of.len() {
            let none = if holding == 0 { ". None validated" } else { "" };
            found.add(Finding::composite(at, &format!("must validate all the schemas (allOf){none}")));
        }
    }
    if let Some(schema) = &checks.not
        && check(schema, at, value, old).is_valid()
    {
        found.add(Finding::composite(at, "must not validate the schema (not)"));
    }
    found.matches += 1;
}

/// Of several failures that one is told that went furthest.
fn keep_better(best: &mut Option<Findings>, result: Findings) {
    if best.as_ref().is_none_or(|best| result.matches > best.matches) {
        *best = Some(result);
    }
}

#[cfg(test)]
mod tests;
