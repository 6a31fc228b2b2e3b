//! Structural schemas as OpenAPI documents show them.

use trireme_schema::{Map, Value};

/// What documents do not show: prose about prose, and what only the server uses.
const UNSHOWN: [&str; 5] = ["$ref", "$schema", "id", "example", "externalDocs"];
/// What OpenAPI v2 has no words for.
const NOT_IN_V2: [&str; 5] = ["allOf", "anyOf", "oneOf", "not", "nullable"];

/// How a schema shows embedded objects: the properties that every object has, by name.
pub struct Embedded<'a>(pub &'a dyn Fn() -> Map);

/// A stored schema as OpenAPI v3 shows it.
pub fn v3(schema: &Value, embedded: &Embedded<'_>) -> Map {
    shown(schema, false, embedded)
}

/// A stored schema as OpenAPI v2 shows it: clients take what is said there for all that there is, so that it says
/// nothing of the inside of what may have more.
pub fn v2(schema: &Value, embedded: &Embedded<'_>) -> Map {
    if schema.bool_at(&["x-kubernetes-preserve-unknown-fields"]) {
        return Map::from_iter([("type", "object")]);
    }
    shown(schema, true, embedded)
}

fn shown(schema: &Value, v2: bool, embedded: &Embedded<'_>) -> Map {
    let open = schema.bool_at(&["x-kubernetes-preserve-unknown-fields"]);
    let either = schema.bool_at(&["x-kubernetes-int-or-string"]);
    let untyped = v2 && (open || either || schema.bool_at(&["nullable"]));
    let mut out = Map::new();
    let empty = Map::new();
    for (name, value) in schema.as_object().unwrap_or(&empty).iter() {
        let hidden = UNSHOWN.contains(&name.as_str())
            || v2 && NOT_IN_V2.contains(&name.as_str())
            || untyped && ["type", "items", "properties", "additionalProperties", "required"].contains(&name.as_str());
        if hidden {
            continue;
        }
        let value = match name.as_str() {
            "properties" => {
                let mut properties = Map::new();
                for (field, inner) in value.as_object().unwrap_or(&empty).iter() {
                    properties.insert(field.as_str(), shown(inner, v2, embedded));
                }
                Value::Object(properties)
            }
            "items" | "additionalProperties" if value.as_object().is_some() => {
                Value::Object(shown(value, v2, embedded))
            }
            "required" if v2 => Value::Array(filled(schema, value)),
            _ => value.clone(),
        };
        out.insert(name.as_str(), value);
    }
    if either && !v2 && !out.contains_key("anyOf") && !says_either(schema) {
        let types = ["integer", "string"].map(|kind| Value::Object(Map::from_iter([("type", kind)])));
        out.insert("anyOf", types.to_vec());
    }
    if schema.bool_at(&["x-kubernetes-embedded-resource"]) && !(v2 && open) {
        embed(&mut out, embedded);
    }
    out
}

/// Required fields that must have a value that is not null.
fn filled(schema: &Value, required: &Value) -> Vec<Value> {
    let nullable = |field: &str| schema.bool_at(&["properties", field, "nullable"]);
    let all = required.as_array().unwrap_or_default().iter();
    all.filter(|field| !nullable(field.as_str().unwrap_or_default())).cloned().collect()
}

/// Whether one of `allOf` tells the types of an integer or string.
fn says_either(schema: &Value) -> bool {
    schema.list_at(&["allOf"]).first().is_some_and(|one| !one.list_at(&["anyOf"]).is_empty())
}

fn embed(out: &mut Map, embedded: &Embedded<'_>) {
    let mut properties = match out.remove("properties") {
        Some(Value::Object(properties)) => properties,
        _ => Map::new(),
    };
    for (name, value) in embedded.0().iter() {
        properties.insert(name.as_str(), value.clone());
    }
    out.insert("properties", properties);
    let mut required = match out.remove("required") {
        Some(Value::Array(required)) => required,
        _ => Vec::new(),
    };
    for name in ["kind", "apiVersion"] {
        if !required.iter().any(|r| r.as_str() == Some(name)) {
            required.push(name.into());
        }
    }
    out.insert("required", required);
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::value;

    #[test]
    fn v3_tells_all_and_v2_what_it_has_words_for() {
        let embedded = Embedded(&|| Map::from_iter([("kind", "the kind")]));
        let schema = value!({"type": "object", "properties": {
            "either": {"x-kubernetes-int-or-string": true},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}},
            "maybe": {"type": "string", "nullable": true},
            "whole": {"type": "object", "x-kubernetes-embedded-resource": true}}, "required": ["either", "maybe"]});
        let v3 = Value::Object(v3(&schema, &embedded));
        assert_eq!(v3.list_at(&["properties", "either", "anyOf"]).len(), 2);
        assert_eq!(v3.str_at(&["properties", "open", "properties", "a", "type"]), "string");
        assert_eq!(v3.str_at(&["properties", "whole", "properties", "kind"]), "the kind");
        assert_eq!(v3.list_at(&["properties", "whole", "required"]).len(), 2);
        let v2 = Value::Object(v2(&schema, &embedded));
        assert!(v2.at(&["properties", "either", "anyOf"]).is_none());
        assert!(v2.at(&["properties", "open", "properties"]).is_none());
        assert!(v2.at(&["properties", "maybe", "type"]).is_none());
        assert_eq!(v2.list_at(&["required"]), ["either".into()]);
    }
}
