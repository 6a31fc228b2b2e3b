//! OpenAPI documents out of the schema.

mod custom;
pub(crate) mod descriptions;
pub mod gnostic;

use crate::catalogue::{Served, Shelf};
use descriptions::Descriptions;
use std::collections::BTreeSet;
use trireme_schema::{Field, GroupVersion, ListKind, Map, Schema, StructId, Type, Value, builtin};

/// The name of a type in upstream's documents.
pub(crate) fn full_name(schema: &Schema, id: StructId) -> String {
    let s = &schema[id];
    let (group, version) = s.package.rsplit_once('.').unwrap_or(("", &s.package));
    let prefix = match group {
        "meta" => "io.k8s.apimachinery.pkg.apis.meta".to_owned(),
        "apiextensions" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions".to_owned(),
        "apiregistration" => "io.k8s.kube-aggregator.pkg.apis.apiregistration".to_owned(),
        other => format!("io.k8s.api.{other}"),
    };
    format!("{prefix}.{version}.{}", s.name)
}

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const FIELDS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// Finds the definition of a custom resource by its name.
pub type Find<'a> = &'a dyn Fn(&str) -> Option<Value>;

/// The types that a document speaks of.
#[derive(Default)]
struct Used {
    structs: BTreeSet<StructId>,
    /// Schemas that are there already, by name.
    custom: Map,
}

/// The two dialects: where components lie.
#[derive(Clone, Copy)]
struct Dialect {
    root: &'static str,
    v3: bool,
}

fn typed(kind: &str) -> Map {
    Map::from_iter([("type", kind)])
}

fn formatted(kind: &str, format: &str) -> Map {
    Map::from_iter([("type", kind), ("format", format)])
}

impl Dialect {
    fn reference(self, name: &str) -> Map {
        Map::from_iter([("$ref", format!("{}{name}", self.root))])
    }

    /// A reference beside which other keys may stand.
    fn wrapped(self, name: &str) -> Map {
        if !self.v3 {
            return self.reference(name);
        }
        Map::from_iter([("allOf", vec![Value::Object(self.reference(name))])])
    }

    /// What stands in a list or map, where nothing stands beside a reference.
    fn inner(self, schema: &Schema, ty: &Type, used: &mut BTreeSet<StructId>) -> Map {
        let map = self.of(schema, ty, used);
        let reference = map.get("allOf").and_then(|all| all.as_array()?.first()?.as_object()).cloned();
        reference.unwrap_or(map)
    }

    fn of(self, schema: &Schema, ty: &Type, used: &mut BTreeSet<StructId>) -> Map {
        match ty {
            Type::String => typed("string"),
            Type::Bool => typed("boolean"),
            Type::Int32 => formatted("integer", "int32"),
            Type::Int64 => formatted("integer", "int64"),
            Type::Double => formatted("number", "double"),
            Type::Bytes => formatted("string", "byte"),
            Type::Duration => typed("string"),
            Type::Quantity => self.wrapped(QUANTITY),
            Type::Time => self.wrapped(TIME),
            Type::MicroTime => self.wrapped(MICRO_TIME),
            Type::IntOrString => self.wrapped(INT_OR_STRING),
            Type::RawExtension => self.wrapped(RAW),
            Type::FieldsV1 => self.wrapped(FIELDS),
            Type::Json | Type::Any | Type::SchemaOrBool | Type::SchemaOrArray | Type::SchemaOrStrings => Map::new(),
            Type::List(inner) => {
                let mut map = typed("array");
                map.insert("items", self.inner(schema, inner, used));
                map
            }
            Type::Map(inner) => {
                let mut map = typed("object");
                map.insert("additionalProperties", self.inner(schema, inner, used));
                map
            }
            Type::Struct(id) => {
                used.insert(*id);
                self.wrapped(&full_name(schema, *id))
            }
        }
    }

    fn field(self, schema: &Schema, owner: StructId, field: &Field, used: &mut BTreeSet<StructId>) -> Map {
        let mut map = self.of(schema, &field.ty, used);
        if let Some(default) = &field.default {
            map.insert("default", default.clone());
        }
        if let Some(values) =
            field.enumeration.as_ref().and_then(|e| schema.enumeration(&schema[owner].package, e)).filter(|e| e.closed)
            && field.ty == Type::String
        {
            map.insert("enum", values.values.clone());
        }
        if matches!(field.ty, Type::List(_)) {
            match &field.list {
                ListKind::Atomic if field.patch.merge => {}
                ListKind::Atomic => drop(map.insert("x-kubernetes-list-type", "atomic")),
                ListKind::Set => drop(map.insert("x-kubernetes-list-type", "set")),
                ListKind::Map(keys) => {
                    map.insert("x-kubernetes-list-type", "map");
                    map.insert("x-kubernetes-list-map-keys", keys.clone());
                }
            }
        } else if field.atomic == Some(true) {
            map.insert("x-kubernetes-map-type", "atomic");
        }
        let strategies: Vec<&str> = [(field.patch.merge, "merge"), (field.patch.retain_keys, "retainKeys")]
            .into_iter()
            .filter(|s| s.0)
            .map(|s| s.1)
            .collect();
        if !strategies.is_empty() {
            map.insert("x-kubernetes-patch-strategy", strategies.join(","));
        }
        if let Some(key) = &field.patch.key {
            map.insert("x-kubernetes-patch-merge-key", key.as_str());
        }
        map
    }

    fn structure(self, schema: &Schema, id: StructId, texts: &Descriptions, used: &mut BTreeSet<StructId>) -> Map {
        let name = full_name(schema, id);
        let mut map = Map::new();
        if let Some(text) = texts.of_type(&name) {
            map.insert("description", text);
        }
        map.insert("type", "object");
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in schema.flat_fields(id) {
            let mut property = self.field(schema, id, field, used);
            if let Some(text) = texts.of_field(&name, &field.name) {
                property.insert("description", text);
            }
            properties.insert(field.name.as_str(), property);
            if field.required {
                required.push(field.name.clone());
            }
        }
        if !properties.is_empty() {
            map.insert("properties", properties);
        }
        if !required.is_empty() {
            required.sort();
            map.insert("required", required);
        }
        if schema[id].atomic {
            map.insert("x-kubernetes-map-type", "atomic");
        }
        let kinds: Vec<Value> = schema
            .kinds()
            .flat_map(|(gv, kinds)| kinds.iter().filter(|(_, i)| **i == id).map(move |(kind, _)| gvk(gv, kind)))
            .collect();
        if !kinds.is_empty() {
            map.insert("x-kubernetes-group-version-kind", Value::Array(kinds));
        }
        map
    }

    /// The types that are used, and all that they use.
    fn definitions(self, used: Used, paths: &Map, texts: &Descriptions) -> Map {
        let schema = builtin();
        let Used { structs: mut open, custom: mut out } = used;
        let mut done = BTreeSet::new();
        while let Some(id) = open.pop_first() {
            if !done.insert(id) {
                continue;
            }
            let mut used = BTreeSet::new();
            out.insert(full_name(schema, id), self.structure(schema, id, texts, &mut used));
            open.extend(used.difference(&done).copied());
        }
        let either = if self.v3 {
            let one = vec![Value::Object(typed("integer")), Value::Object(typed("string"))];
            let mut map = Map::from_iter([("oneOf", one)]);
            map.insert("format", "int-or-string");
            map
        } else {
            formatted("string", "int-or-string")
        };
        let quantity = if self.v3 {
            Map::from_iter([("oneOf", vec![Value::Object(typed("string")), Value::Object(typed("number"))])])
        } else {
            typed("string")
        };
        let mut named = BTreeSet::new();
        out.values().chain(paths.values()).for_each(|value| references(value, &mut named));
        for (name, mut value) in [
            (PATCH, typed("object")),
            (QUANTITY, quantity),
            (TIME, formatted("string", "date-time")),
            (MICRO_TIME, formatted("string", "date-time")),
            (INT_OR_STRING, either),
            (RAW, typed("object")),
            (FIELDS, typed("object")),
        ] {
            if !named.iter().any(|reference| reference.ends_with(name)) {
                continue;
            }
            if let Some(text) = texts.of_type(name) {
                value.insert("description", text);
            }
            out.insert(name, value);
        }
        out
    }

    fn paths(self, served: &Served, used: &mut Used, texts: &Descriptions, find: Find<'_>) -> Vec<(String, Map)> {
        if let Some(custom) = &served.custom {
            let document = custom::Document::new(self, served, texts);
            let crd = find(&custom.definition.name).unwrap_or_default();
            for (name, map) in document.schemas(&crd, used) {
                used.custom.insert(name, map);
            }
            return document.paths(used);
        }
        let used = &mut used.structs;
        let schema = builtin();
        let r = &served.resource;
        used.insert(served.id);
        let root = if r.gv.group.is_empty() { format!("/api/{}", r.gv.version) } else { format!("/apis/{}", r.gv) };
        let collection = if r.namespaced {
            format!("{root}/namespaces/{{namespace}}/{}", r.plural)
        } else {
            format!("{root}/{}", r.plural)
        };
        let one = format!("{collection}/{{name}}");
        let list = schema.kind(&r.gv, &format!("{}List", r.kind));
        used.extend(list);
        let mut of_one = Map::new();
        let mut of_all = Map::new();
        for verb in &r.verbs {
            let (place, method, id) = match verb.as_str() {
                "get" => (&mut of_one, "get", Some(served.id)),
                "update" => (&mut of_one, "put", Some(served.id)),
                "patch" => (&mut of_one, "patch", Some(served.id)),
                "delete" => (&mut of_one, "delete", Some(served.id)),
                "list" => (&mut of_all, "get", list),
                "create" => (&mut of_all, "post", Some(served.id)),
                "deletecollection" => (&mut of_all, "delete", list),
                _ => continue,
            };
            place.insert(method, self.operation(served, verb, id));
        }
        let mut out = vec![(one.clone(), of_one), (collection, of_all)];
        if r.namespaced && r.verbs.iter().any(|v| v == "list") {
            let all = Map::from_iter([("get", self.operation(served, "list", list))]);
            out.push((format!("{root}/{}", r.plural), all));
        }
        for s in &r.subresources {
            let gv = s.gv.as_ref().unwrap_or(&r.gv);
            let id = schema.kind(gv, &s.kind);
            used.extend(id);
            let mut methods = Map::new();
            for verb in &s.verbs {
                let method = match verb.as_str() {
                    "get" => "get",
                    "update" => "put",
                    "patch" => "patch",
                    "create" => "post",
                    "delete" => "delete",
                    _ => continue,
                };
                methods.insert(method, self.operation(served, verb, id));
            }
            out.push((format!("{one}/{}", s.name), methods));
        }
        out.retain(|(_, methods)| !methods.is_empty());
        out
    }

    fn operation(self, served: &Served, verb: &str, id: Option<StructId>) -> Map {
        let mut operation = Map::new();
        let names: &[&str] = match verb {
            "create" | "update" => &["dryRun", "fieldManager", "fieldValidation"],
            "patch" => &["dryRun", "fieldManager", "fieldValidation", "force"],
            "list" | "deletecollection" => &["continue", "fieldSelector", "labelSelector", "limit", "resourceVersion"],
            "delete" => &["dryRun", "gracePeriodSeconds", "propagationPolicy"],
            _ => &[],
        };
        let parameters = names.iter().map(|name| {
            let kind = match *name {
                "limit" | "gracePeriodSeconds" => "integer",
                "force" => "boolean",
                _ => "string",
            };
            let mut map = Map::from_iter([("name", *name), ("in", "query")]);
            if self.v3 {
                map.insert("schema", typed(kind));
            } else {
                map.insert("type", kind);
            }
            map.insert("uniqueItems", true);
            Value::Object(map)
        });
        operation.insert("parameters", Value::Array(parameters.collect()));
        let mut ok = Map::from_iter([("description", "OK")]);
        if let Some(id) = id {
            let reference = self.reference(&full_name(builtin(), id));
            if self.v3 {
                let media = Map::from_iter([("schema", reference)]);
                ok.insert("content", Map::from_iter([("application/json", media)]));
            } else {
                ok.insert("schema", reference);
            }
        }
        operation.insert("responses", Map::from_iter([("200", ok)]));
        let action = match verb {
            "create" => "post",
            "update" => "put",
            other => other,
        };
        operation.insert("x-kubernetes-action", action);
        operation.insert("x-kubernetes-group-version-kind", gvk(&served.resource.gv, served.kind()));
        operation
    }
}

fn gvk(gv: &GroupVersion, kind: &str) -> Value {
    Value::Object(Map::from_iter([("group", gv.group.as_str()), ("version", gv.version.as_str()), ("kind", kind)]))
}

/// All that a value refers to.
fn references(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, out)),
        Value::Object(map) => {
            out.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| references(value, out));
        }
        _ => {}
    }
}

fn info(title: &str, version: &str) -> Map {
    Map::from_iter([("title", title), ("version", version)])
}

/// The OpenAPI v3 document of a group and version.
pub fn v3(catalogue: &Shelf, gv: &GroupVersion, version: &str, find: Find<'_>) -> Value {
    let dialect = Dialect { root: "#/components/schemas/", v3: true };
    let texts = Descriptions::load();
    let (mut used, mut paths, mut custom) = (Used::default(), Map::new(), false);
    for served in catalogue.all().filter(|s| s.resource.gv == *gv) {
        custom |= served.custom.is_some();
        for (path, methods) in dialect.paths(served, &mut used, &texts, find) {
            paths.insert(path, methods);
        }
    }
    let schemas = Map::from_iter([("schemas", dialect.definitions(used, &paths, &texts))]);
    let mut document = Map::from_iter([("openapi", "3.0.0")]);
    let info = if custom { info("Kubernetes CRD Swagger", "v0.1.0") } else { info("Kubernetes", version) };
    document.insert("info", info);
    document.insert("paths", paths);
    document.insert("components", schemas);
    Value::Object(document)
}

/// The OpenAPI v2 document of all.
pub fn v2(catalogue: &Shelf, version: &str, find: Find<'_>) -> Value {
    let dialect = Dialect { root: "#/definitions/", v3: false };
    let texts = Descriptions::load();
    let (mut used, mut paths) = (Used::default(), Map::new());
    for served in catalogue.all() {
        for (path, methods) in dialect.paths(served, &mut used, &texts, find) {
            paths.insert(path, methods);
        }
    }
    let mut document = Map::from_iter([("swagger", "2.0")]);
    document.insert("info", info("Kubernetes", version));
    let definitions = dialect.definitions(used, &paths, &texts);
    document.insert("paths", paths);
    document.insert("definitions", definitions);
    Value::Object(document)
}
