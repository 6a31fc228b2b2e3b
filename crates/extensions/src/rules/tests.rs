use crate::compile::Compiler;
use trireme_schema::field::Path;
use trireme_schema::{Value, value};

/// What the rules of a field `f` say of a value, or of its change.
fn broken(schema: Value, new: Value, old: Option<Value>) -> Vec<String> {
    let node = Compiler::default().resource(&value!({"type": "object", "properties": {"f": schema}}));
    let old = old.map(|old| value!({"f": old}));
    let errors = super::check(&Path::default(), &value!({"f": new}), old.as_ref(), &node);
    errors.iter().map(ToString::to_string).collect()
}

fn integer(rule: Value) -> Value {
    value!({"type": "integer", "x-kubernetes-validations": [rule]})
}

#[test]
fn rules_that_do_not_hold_are_told() {
    for (rule, n, want) in [
        (value!({"rule": "self > 0"}), 1, None),
        (value!({"rule": "self > 0"}), 0, Some("f: Invalid value: 0: failed rule: self > 0")),
        (value!({"rule": "self > 0", "message": "more"}), 0, Some("f: Invalid value: 0: more")),
        (
            value!({"rule": "self > 0", "messageExpression": "'not ' + string(self)"}),
            -3,
            Some("f: Invalid value: -3: not -3"),
        ),
        (
            value!({"rule": "self > 0", "message": "plain", "messageExpression": "''"}),
            -3,
            Some("f: Invalid value: -3: plain"),
        ),
        (value!({"rule": "self > 0", "reason": "FieldValueForbidden", "message": "no"}), 0, Some("f: Forbidden: no")),
        (
            value!({"rule": "1 / self > 0"}),
            0,
            Some("f: Invalid value: \"integer\": division by zero evaluating rule: 1 / self > 0"),
        ),
    ] {
        let got = broken(integer(rule.clone()), value!(n), None);
        assert_eq!(got.first().map(String::as_str), want, "{rule:?}");
        assert_eq!(got.len(), usize::from(want.is_some()), "{got:?}");
    }
}

#[test]
fn transitions_are_asked_for_changes_only() {
    let grows = || integer(value!({"rule": "self >= oldSelf", "message": "grows"}));
    assert!(broken(grows(), value!(1), None).is_empty());
    assert!(broken(grows(), value!(2), Some(value!(1))).is_empty());
    assert_eq!(broken(grows(), value!(1), Some(value!(2))), ["f: Invalid value: 1: grows"]);
}

#[test]
fn what_was_broken_before_may_stay_so() {
    let positive = || integer(value!({"rule": "self > 0"}));
    assert!(broken(positive(), value!(-1), Some(value!(-1))).is_empty());
    assert_eq!(broken(positive(), value!(-2), Some(value!(-1))).len(), 1);
}

#[test]
fn rules_that_cost_too_much_end_it() {
    let schema = value!({"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [
        {"rule": "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))"}]});
    let many = Value::Array((0..200).map(Value::Int).collect());
    let got = broken(schema, many, None);
    assert_eq!(got.len(), 1, "{got:?}");
    assert!(got[0].contains("no further validation rules will be run"), "{got:?}");
}

#[test]
fn a_rule_of_the_whole_has_no_field() {
    let node = Compiler::default().resource(&value!({"type": "object", "properties": {"a": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.metadata.name == 'x' && has(self.a)", "message": "no"}]}));
    let object = value!({"metadata": {"name": "x"}});
    let errors = super::check(&Path::default(), &object, None, &node);
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), ["<nil>: Invalid value: no"]);
}
