//! Paths and their operations: what may be asked of a resource, said once for both dialects.

use super::{Dialect, Used, full_name, gvk, typed};
use crate::catalogue::Served;
use trireme_schema::{GroupVersion, Map, Schema, StructId, Type, Value, builtin};

/// A parameter: its name, its type, and whether it is part of the path.
type Parameter = (String, &'static str, bool);

const LIST: [&str; 10] = [
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
/// A list among shards (KEP-5866).
const SHARD: &str = "shardSelector";
const DELETE: [&str; 5] = [
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];
const WRITE: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// What is sent.
enum Body {
    Nothing,
    Object(StructId),
    Options(StructId),
    Patch(StructId),
}

/// What comes back.
enum Answer {
    Object(StructId),
    Watched(StructId),
    Log,
    Text,
}

struct Operation {
    method: &'static str,
    action: &'static str,
    id: String,
    description: String,
    kind: Value,
    query: Vec<Parameter>,
    body: Body,
    answer: Answer,
    /// Codes besides 200 that come with an object.
    more: &'static [(&'static str, &'static str)],
}

const CREATED: (&str, &str) = ("201", "Created");
const ACCEPTED: (&str, &str) = ("202", "Accepted");

fn query(names: &[&str]) -> Vec<Parameter> {
    let kind = |name: &str| match name {
        "limit" | "gracePeriodSeconds" | "timeoutSeconds" => "integer",
        "force"
        | "allowWatchBookmarks"
        | "sendInitialEvents"
        | "watch"
        | "orphanDependents"
        | "ignoreStoreReadErrorWithClusterBreakingPotential" => "boolean",
        _ => "string",
    };
    names.iter().map(|name| ((*name).to_owned(), kind(name), false)).collect()
}

/// The parameters that the fields of an options type are.
fn fields(schema: &Schema, id: Option<StructId>) -> Vec<Parameter> {
    let field = |field: &trireme_schema::Field| {
        // A list is a parameter that is given again and again.
        let one = if let Type::List(inner) = &field.ty { inner } else { &field.ty };
        let kind = match one {
            Type::Bool => "boolean",
            Type::Int32 | Type::Int64 => "integer",
            Type::String => "string",
            _ => return None,
        };
        (!matches!(field.name.as_str(), "apiVersion" | "kind")).then(|| (field.name.clone(), kind, false))
    };
    id.map(|id| schema.flat_fields(id).into_iter().filter_map(field).collect()).unwrap_or_default()
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|c| c.to_ascii_uppercase()).into_iter().collect::<String>() + letters.as_str()
}

/// `rbacAuthorization` for `rbac.authorization.k8s.io`, `core` for the group without a name.
fn camel(group: &str) -> String {
    if group.is_empty() {
        return "core".to_owned();
    }
    let mut parts = group.strip_suffix(".k8s.io").unwrap_or(group).split('.');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| name + &capital(part))
}

/// `core_v1`.
fn tag(gv: &GroupVersion) -> String {
    format!("{}_{}", camel(&gv.group), gv.version)
}

/// The path of a group and version.
fn root(gv: &GroupVersion) -> String {
    if gv.group.is_empty() { format!("/api/{}", gv.version) } else { format!("/apis/{gv}") }
}

/// A path as it is made: its operations, and the parameters in it.
struct Place {
    path: String,
    inside: Vec<Parameter>,
    operations: Vec<Operation>,
}

fn place(path: String) -> Place {
    let inside = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let inside = inside.map(|name| (name.to_owned(), "string", true)).collect();
    Place { path, inside, operations: Vec::new() }
}

/// All that may be asked of a resource.
struct Asked<'a> {
    schema: &'a Schema,
    served: &'a Served,
    status: StructId,
    delete_options: StructId,
    patch: StructId,
    watch_event: StructId,
    list: Option<StructId>,
}

impl<'a> Asked<'a> {
    fn new(served: &'a Served) -> Option<Self> {
        let schema = builtin();
        let meta = |name: &str| schema.type_named(&format!("meta.v1.{name}"));
        Some(Self {
            schema,
            served,
            status: meta("Status")?,
            delete_options: meta("DeleteOptions")?,
            patch: meta("Patch")?,
            watch_event: meta("WatchEvent")?,
            list: schema.kind(&served.resource.gv, &format!("{}List", served.kind())),
        })
    }

    /// `readCoreV1NamespacedPodStatus`
    fn id(&self, verb: &str, what: &str, part: &str, end: &str) -> String {
        let gv = &self.served.resource.gv;
        let space = if self.served.resource.namespaced { "Namespaced" } else { "" };
        let (group, version) = (capital(&camel(&gv.group)), capital(&gv.version));
        format!("{verb}{group}{version}{what}{space}{}{}{end}", self.served.kind(), capital(part))
    }

    fn operation(&self, verb: &str, part: &str, gv: &GroupVersion, kind: &str, id: StructId) -> Option<Operation> {
        let own = self.served.kind();
        let of = |words: &str, joint: &str| match part {
            "" => words.replace("{}", own),
            part => words.replace("{}", &format!("{part} of {joint}{own}")),
        };
        // Parts that are written as a whole take the parameters of writes in the path.
        let operation = |method, action, id: String, description, query, body, answer, more| Operation {
            method,
            action,
            id,
            description,
            kind: gvk(gv, kind),
            query,
            body,
            answer,
            more,
        };
        let pretty = |names: &[&str]| query(&[names, &["pretty"]].concat());
        Some(match verb {
            "get" => operation(
                "get",
                "get",
                self.id("read", "", part, ""),
                if part.is_empty() { format!("read the specified {own}") } else { of("read {}", "the specified ") },
                if part == "log" {
                    fields(self.schema, self.schema.type_named("core.v1.PodLogOptions"))
                } else {
                    Vec::new()
                }
                .into_iter()
                .chain(pretty(&[]))
                .collect(),
                Body::Nothing,
                if part == "log" { Answer::Log } else { Answer::Object(id) },
                &[],
            ),
            "update" => operation(
                "put",
                "put",
                self.id("replace", "", part, ""),
                if part.is_empty() {
                    format!("replace the specified {own}")
                } else {
                    of("replace {}", "the specified ")
                },
                pretty(&WRITE),
                Body::Object(id),
                Answer::Object(id),
                &[CREATED],
            ),
            "patch" => operation(
                "patch",
                "patch",
                self.id("patch", "", part, ""),
                if part.is_empty() {
                    format!("partially update the specified {own}")
                } else {
                    of("partially update {}", "the specified ")
                },
                pretty(&[&WRITE[..], &["force"]].concat()),
                Body::Patch(self.patch),
                Answer::Object(id),
                &[CREATED],
            ),
            "create" => operation(
                "post",
                "post",
                self.id("create", "", part, ""),
                if part.is_empty() { format!("create {}{own}", article(own)) } else { of("create {}", article(own)) },
                pretty(&WRITE),
                Body::Object(id),
                Answer::Object(id),
                &[CREATED, ACCEPTED],
            ),
            "delete" => operation(
                "delete",
                "delete",
                self.id("delete", "", part, ""),
                format!("delete {}{own}", article(own)),
                pretty(&DELETE),
                Body::Options(self.delete_options),
                Answer::Object(if crate::resources::returns_object(self.served) { id } else { self.status }),
                &[ACCEPTED],
            ),
            "deletecollection" => operation(
                "delete",
                "deletecollection",
                self.id("delete", "Collection", part, ""),
                format!("delete collection of {own}"),
                pretty(&[&DELETE[..], &LIST[1..9], &[SHARD]].concat()),
                Body::Options(self.delete_options),
                Answer::Object(self.status),
                &[],
            ),
            "list" => operation(
                "get",
                "list",
                self.id("list", "", "", ""),
                match self.served.resource.verbs.iter().any(|v| v == "watch") {
                    true => format!("list or watch objects of kind {own}"),
                    false => format!("list objects of kind {own}"),
                },
                pretty(&[&LIST[..], &[SHARD]].concat()),
                Body::Nothing,
                Answer::Watched(self.list?),
                &[],
            ),
            _ => return None,
        })
    }

    /// The list of all namespaces.
    fn everywhere(&self) -> Option<Operation> {
        let r = &self.served.resource;
        let mut operation = self.operation("list", "", &r.gv, &r.kind, self.served.id)?;
        operation.id = self.id("list", "", "", "ForAllNamespaces").replace("Namespaced", "");
        Some(operation)
    }

    /// The old form of a watch.
    fn watch(&self, id: String, one: bool) -> Operation {
        let own = self.served.kind();
        let instead = "deprecated: use the 'watch' parameter with a list operation instead";
        let (action, description) = match one {
            true => (
                "watch",
                format!(
                    "watch changes to an object of kind {own}. {instead}, filtered to a single item with the \
                     'fieldSelector' parameter."
                ),
            ),
            false => ("watchlist", format!("watch individual changes to a list of {own}. {instead}.")),
        };
        Operation {
            method: "get",
            action,
            id,
            description,
            kind: gvk(&self.served.resource.gv, own),
            query: query(&[&LIST[..], &[SHARD, "pretty"]].concat()),
            body: Body::Nothing,
            answer: Answer::Watched(self.watch_event),
            more: &[],
        }
    }

    /// A stream to what runs: every method that its verbs allow.
    fn connect(&self, part: &str, verbs: &[String], kind: &str, end: &str) -> Vec<Operation> {
        let gv = &self.served.resource.gv;
        let mut methods: Vec<&'static str> = Vec::new();
        for (verb, method) in
            [("create", "post"), ("delete", "delete"), ("get", "get"), ("patch", "patch"), ("update", "put")]
        {
            if verbs.iter().any(|v| v == verb) {
                methods.push(method);
            }
        }
        if part == "proxy" {
            methods.extend(["head", "options"]);
        }
        let operation = |method: &'static str| Operation {
            method,
            action: "connect",
            id: self.id("connect", &capital(method), part, end),
            description: format!(
                "connect {} requests to {part} of {}",
                method.to_ascii_uppercase(),
                self.served.kind()
            ),
            kind: gvk(gv, kind),
            query: fields(self.schema, self.schema.kind(gv, kind)),
            body: Body::Nothing,
            answer: Answer::Text,
            more: &[],
        };
        methods.into_iter().map(operation).collect()
    }

    fn places(&self) -> Vec<Place> {
        let r = &self.served.resource;
        let root = root(&r.gv);
        let below = if r.namespaced { format!("namespaces/{{namespace}}/{}", r.plural) } else { r.plural.clone() };
        let mut all = place(format!("{root}/{below}"));
        let mut one = place(format!("{root}/{below}/{{name}}"));
        for verb in &r.verbs {
            let target = match verb.as_str() {
                "list" | "create" | "deletecollection" => &mut all,
                _ => &mut one,
            };
            target.operations.extend(self.operation(verb, "", &r.gv, &r.kind, self.served.id));
        }
        let mut out = vec![all, one];
        let watched = r.verbs.iter().any(|v| v == "watch");
        if r.namespaced && r.verbs.iter().any(|v| v == "list") {
            let mut everywhere = place(format!("{root}/{}", r.plural));
            everywhere.operations.extend(self.everywhere());
            out.push(everywhere);
        }
        if watched {
            let mut listed = place(format!("{root}/watch/{below}"));
            listed.operations.push(self.watch(self.id("watch", "", "", "List"), false));
            let mut named = place(format!("{root}/watch/{below}/{{name}}"));
            named.operations.push(self.watch(self.id("watch", "", "", ""), true));
            out.extend([listed, named]);
            if r.namespaced {
                let mut everywhere = place(format!("{root}/watch/{}", r.plural));
                let id = self.id("watch", "", "", "ListForAllNamespaces").replace("Namespaced", "");
                everywhere.operations.push(self.watch(id, false));
                out.push(everywhere);
            }
        }
        for s in &r.subresources {
            let gv = s.gv.as_ref().unwrap_or(&r.gv);
            let mut part = place(format!("{root}/{below}/{{name}}/{}", s.name));
            if matches!(s.name.as_str(), "attach" | "exec" | "portforward" | "proxy") {
                part.operations = self.connect(&s.name, &s.verbs, &s.kind, "");
                if s.name == "proxy" {
                    let mut deeper = place(format!("{}/{{path}}", part.path));
                    deeper.operations = self.connect(&s.name, &s.verbs, &s.kind, "WithPath");
                    out.push(deeper);
                }
            } else if let Some(id) = self.schema.kind(gv, &s.kind) {
                part.operations.extend(s.verbs.iter().filter_map(|v| self.operation(v, &s.name, gv, &s.kind, id)));
            }
            out.push(part);
        }
        out.retain(|place| !place.operations.is_empty());
        out
    }
}

/// `a `, `an `, or nothing before a plural.
fn article(kind: &str) -> &'static str {
    match kind {
        plural if plural.ends_with('s') && !plural.ends_with("ss") => "",
        vowel if vowel.starts_with(['A', 'E', 'I', 'O', 'U']) => "an ",
        _ => "a ",
    }
}

impl Dialect<'_> {
    /// The paths of a resource. Types that they name are added to `used`.
    pub(super) fn builtin_paths(self, served: &Served, used: &mut Used) -> Vec<(String, Map)> {
        used.structs.insert(served.id);
        let Some(asked) = Asked::new(served) else { return Vec::new() };
        let tag = tag(&served.resource.gv);
        let write = |place: Place| {
            let mut map = Map::new();
            let full = |operation: &Operation| {
                let mut all: Vec<Parameter> = operation.query.iter().chain(&place.inside).cloned().collect();
                all.sort_by(|a, b| (&a.0, b.2).cmp(&(&b.0, a.2)));
                all.dedup();
                all
            };
            // What all operations take is said once.
            let mut common = place.operations.first().map(full).unwrap_or_default();
            common.retain(|parameter| place.operations.iter().all(|operation| full(operation).contains(parameter)));
            for operation in &place.operations {
                let own = full(operation).into_iter().filter(|parameter| !common.contains(parameter)).collect();
                map.insert(operation.method, self.write(operation, &tag, own, used));
            }
            if !common.is_empty() {
                let common = common.iter().map(|p| self.parameter(p, served.kind())).collect();
                map.insert("parameters", Value::Array(common));
            }
            (place.path, map)
        };
        asked.places().into_iter().map(write).collect()
    }

    /// The path where a group and version tells its resources.
    pub(super) fn resources(self, gv: &GroupVersion, used: &mut Used) -> Option<(String, Map)> {
        let id = builtin().type_named("meta.v1.APIResourceList")?;
        let operation = Operation {
            method: "get",
            action: "",
            id: format!("get{}{}APIResources", capital(&camel(&gv.group)), capital(&gv.version)),
            description: "get available resources".to_owned(),
            kind: Value::Null,
            query: Vec::new(),
            body: Body::Nothing,
            answer: Answer::Object(id),
            more: &[],
        };
        let written = self.write(&operation, &tag(gv), Vec::new(), used);
        Some((format!("{}/", root(gv)), Map::from_iter([("get", written)])))
    }

    fn parameter(self, (name, kind, inside): &Parameter, of: &str) -> Value {
        let place = if *inside { "path" } else { "query" };
        let mut map = Map::from_iter([("name", name.as_str()), ("in", place)]);
        match name.as_str() {
            "name" if *inside => drop(map.insert("description", format!("name of the {of}"))),
            "namespace" if *inside => {
                map.insert("description", "object name and auth scope, such as for teams and projects");
            }
            _ => {}
        }
        if *inside {
            map.insert("required", true);
        }
        let mut schema = typed(kind);
        schema.insert("uniqueItems", true);
        if self.v3 {
            map.insert("schema", schema);
        } else {
            for (key, value) in schema {
                map.insert(key, value);
            }
        }
        Value::Object(map)
    }

    fn write(self, operation: &Operation, tag: &str, own: Vec<Parameter>, used: &mut Used) -> Map {
        let mut reference = |id: StructId| {
            used.structs.insert(id);
            self.reference(&full_name(builtin(), id))
        };
        let mut map = Map::new();
        map.insert("description", operation.description.as_str());
        map.insert("operationId", operation.id.as_str());
        map.insert("tags", vec![tag]);
        if !operation.action.is_empty() {
            map.insert("x-kubernetes-action", operation.action);
            map.insert("x-kubernetes-group-version-kind", operation.kind.clone());
        }
        let (answer, media): (Map, Vec<&str>) = match &operation.answer {
            Answer::Object(id) => (reference(*id), vec![JSON, YAML, PROTOBUF]),
            Answer::Watched(id) => (
                reference(*id),
                vec![
                    JSON,
                    YAML,
                    PROTOBUF,
                    "application/json;stream=watch",
                    "application/vnd.kubernetes.protobuf;stream=watch",
                ],
            ),
            Answer::Log => (typed("string"), vec!["text/plain", JSON, YAML, PROTOBUF]),
            Answer::Text => (typed("string"), vec!["*/*"]),
        };
        let mut parameters: Vec<Value> = own.iter().map(|p| self.parameter(p, "")).collect();
        let (body, takes, required) = match &operation.body {
            // Discovery takes what it gives.
            Body::Nothing if operation.action.is_empty() => (None, media.clone(), false),
            Body::Nothing => (None, vec!["*/*"], false),
            Body::Object(id) => (Some(reference(*id)), vec!["*/*"], true),
            Body::Options(id) => (Some(reference(*id)), vec!["*/*"], false),
            Body::Patch(id) => (Some(reference(*id)), PATCHES.to_vec(), true),
        };
        if self.v3 {
            if let Some(schema) = body {
                let content = takes.iter().map(|m| (*m, Map::from_iter([("schema", schema.clone())]))).collect::<Map>();
                let mut body = Map::from_iter([("content", content)]);
                if required {
                    body.insert("required", true);
                }
                map.insert("requestBody", body);
            }
        } else {
            if let Some(schema) = body {
                let mut body = Map::from_iter([("in", "body"), ("name", "body")]);
                body.insert("schema", schema);
                if required {
                    body.insert("required", true);
                }
                parameters.insert(0, Value::Object(body));
            }
            map.insert("consumes", takes);
            map.insert("produces", media.clone());
            map.insert("schemes", vec!["https"]);
        }
        if !parameters.is_empty() {
            map.insert("parameters", Value::Array(parameters));
        }
        let mut responses = Map::new();
        for (code, words) in [("200", "OK")].iter().chain(operation.more) {
            let mut response = Map::from_iter([("description", *words)]);
            if self.v3 {
                let content = media.iter().map(|m| (*m, Map::from_iter([("schema", answer.clone())]))).collect::<Map>();
                response.insert("content", content);
            } else {
                response.insert("schema", answer.clone());
            }
            responses.insert(*code, response);
        }
        responses.insert("401", Map::from_iter([("description", "Unauthorized")]));
        map.insert("responses", responses);
        map
    }
}
