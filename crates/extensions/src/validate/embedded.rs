//! Objects within objects: they must say what they are.

use crate::node::{Additional, Node};
use trireme_schema::field::{Error, Path};
use trireme_schema::{Value, names};

/// What is wrong with the objects within an object (`x-kubernetes-embedded-resource`).
pub fn embedded(path: &Path, value: &Value, schema: &Node) -> Vec<Error> {
    embedded_in(path, value, schema, false)
}

/// The same; `whole` says that the value is itself an object.
pub(crate) fn embedded_in(path: &Path, value: &Value, schema: &Node, whole: bool) -> Vec<Error> {
    let mut errors = Vec::new();
    if whole && !schema.embedded && value.as_object().is_some() {
        object(path, value, &mut errors);
    }
    walk(path, value, schema, &mut errors);
    errors
}

fn walk(path: &Path, value: &Value, schema: &Node, errors: &mut Vec<Error>) {
    match value {
        Value::Object(map) => {
            if schema.embedded {
                object(path, value, errors);
            }
            for (name, value) in map.iter() {
                match (schema.property(name), &schema.additional) {
                    (Some(node), _) => walk(&path.child(name), value, node, errors),
                    (None, Additional::Of(node)) => walk(&path.key(name), value, node, errors),
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            let Some(node) = &schema.items else { return };
            items.iter().enumerate().for_each(|(i, item)| walk(&path.index(i), item, node, errors));
        }
        _ => {}
    }
}

/// What is wrong with what an object says it is; its metadata is checked where it is decoded.
fn object(path: &Path, value: &Value, errors: &mut Vec<Error>) {
    for name in ["apiVersion", "kind"] {
        let at = path.child(name);
        match value.get(name) {
            None => errors.push(Error::required(&at, "")),
            Some(Value::String(text)) if text.is_empty() => errors.push(Error::invalid(&at, "", "must not be empty")),
            Some(Value::String(text)) if name == "kind" => {
                let wrong = names::dns1035_label(&text.to_lowercase());
                if !wrong.is_empty() {
                    let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
                    errors.push(Error::invalid(&at, text.as_str(), why));
                }
            }
            Some(Value::String(text)) => {
                if text.split('/').count() > 2 {
                    let why = format!("unexpected GroupVersion string: {text}");
                    errors.push(Error::invalid(&at, text.as_str(), why));
                }
            }
            Some(other) => errors.push(Error::invalid(&at, other.clone(), "must be a string")),
        }
    }
}
