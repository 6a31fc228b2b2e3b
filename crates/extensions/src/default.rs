//! Values that stand for none.

use crate::node::{Additional, Node};
use trireme_schema::Value;

/// Fills in what was not given.
pub fn apply(value: &mut Value, schema: &Node) {
    let stands_for_none = |value: &Value, schema: &Node| value.is_null() && !schema.nullable;
    match value {
        Value::Object(map) => {
            for (name, node) in &schema.properties {
                let Some(default) = &node.default else { continue };
                if map.get(name).is_none_or(|value| stands_for_none(value, node)) {
                    map.insert(name.clone(), (**default).clone());
                }
            }
            for (name, value) in map.iter_mut() {
                if let Some(node) = schema.property(name) {
                    apply(value, node);
                } else if let Additional::Of(node) = &schema.additional {
                    or_default(value, node, stands_for_none(value, node));
                }
            }
        }
        Value::Array(items) => {
            let Some(node) = &schema.items else { return };
            for item in items {
                let none = stands_for_none(item, node);
                or_default(item, node, none);
            }
        }
        _ => {}
    }
}

fn or_default(value: &mut Value, schema: &Node, none: bool) {
    if let (true, Some(default)) = (none, &schema.default) {
        *value = (**default).clone();
    }
    apply(value, schema);
}

#[cfg(test)]
mod tests {
    use crate::compile::Compiler;
    use trireme_schema::value;

    #[test]
    fn defaults_reach_into_lists_and_maps_and_replace_nulls_that_are_no_values() {
        let node = Compiler::default().schema(&value!({"type": "object", "properties": {"spec": {
            "type": "object", "default": {}, "properties": {
                "a": {"type": "string", "default": "x"},
                "nul": {"type": "string", "nullable": true, "default": "d"},
                "l": {"type": "array", "items": {"type": "object", "properties": {"q": {"default": "i"}}}},
                "m": {"type": "object", "additionalProperties": {"type": "object",
                    "properties": {"r": {"default": 9}}}}}}}}));
        for (given, want) in [
            (value!({}), value!({"spec": {"a": "x", "nul": "d"}})),
            (value!({"spec": {"a": null, "nul": null}}), value!({"spec": {"a": "x", "nul": null}})),
            (
                value!({"spec": {"a": "s", "nul": "n", "l": [{}, {"q": "s"}], "m": {"k": {}}}}),
                value!({"spec": {"a": "s", "nul": "n", "l": [{"q": "i"}, {"q": "s"}], "m": {"k": {"r": 9}}}}),
            ),
        ] {
            let mut object = given;
            super::apply(&mut object, &node);
            assert_eq!(object, want);
        }
    }
}
