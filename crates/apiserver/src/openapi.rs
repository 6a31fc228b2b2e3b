//! OpenAPI documents out of the schema.

mod custom;
pub(crate) mod descriptions;
pub mod gnostic;
mod paths;

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

/// A type that is an object of the API: what kind and version are is the same for all, and texts are not there for all.
const OBJECT: &str = "io.k8s.api.core.v1.Pod";

fn is_type_meta(field: &Field) -> bool {
    matches!(field.name.as_str(), "apiVersion" | "kind")
}

/// What a field is that is not given, where that is no absence.
fn zero(field: &Field) -> Option<Value> {
    match (&field.ty, field.omit) {
        _ if field.ptr => None,
        (Type::Struct(_), _) => Some(Value::object()),
        (Type::String, false) => Some("".into()),
        (Type::Int32 | Type::Int64, false) => Some(0.into()),
        (Type::Bool, false) => Some(false.into()),
        _ => None,
    }
}

/// Groups of other servers, and of what is never asked for as an object.
const OTHER_SERVERS: [&str; 5] =
    ["apidiscovery.k8s.io", "audit.k8s.io", "metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io"];

/// The two dialects: where components lie, and of which group and version the document is (v2 is of all).
#[derive(Clone, Copy)]
struct Dialect<'a> {
    root: &'static str,
    v3: bool,
    of: Option<&'a GroupVersion>,
}

/// A reference beside which nothing stands needs no wrapping.
fn bare(map: Map) -> Map {
    match map.get("allOf").and_then(Value::as_array) {
        Some([Value::Object(only)]) if map.len() == 1 => only.clone(),
        _ => map,
    }
}

fn typed(kind: &str) -> Map {
    Map::from_iter([("type", kind)])
}

fn formatted(kind: &str, format: &str) -> Map {
    Map::from_iter([("type", kind), ("format", format)])
}

impl Dialect<'_> {
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
        if self.v3
            && let Some(default) = field.default.clone().or_else(|| zero(field))
        {
            map.insert("default", default);
        }
        if let Some(values) =
            field.enumeration.as_ref().and_then(|e| schema.enumeration(&schema[owner].package, e)).filter(|e| e.closed)
        {
            let mut values = values.values.clone();
            values.sort();
            match (&field.ty, map.get_mut("items").and_then(Value::as_object_mut)) {
                (Type::String, _) => drop(map.insert("enum", values)),
                (_, Some(items)) => drop(items.insert("enum", values)),
                _ => {}
            }
        }
        if matches!(field.ty, Type::List(_)) && field.list_declared {
            match &field.list {
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
            let own = texts.of_field(&name, &field.name);
            if let Some(text) = own.or_else(|| texts.of_field(OBJECT, &field.name).filter(|_| is_type_meta(field))) {
                property.insert("description", text);
            }
            properties.insert(field.name.as_str(), bare(property));
            if field.required {
                required.push(field.name.clone());
            }
        }
        if !properties.is_empty() {
            map.insert("properties", properties);
        }
        if !required.is_empty() {
            map.insert("required", required);
        }
        if schema[id].atomic {
            map.insert("x-kubernetes-map-type", "atomic");
        }
        let kinds = self.kinds(schema, id);
        if !kinds.is_empty() {
            map.insert("x-kubernetes-group-version-kind", Value::Array(kinds));
        }
        map
    }

    /// The groups, versions and kinds that a type is. What every group has are its own in each.
    fn kinds(self, schema: &Schema, id: StructId) -> Vec<Value> {
        let name = schema[id].name.as_str();
        let meta = schema[id].package == "meta.v1";
        let core = GroupVersion::parse("v1");
        match name {
            "DeleteOptions" | "WatchEvent" if meta => schema
                .kinds()
                .map(|(gv, _)| gv)
                .filter(|gv| {
                    self.of.map_or(!OTHER_SERVERS.contains(&gv.group.as_str()), |of| of == *gv || core == **gv)
                })
                .map(|gv| gvk(gv, name))
                .collect(),
            "Status" | "APIGroup" | "APIGroupList" | "APIResourceList" | "APIVersions" if meta => {
                vec![gvk(&core, name)]
            }
            _ => schema
                .kinds()
                .flat_map(|(gv, kinds)| kinds.iter().filter(|(_, i)| **i == id).map(move |(kind, _)| gvk(gv, kind)))
                .collect(),
        }
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
        self.builtin_paths(served, used)
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

/// As much of a version as does not change with a patch.
fn minor(version: &str) -> String {
    let numbers: Vec<&str> = version.trim_start_matches('v').splitn(3, '.').take(2).collect();
    numbers.join(".")
}

/// How clients prove who they are.
fn security() -> Map {
    let token = Map::from_iter([
        ("description", "Bearer Token authentication"),
        ("in", "header"),
        ("name", "authorization"),
        ("type", "apiKey"),
    ]);
    Map::from_iter([("BearerToken", token)])
}

/// The OpenAPI v3 document of a group and version.
pub fn v3(catalogue: &Shelf, gv: &GroupVersion, version: &str, find: Find<'_>) -> Value {
    let dialect = Dialect { root: "#/components/schemas/", v3: true, of: Some(gv) };
    let texts = Descriptions::load();
    let (mut used, mut paths, mut custom) = (Used::default(), Map::new(), false);
    for served in catalogue.all().filter(|s| s.resource.gv == *gv) {
        custom |= served.custom.is_some();
        for (path, methods) in dialect.paths(served, &mut used, &texts, find) {
            paths.insert(path, methods);
        }
    }
    if !custom && let Some((path, methods)) = dialect.resources(gv, &mut used) {
        paths.insert(path, methods);
    }
    let definitions = dialect.definitions(used, &paths, &texts);
    let components = Map::from_iter([("schemas", definitions), ("securitySchemes", security())]);
    let mut document = Map::from_iter([("openapi", "3.0.0")]);
    let info = if custom { info("Kubernetes CRD Swagger", "v0.1.0") } else { info("Kubernetes", &minor(version)) };
    document.insert("info", info);
    document.insert("paths", paths);
    document.insert("components", components);
    Value::Object(document)
}

/// The OpenAPI v2 document of all.
pub fn v2(catalogue: &Shelf, version: &str, find: Find<'_>) -> Value {
    let dialect = Dialect { root: "#/definitions/", v3: false, of: None };
    let texts = Descriptions::load();
    let (mut used, mut paths) = (Used::default(), Map::new());
    let versions: BTreeSet<&GroupVersion> =
        catalogue.all().filter(|served| served.custom.is_none()).map(|served| &served.resource.gv).collect();
    for gv in versions {
        if let Some((path, methods)) = dialect.resources(gv, &mut used) {
            paths.insert(path, methods);
        }
    }
    for served in catalogue.all() {
        for (path, methods) in dialect.paths(served, &mut used, &texts, find) {
            paths.insert(path, methods);
        }
    }
    let mut document = Map::from_iter([("swagger", "2.0")]);
    document.insert("info", info("Kubernetes", &minor(version)));
    let definitions = dialect.definitions(used, &paths, &texts);
    document.insert("paths", paths);
    document.insert("definitions", definitions);
    document.insert("securityDefinitions", security());
    document.insert("security", vec![Value::Object(Map::from_iter([("BearerToken", Value::Array(Vec::new()))]))]);
    Value::Object(document)
}
