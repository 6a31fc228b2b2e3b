//! Rules over objects with a schema: what they see, what they may cost.

use std::collections::BTreeMap;
use trireme_cel::{Budget, DeclType, Env, ListType, Range, Schema, SchemaType, Value};
use trireme_schema::value;

/// A schema, as far as these tests need one.
struct Node {
    kind: SchemaType,
    format: &'static str,
    properties: BTreeMap<&'static str, Node>,
    inner: Option<Box<Node>>,
    max: Option<u64>,
    list_type: ListType,
    nullable: bool,
    int_or_string: bool,
}

impl Node {
    fn new(kind: SchemaType) -> Self {
        Self {
            kind,
            format: "",
            properties: BTreeMap::new(),
            inner: None,
            max: None,
            list_type: ListType::Atomic,
            nullable: false,
            int_or_string: false,
        }
    }

    fn list(items: Node) -> Self {
        Self { inner: Some(Box::new(items)), ..Self::new(SchemaType::Array) }
    }

    fn map(values: Node) -> Self {
        Self { inner: Some(Box::new(values)), ..Self::new(SchemaType::Object) }
    }

    fn max(self, max: u64) -> Self {
        Self { max: Some(max), ..self }
    }
}

impl Schema for Node {
    fn schema_type(&self) -> SchemaType {
        self.kind
    }

    fn format(&self) -> &str {
        self.format
    }

    fn items(&self) -> Option<&dyn Schema> {
        self.inner.as_deref().filter(|_| self.kind == SchemaType::Array).map(|node| node as &dyn Schema)
    }

    fn additional_properties(&self) -> Option<&dyn Schema> {
        self.inner.as_deref().filter(|_| self.kind == SchemaType::Object).map(|node| node as &dyn Schema)
    }

    fn has_properties(&self) -> bool {
        !self.properties.is_empty()
    }

    fn property(&self, name: &str) -> Option<&dyn Schema> {
        self.properties.get(name).map(|node| node as &dyn Schema)
    }

    fn properties(&self) -> Vec<(&str, &dyn Schema)> {
        self.properties.iter().map(|(name, node)| (*name, node as &dyn Schema)).collect()
    }

    fn list_type(&self) -> ListType {
        self.list_type
    }

    fn list_map_keys(&self) -> Vec<&str> {
        vec!["k"]
    }

    fn nullable(&self) -> bool {
        self.nullable
    }

    fn int_or_string(&self) -> bool {
        self.int_or_string
    }

    fn max_items(&self) -> Option<u64> {
        self.max
    }

    fn max_length(&self) -> Option<u64> {
        self.max
    }

    fn max_properties(&self) -> Option<u64> {
        self.max
    }
}

fn root() -> Node {
    let text = || Node::new(SchemaType::String);
    let keyed = Node {
        properties: BTreeMap::from([("k", text()), ("v", Node::new(SchemaType::Integer))]),
        ..Node::new(SchemaType::Object)
    };
    Node {
        properties: BTreeMap::from([
            ("a-b", text()),
            ("namespace", text()),
            ("when", Node { format: "date-time", ..text() }),
            ("bytes", Node { format: "byte", ..text() }),
            ("number", Node::new(SchemaType::Number)),
            ("either", Node { int_or_string: true, ..Node::new(SchemaType::Unspecified) }),
            ("maybe", Node { nullable: true, ..text() }),
            ("set", Node { list_type: ListType::Set, ..Node::list(text()) }),
            ("keyed", Node { list_type: ListType::Map, ..Node::list(keyed) }),
            ("labels", Node::map(text())),
        ]),
        ..Node::new(SchemaType::Object)
    }
}

#[test]
fn rules_see_an_object_as_its_schema_declares_it() {
    let schema = root();
    let decl = DeclType::from_schema(&schema).expect("a type").named("self");
    let env = Env::kubernetes()
        .with_types(decl.provider())
        .with_variable("self", decl.cel_type.clone())
        .with_variable("oldSelf", decl.cel_type.clone());
    let new = value!({
        "a-b": "x", "namespace": "n", "when": "2020-01-01T00:00:00Z", "bytes": "aGk=", "number": 1, "either": "50%", "maybe": null,
        "set": ["a", "b"], "keyed": [{"k": "a", "v": 1}, {"k": "b", "v": 2}], "labels": {"x.y/z": "1"}, "unknown": 1
    });
    let old = value!({"set": ["b", "a"], "keyed": [{"k": "b", "v": 2}, {"k": "a", "v": 1}]});
    let variables = [
        ("self", Value::from_json(&new, Some(&schema)).expect("a value")),
        ("oldSelf", Value::from_json(&old, Some(&schema)).expect("a value")),
    ];
    for rule in [
        "self.a__dash__b == 'x' && has(self.a__dash__b)",
        "self.namespace == 'n' && self.__namespace__ == 'n'",
        "self.when > timestamp('2019-01-01T00:00:00Z') && self.when.getFullYear() == 2020",
        "self.bytes == b'hi' && self.number == 1.0",
        "type(self.either) == string && self.either.endsWith('%')",
        "!has(self.maybe) && !has(oldSelf.number)",
        "self.set == oldSelf.set && self.keyed == oldSelf.keyed",
        "(self.set + ['a', 'c']).size() == 3 && self.set + ['c'] == ['c', 'b', 'a']",
        "self.keyed.filter(e, e.v > 1).map(e, e.k) == ['b']",
        "self.labels['x.y/z'] == '1' && self.labels.all(k, k.contains('/')) && !('y' in self.labels)",
        "self.?number.hasValue() && oldSelf.?number.orValue(2.0) == 2.0",
        "self.keyed.exists_one(e, e == oldSelf.keyed[0])",
    ] {
        let program = env.compile(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
        let result = program.evaluate(&variables, &mut Budget::new(1_000_000));
        assert_eq!(result.as_ref().ok().and_then(Value::as_bool), Some(true), "{rule}: {result:?}");
    }
    for (rule, want) in [
        ("self.unknown == 1", "undefined field 'unknown'"),
        ("self.number == 'a'", "found no matching overload for '_==_' applied to '(double, string)'"),
        ("self.labels.x", ""),
    ] {
        let result = env.compile(rule);
        match result {
            Err(error) => assert!(!want.is_empty() && error.to_string().contains(want), "{rule}: {error}"),
            Ok(_) => assert!(want.is_empty(), "{rule}"),
        }
    }
    let program = env.compile("self.keyed.all(e, oldSelf.set.exists(s, s == e.k))").expect("a rule");
    assert!(program.uses("oldSelf") && !program.uses("e"));
}

/// Sizes and estimates as upstream gives them: what has no limit is as large as a request.
#[test]
fn what_a_schema_does_not_bound_is_as_large_as_a_request() {
    let text = || Node::new(SchemaType::String);
    for (schema, rule, want) in [
        (text().max(10), "self.contains('a')", 5),
        (text(), "self.contains('a')", 314_574),
        (Node::list(text().max(5)).max(10), "self.all(x, x == 'a')", 2 + 10 * (2 + 1 + 2)),
        (Node::list(Node::new(SchemaType::Integer)), "self.all(x, true)", 4_718_591),
        (Node::map(text()).max(2), "self.all(k, k == self[k])", 2 + 2 * (2 + 1 + 4)),
    ] {
        let decl = DeclType::from_schema(&schema).expect("a type").named("self");
        let env = Env::kubernetes().with_types(decl.provider()).with_variable("self", decl.cel_type.clone());
        let program = env.compile(rule).expect(rule);
        assert_eq!(program.cost_estimate(&decl).max, want, "{rule}");
        assert_eq!(program.slim().cost_estimate(&decl), Range::UNKNOWN, "{rule}");
    }
}
