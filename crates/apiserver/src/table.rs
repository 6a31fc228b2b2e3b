//! Tables: the cells that `kubectl get` prints. Which columns a kind has, the schema says; here is what stands in them.

mod autoscaler;
mod cluster;
mod core;
mod network;
mod pod;
mod storage;
mod workloads;

use crate::catalogue::Served;
use crate::convert;
use crate::human;
use crate::openapi::descriptions::Descriptions;
use crate::openapi::full_name;
use std::collections::HashMap;
use std::sync::OnceLock;
use trireme_schema::{About, Column, Map, StructId, Value, builtin};

/// Column definitions of a kind.
pub fn columns(served: &Served) -> Value {
    if let Some(custom) = &served.custom {
        return custom.headers();
    }
    let column = |c: &Column| {
        let mut map = Map::from_iter([
            ("name", c.name.as_str()),
            ("type", c.kind.as_str()),
            ("format", c.format.as_str()),
            ("description", description(&c.about)),
        ]);
        map.insert("priority", i64::from(c.wide));
        Value::Object(map)
    };
    Value::Array(served.resource.columns.iter().map(column).collect())
}

/// What a column says of itself. The texts of all are gathered once, since those of fields are kept packed.
fn description(about: &About) -> &str {
    static TEXTS: OnceLock<HashMap<(StructId, &str), String>> = OnceLock::new();
    let (id, name) = match about {
        About::Text(text) => return text,
        About::Field(id, name) => (*id, name.as_str()),
    };
    let texts = TEXTS.get_or_init(|| {
        let (schema, all) = (builtin(), Descriptions::load());
        let abouts = schema.resources().iter().flat_map(|r| &r.columns).map(|c| &c.about);
        let fields =
            abouts.filter_map(|a| if let About::Field(id, name) = a { Some((*id, name.as_str())) } else { None });
        let text = |id, name| all.of_field(&full_name(schema, id), name).unwrap_or_default();
        // The values of an enumeration are told after the field's own words.
        let own = |text: &str| text.split("\n\nPossible enum values").next().unwrap_or_default().to_owned();
        fields.map(|(id, name)| ((id, name), own(text(id, name)))).collect()
    });
    texts.get(&(id, name)).map_or("", String::as_str)
}

/// The cells of an object.
pub fn cells(served: &Served, object: &Value) -> Vec<Value> {
    if let Some(custom) = &served.custom {
        return custom.cells(object);
    }
    let object = &*convert::meant(served, object);
    let of = |c: &trireme_schema::Column| match c.name.as_str() {
        "Name" => name(served, object).into(),
        "Age" => human::age(object.str_at(&["metadata", "creationTimestamp"])).into(),
        "Created At" => object.str_at(&["metadata", "creationTimestamp"]).into(),
        name => cell(served, name, object),
    };
    let mut cells: Vec<Value> = served.resource.columns.iter().map(of).collect();
    if served.kind() == "IPAddress" {
        // Upstream's rows have an age for which there is no column.
        cells.push(human::age(object.str_at(&["metadata", "creationTimestamp"])).into());
    }
    cells
}

fn name(served: &Served, object: &Value) -> String {
    let name = object.str_at(&["metadata", "name"]);
    let marked = |key| object.str_at(&["metadata", "annotations", key]) == "true";
    let default = served.kind() == "StorageClass"
        && (marked("storageclass.kubernetes.io/is-default-class")
            || marked("storageclass.beta.kubernetes.io/is-default-class"));
    if default { format!("{name} (default)") } else { name.to_owned() }
}

const NONE: &str = "<none>";
const UNSET: &str = "<unset>";

fn or_none(text: &str) -> Value {
    if text.is_empty() { NONE.into() } else { text.into() }
}

fn int(object: &Value, path: &[&str]) -> Value {
    object.int_at(path).unwrap_or_default().into()
}

fn count(value: Option<&Value>) -> Value {
    let n = match value {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(map)) => map.len(),
        _ => 0,
    };
    Value::Int(n as i64)
}

fn joined<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.collect::<Vec<_>>().join(",")
}

/// `a=b,c=d`, and expressions, as selectors are shown.
fn selector(value: Option<&Value>) -> Value {
    let Some(value) = value else { return NONE.into() };
    let labels = value.get("matchLabels").or(if value.get("matchExpressions").is_some() { None } else { Some(value) });
    let mut parts: Vec<String> = labels
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
        .filter_map(|(k, v)| v.as_str().map(|v| format!("{k}={v}")))
        .collect();
    for e in value.list_at(&["matchExpressions"]) {
        let (key, values) = (e.str_at(&["key"]), joined(e.list_at(&["values"]).iter().filter_map(Value::as_str)));
        parts.push(match e.str_at(&["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    if parts.is_empty() { NONE.into() } else { parts.join(",").into() }
}

fn containers(object: &Value, path: &[&str], field: &str) -> Value {
    joined(object.list_at(path).iter().map(|c| c.str_at(&[field]))).into()
}

/// The first items, and how many more there are.
fn joined_some(items: impl Iterator<Item = String>, most: usize, between: &str) -> String {
    let all: Vec<String> = items.collect();
    let shown = all.iter().take(most).cloned().collect::<Vec<_>>().join(between);
    if all.len() > most { format!("{shown} + {} more...", all.len() - most) } else { shown }
}

/// What stands in a column of a kind; groups that are not built in have columns of their own.
fn cell(served: &Served, column: &str, o: &Value) -> Value {
    let kind = served.kind();
    match served.group() {
        "" | "events.k8s.io" => core::cell(kind, column, o),
        "apps" | "batch" | "autoscaling" | "policy" => workloads::cell(kind, column, o),
        "networking.k8s.io" | "discovery.k8s.io" => network::cell(kind, column, o),
        "storage.k8s.io" | "resource.k8s.io" => storage::cell(kind, column, o),
        _ => cluster::cell(kind, column, o),
    }
}
