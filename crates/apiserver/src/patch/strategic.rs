//! Strategic merge patches: a merge that knows, from the type, which lists are merged and by which key.

use std::collections::{HashMap, VecDeque};
use trireme_schema::{Map, PatchStrategy, Schema, Status, StructId, Type, Value, builtin, json};

/// Applies a patch.
pub(super) fn apply(patch: &Value, tree: Value, id: StructId) -> Result<Value, Status> {
    let Some(changes) = patch.as_object() else {
        return Err(Status::bad_request(
            "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}",
        ));
    };
    let base = match tree {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    object(builtin(), Some(&Type::Struct(id)), base, changes)
        .map(Value::Object)
        .map_err(|why| Status::failure(500, "", why))
}

/// The type and strategy of a member.
fn member(schema: &Schema, ty: Option<&Type>, name: &str) -> (Option<Type>, PatchStrategy) {
    match ty {
        Some(Type::Struct(id)) => match schema.field(*id, name) {
            Some(field) => (Some(field.ty.clone()), field.patch.clone()),
            None => (None, PatchStrategy::default()),
        },
        Some(Type::Map(inner)) => (Some((**inner).clone()), PatchStrategy::default()),
        _ => (None, PatchStrategy::default()),
    }
}

fn object(schema: &Schema, ty: Option<&Type>, mut base: Map, changes: &Map) -> Result<Map, String> {
    match changes.get("$patch").map(|d| d.as_str().unwrap_or_default()) {
        Some("replace") => {
            let mut new = changes.clone();
            new.remove("$patch");
            return Ok(new);
        }
        Some("delete") => return Ok(Map::new()),
        Some("merge") | None => {}
        Some(other) => return Err(format!("unknown patch type: {other}")),
    }
    if let Some(keep) = changes.get("$retainKeys").and_then(Value::as_array) {
        base.retain(|key, _| keep.iter().any(|k| k.as_str() == Some(key)));
    }
    let mut places: HashMap<&str, HashMap<String, usize>> = HashMap::new();
    for (key, change) in changes.iter() {
        if key.starts_with('$') {
            if let Some(name) = key.strip_prefix("$deleteFromPrimitiveList/") {
                let gone = change.as_array().unwrap_or_default();
                if let Some(items) = base.get_mut(name).and_then(Value::as_array_mut) {
                    items.retain(|item| !gone.contains(item));
                }
            }
            continue;
        }
        if change.is_null() {
            base.remove(key);
            continue;
        }
        let (ty, strategy) = member(schema, ty, key);
        let before = base.remove(key);
        if let (true, Some(items)) = (strategy.merge, before.as_ref().and_then(Value::as_array)) {
            places.insert(key, ranks(items, strategy.key.as_deref()));
        }
        let after = value(schema, ty.as_ref(), &strategy, before, change)?;
        base.insert(key.clone(), after);
    }
    for (key, change) in changes.iter() {
        // The order of a merged list is the one that the client says, or that of what it sends.
        let (name, order) = match key.strip_prefix("$setElementOrder/") {
            Some(name) => (name, change.as_array()),
            None if changes.contains_key(&format!("$setElementOrder/{key}")) => continue,
            None => (&**key, change.as_array()),
        };
        let (_, strategy) = member(schema, ty, name);
        if !strategy.merge {
            continue;
        }
        if let (Some(order), Some(items)) = (order, base.get_mut(name).and_then(Value::as_array_mut)) {
            let key = strategy.key.as_deref();
            let places = places.remove(name).unwrap_or_else(|| ranks(items, key));
            reorder(items, &ranks(order, key), &places, key);
        }
    }
    Ok(base)
}

fn value(
    schema: &Schema,
    ty: Option<&Type>,
    strategy: &PatchStrategy,
    before: Option<Value>,
    change: &Value,
) -> Result<Value, String> {
    match (change, before) {
        (Value::Object(changes), before) => {
            let base = match before {
                Some(Value::Object(map)) => map,
                _ => Map::new(),
            };
            object(schema, ty, base, changes).map(Value::Object)
        }
        (Value::Array(changes), before) if strategy.merge => {
            let items = match before {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            let element = if let Some(Type::List(inner)) = ty { Some(&**inner) } else { None };
            list(schema, element, strategy, items, changes).map(Value::Array)
        }
        (Value::Array(changes), _) => {
            Ok(Value::Array(changes.iter().filter(|c| c.get("$patch").is_none()).map(plain).collect()))
        }
        (other, _) => Ok(other.clone()),
    }
}

/// A value without directives: what is new is taken as it is.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(k, v)| !k.starts_with('$') && !v.is_null())
                .map(|(k, v)| (k.clone(), plain(v)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        other => other.clone(),
    }
}

fn list(
    schema: &Schema,
    element: Option<&Type>,
    strategy: &PatchStrategy,
    mut items: Vec<Value>,
    changes: &[Value],
) -> Result<Vec<Value>, String> {
    let Some(key) = strategy.key.as_deref() else {
        // Scalars: what is not there yet is added.
        for change in changes {
            if !items.contains(change) {
                items.push(change.clone());
            }
        }
        return Ok(items);
    };
    if changes.iter().any(|c| c.str_at(&["$patch"]) == "replace") {
        return Ok(changes.iter().filter(|c| c.get("$patch").is_none()).map(plain).collect());
    }
    for change in changes {
        let Some(map) = change.as_object() else {
            return Err(format!("expected an object in a list merged by {key}, found {}", change.json_type()));
        };
        let Some(wanted) = map.get(key) else {
            return Err(format!("map: {} does not contain declared merge key: {key}", super::text::go_map(change)));
        };
        let position = items.iter().position(|item| item.get(key) == Some(wanted));
        if map.str("$patch") == "delete" {
            items.retain(|item| item.get(key) != Some(wanted));
            continue;
        }
        match position {
            Some(i) => {
                let before = match std::mem::take(&mut items[i]) {
                    Value::Object(map) => map,
                    _ => Map::new(),
                };
                items[i] = Value::Object(object(schema, element, before, map)?);
            }
            None => items.push(Value::Object(object(schema, element, Map::new(), map)?)),
        }
    }
    Ok(items)
}

/// What makes an element of a merged list itself.
fn id(item: &Value, key: Option<&str>) -> String {
    json::to_string(key.and_then(|key| item.get(key)).unwrap_or(item))
}

fn ranks(items: &[Value], key: Option<&str>) -> HashMap<String, usize> {
    items.iter().enumerate().map(|(i, item)| (id(item, key), i)).collect()
}

/// Puts the elements that the client names in its order. Those that it does not name stay before what they stood
/// before, as far as that goes; a new element goes before them.
fn reorder(items: &mut Vec<Value>, order: &HashMap<String, usize>, places: &HashMap<String, usize>, key: Option<&str>) {
    let mut named = Vec::new();
    let mut others = VecDeque::new();
    for item in items.drain(..) {
        let id = id(&item, key);
        let place = places.get(&id).copied();
        match order.get(&id) {
            Some(rank) => named.push((*rank, place, item)),
            None => others.push_back((place, item)),
        }
    }
    named.sort_by_key(|(rank, ..)| *rank);
    for (_, place, item) in named {
        while others.front().is_some_and(|(other, _)| place.is_some() && *other < place) {
            items.extend(others.pop_front().map(|(_, item)| item));
        }
        items.push(item);
    }
    items.extend(others.into_iter().map(|(_, item)| item));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(tree: &str, patch: &str) -> String {
        let read = |text: &str| json::parse(text.as_bytes()).unwrap();
        let id = builtin().type_named("core.v1.Pod").unwrap();
        json::to_string(&apply(&read(patch), read(tree), id).unwrap())
    }

    #[test]
    fn lists_are_merged_by_their_key() {
        let tree = r#"{"spec":{"containers":[{"image":"x","name":"a"},{"name":"b"}]}}"#;
        assert_eq!(
            patched(tree, r#"{"spec":{"containers":[{"name":"a","image":"y"},{"name":"c"}]}}"#),
            r#"{"spec":{"containers":[{"image":"y","name":"a"},{"name":"c"},{"name":"b"}]}}"#
        );
        assert_eq!(
            patched(tree, r#"{"spec":{"containers":[{"name":"b","$patch":"delete"}]}}"#),
            r#"{"spec":{"containers":[{"image":"x","name":"a"}]}}"#
        );
        assert_eq!(
            patched(
                tree,
                r#"{"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"b","image":"z"}]}}"#
            ),
            r#"{"spec":{"containers":[{"image":"z","name":"b"},{"image":"x","name":"a"}]}}"#
        );
    }

    #[test]
    fn scalars_lists_lose_what_is_named() {
        assert_eq!(
            patched(
                r#"{"metadata":{"finalizers":["a/b","c/d"]}}"#,
                r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["a/b"]}}"#
            ),
            r#"{"metadata":{"finalizers":["c/d"]}}"#
        );
    }
}
