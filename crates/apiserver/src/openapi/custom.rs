//! What documents say of custom resources: their schemas as their definitions have them, and all that can be asked.

use super::descriptions::Descriptions;
use super::{Dialect, PATCH, Used, full_name, gvk, typed};
use crate::catalogue::Served;
use trireme_extensions::published::{self, Embedded};
use trireme_schema::{GroupVersion, Map, Subresource, Value, builtin};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The name of a kind: its group read from the end.
fn model(gv: &GroupVersion, kind: &str) -> String {
    let group: Vec<&str> = gv.group.rsplit('.').collect();
    format!("{}.{}.{kind}", group.join("."), gv.version)
}

/// `oneTwo` for `one.two` and `one-two`.
fn camel(text: &str) -> String {
    let mut words = text.split(['.', '-']);
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |all, word| all + &capital(word))
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

/// One request that can be made, before it is told in a dialect.
struct Asked<'a> {
    action: &'a str,
    /// Its name: a verb and what follows the group in it.
    id: (&'a str, String),
    description: String,
    /// The name of the type that is sent, and whether it must be.
    body: Option<(String, bool)>,
    answer: String,
    codes: &'a [(&'a str, &'a str)],
}

const READ: [(&str, &str); 1] = [("200", "OK")];
const REPLACED: [(&str, &str); 2] = [("200", "OK"), ("201", "Created")];
const CREATED: [(&str, &str); 3] = [("200", "OK"), ("201", "Created"), ("202", "Accepted")];
const DELETED: [(&str, &str); 2] = [("200", "OK"), ("202", "Accepted")];
const LIST_PARAMETERS: [(&str, &str); 11] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("shardSelector", "string"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE_PARAMETERS: [(&str, &str); 3] =
    [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH_PARAMETERS: [(&str, &str); 4] =
    [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const DELETE_PARAMETERS: [(&str, &str); 5] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// The document of one version of a custom resource.
pub(super) struct Document<'a> {
    dialect: Dialect<'a>,
    served: &'a Served,
    texts: &'a Descriptions,
}

impl<'a> Document<'a> {
    pub(super) fn new(dialect: Dialect<'a>, served: &'a Served, texts: &'a Descriptions) -> Self {
        Self { dialect, served, texts }
    }

    fn list_kind(&self) -> &str {
        self.served.custom.as_ref().map_or("", |custom| &custom.list_kind)
    }

    /// The schemas of an object and of a list, as the definition has them.
    pub(super) fn schemas(&self, crd: &Value, used: &mut Used) -> [(String, Map); 2] {
        let schema = builtin();
        let gv = &self.served.resource.gv;
        for kind in ["ObjectMeta", "ListMeta", "DeleteOptions", "Status"] {
            used.structs.extend(schema.type_named(&format!("meta.v1.{kind}")));
        }
        let versions = crd.list_at(&["spec", "versions"]);
        let version = versions.iter().find(|v| v.str_at(&["name"]) == gv.version);
        let mut object = match version.and_then(|v| v.at(&["schema", "openAPIV3Schema"])) {
            None => typed("object"),
            Some(own) if self.dialect.v3 => published::v3(own, &Embedded(&|| self.embedded())),
            Some(own) => published::v2(own, &Embedded(&|| self.embedded())),
        };
        if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
            self.common(properties, "Standard object's metadata.", "metadata", "ObjectMeta");
        } else if object.get("x-kubernetes-preserve-unknown-fields").is_some() || object.len() > 1 {
            let mut properties = Map::new();
            self.common(&mut properties, "Standard object's metadata.", "metadata", "ObjectMeta");
            object.insert("properties", properties);
        }
        let selectable: Vec<Value> = (self.served.resource.field_selectors.iter())
            .map(|path| Value::Object(Map::from_iter([("fieldPath", path.as_str())])))
            .collect();
        let kinds = [self.served.kind(), self.list_kind()];
        let [one, many] = kinds.map(|kind| (model(gv, kind), Value::Array(vec![gvk(gv, kind)])));
        let mut list = typed("object");
        list.insert("description", format!("{} is a list of {}", self.list_kind(), self.served.kind()));
        list.insert("required", vec!["items"]);
        let mut items = typed("array");
        items.insert("description", format!("List of {}. More info: {CONVENTIONS}", self.served.plural()));
        items.insert("items", self.dialect.reference(&one.0));
        let mut properties = Map::from_iter([("items", items)]);
        self.common(&mut properties, "Standard list metadata.", "types-kinds", "ListMeta");
        list.insert("properties", properties);
        let mut out = [(one, object), (many, list)];
        for ((_, kinds), map) in &mut out {
            map.insert("x-kubernetes-group-version-kind", kinds.clone());
            if self.dialect.v3 && !selectable.is_empty() {
                map.insert("x-kubernetes-selectable-fields", selectable.clone());
            }
        }
        out.map(|((name, _), map)| (name, map))
    }

    /// What every object has: its type and metadata.
    fn common(&self, properties: &mut Map, text: &str, anchor: &str, metadata: &str) {
        for name in ["apiVersion", "kind"] {
            let mut property = typed("string");
            if let Some(text) = self.texts.of_field(&format!("{META}.Status"), name) {
                property.insert("description", text);
            }
            properties.insert(name, property);
        }
        let mut meta = self.dialect.wrapped(&format!("{META}.{metadata}"));
        meta.insert("description", format!("{text} More info: {CONVENTIONS}#{anchor}"));
        properties.insert("metadata", meta);
    }

    /// What an object inside of an object has.
    fn embedded(&self) -> Map {
        let mut properties = Map::new();
        self.common(&mut properties, "Standard object's metadata.", "metadata", "ObjectMeta");
        let texts = [
            ("apiVersion", "apiVersion defines the versioned schema of this representation of an object.", "resources"),
            ("kind", "kind is a string value representing the type of this object. In CamelCase.", "types-kinds"),
        ];
        for (name, text, anchor) in texts {
            properties.object(name).insert("description", format!("{text} More info: {CONVENTIONS}#{anchor}"));
        }
        properties
    }

    /// Every path with what can be asked of it.
    pub(super) fn paths(&self, used: &mut Used) -> Vec<(String, Map)> {
        let r = &self.served.resource;
        let root = format!("/apis/{}", r.gv);
        let namespaced = if r.namespaced { "Namespaced" } else { "" };
        let collection = if r.namespaced {
            format!("{root}/namespaces/{{namespace}}/{}", r.plural)
        } else {
            format!("{root}/{}", r.plural)
        };
        let one = format!("{collection}/{{name}}");
        let rest = format!("{namespaced}{}", r.kind);
        let mut out = Vec::new();
        if r.namespaced {
            out.push((format!("{root}/{}", r.plural), vec![self.list(format!("{}ForAllNamespaces", r.kind))]));
        }
        let mut of_all = vec![self.list(rest.clone())];
        if r.verbs.iter().any(|verb| verb == "create") {
            of_all.push(self.create(rest.clone()));
        }
        of_all.push(self.clear(format!("Collection{rest}")));
        out.push((collection, of_all));
        let own = model(&r.gv, &r.kind);
        let mut of_one = self.of_one(&own, "", &rest);
        of_one.push(self.delete(rest.clone()));
        out.push((one.clone(), of_one));
        for Subresource { name, gv, kind, .. } in &r.subresources {
            let ty = match gv.as_ref().and_then(|gv| builtin().kind(gv, kind)) {
                Some(id) => {
                    used.structs.insert(id);
                    full_name(builtin(), id)
                }
                None => own.clone(),
            };
            let operations = self.of_one(&ty, name, &format!("{rest}{}", capital(name)));
            out.push((format!("{one}/{name}"), operations));
        }
        out.into_iter().map(|(path, asked)| (path.clone(), self.path(&path, asked))).collect()
    }

    fn list(&self, rest: String) -> (&'static str, Asked<'static>) {
        let r = &self.served.resource;
        let asked = Asked {
            action: "list",
            id: ("list", rest),
            description: format!("list objects of kind {}", r.kind),
            body: None,
            answer: model(&r.gv, self.list_kind()),
            codes: &READ,
        };
        ("get", asked)
    }

    fn create(&self, rest: String) -> (&'static str, Asked<'static>) {
        let r = &self.served.resource;
        let own = model(&r.gv, &r.kind);
        let asked = Asked {
            action: "post",
            id: ("create", rest),
            description: format!("create {}", noun(&r.kind)),
            body: Some((own.clone(), true)),
            answer: own,
            codes: &CREATED,
        };
        ("post", asked)
    }

    fn clear(&self, rest: String) -> (&'static str, Asked<'static>) {
        let asked = Asked {
            action: "deletecollection",
            id: ("delete", rest),
            description: format!("delete collection of {}", self.served.kind()),
            body: None,
            answer: format!("{META}.Status"),
            codes: &READ,
        };
        ("delete", asked)
    }

    fn delete(&self, rest: String) -> (&'static str, Asked<'static>) {
        let asked = Asked {
            action: "delete",
            id: ("delete", rest),
            description: format!("delete {}", noun(self.served.kind())),
            body: Some((format!("{META}.DeleteOptions"), false)),
            answer: format!("{META}.Status"),
            codes: &DELETED,
        };
        ("delete", asked)
    }

    fn of_one(&self, ty: &str, subresource: &str, rest: &str) -> Vec<(&'static str, Asked<'static>)> {
        let kind = self.served.kind();
        let of = if subresource.is_empty() { String::new() } else { format!("{subresource} of ") };
        let asked = |action, verb, told: &str, body, codes| Asked {
            action,
            id: (verb, rest.to_owned()),
            description: format!("{told} {of}the specified {kind}"),
            body,
            answer: ty.to_owned(),
            codes,
        };
        vec![
            ("get", asked("get", "read", "read", None, &READ)),
            ("put", asked("put", "replace", "replace", Some((ty.to_owned(), true)), &REPLACED)),
            ("patch", asked("patch", "patch", "partially update", Some((PATCH.to_owned(), true)), &READ)),
        ]
    }

    /// A path: parameters that all its requests have stand beside them.
    fn path(&self, path: &str, asked: Vec<(&'static str, Asked<'_>)>) -> Map {
        let mut common = Vec::new();
        if path.contains("{name}") {
            common.push(self.parameter("name", "string", "path"));
        }
        if path.contains("{namespace}") {
            common.push(self.parameter("namespace", "string", "path"));
        }
        common.push(self.parameter("pretty", "string", "query"));
        let alone = asked.len() == 1;
        let mut out = Map::new();
        for (method, asked) in asked {
            let mut own: Vec<Value> =
                parameters(asked.action).iter().map(|(name, kind)| self.parameter(name, kind, "query")).collect();
            if alone {
                common.append(&mut own);
                common.sort_by(|a, b| a.str_at(&["name"]).cmp(b.str_at(&["name"])));
            }
            out.insert(method, self.operation(&asked, own));
        }
        out.insert("parameters", common);
        out
    }

    fn parameter(&self, name: &str, kind: &str, place: &str) -> Value {
        let mut map = Map::from_iter([("name", name), ("in", place)]);
        let text = match name {
            "name" => Some(format!("name of the {}", self.served.kind())),
            _ => self.texts.of_field(&format!("{META}.DeleteOptions"), name).map(str::to_owned),
        };
        if let Some(text) = text {
            map.insert("description", text);
        }
        if place == "path" {
            map.insert("required", true);
        }
        let mut schema = typed(kind);
        schema.insert("uniqueItems", true);
        if self.dialect.v3 {
            map.insert("schema", schema);
        } else {
            schema.iter().for_each(|(key, value)| drop(map.insert(key.as_str(), value.clone())));
        }
        Value::Object(map)
    }

    fn operation(&self, asked: &Asked<'_>, mut parameters: Vec<Value>) -> Map {
        let gv = &self.served.resource.gv;
        let group = camel(&gv.group);
        let mut out = Map::new();
        out.insert("tags", vec![format!("{group}_{}", gv.version)]);
        out.insert("description", asked.description.as_str());
        let (verb, rest) = &asked.id;
        out.insert("operationId", format!("{verb}{}{}{rest}", capital(&group), capital(&gv.version)));
        out.insert("x-kubernetes-action", asked.action);
        out.insert("x-kubernetes-group-version-kind", gvk(gv, self.served.kind()));
        let v3 = self.dialect.v3;
        let takes: &[&str] = match asked.action {
            "patch" => &["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"],
            _ => &TEXT,
        };
        match &asked.body {
            Some((ty, required)) if v3 => {
                let mut body = Map::from_iter([("content", self.content(takes, ty))]);
                if *required {
                    body.insert("required", true);
                }
                out.insert("requestBody", body);
            }
            Some((ty, required)) => {
                let mut body = Map::from_iter([("name", "body"), ("in", "body")]);
                body.insert("schema", self.dialect.reference(ty));
                if *required {
                    body.insert("required", true);
                }
                parameters.insert(0, Value::Object(body));
            }
            None => {}
        }
        if !v3 {
            let list = |types: &[&str]| types.iter().map(|t| Value::from(*t)).collect::<Vec<_>>();
            out.insert("consumes", list(takes));
            out.insert("produces", list(&TEXT));
            out.insert("schemes", vec!["https"]);
        }
        if !parameters.is_empty() {
            out.insert("parameters", parameters);
        }
        let mut responses = Map::new();
        for (code, text) in asked.codes {
            let mut response = Map::from_iter([("description", *text)]);
            if v3 {
                response.insert("content", self.content(&TEXT, &asked.answer));
            } else {
                response.insert("schema", self.dialect.reference(&asked.answer));
            }
            responses.insert(*code, response);
        }
        responses.insert("401", Map::from_iter([("description", "Unauthorized")]));
        out.insert("responses", responses);
        out
    }

    fn content(&self, types: &[&str], ty: &str) -> Map {
        types.iter().map(|media| (*media, Map::from_iter([("schema", self.dialect.reference(ty))]))).collect()
    }
}

const TEXT: [&str; 2] = ["application/json", "application/yaml"];
const CONVENTIONS: &str = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";

fn parameters(action: &str) -> &'static [(&'static str, &'static str)] {
    match action {
        "list" | "deletecollection" => &LIST_PARAMETERS,
        "post" | "put" => &WRITE_PARAMETERS,
        "patch" => &PATCH_PARAMETERS,
        "delete" => &DELETE_PARAMETERS,
        _ => &[("resourceVersion", "string")],
    }
}

fn noun(kind: &str) -> String {
    let vowel = kind.starts_with(['A', 'E', 'I', 'O', 'U']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_groups() {
        let gv = GroupVersion::parse("cert-manager.io/v1");
        assert_eq!(model(&gv, "Issuer"), "io.cert-manager.v1.Issuer");
        assert_eq!(camel(&gv.group), "certManagerIo");
        assert_eq!(noun("Issuer"), "an Issuer");
    }
}
