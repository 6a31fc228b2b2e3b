//! Walks an object along its types and applies the rules of each.

use crate::rules::{self, Registry, Shape, TypeRules};
use crate::{Errors, Place};
use trireme_schema::{StructId, builtin};

/// Checks an object of a type and all that it holds.
pub(crate) fn walk(registry: &Registry, id: StructId, root: &Place<'_>, errors: &mut Errors) {
    if let Some(rules) = registry.type_rules(id) {
        visit(registry, rules, root, errors);
    }
}

/// Checks a value of the type named, for functions that visit what the table leaves to them.
pub(crate) fn walk_type(name: &str, place: &Place<'_>, errors: &mut Errors) {
    if let Some(id) = builtin().type_named(name) {
        walk(rules::registry(), id, place, errors);
    }
}

fn visit(registry: &Registry, rules: &TypeRules, place: &Place<'_>, errors: &mut Errors) {
    for field in &rules.fields {
        let value = place.child(&field.name);
        let _all = field.rules.iter().all(|rule| rule.apply(&value, &field.zero, errors));
    }
    for check in &rules.checks {
        check(place, errors);
    }
    for (name, shape, slot) in &rules.ways {
        let rules = registry.at(*slot);
        match shape {
            // An embedded struct stands in the place of what embeds it.
            Shape::One if name.is_empty() => visit(registry, rules, place, errors),
            Shape::Always => visit(registry, rules, &place.child(name), errors),
            Shape::One => {
                if let Some(value) = place.field(name) {
                    visit(registry, rules, &value, errors);
                }
            }
            Shape::List => place.items(name).for_each(|item| visit(registry, rules, &item, errors)),
            Shape::Map => place.entries(name).for_each(|(_, value)| visit(registry, rules, &value, errors)),
        }
    }
}
