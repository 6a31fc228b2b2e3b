//! The CEL rules of a definition: whether they compile, and what they may cost.

use super::shown;
use crate::compile::Compiler;
use crate::rules::{self, Compiled};
use trireme_schema::field::{Error, Path};
use trireme_schema::{Map, Value};

/// What one rule may cost for one object.
const PER_RULE: u64 = 10_000_000;
/// What all rules of a schema may cost for one object.
const PER_SCHEMA: u64 = 100_000_000;
/// Of so many rules it is told that they made the cost too high.
const BLAMED: usize = 4;

/// What is wrong with the rules of a resource's schema. What is wrong besides is known: rules around that are not looked at.
/// A schema that did not change keeps rules that have become too costly.
pub(super) fn check(schema: &Value, unchanged: bool, wrong: &[Error], path: &Path) -> Vec<Error> {
    let mut walk =
        Walk { wrong, unchanged, total: 0, costly: Vec::new(), errors: Vec::new(), compiler: Compiler::default() };
    walk.schema(schema, path, &Place { root: true, cardinality: Some(1), uncorrelatable: None });
    if walk.total > PER_SCHEMA {
        let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        walk.costly.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        let blamed = walk.costly.iter().take(BLAMED).map(|(_, path)| Error::forbidden(path, why));
        walk.errors.extend(blamed);
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        walk.errors.push(Error::forbidden(path, too_costly(what, walk.total, PER_SCHEMA)));
    }
    walk.errors
}

#[derive(Clone)]
struct Place {
    root: bool,
    /// How often the value can be in one object; `None` when nothing bounds it.
    cardinality: Option<u64>,
    /// The value around it of which it cannot be told what it was before a change.
    uncorrelatable: Option<Path>,
}

struct Walk<'a> {
    wrong: &'a [Error],
    unchanged: bool,
    total: u64,
    costly: Vec<(u64, Path)>,
    errors: Vec<Error>,
    compiler: Compiler,
}

fn too_costly(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// By how much a schema multiplies what is in it; `None` when nothing bounds that.
fn factor(schema: &Value) -> Option<u64> {
    let bound = |name: &str| schema.int_at(&[name]).map(|n| u64::try_from(n).unwrap_or(0));
    match schema.str_at(&["type"]) {
        "object" if schema.get("additionalProperties").is_some() => bound("maxProperties"),
        "array" => bound("maxItems"),
        _ => Some(1),
    }
}

impl Walk<'_> {
    fn schema(&mut self, schema: &Value, path: &Path, place: &Place) {
        let inside = Place {
            root: false,
            cardinality: place.cardinality.zip(factor(schema)).map(|(own, factor)| own.saturating_mul(factor)),
            uncorrelatable: place.uncorrelatable.clone(),
        };
        let cut = |cut: bool| match cut {
            true => Place { uncorrelatable: inside.uncorrelatable.clone().or(Some(path.clone())), ..inside.clone() },
            false => inside.clone(),
        };
        if let Some(values) = schema.get("additionalProperties").filter(|s| s.as_object().is_some()) {
            self.schema(values, &path.child("additionalProperties"), &inside);
        }
        let below = cut(schema.str_at(&["x-kubernetes-map-type"]) == "atomic");
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::iter) {
            self.schema(property, &path.child("properties").key(name), &below);
        }
        if let Some(items) = schema.get("items").filter(|s| s.as_object().is_some()) {
            let below = cut(schema.str_at(&["x-kubernetes-list-type"]) != "map");
            self.schema(items, &path.child("items"), &below);
        }
        let rules = schema.list_at(&["x-kubernetes-validations"]);
        let within = path.to_string();
        if rules.is_empty() || self.wrong.iter().any(|error| error.field.starts_with(&within)) {
            return;
        }
        let path = path.child("x-kubernetes-validations");
        let node = if place.root { self.compiler.resource(schema) } else { self.compiler.schema(schema) };
        let Some(compiled) = rules::compile(&node) else {
            let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";
            self.errors.push(Error::internal(&path, why));
            return;
        };
        for (i, (rule, compiled)) in rules.iter().zip(&compiled).enumerate() {
            if let Some(compiled) = compiled {
                self.rule(rule, compiled, &path.index(i), place);
            }
        }
    }

    fn rule(&mut self, rule: &Value, compiled: &Compiled, path: &Path, place: &Place) {
        let at = path.child("rule");
        let shown = |error: Error| error.showing(shown::rule(rule));
        let cost = compiled.cost.saturating_mul(place.cardinality.unwrap_or(compiled.cardinality));
        self.cost("estimated rule cost", cost, &at);
        if let Err(why) = &compiled.program {
            self.errors.push(shown(Error::invalid(&at, "", why.as_str())));
        }
        if let Some(message) = &compiled.message {
            let at = path.child("messageExpression");
            match &message.program {
                Err(why) => self.errors.push(shown(Error::invalid(&at, "", why.as_str()))),
                Ok(_) => self.cost("estimated messageExpression cost", message.cost, &at),
            }
        }
        if compiled.uses_old {
            if let Some(within) = &place.uncorrelatable {
                let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
                self.errors.push(Error::invalid(&at, rule.str_at(&["rule"]), why));
            }
        } else if let Some(optional) = rule.get("optionalOldSelf") {
            let why = "may not be set if oldSelf is not used in rule";
            self.errors.push(Error::invalid(&path.child("optionalOldSelf"), optional.clone(), why));
        }
    }

    fn cost(&mut self, what: &str, cost: u64, path: &Path) {
        if !self.unchanged && cost > PER_RULE {
            self.errors.push(Error::forbidden(path, too_costly(what, cost, PER_RULE)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= PER_SCHEMA / 100 {
            self.costly.push((cost, path.clone()));
        }
    }
}
