//! The schemas and objects of structured-merge-diff's own tests, and client-go's schema of the built-in API.

// A test that cannot go on has failed, and one that has nothing to read says so.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use trireme_merge::{
    Builtin, List, Place, Repeated, Scalar, Set, Shape, Type, combine, compare, fields_of, validate, without,
};
use trireme_schema::{Value, builtin, json, yaml};

fn vector(path: &str) -> Option<String> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors").join(path);
    let file = if file.exists() { file } else { PathBuf::from("/work/shared/vectors").join(path) };
    let text = std::fs::read_to_string(&file).ok();
    if text.is_none() {
        eprintln!("skipped: {} is not there", file.display());
    }
    text
}

/// A schema in structured-merge-diff's own form.
struct Schema {
    types: BTreeMap<String, Node>,
}

/// A type of it: a list's relationship and keys, a map's fields with their defaults, and what is in them.
struct Node {
    scalar: Option<Scalar>,
    list: Option<(String, Vec<String>, Inner)>,
    map: Option<(bool, Fields, Inner)>,
}

type Fields = BTreeMap<String, (Reference, Option<Value>)>;

type Inner = Option<Box<Reference>>;

enum Reference {
    Named(String, Option<String>),
    Inline(Node),
}

#[derive(Clone, Copy)]
struct At<'s> {
    schema: &'s Schema,
    node: &'s Node,
    relationship: Option<&'s str>,
}

impl Schema {
    fn read(text: &str) -> Self {
        let value = yaml::parse(text).unwrap();
        let types = value.list_at(&["types"]).iter();
        Self { types: types.map(|t| (t.str_at(&["name"]).to_owned(), Node::read(t))).collect() }
    }

    fn named(&self, name: &str) -> Option<At<'_>> {
        Some(At { schema: self, node: self.types.get(name)?, relationship: None })
    }

    fn at<'s>(&'s self, reference: &'s Reference) -> Option<Place<At<'s>>> {
        match reference {
            Reference::Named(name, _) if name == "__untyped_atomic_" => Some(Place::Atomic),
            Reference::Named(name, _) if name == "__untyped_deduced_" => Some(Place::Deduced),
            Reference::Named(name, relationship) => {
                let node = self.types.get(name)?;
                Some(Place::Typed(At { schema: self, node, relationship: relationship.as_deref() }))
            }
            Reference::Inline(node) => Some(Place::Typed(At { schema: self, node, relationship: None })),
        }
    }
}

impl Reference {
    fn read(value: &Value) -> Self {
        let relationship = value.get("elementRelationship").and_then(Value::as_str).map(str::to_owned);
        match value.get("namedType").and_then(Value::as_str) {
            Some(name) => Self::Named(name.to_owned(), relationship),
            None => Self::Inline(Node::read(value)),
        }
    }
}

impl Node {
    fn read(value: &Value) -> Self {
        let inner = |value: &Value| value.get("elementType").map(|t| Box::new(Reference::read(t)));
        let scalar = value.get("scalar").and_then(Value::as_str).map(|name| match name {
            "string" => Scalar::String,
            "numeric" => Scalar::Number,
            "boolean" => Scalar::Bool,
            _ => Scalar::Any,
        });
        let list = value.get("list").map(|list| {
            let keys = list.list_at(&["keys"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
            (list.str_at(&["elementRelationship"]).to_owned(), keys, inner(list))
        });
        let map = value.get("map").map(|map| {
            let field = |field: &Value| {
                let ty = field.get("type").cloned().unwrap_or_default();
                (field.str_at(&["name"]).to_owned(), (Reference::read(&ty), field.get("default").cloned()))
            };
            let fields = map.list_at(&["fields"]).iter().map(field).collect();
            (map.str_at(&["elementRelationship"]) == "atomic", fields, inner(map))
        });
        Self { scalar, list, map }
    }
}

impl Type for At<'_> {
    fn shape(&self) -> Shape<'_> {
        let relationship = |own: &str| self.relationship.map_or(own.to_owned(), str::to_owned);
        Shape {
            scalar: self.node.scalar,
            list: self.node.list.as_ref().map(|(own, keys, _)| match (relationship(own).as_str(), keys.is_empty()) {
                ("associative", true) => List::Set,
                ("associative", false) => List::Keyed(keys),
                _ => List::Atomic,
            }),
            map: self
                .node
                .map
                .as_ref()
                .map(|(atomic, ..)| self.relationship.map_or(*atomic, |relationship| relationship == "atomic")),
        }
    }

    fn field(&self, name: &str) -> Option<Place<Self>> {
        let (_, fields, _) = self.node.map.as_ref()?;
        self.schema.at(&fields.get(name)?.0)
    }

    fn values(&self) -> Option<Place<Self>> {
        self.schema.at(self.node.map.as_ref()?.2.as_ref()?)
    }

    fn items(&self) -> Option<Place<Self>> {
        self.schema.at(self.node.list.as_ref()?.2.as_ref()?)
    }

    fn default_of(&self, name: &str) -> Option<Value> {
        self.node.map.as_ref()?.1.get(name)?.1.clone()
    }
}

const DATA: &str = "structured-merge-diff/internal/testdata";

#[test]
fn schemas_are_described_by_the_schema_of_schemas() {
    let Some(text) = vector(&format!("{DATA}/schema.yaml")) else { return };
    let schema = Schema::read(&text);
    let place = Place::Typed(schema.named("schema").unwrap());
    for (file, fits) in [
        ("schema.yaml", true),
        ("list.yaml", true),
        ("scalar.yaml", true),
        ("struct.yaml", true),
        ("bad-schema.yaml", false),
    ] {
        let text = vector(&format!("{DATA}/{file}")).unwrap();
        let result = validate(place, &yaml::parse(&text).unwrap(), Repeated::Refused);
        assert_eq!(result.is_ok(), fits, "{file}: {result:?}");
    }
}

#[test]
fn objects_have_the_fields_that_upstream_finds() {
    let Some(text) = vector(&format!("{DATA}/k8s-schema.yaml")) else { return };
    let schema = Schema::read(&text);
    for (object, set, ty) in [
        ("pod.yaml", "podset.json", "io.k8s.api.core.v1.Pod"),
        ("node.yaml", "nodeset.json", "io.k8s.api.core.v1.Node"),
        ("endpoints.yaml", "endpointsset.json", "io.k8s.api.core.v1.Endpoints"),
        ("k8s-deployment.yaml", "", "io.k8s.api.apps.v1.Deployment"),
    ] {
        let place = Place::Typed(schema.named(ty).unwrap());
        let object = yaml::parse(&vector(&format!("{DATA}/{object}")).unwrap()).unwrap();
        let found = fields_of(place, &object);
        if !set.is_empty() {
            // The sets are those of an older version, which marked structs too: what they end in is the same.
            let want = json::parse(vector(&format!("{DATA}/{set}")).unwrap().as_bytes()).unwrap();
            assert_eq!(leaves(&found), leaves(&Set::read(&want)), "{ty}");
        }
        // Laws that hold for every object.
        assert_eq!(validate(place, &object, Repeated::Allowed), Ok(()), "{ty}");
        assert!(compare(place, &object, &object).is_empty());
        assert_eq!(combine(place, &object, &object), object);
        assert_eq!(Set::read(&found.write()), found);
        assert_eq!(without(place, &object, &Set::default()), object);
        // Everything that the object has, taken out of it, leaves nothing but empty lists.
        let bare = without(place, &object, &trireme_merge::with_named(place, &found));
        assert!(fields_of(place, &bare).common(&found).is_empty(), "{ty}");
    }
}

/// The paths that no other path goes on from.
fn leaves(set: &Set) -> Vec<String> {
    let shown = |path: Vec<trireme_merge::Element>| path.iter().map(ToString::to_string).collect::<String>();
    let mut paths: Vec<String> = set.paths().into_iter().map(shown).collect();
    paths.sort();
    let inner = |path: &String| paths.iter().any(|p| p.len() > path.len() && p.starts_with(path.as_str()));
    paths.iter().filter(|path| !inner(path)).cloned().collect()
}

#[test]
fn built_in_types_merge_as_client_go_says() {
    let Some(text) = vector("client-go-smd-schema/schema.yaml") else { return };
    let schema = Schema::read(&text);
    let mut compared = 0;
    let mut wrong = Vec::new();
    for (gv, kinds) in builtin().kinds() {
        for (kind, id) in kinds {
            let group = match gv.group.as_str() {
                "" => "core".to_owned(),
                "apiextensions.k8s.io" => continue,
                group => group.split('.').next().unwrap_or_default().to_owned(),
            };
            let group = if group == "rbac" { "rbac".to_owned() } else { group };
            let name = format!("io.k8s.api.{group}.{}.{kind}", gv.version);
            let Some(theirs) = schema.named(&name) else { continue };
            compared += 1;
            describe(&name, Builtin::of(*id), Some(Place::Typed(theirs)), &mut Vec::new(), &mut wrong);
        }
    }
    assert!(compared > 80, "only {compared} kinds were compared");
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// Compares two descriptions of a type field by field.
fn describe(
    path: &str,
    ours: Place<Builtin>,
    theirs: Option<Place<At<'_>>>,
    seen: &mut Vec<*const Node>,
    wrong: &mut Vec<String>,
) {
    let (ours, theirs) = match (ours, theirs) {
        (Place::Atomic, Some(Place::Atomic)) => return,
        // Any JSON that is replaced as a whole; some of it is spelled out.
        (Place::Atomic, Some(Place::Typed(theirs))) if theirs.node.scalar.is_some() && theirs.node.list.is_some() => {
            return;
        }
        (Place::Atomic, Some(Place::Typed(theirs))) if theirs.node.map.is_some() => return,
        (Place::Typed(ours), Some(Place::Typed(theirs))) => (ours, theirs),
        _ => return wrong.push(format!("{path}: typed by one only")),
    };
    if seen.contains(&std::ptr::from_ref(theirs.node)) || path.matches('.').count() > 24 {
        return;
    }
    let (a, b) = (ours.shape(), theirs.shape());
    // Its schema is that of a later version, which tells these apart.
    if a != b && !path.ends_with(".nodeAllocatableResourceClaimStatuses") {
        return wrong.push(format!("{path}: {a:?} is {b:?} to client-go"));
    }
    seen.push(std::ptr::from_ref(theirs.node));
    if let Some((_, fields, _)) = &theirs.node.map {
        for name in fields.keys() {
            let path = format!("{path}.{name}");
            // What we do not have is of a later version.
            if let Some(field) = ours.field(name) {
                describe(&path, field, theirs.field(name), seen, wrong);
            }
        }
    }
    if let (Some(a), Some(b)) = (ours.values(), theirs.values()) {
        describe(&format!("{path}{{}}"), a, Some(b), seen, wrong);
    }
    if let (Some(a), Some(b)) = (ours.items(), theirs.items()) {
        if let (List::Keyed(keys), Place::Typed(a), Place::Typed(b)) = (theirs.shape().list.unwrap_or(List::Set), a, b)
        {
            for key in keys {
                if a.default_of(key) != b.default_of(key) {
                    wrong.push(format!("{path}[].{key}: default {:?} is {:?}", a.default_of(key), b.default_of(key)));
                }
            }
        }
        describe(&format!("{path}[]"), a, Some(b), seen, wrong);
    }
    seen.pop();
}
