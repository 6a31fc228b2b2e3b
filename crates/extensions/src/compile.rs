//! From a schema as it is written to nodes.

use crate::formats;
use crate::node::{Additional, Checks, Kind, List, Node, Rule};
use crate::pattern::Pattern;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use trireme_schema::{Key, Map, Value};

/// Compiles the schemas of one definition. What they have in common, within a version and between versions, is held once:
/// a schema with three thousand fields has a few hundred distinct ones.
#[derive(Debug, Default)]
pub struct Compiler {
    known: HashMap<String, Arc<Node>>,
}

impl Compiler {
    /// Compiles the schema of a resource.
    pub fn resource(&mut self, schema: &Value) -> Arc<Node> {
        self.node(schema, true)
    }

    /// Compiles an OpenAPI v3 schema. What a structural schema cannot say is left out.
    pub fn schema(&mut self, schema: &Value) -> Arc<Node> {
        self.node(schema, false)
    }

    fn node(&mut self, schema: &Value, root: bool) -> Arc<Node> {
        let empty = Map::new();
        let map = schema.as_object().unwrap_or(&empty);
        let list_of = |compiler: &mut Self, name: &str| -> Box<[Arc<Node>]> {
            array(map, name).iter().map(|schema| compiler.schema(schema)).collect()
        };
        let mut properties: Vec<(Key, Arc<Node>)> = map
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(Map::iter)
            .map(|(name, schema)| (name.clone(), self.schema(schema)))
            .collect();
        properties.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        let additional = match map.get("additionalProperties") {
            Some(Value::Bool(allowed)) => Additional::Allowed(*allowed),
            Some(schema @ Value::Object(_)) => Additional::Of(self.schema(schema)),
            _ => Additional::Undefined,
        };
        let items = map.get("items").filter(|items| items.as_object().is_some()).map(|items| self.schema(items));
        let checks = Checks {
            format: formats::supported(map.str("type"), map.str("format")).into(),
            maximum: number(map, "maximum"),
            exclusive_maximum: flag(map, "exclusiveMaximum"),
            minimum: number(map, "minimum"),
            exclusive_minimum: flag(map, "exclusiveMinimum"),
            multiple_of: number(map, "multipleOf"),
            max_length: integer(map, "maxLength"),
            min_length: integer(map, "minLength"),
            pattern: Some(map.str("pattern")).filter(|p| !p.is_empty()).map(|p| Box::new(Pattern::new(p))),
            max_items: integer(map, "maxItems"),
            min_items: integer(map, "minItems"),
            max_properties: integer(map, "maxProperties"),
            min_properties: integer(map, "minProperties"),
            required: array(map, "required").iter().filter_map(Value::as_str).map(Key::from).collect(),
            enumeration: array(map, "enum").into(),
            all_of: list_of(self, "allOf"),
            any_of: list_of(self, "anyOf"),
            one_of: list_of(self, "oneOf"),
            not: map.get("not").map(|schema| self.schema(schema)),
        };
        let rules: Box<[Rule]> = array(map, "x-kubernetes-validations").iter().map(rule).collect();
        let below = properties.iter().map(|(_, node)| node).chain(&items);
        let values = if let Additional::Of(node) = &additional { Some(node) } else { None };
        let ruled = !rules.is_empty() || below.chain(values).any(|node| node.ruled);
        let embedded = flag(map, "x-kubernetes-embedded-resource");
        let whole = ((root || embedded) && ruled).then(|| self.whole(map.str("type"), &properties));
        let node = Node {
            kind: Kind::of(map.str("type")),
            nullable: flag(map, "nullable"),
            preserve: flag(map, "x-kubernetes-preserve-unknown-fields"),
            embedded,
            int_or_string: flag(map, "x-kubernetes-int-or-string"),
            atomic: map.str("x-kubernetes-map-type") == "atomic",
            list: match map.str("x-kubernetes-list-type") {
                "set" => List::Set,
                "map" => List::Map(texts(map, "x-kubernetes-list-map-keys")),
                _ => List::Atomic,
            },
            properties: properties.into(),
            items,
            additional,
            default: map.get("default").filter(|d| !d.is_null()).map(|d| Box::new(d.clone())),
            checks: if says_something(&checks) { Some(Box::new(checks)) } else { None },
            rules,
            ruled,
            whole,
            programs: OnceLock::new(),
        };
        self.known.entry(signature(&node)).or_insert_with(|| Arc::new(node)).clone()
    }

    /// An object of the API as expressions see it: it says what it is, and has a name.
    fn whole(&mut self, kind: &str, properties: &[(Key, Arc<Node>)]) -> Arc<Node> {
        let text = self.schema(&trireme_schema::value!({"type": "string"}));
        let metadata = trireme_schema::value!({"type": "object",
            "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}});
        let metadata = self.schema(&metadata);
        let own = properties.iter().filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata"));
        let mut properties: Vec<(Key, Arc<Node>)> = own.cloned().collect();
        properties.extend([
            (Key::from("apiVersion"), text.clone()),
            (Key::from("kind"), text),
            (Key::from("metadata"), metadata),
        ]);
        properties.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        Arc::new(Node { kind: Kind::of(kind), properties: properties.into(), ..Node::default() })
    }

    /// How many distinct nodes there are.
    pub fn nodes(&self) -> usize {
        self.known.len()
    }
}

fn says_something(checks: &Checks) -> bool {
    let bounds = [checks.max_length, checks.min_length, checks.max_items, checks.min_items];
    !checks.format.is_empty()
        || checks.maximum.is_some()
        || checks.minimum.is_some()
        || checks.multiple_of.is_some()
        || bounds.iter().any(Option::is_some)
        || checks.max_properties.is_some()
        || checks.min_properties.is_some()
        || checks.pattern.is_some()
        || !checks.required.is_empty()
        || !checks.enumeration.is_empty()
        || !checks.all_of.is_empty()
        || !checks.any_of.is_empty()
        || !checks.one_of.is_empty()
        || checks.not.is_some()
}

fn array<'a>(map: &'a Map, name: &str) -> &'a [Value] {
    map.get(name).and_then(Value::as_array).unwrap_or_default()
}

fn texts(map: &Map, name: &str) -> Box<[String]> {
    array(map, name).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn flag(map: &Map, name: &str) -> bool {
    map.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn integer(map: &Map, name: &str) -> Option<i64> {
    map.get(name).and_then(Value::as_int)
}

fn number(map: &Map, name: &str) -> Option<f64> {
    match map.get(name)? {
        Value::Int(n) => Some(*n as f64),
        Value::Float(n) => Some(*n),
        _ => None,
    }
}

fn rule(value: &Value) -> Rule {
    Rule {
        rule: value.str_at(&["rule"]).into(),
        message: value.str_at(&["message"]).into(),
        message_expression: value.str_at(&["messageExpression"]).into(),
        reason: value.str_at(&["reason"]).into(),
        field_path: value.str_at(&["fieldPath"]).into(),
        optional_old_self: value.get("optionalOldSelf").and_then(Value::as_bool),
    }
}

/// What a node is made of; two nodes with the same signature are the same. Children are named by their addresses, which
/// stay as long as the compiler, since it holds them.
fn signature(node: &Node) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "{:?}{}{}{}{}{}{}{:?}{:?}{:?}",
        node.kind,
        u8::from(node.whole.is_some()),
        u8::from(node.nullable),
        u8::from(node.preserve),
        u8::from(node.embedded),
        u8::from(node.int_or_string),
        u8::from(node.atomic),
        node.list,
        node.default,
        node.rules,
    );
    let mut child = |label: &str, node: &Arc<Node>| {
        let _ = write!(text, ";{label}={:p}", Arc::as_ptr(node));
    };
    for (name, node) in &node.properties {
        child(name, node);
    }
    if let Some(items) = &node.items {
        child("[]", items);
    }
    if let Additional::Of(node) = &node.additional {
        child("{}", node);
    }
    if let Some(checks) = &node.checks {
        for (label, nodes) in [("all", &checks.all_of), ("any", &checks.any_of), ("one", &checks.one_of)] {
            nodes.iter().for_each(|node| child(label, node));
        }
        if let Some(node) = &checks.not {
            child("not", node);
        }
        let _ = write!(
            text,
            ";{}|{:?}{}{:?}{}{:?}|{:?}{:?}{:?}{:?}{:?}{:?}|{:?}|{:?}{:?}",
            checks.format,
            checks.maximum,
            checks.exclusive_maximum,
            checks.minimum,
            checks.exclusive_minimum,
            checks.multiple_of,
            checks.max_length,
            checks.min_length,
            checks.max_items,
            checks.min_items,
            checks.max_properties,
            checks.min_properties,
            checks.pattern.as_ref().map(|p| &p.text),
            checks.required,
            checks.enumeration,
        );
    }
    if let Additional::Allowed(allowed) = node.additional {
        let _ = write!(text, ";+{allowed}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::value;

    #[test]
    fn equal_schemas_are_held_once() {
        let mut compiler = Compiler::default();
        let schema = value!({"type": "object", "properties": {
            "a": {"type": "string", "description": "one"},
            "b": {"type": "string", "description": "two"},
            "c": {"type": "string", "maxLength": 3}}});
        let node = compiler.schema(&schema);
        assert!(Arc::ptr_eq(node.property("a").unwrap(), node.property("b").unwrap()));
        assert!(!Arc::ptr_eq(node.property("a").unwrap(), node.property("c").unwrap()));
        assert!(Arc::ptr_eq(&node, &compiler.schema(&schema)));
        assert_eq!(compiler.nodes(), 3);
    }
}
