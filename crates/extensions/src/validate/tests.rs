use crate::compile::Compiler;
use trireme_schema::field::Path;
use trireme_schema::{Value, value};

fn errors(schema: Value, object: Value) -> Vec<String> {
    let node = Compiler::default().schema(&value!({"type": "object", "properties": {"f": schema}}));
    super::value(&Path::default(), &value!({"f": object}), &node).iter().map(ToString::to_string).collect()
}

#[test]
fn values_are_refused_in_upstreams_words() {
    for (schema, object, want) in [
        (
            value!({"type": "string"}),
            value!(5),
            &["f: Invalid value: \"integer\": f in body must be of type string: \"integer\""][..],
        ),
        (
            value!({"type": "string", "minLength": 2}),
            value!("a"),
            &["f: Invalid value: \"a\": f in body should be at least 2 chars long"],
        ),
        (value!({"type": "string", "maxLength": 1}), value!("ab"), &["f: Too long: may not be more than 1 bytes"]),
        (
            value!({"type": "string", "pattern": "^[a-z]+$"}),
            value!("A"),
            &["f: Invalid value: \"A\": f in body should match '^[a-z]+$'"],
        ),
        (
            value!({"type": "integer", "minimum": 1}),
            value!(0),
            &["f: Invalid value: 0: f in body should be greater than or equal to 1"],
        ),
        (
            value!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
            value!(1),
            &["f: Invalid value: 1: f in body should be greater than 1"],
        ),
        (value!({"type": "integer"}), value!(2.0), &[]),
        (
            value!({"type": "integer"}),
            value!(1.5),
            &[
                "f: Invalid value: \"number\": f in body must be of type integer: \"number\"",
                "<nil>: Invalid value: \"\": Checked value must be of type integer (default format) in f",
            ],
        ),
        (
            value!({"type": "string", "enum": ["a", "b"]}),
            value!("c"),
            &["f: Unsupported value: \"c\": supported values: \"a\", \"b\""],
        ),
        (
            value!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
            value!(["a", "b"]),
            &["f: Too many: 2: must have at most 1 item"],
        ),
        (value!({"type": "string", "nullable": true}), value!(null), &[]),
        (value!({"x-kubernetes-int-or-string": true}), value!("5%"), &[]),
        (
            value!({"x-kubernetes-int-or-string": true}),
            value!(true),
            &["f: Invalid value: \"boolean\": f in body must be of type integer,string: \"boolean\""],
        ),
        (
            value!({"type": "string", "not": {"enum": ["bad"]}}),
            value!("bad"),
            &["<nil>: Invalid value: \"\": \"f\" must not validate the schema (not)"],
        ),
        (
            value!({"type": "object", "oneOf": [{"required": ["x"]}, {"required": ["y"]}]}),
            value!({}),
            &[
                "<nil>: Invalid value: \"\": \"f\" must validate one and only one schema (oneOf). Found none valid",
                "f.x: Required value",
            ],
        ),
        (
            value!({"type": "integer", "allOf": [{"minimum": 2}, {"maximum": 4}]}),
            value!(1),
            &[
                "f: Invalid value: 1: f in body should be greater than or equal to 2",
                "<nil>: Invalid value: \"\": \"f\" must validate all the schemas (allOf)",
            ],
        ),
        (
            value!({"type": "string", "format": "ipv4"}),
            value!("999.1.1.1"),
            &["f: Invalid value: \"999.1.1.1\": f in body must be of type ipv4: \"999.1.1.1\""],
        ),
    ] {
        assert_eq!(errors(schema.clone(), object.clone()), want, "{schema:?} {object:?}");
    }
}

#[test]
fn what_was_wrong_before_is_let_pass() {
    let node = Compiler::default().schema(&value!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1}, "b": {"type": "integer"}}}));
    let old = value!({"a": "long", "b": 1});
    let check = |new: Value| super::update(&Path::default(), &new, Some(&old), &node).len();
    assert_eq!(check(value!({"a": "long", "b": 2})), 0);
    assert_eq!(check(value!({"a": "longer", "b": 1})), 1);
}

#[test]
fn sets_and_keyed_lists_hold_everything_once() {
    let node = Compiler::default().schema(&value!({"type": "object", "properties": {
        "s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}}}}}}));
    let object = value!({"s": ["a", "b", "a", "a"], "m": [{"k": "x"}, {"k": "x", "v": 1}]});
    let errors = super::lists(&Path::default(), &object, &node);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["m[1]: Duplicate value: {\"k\":\"x\"}", "s[2]: Duplicate value: \"a\""]);
}
