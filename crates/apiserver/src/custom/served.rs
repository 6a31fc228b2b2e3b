//! From a definition to what is served.

use super::{Custom, Definition, Printed, Scale};
use crate::catalogue::{Served, topic};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use trireme_extensions::{Compiler, JsonPath};
use trireme_schema::{GroupVersion, Map, Resource, Subresource, Value, builtin};

impl Definition {
    /// What is served of a definition, version by version; objects stored up to `since` are older than its schemas.
    pub(crate) fn serve(crd: &Value, since: i64) -> Vec<Arc<Served>> {
        let Some(id) = builtin().type_named("meta.v1.PartialObjectMetadata") else { return Vec::new() };
        let group = crd.str_at(&["spec", "group"]);
        let names = crd.at(&["status", "acceptedNames"]).cloned().unwrap_or_default();
        let versions = crd.list_at(&["spec", "versions"]);
        let of = |version: &str| GroupVersion { group: group.to_owned(), version: version.to_owned() };
        let mut compiler = Compiler::default();
        let empty = Value::object();
        let schemas: BTreeMap<_, _> = versions
            .iter()
            .map(|v| {
                (
                    v.str_at(&["name"]).to_owned(),
                    compiler.resource(v.at(&["schema", "openAPIV3Schema"]).unwrap_or(&empty)),
                )
            })
            .collect();
        let storage = versions.iter().find(|v| v.bool_at(&["storage"])).map_or("", |v| v.str_at(&["name"]));
        let mut selectable: Vec<String> = versions.iter().flat_map(selectable).collect();
        selectable.sort_unstable();
        selectable.dedup();
        let definition = Arc::new(Definition {
            name: crd.str_at(&["metadata", "name"]).to_owned(),
            group: group.to_owned(),
            made_from: made_from(crd),
            storage: of(storage),
            webhook: super::conversion::endpoint(crd),
            versions: schemas,
            selectable,
            since,
            terminating: is_true(crd, "Terminating"),
            replaced: CancellationToken::new(),
        });
        let served = versions.iter().filter(|v| v.bool_at(&["served"])).filter_map(|version| {
            let name = version.str_at(&["name"]);
            let custom = Custom {
                node: definition.versions.get(name)?.clone(),
                list_kind: names.str_at(&["listKind"]).to_owned(),
                columns: columns(version),
                scale: version.at(&["subresources", "scale"]).map(Scale::read),
                warning: warning(version, group, names.str_at(&["kind"])),
                definition: definition.clone(),
            };
            let resource = resource(crd, &names, version, of(name), definition.terminating);
            let topic = topic(group, &resource.plural);
            let custom = Some(Arc::new(custom));
            Some(Arc::new(Served { resource, id, custom, topic, conversion: None, head: String::new() }))
        });
        served.collect()
    }
}

/// Whether a condition holds.
pub(crate) fn is_true(crd: &Value, condition: &str) -> bool {
    crd.list_at(&["status", "conditions"])
        .iter()
        .any(|c| c.str_at(&["type"]) == condition && c.str_at(&["status"]) == "True")
}

/// The parts of a definition that decide what is served, without what is large: a spec is told by its generation.
pub(crate) fn made_from(crd: &Value) -> Value {
    let mut from = Map::new();
    for (name, path) in [("uid", ["metadata", "uid"]), ("generation", ["metadata", "generation"])] {
        from.insert(name, crd.at(&path).cloned().unwrap_or_default());
    }
    from.insert("names", crd.at(&["status", "acceptedNames"]).cloned().unwrap_or_default());
    from.insert("terminating", is_true(crd, "Terminating"));
    Value::Object(from)
}

fn warning(version: &Value, group: &str, kind: &str) -> Option<String> {
    if !version.bool_at(&["deprecated"]) {
        return None;
    }
    Some(match version.str_at(&["deprecationWarning"]) {
        "" => format!("{group}/{} {kind} is deprecated", version.str_at(&["name"])),
        text => text.to_owned(),
    })
}

fn texts(value: &Value, name: &str) -> Vec<String> {
    value.list_at(&[name]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Fields that objects of a version can be selected by.
fn selectable(version: &Value) -> impl Iterator<Item = String> {
    let fields = version.list_at(&["selectableFields"]).iter();
    fields.map(|field| field.str_at(&["jsonPath"]).trim_start_matches('.').to_owned())
}

fn resource(crd: &Value, names: &Value, version: &Value, gv: GroupVersion, terminating: bool) -> Resource {
    let verbs = |verbs: &[&str]| verbs.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
    let mut all = verbs(&["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]);
    if terminating {
        all.retain(|verb| verb != "create");
    }
    let kind = names.str_at(&["kind"]).to_owned();
    let subresource = |name: &str, kind: String, gv| Subresource {
        name: name.to_owned(),
        kind,
        gv,
        verbs: verbs(&["get", "patch", "update"]),
    };
    let mut subresources = Vec::new();
    if version.at(&["subresources", "status"]).is_some() {
        subresources.push(subresource("status", kind.clone(), None));
    }
    if version.at(&["subresources", "scale"]).is_some() {
        subresources.push(subresource("scale", "Scale".into(), Some(GroupVersion::parse("autoscaling/v1"))));
    }
    Resource {
        gv,
        plural: names.str_at(&["plural"]).to_owned(),
        kind,
        singular: names.str_at(&["singular"]).to_owned(),
        namespaced: crd.str_at(&["spec", "scope"]) == "Namespaced",
        verbs: all,
        short_names: texts(names, "shortNames"),
        categories: texts(names, "categories"),
        field_selectors: selectable(version).collect(),
        served: true,
        subresources,
        columns: Vec::new(),
    }
}

/// The columns of a version; one that says nothing of them shows the age.
fn columns(version: &Value) -> Vec<Printed> {
    let age = trireme_schema::value!([{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
        "description": "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"}]);
    let own = version.list_at(&["additionalPrinterColumns"]);
    let column = |c: &Value| {
        let path = c.str_at(&["jsonPath"]);
        let description = match c.str_at(&["description"]) {
            "" => format!("Custom resource definition column (in JSONPath format): {path}"),
            text => text.to_owned(),
        };
        let mut header = Map::new();
        header.insert("name", c.str_at(&["name"]));
        header.insert("type", c.str_at(&["type"]));
        header.insert("format", c.str_at(&["format"]));
        header.insert("description", description);
        header.insert("priority", c.int_at(&["priority"]).unwrap_or_default());
        Printed {
            header: Value::Object(header),
            kind: c.str_at(&["type"]).to_owned(),
            path: JsonPath::parse(path).ok(),
        }
    };
    let listed = if own.is_empty() { age.as_array().unwrap_or_default() } else { own };
    listed.iter().map(column).collect()
}
