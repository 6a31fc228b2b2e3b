//! Values as upstream's messages show them: as JSON of the server's own Go types, which have no JSON names.
//!
//! Members are in Go's order, all of them, under Go's names; what is not set is null or zero.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;
use trireme_schema::{Field, Map, Schema, StructId, Type, Value, builtin, empties, encode, json};

/// JSON whose members have an order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    /// A scalar, or what is written as it is.
    Leaf(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

#[derive(Default)]
struct Names {
    common: HashMap<&'static str, &'static str>,
    of_type: HashMap<(&'static str, &'static str), &'static str>,
    order: HashMap<&'static str, Vec<&'static str>>,
}

fn names() -> &'static Names {
    static NAMES: LazyLock<Names> = LazyLock::new(|| {
        let mut names = Names::default();
        for line in include_str!("internal.txt").lines() {
            let mut words = line.split(' ');
            match words.next() {
                Some("names") => names.common.extend(words.filter_map(|w| w.split_once('='))),
                Some("rename") => {
                    let ty = words.next().unwrap_or_default();
                    names.of_type.extend(words.filter_map(|w| w.split_once('=')).map(|(j, g)| ((ty, j), g)));
                }
                Some("order") => {
                    let ty = words.next().unwrap_or_default();
                    names.order.insert(ty, words.collect());
                }
                _ => {}
            }
        }
        names
    });
    &NAMES
}

/// A value of the type named, as one line.
pub(crate) fn show(name: &str, value: &Value) -> String {
    tree(name, value).line()
}

/// A value of the type named that is no pointer in Go: one that is absent has all its members.
pub(crate) fn show_struct(name: &str, value: &Value) -> String {
    if value.is_null() { show(name, &Value::Object(Map::new())) } else { show(name, value) }
}

/// Values of the type named, as a list in one line; `null` for none.
pub(crate) fn show_list(name: &str, value: Option<&Value>) -> String {
    match value.and_then(Value::as_array) {
        Some(items) => Tree::List(items.iter().map(|v| tree(name, v)).collect()).line(),
        None => "null".to_owned(),
    }
}

/// A value of the type named.
pub(crate) fn tree(name: &str, value: &Value) -> Tree {
    match builtin().type_named(name) {
        Some(_) if value.is_null() => Tree::Leaf("null".to_owned()),
        Some(id) => structure(builtin(), id, value),
        None => Tree::Leaf(json::to_string(value)),
    }
}

fn go_name(ty: &str, field: &str) -> String {
    let names = names();
    match names.of_type.get(&(ty, field)).or_else(|| names.common.get(field)) {
        Some(name) => (*name).to_owned(),
        None => {
            let mut chars = field.chars();
            chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
        }
    }
}

/// A value's JSON as the API has it.
pub(crate) fn api_json(schema: &Schema, id: StructId, value: &Value) -> String {
    let mut value = value.clone();
    empties::forget(schema, id, &mut value);
    String::from_utf8(encode::to_vec(schema, id, &value)).unwrap_or_default()
}

fn structure(schema: &Schema, id: StructId, value: &Value) -> Tree {
    let s = &schema[id];
    // Types of the meta group are the API's own, with JSON names.
    if s.package == "meta.v1" {
        return Tree::Leaf(api_json(schema, id, value));
    }
    let mut members = Vec::new();
    let moved;
    let value = if (s.package.as_str(), s.name.as_str()) == ("core.v1", "PodSpec") {
        moved = with_host_settings(value);
        &moved
    } else {
        value
    };
    collect(schema, id, value, &mut members);
    Tree::Object(members)
}

fn collect(schema: &Schema, id: StructId, value: &Value, members: &mut Vec<(String, Tree)>) {
    let s = &schema[id];
    let name = format!("{}.{}", s.package, s.name);
    let Some(order) = names().order.get(name.as_str()) else {
        return s.fields.iter().for_each(|field| push(schema, &name, field, value, members));
    };
    for json_name in order {
        match s.fields.iter().find(|f| f.name == *json_name) {
            Some(field) => push(schema, &name, field, value, members),
            // What the API has elsewhere is put here by `with_host_settings`.
            None => {
                let zero = if matches!(*json_name, "hostNetwork" | "hostPID" | "hostIPC") { "false" } else { "null" };
                let shown = value.get(json_name).map_or_else(|| zero.to_owned(), json::to_string);
                members.push((go_name(&name, json_name), Tree::Leaf(shown)));
            }
        }
    }
}

fn push(schema: &Schema, ty: &str, field: &Field, value: &Value, members: &mut Vec<(String, Tree)>) {
    match (&field.ty, field.inline) {
        (Type::Struct(inner), true) => collect(schema, *inner, value, members),
        _ => members.push((go_name(ty, &field.name), member(schema, field, value.get(&field.name)))),
    }
}

/// The server keeps a pod's host settings in its security context.
fn with_host_settings(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for field in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"] {
        if let Some(value) = spec.remove_at(&[field]) {
            spec.set_at(&["securityContext", field], value);
        }
    }
    spec
}

fn member(schema: &Schema, field: &Field, value: Option<&Value>) -> Tree {
    match value {
        Some(value) => element(schema, &field.ty, value),
        None if field.ptr => Tree::Leaf("null".to_owned()),
        None => match &field.ty {
            Type::Struct(id) => structure(schema, *id, &Value::object()),
            Type::String => Tree::Leaf("\"\"".to_owned()),
            Type::Bool => Tree::Leaf("false".to_owned()),
            Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => Tree::Leaf("0".to_owned()),
            Type::Quantity => Tree::Leaf("\"0\"".to_owned()),
            _ => Tree::Leaf("null".to_owned()),
        },
    }
}

fn element(schema: &Schema, ty: &Type, value: &Value) -> Tree {
    match (ty, value) {
        (Type::Struct(id), value) => structure(schema, *id, value),
        (Type::List(inner), Value::Array(items)) => {
            Tree::List(items.iter().map(|v| element(schema, inner, v)).collect())
        }
        (Type::Map(inner), Value::Object(map)) => {
            Tree::Object(map.iter().map(|(k, v)| (k.to_string(), element(schema, inner, v))).collect())
        }
        (_, value) => Tree::Leaf(json::to_string(value)),
    }
}

impl Tree {
    /// Without spaces.
    pub fn line(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, None);
        out
    }

    /// With a line for each member, indented by a space (Go's `MarshalIndent`).
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, Some(0));
        out
    }

    fn write(&self, out: &mut String, indent: Option<usize>) {
        let inner = indent.map(|n| n + 1);
        let newline = |out: &mut String, indent: Option<usize>| {
            if let Some(n) = indent {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', n));
            }
        };
        match self {
            Tree::Leaf(text) => match indent {
                // What was encoded as a whole is laid out like the rest.
                Some(_) if text.starts_with(['{', '[']) => match ordered(text) {
                    Some(tree) => tree.write(out, indent),
                    None => out.push_str(text),
                },
                _ => out.push_str(text),
            },
            Tree::List(items) if items.is_empty() => out.push_str("[]"),
            Tree::Object(members) if members.is_empty() => out.push_str("{}"),
            Tree::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    newline(out, inner);
                    item.write(out, inner);
                }
                newline(out, indent);
                out.push(']');
            }
            Tree::Object(members) => {
                out.push('{');
                for (i, (name, value)) in members.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    newline(out, inner);
                    let colon = if indent.is_some() { ": " } else { ":" };
                    let _infallible = write!(out, "{}{colon}", json::to_string(&Value::from(name.as_str())));
                    value.write(out, inner);
                }
                newline(out, indent);
                out.push('}');
            }
        }
    }
}

/// JSON text as a tree that keeps the order of members.
fn ordered(text: &str) -> Option<Tree> {
    let mut rest = text;
    let tree = parse(&mut rest)?;
    rest.is_empty().then_some(tree)
}

fn parse(rest: &mut &str) -> Option<Tree> {
    let eat = |rest: &mut &str, c: char| match rest.strip_prefix(c) {
        Some(tail) => {
            *rest = tail;
            true
        }
        None => false,
    };
    if eat(rest, '{') {
        let mut members = Vec::new();
        while !eat(rest, '}') {
            let Tree::Leaf(name) = parse(rest)? else { return None };
            let name = json::parse(name.as_bytes()).ok()?.as_str()?.to_owned();
            if !eat(rest, ':') {
                return None;
            }
            members.push((name, parse(rest)?));
            eat(rest, ',');
        }
        return Some(Tree::Object(members));
    }
    if eat(rest, '[') {
        let mut items = Vec::new();
        while !eat(rest, ']') {
            items.push(parse(rest)?);
            eat(rest, ',');
        }
        return Some(Tree::List(items));
    }
    let end = if let Some(text) = rest.strip_prefix('"') {
        let mut escaped = false;
        1 + text.find(|c| {
            let done = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            done
        })? + 1
    } else {
        rest.find([',', '}', ']']).unwrap_or(rest.len())
    };
    if end == 0 {
        return None;
    }
    let (leaf, tail) = rest.split_at(end);
    *rest = tail;
    Some(Tree::Leaf(leaf.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::value;

    #[test]
    fn every_line_of_the_table_names_a_type_and_its_fields() {
        for line in include_str!("internal.txt").lines().filter(|l| l.starts_with("rename ") || l.starts_with("order "))
        {
            let mut words = line.split(' ').skip(1);
            let name = words.next().unwrap();
            let id = builtin().type_named(name).unwrap_or_else(|| panic!("{line}"));
            for field in words.map(|w| w.split('=').next().unwrap()) {
                let moved = name == "core.v1.PodSecurityContext";
                assert!(moved || builtin().field(id, field).is_some(), "{name} {field}");
            }
        }
    }

    #[test]
    fn members_have_the_order_and_names_of_go() {
        let taint = value!({"key": "a", "effect": "NoSchedule"});
        assert_eq!(show("core.v1.Taint", &taint), r#"{"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}"#);
        let spec = value!({"selector": {"matchLabels": {"a": "b"}}});
        assert!(
            tree("core.v1.PersistentVolumeClaimSpec", &spec)
                .pretty()
                .contains("\n \"Selector\": {\n  \"matchLabels\": {\n   \"a\": \"b\"\n  }\n },")
        );
    }
}
