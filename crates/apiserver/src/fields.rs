//! Sets of fields, as `managedFields` keeps them (structured-merge-diff `fieldpath`).
//!
//! A path element is text: `f:name` for a field, `k:{"name":"a"}` for an element of a keyed list, `v:"x"` for one of a
//! set. Their JSON form nests them; `.` marks that a node is itself in the set.

use std::collections::BTreeMap;
use trireme_schema::{Field, ListKind, Map, Schema, Type, Value, builtin, json};

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(BTreeMap<String, Node>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    under: FieldSet,
}

impl FieldSet {
    /// No paths.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(|n| !n.member && n.under.is_empty())
    }

    /// From its JSON form.
    pub fn read(value: &Value) -> Self {
        let mut set = Self::default();
        for (key, inner) in value.as_object().into_iter().flat_map(Map::iter).filter(|(k, _)| *k != ".") {
            let leaf = inner.as_object().is_none_or(Map::is_empty);
            set.0.insert(key.to_string(), Node { member: leaf || inner.get(".").is_some(), under: Self::read(inner) });
        }
        set
    }

    /// Its JSON form.
    pub fn write(&self) -> Value {
        let mut map = Map::new();
        for (key, node) in &self.0 {
            let Value::Object(mut inner) = node.under.write() else { continue };
            if inner.is_empty() && !node.member {
                continue;
            }
            if node.member && !inner.is_empty() {
                inner.insert(".", Map::new());
            }
            map.insert(key.as_str(), inner);
        }
        Value::Object(map)
    }

    fn node(&mut self, path: &[String]) -> Option<&mut Node> {
        let (first, rest) = path.split_first()?;
        let node = self.0.entry(first.clone()).or_default();
        if rest.is_empty() { Some(node) } else { node.under.node(rest) }
    }

    /// Adds a path.
    pub fn insert(&mut self, path: &[String]) {
        if let Some(node) = self.node(path) {
            node.member = true;
        }
    }

    /// Adds all paths of another set.
    pub fn add(&mut self, other: &Self) {
        for (key, node) in &other.0 {
            let own = self.0.entry(key.clone()).or_default();
            own.member |= node.member;
            own.under.add(&node.under);
        }
    }

    /// Takes out all paths of another set.
    pub fn subtract(&mut self, other: &Self) {
        for (key, node) in &other.0 {
            if let Some(own) = self.0.get_mut(key) {
                own.member &= !node.member;
                own.under.subtract(&node.under);
            }
        }
        self.0.retain(|_, n| n.member || !n.under.is_empty());
    }

    /// The paths in both.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for (key, node) in &self.0 {
            if let Some(theirs) = other.0.get(key) {
                let both = Node { member: node.member && theirs.member, under: node.under.common(&theirs.under) };
                if both.member || !both.under.is_empty() {
                    out.0.insert(key.clone(), both);
                }
            }
        }
        out
    }

    /// The top-level field of a set, with what is under it, taken out.
    pub fn drop_field(&mut self, name: &str) {
        self.0.remove(&format!("f:{name}"));
    }

    /// Takes out fields of an object's metadata.
    pub fn drop_metadata(&mut self, names: &[&str]) {
        if let Some(node) = self.0.get_mut("f:metadata") {
            for name in names {
                node.under.0.remove(&format!("f:{name}"));
            }
            if node.under.is_empty() {
                self.0.remove("f:metadata");
            }
        }
    }

    /// Each path as text, such as `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect("", &mut out);
        out
    }

    fn collect(&self, prefix: &str, out: &mut Vec<String>) {
        for (key, node) in &self.0 {
            let here = format!("{prefix}{}", shown(key));
            if node.member {
                out.push(here.clone());
            }
            node.under.collect(&here, out);
        }
    }

    /// Removes from a tree what the set holds and `kept` does not.
    pub fn prune(&self, ty: Option<&Type>, list: &ListKind, value: &mut Value, kept: &Self) {
        let schema = builtin();
        for (key, node) in &self.0 {
            let theirs = kept.0.get(key);
            let owned_by_others = theirs.is_some_and(|n| n.member || !n.under.is_empty());
            let empty = Self::default();
            let below = theirs.map_or(&empty, |n| &n.under);
            match value {
                Value::Object(map) => {
                    let Some(name) = key.strip_prefix("f:") else { continue };
                    let (inner, list) = member(schema, ty, name);
                    if node.member
                        && !owned_by_others
                        && (node.under.is_empty() || !matches!(map.get(name), Some(Value::Object(_) | Value::Array(_))))
                    {
                        map.remove(name);
                        continue;
                    }
                    if let Some(child) = map.get_mut(name) {
                        node.under.prune(inner.as_ref(), &list, child, below);
                        let emptied = match child {
                            Value::Object(m) => m.is_empty(),
                            Value::Array(a) => a.is_empty(),
                            _ => false,
                        };
                        if emptied && (node.member || !node.under.is_empty()) && !owned_by_others {
                            map.remove(name);
                        }
                    }
                }
                Value::Array(items) => {
                    let position = items.iter().position(|item| element(list, item).as_deref() == Some(key));
                    let Some(i) = position else { continue };
                    if node.member && !owned_by_others {
                        items.remove(i);
                        continue;
                    }
                    let inner = if let Some(Type::List(inner)) = ty { Some(&**inner) } else { None };
                    node.under.prune(inner, &ListKind::Atomic, &mut items[i], below);
                }
                _ => {}
            }
        }
    }
}

/// A path element as messages show it.
fn shown(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => {
            let keys = json::parse(keys.as_bytes()).unwrap_or_default();
            let pairs: Vec<String> = keys
                .as_object()
                .into_iter()
                .flat_map(Map::iter)
                .map(|(k, v)| format!("{k}={}", json::to_string(v)))
                .collect();
            format!("[{}]", pairs.join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        _ => format!("[{element}]"),
    }
}

/// The type of a member and how its list is merged.
pub(crate) fn member(schema: &Schema, ty: Option<&Type>, name: &str) -> (Option<Type>, ListKind) {
    match ty {
        Some(Type::Struct(id)) => match schema.field(*id, name) {
            Some(field) => (Some(field.ty.clone()), field.list.clone()),
            None => (None, ListKind::Atomic),
        },
        Some(Type::Map(inner)) => (Some((**inner).clone()), ListKind::Atomic),
        _ => (None, ListKind::Atomic),
    }
}

/// What tells an element of a list apart; `None` for atomic lists.
pub(crate) fn element(list: &ListKind, item: &Value) -> Option<String> {
    match list {
        ListKind::Atomic => None,
        ListKind::Set => Some(format!("v:{}", json::to_string(item))),
        ListKind::Map(keys) => {
            let mut map = Map::new();
            for key in keys {
                // A key that is not given has its default; only protocol has one.
                match item.get(key) {
                    Some(value) => drop(map.insert(key.as_str(), value.clone())),
                    None if key == "protocol" => drop(map.insert("protocol", "TCP")),
                    None => {}
                }
            }
            Some(format!("k:{}", json::to_string(&Value::Object(map))))
        }
    }
}

/// Whether a field is replaced as a whole.
fn is_atomic(schema: &Schema, field: Option<&Field>, ty: Option<&Type>) -> bool {
    match ty {
        Some(Type::Struct(id)) => schema[*id].atomic || field.is_some_and(|f| f.atomic),
        Some(Type::Map(_)) => field.is_some_and(|f| f.atomic),
        Some(Type::List(_)) => field.is_none_or(|f| f.list == ListKind::Atomic),
        _ => true,
    }
}

fn field_of<'a>(schema: &'a Schema, ty: Option<&Type>, name: &str) -> Option<&'a Field> {
    if let Some(Type::Struct(id)) = ty { schema.field(*id, name) } else { None }
}

/// All fields of an applied object.
pub fn of_object(ty: &Type, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(builtin(), Some(ty), None, value, &mut Vec::new(), &mut set);
    set
}

fn collect(
    schema: &Schema,
    ty: Option<&Type>,
    field: Option<&Field>,
    value: &Value,
    path: &mut Vec<String>,
    set: &mut FieldSet,
) {
    let empty = match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    };
    if !path.is_empty() && (empty || is_atomic(schema, field, ty)) {
        set.insert(path);
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter() {
                let (inner, _) = member(schema, ty, name);
                path.push(format!("f:{name}"));
                collect(schema, inner.as_ref(), field_of(schema, ty, name), value, path, set);
                path.pop();
            }
        }
        Value::Array(items) => {
            let list = field.map_or(ListKind::Atomic, |f| f.list.clone());
            let inner = if let Some(Type::List(inner)) = ty { Some(&**inner) } else { None };
            for item in items {
                let Some(key) = element(&list, item) else { continue };
                path.push(key);
                set.insert(path);
                if item.as_object().is_some() {
                    collect(schema, inner, None, item, path, set);
                }
                path.pop();
            }
        }
        _ => {}
    }
}

/// What differs between two trees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// There now and not before, or there with another value.
    pub changed: FieldSet,
    /// There before and not now.
    pub removed: FieldSet,
}

/// Compares two trees of a type.
pub fn compare(ty: &Type, old: &Value, new: &Value) -> Difference {
    let mut difference = Difference::default();
    differ(builtin(), Some(ty), None, (Some(old), Some(new)), &mut Vec::new(), &mut difference);
    difference
}

fn differ(
    schema: &Schema,
    ty: Option<&Type>,
    field: Option<&Field>,
    (old, new): (Option<&Value>, Option<&Value>),
    path: &mut Vec<String>,
    out: &mut Difference,
) {
    if old == new {
        return;
    }
    if !path.is_empty() {
        match (old, new) {
            (None, Some(_)) => out.changed.insert(path),
            (Some(_), None) => out.removed.insert(path),
            _ => {}
        }
    }
    let container = |v: Option<&Value>| matches!(v, Some(Value::Object(_) | Value::Array(_)));
    if !path.is_empty() && is_atomic(schema, field, ty) || !(container(old) || container(new)) {
        if let (Some(_), Some(_)) = (old, new) {
            out.changed.insert(path);
        }
        return;
    }
    let list = field.map_or(ListKind::Atomic, |f| f.list.clone());
    let members = |v: Option<&Value>| -> BTreeMap<String, Value> {
        match v {
            Some(Value::Object(map)) => map.iter().map(|(k, v)| (format!("f:{k}"), v.clone())).collect(),
            Some(Value::Array(items)) => items.iter().filter_map(|i| Some((element(&list, i)?, i.clone()))).collect(),
            _ => BTreeMap::new(),
        }
    };
    let (before, after) = (members(old), members(new));
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let (inner, inner_field) = match key.strip_prefix("f:") {
            Some(name) => (member(schema, ty, name).0, field_of(schema, ty, name)),
            None => (if let Some(Type::List(inner)) = ty { Some((**inner).clone()) } else { None }, None),
        };
        path.push(key.clone());
        let pair = (before.get(key), after.get(key));
        // Elements of keyed lists are objects even when their type is replaced as a whole elsewhere.
        differ(schema, inner.as_ref(), inner_field, pair, path, out);
        path.pop();
    }
}

/// Merges an applied tree into a live one.
pub fn merge(ty: &Type, live: &Value, applied: &Value) -> Value {
    merged(builtin(), Some(ty), None, Some(live), applied, true)
}

fn merged(
    schema: &Schema,
    ty: Option<&Type>,
    field: Option<&Field>,
    live: Option<&Value>,
    applied: &Value,
    root: bool,
) -> Value {
    if !root && is_atomic(schema, field, ty) {
        return applied.clone();
    }
    match (live, applied) {
        (Some(Value::Object(live)), Value::Object(applied)) => {
            let mut out = live.clone();
            for (name, value) in applied.iter() {
                let (inner, _) = member(schema, ty, name);
                let new = merged(schema, inner.as_ref(), field_of(schema, ty, name), live.get(name), value, false);
                out.insert(name.clone(), new);
            }
            Value::Object(out)
        }
        (Some(Value::Array(live)), Value::Array(applied)) => {
            let list = field.map_or(ListKind::Atomic, |f| f.list.clone());
            let inner = if let Some(Type::List(inner)) = ty { Some(&**inner) } else { None };
            let id = |item: &Value| element(&list, item);
            let mut out: Vec<Value> = Vec::with_capacity(live.len() + applied.len());
            let mut next = applied.iter().peekable();
            for old in live {
                if !applied.iter().any(|a| id(a) == id(old)) {
                    out.push(old.clone());
                    continue;
                }
                // Everything applied up to this element comes first, in the order of the applied list.
                for item in next.by_ref() {
                    let before = live.iter().find(|l| id(l) == id(item));
                    let object = item.as_object().is_some();
                    out.push(if object { merged(schema, inner, None, before, item, true) } else { item.clone() });
                    if id(item) == id(old) {
                        break;
                    }
                }
            }
            for item in next {
                let before = live.iter().find(|l| id(l) == id(item));
                if !out.iter().any(|o| id(o) == id(item)) {
                    let object = item.as_object().is_some();
                    out.push(if object { merged(schema, inner, None, before, item, true) } else { item.clone() });
                }
            }
            Value::Array(out)
        }
        (_, applied) => applied.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Value {
        json::parse(text.as_bytes()).unwrap()
    }

    fn pod() -> Type {
        Type::Struct(builtin().type_named("core.v1.Pod").unwrap())
    }

    #[test]
    fn applied_fields_are_told_by_their_keys() {
        let object = read(r#"{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}"#);
        let set = of_object(&pod(), &object);
        let text = r#"{"f:metadata":{"f:labels":{"f:a":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}}}"#;
        assert_eq!(json::to_string(&set.write()), text);
        assert_eq!(FieldSet::read(&read(text)), set);
        assert!(set.paths().contains(&".spec.containers[name=\"c\"].image".to_owned()));
    }

    #[test]
    fn differences_name_what_was_added_changed_and_removed() {
        let old = read(r#"{"spec":{"nodeName":"a","hostname":"h"}}"#);
        let new = read(r#"{"spec":{"nodeName":"b","tolerations":[]}}"#);
        let difference = compare(&pod(), &old, &new);
        assert_eq!(difference.changed.paths(), [".spec.nodeName", ".spec.tolerations"]);
        assert_eq!(difference.removed.paths(), [".spec.hostname"]);
    }

    #[test]
    fn merging_keeps_what_others_added() {
        let live = read(r#"{"spec":{"containers":[{"name":"side","image":"s"},{"name":"c","image":"i","tty":true}]}}"#);
        let applied = read(r#"{"spec":{"containers":[{"name":"c","image":"j"}]}}"#);
        let merged = merge(&pod(), &live, &applied);
        assert_eq!(
            json::to_string(&merged),
            r#"{"spec":{"containers":[{"image":"s","name":"side"},{"image":"j","name":"c","tty":true}]}}"#
        );
    }
}
