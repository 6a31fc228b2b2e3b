//! Fields that a schema does not have go; so do nulls where null is no value.

use crate::node::{Additional, Node};
use trireme_schema::{Map, Value};

fn is_meta(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

/// Takes out of an object what its schema does not have; gives the paths of what went, sorted, such as `spec.l[0].x`.
pub fn object(value: &mut Value, schema: Option<&Node>) -> Vec<String> {
    let mut pruner = Pruner { path: String::new(), unknown: Vec::new() };
    pruner.members(value, schema, true);
    pruner.unknown.sort();
    pruner.unknown
}

/// Takes out of a value what its schema does not have; true when nothing did.
pub fn value(value: &mut Value, schema: &Node) -> bool {
    let mut pruner = Pruner { path: String::new(), unknown: Vec::new() };
    pruner.members(value, Some(schema), schema.embedded);
    pruner.unknown.is_empty()
}

struct Pruner {
    path: String,
    unknown: Vec<String>,
}

impl Pruner {
    fn below(&mut self, step: impl FnOnce(&mut String), then: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        step(&mut self.path);
        then(self);
        self.path.truncate(length);
    }

    fn name(path: &mut String, name: &str) {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
    }

    fn value(&mut self, value: &mut Value, schema: Option<&Node>) {
        self.members(value, schema, schema.is_some_and(|s| s.embedded));
    }

    fn members(&mut self, value: &mut Value, schema: Option<&Node>, embedded: bool) {
        let preserve = schema.is_some_and(|s| s.preserve);
        match value {
            Value::Object(map) => self.map(map, schema, embedded, preserve),
            Value::Array(items) => {
                let element = schema.and_then(|s| s.items.as_deref());
                for (i, item) in items.iter_mut().enumerate() {
                    self.below(
                        |path| path.push_str(&format!("[{i}]")),
                        |p| match (preserve, element) {
                            // Elements of which nothing is said are kept as their list is.
                            (true, None) => {}
                            (true, Some(schema)) => p.kept(item, schema),
                            (false, schema) => p.value(item, schema),
                        },
                    );
                }
            }
            _ => {}
        }
    }

    /// A value below one that keeps what it does not know.
    fn kept(&mut self, value: &mut Value, schema: &Node) {
        match value {
            Value::Object(map) => self.map(map, Some(schema), schema.embedded, true),
            Value::Array(items) => {
                let Some(element) = schema.items.as_deref() else { return };
                for (i, item) in items.iter_mut().enumerate() {
                    self.below(|path| path.push_str(&format!("[{i}]")), |p| p.kept(item, element));
                }
            }
            _ => {}
        }
    }

    fn map(&mut self, map: &mut Map, schema: Option<&Node>, embedded: bool, preserve: bool) {
        let mut gone = Vec::new();
        for (name, value) in map.iter_mut() {
            if embedded && is_meta(name) {
                continue;
            }
            let (known, below) = match schema {
                None => (false, None),
                Some(schema) => match (schema.property(name), &schema.additional) {
                    (Some(node), _) => (true, Some(&**node)),
                    (None, Additional::Of(node)) => (true, Some(&**node)),
                    (None, Additional::Allowed(_)) => (true, None),
                    (None, Additional::Undefined) => (false, None),
                },
            };
            if known {
                self.below(|path| Self::name(path, name), |p| p.value(value, below));
            } else if !preserve {
                gone.push(name.clone());
            }
        }
        for name in gone {
            map.remove(&name);
            self.below(|path| Self::name(path, &name), |p| p.unknown.push(p.path.clone()));
        }
    }
}

/// Takes out nulls where null is no value and nothing stands for it.
pub fn nulls(value: &mut Value, schema: Option<&Node>) {
    match value {
        Value::Object(map) => map.retain(|name, value| {
            let below = schema.and_then(|s| s.field(name)).map(|node| &**node);
            if value.is_null() && below.is_some_and(|s| !s.nullable && s.default.is_none()) {
                return false;
            }
            nulls(value, below);
            true
        }),
        Value::Array(items) => {
            let below = schema.and_then(|s| s.items.as_deref());
            items.iter_mut().for_each(|item| nulls(item, below));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::compile::Compiler;
    use trireme_schema::{Value, value};

    fn pruned(schema: Value, mut object: Value) -> (Value, Vec<String>) {
        let node = Compiler::default().schema(&schema);
        let unknown = super::object(&mut object, Some(&node));
        super::nulls(&mut object, Some(&node));
        (object, unknown)
    }

    #[test]
    fn unknown_fields_go_and_are_named() {
        let schema = value!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "a": {"type": "string"},
            "l": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}},
            "keep": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"k": {"type": "object", "properties": {"z": {"type": "string"}}}}},
            "m": {"type": "object", "additionalProperties": {"type": "string"}}}}}});
        let object = value!({"kind": "X", "metadata": {"any": 1}, "top": 1, "spec": {"a": "1", "b": 2,
            "l": [{"x": "1", "y": "2"}], "keep": {"any": [1], "k": {"z": "1", "y": 2}}, "m": {"n": null}}});
        let (object, unknown) = pruned(schema, object);
        assert_eq!(unknown, ["spec.b", "spec.keep.k.y", "spec.l[0].y", "top"]);
        let want = value!({"kind": "X", "metadata": {"any": 1}, "spec": {"a": "1",
            "l": [{"x": "1"}], "keep": {"any": [1], "k": {"z": "1"}}, "m": {}}});
        assert_eq!(object, want);
    }
}
