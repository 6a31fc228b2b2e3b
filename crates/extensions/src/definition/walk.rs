//! A schema as it is written, and all schemas within it.

use trireme_schema::{Map, Value};

/// Whether something holds for a schema or one within it; asks each until it does.
pub(super) fn any(schema: &Value, holds: &mut dyn FnMut(&Value) -> bool) -> bool {
    if holds(schema) {
        return true;
    }
    children(schema).into_iter().any(|child| any(child, holds))
}

fn children(schema: &Value) -> Vec<&Value> {
    let mut all = Vec::new();
    let list = |name: &str| schema.list_at(&[name]).iter();
    let map = |name: &str| schema.at(&[name]).and_then(Value::as_object).into_iter().flat_map(Map::values);
    match schema.get("items") {
        Some(Value::Array(items)) => all.extend(items),
        Some(items) => all.push(items),
        None => {}
    }
    all.extend(list("allOf").chain(list("anyOf")).chain(list("oneOf")));
    all.extend(schema.get("not"));
    all.extend(map("properties"));
    all.extend(schema.get("additionalProperties").filter(|s| s.as_object().is_some()));
    all.extend(map("patternProperties"));
    all.extend(schema.get("additionalItems").filter(|s| s.as_object().is_some()));
    all.extend(map("definitions"));
    all.extend(map("dependencies").filter(|s| s.as_object().is_some()));
    all
}
