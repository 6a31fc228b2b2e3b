//! Lists whose elements must be told apart: no value twice in a set, no key twice in a map.

use crate::node::{Additional, List, Node};
use trireme_schema::field::{Error, Path};
use trireme_schema::{Map, Value};

/// What is wrong with the lists of an object.
pub fn lists(path: &Path, value: &Value, schema: &Node) -> Vec<Error> {
    let mut errors = Vec::new();
    walk(path, value, schema, &mut errors);
    errors
}

fn walk(path: &Path, value: &Value, schema: &Node, errors: &mut Vec<Error>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter() {
                match (schema.property(name), &schema.additional) {
                    (Some(node), _) => walk(&path.child(name), value, node, errors),
                    (None, Additional::Of(node)) => walk(&path.key(name), value, node, errors),
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            match &schema.list {
                List::Atomic => {}
                List::Set => {
                    let again = repeated(items);
                    errors.extend(again.into_iter().map(|i| Error::duplicate(&path.index(i), items[i].clone())));
                }
                List::Map(keys) => errors.extend(keyed(path, items, keys)),
            }
            if let Some(element) = &schema.items {
                for (i, item) in items.iter().enumerate() {
                    walk(&path.index(i), item, element, errors);
                }
            }
        }
        _ => {}
    }
}

/// Where a value stands for the second time.
fn repeated(items: &[Value]) -> Vec<usize> {
    let mut seen: Vec<(&Value, usize)> = Vec::with_capacity(items.len());
    let mut again = Vec::new();
    for (i, item) in items.iter().enumerate() {
        match seen.iter_mut().find(|(known, _)| *known == item) {
            Some((_, times)) => {
                *times += 1;
                if *times == 2 {
                    again.push(i);
                }
            }
            None => seen.push((item, 1)),
        }
    }
    again
}

fn keyed(path: &Path, items: &[Value], keys: &[String]) -> Vec<Error> {
    let strange = items.iter().position(|item| !item.is_null() && item.as_object().is_none());
    if let Some(i) = strange {
        let why = "must be an object for an array of list-type map";
        return vec![Error::invalid(&path.index(i), items[i].clone(), why)];
    }
    let key = |item: &Value| -> Value {
        let fields = keys.iter().filter_map(|key| Some((key.as_str(), item.get(key)?.clone())));
        Value::Object(fields.collect::<Map>())
    };
    let keys: Vec<Value> = items.iter().map(key).collect();
    repeated(&keys).into_iter().map(|i| Error::duplicate(&path.index(i), keys[i].clone())).collect()
}
