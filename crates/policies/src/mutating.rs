//! MutatingAdmissionPolicy: what a policy wants to change.

use crate::conditions::{Conditions, Meets};
use crate::expression::{Expression, Wanted};
use crate::run::{OutOfBudget, Run};
use crate::scope::Scope;
use crate::subject::{FailurePolicy, Subject};
use crate::variables::Variables;
use trireme_cel::cost::limits::PER_OBJECT;
use trireme_cel::library::misnamed_objects;
use trireme_cel::{Struct, Value as Cel, to_json};
use trireme_schema::{Map, Value};

/// A compiled policy.
#[derive(Debug)]
pub struct Mutating {
    /// What it means when an expression or a patch fails.
    pub failure_policy: FailurePolicy,
    /// Whether it wants to see an object again that others changed after it (`reinvocationPolicy: IfNeeded`).
    pub again: bool,
    /// Its mutations, in their order.
    pub mutations: Vec<Mutation>,
    conditions: Conditions,
    variables: Variables,
}

/// A compiled mutation.
#[derive(Debug)]
pub enum Mutation {
    /// `JSONPatch`.
    JsonPatch(Expression),
    /// `ApplyConfiguration`.
    Apply(Expression),
}

/// What a mutation wants to change.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// By the operations of a JSON patch.
    Operations(Value),
    /// By merging a configuration into it.
    Configuration(Value),
}

impl Mutating {
    /// Compiles a policy. What does not compile fails when it is evaluated.
    pub fn compile(policy: &Value) -> Self {
        let with_params = policy.at(&["spec", "paramKind"]).is_some_and(|kind| !kind.is_null());
        let list = |name: &str| policy.list_at(&["spec", name]);
        let mut scope = Scope::of_requests(with_params).with_variables();
        let variables = Variables::compile(list("variables"), &mut scope);
        let conditions = Conditions::of_policy(list("matchConditions"), &scope);
        let scope = scope.with_objects();
        let mutation = |mutation: &Value| {
            let text = |field: &str| mutation.str_at(&[field, "expression"]);
            match mutation.str_at(&["patchType"]) {
                "JSONPatch" => {
                    Mutation::JsonPatch(Expression::compile(&scope, text("jsonPatch"), &[Wanted::JsonPatch]))
                }
                _ => Mutation::Apply(Expression::compile(&scope, text("applyConfiguration"), &[Wanted::Object])),
            }
        };
        Self {
            failure_policy: FailurePolicy::read(policy.str_at(&["spec", "failurePolicy"])),
            again: policy.str_at(&["spec", "reinvocationPolicy"]) == "IfNeeded",
            mutations: list("mutations").iter().map(mutation).collect(),
            conditions,
            variables,
        }
    }

    /// Whether a request meets its conditions.
    pub fn meets(&self, subject: &Subject<'_>) -> Meets {
        match (self.conditions.meets_with(subject, &self.variables), self.failure_policy) {
            (Meets::Unknown(_), FailurePolicy::Ignore) => Meets::No,
            (meets, _) => meets,
        }
    }

    /// What one of its mutations wants to change.
    ///
    /// # Errors
    /// The expression fails, in upstream's words.
    pub fn patch(&self, mutation: &Mutation, subject: &Subject<'_>) -> Result<Patch, String> {
        let (Mutation::JsonPatch(expression) | Mutation::Apply(expression)) = mutation;
        if let Err(why) = &expression.program {
            return Err(why.clone());
        }
        let run = Run::new(*subject, &self.variables, PER_OBJECT);
        let value = run.evaluate(expression).map_err(|OutOfBudget| OutOfBudget::TEXT.to_owned())??;
        match (mutation, &value) {
            (Mutation::Apply(_), Cel::Struct(object)) => {
                well_named(object)?;
                let object = to_json(&value).map_err(|why| format!("invalid return type: {why}"))?;
                Ok(Patch::Configuration(object))
            }
            (Mutation::Apply(_), other) => {
                Err(format!("unsupported return type from ApplyConfiguration expression: {}", other.type_of().name()))
            }
            (Mutation::JsonPatch(_), Cel::List(list)) => {
                let operations = list.values().map_err(|why| why.to_string())?;
                Ok(Patch::Operations(Value::Array(operations.iter().map(operation).collect::<Result<_, _>>()?)))
            }
            (Mutation::JsonPatch(_), _) => {
                Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned())
            }
        }
    }
}

/// Each object must tell the way to it from the root.
fn well_named(object: &Struct<'_>) -> Result<(), String> {
    let wrong = misnamed_objects(object);
    if wrong.is_empty() { Ok(()) } else { Err(format!("type mismatch: {}", wrong.join("\n"))) }
}

/// An operation of a JSON patch.
fn operation(value: &Cel<'_>) -> Result<Value, String> {
    let Cel::Struct(patch) = value else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".to_owned());
    };
    let text = |name: &str| patch.fields.get(name).and_then(Cel::as_str).unwrap_or_default();
    let mut operation = Map::from_iter([("op", text("op")), ("path", text("path"))]);
    if !text("from").is_empty() {
        operation.insert("from", text("from"));
    }
    if let Some(value) = patch.fields.get("value") {
        if let Cel::Struct(object) = value {
            well_named(object)?;
        }
        let json = to_json(value).map_err(|why| {
            format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}")
        })?;
        operation.insert("value", json);
    }
    Ok(Value::Object(operation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::with_subject;
    use trireme_schema::value;

    fn patch(kind: &str, field: &str, expression: &str) -> Result<Patch, String> {
        let policy = Mutating::compile(&value!({"spec": {
            "variables": [{"name": "a", "expression": "object.data.a"}],
            "mutations": [{"patchType": kind, field: {"expression": expression}}],
        }}));
        with_subject(|subject| policy.patch(&policy.mutations[0], subject))
    }

    #[test]
    fn operations_are_those_of_a_patch() {
        let json = |expression: &str| patch("JSONPatch", "jsonPatch", expression);
        assert_eq!(
            json("[JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('a/b'), value: [variables.a, dyn('x')]},
                JSONPatch{op: 'move', from: '/a', path: '/b'}, JSONPatch{op: 'add', path: '/c', value: Object.c{d: null}}]"),
            Ok(Patch::Operations(value!([
                {"op": "add", "path": "/data/a~1b", "value": ["1", "x"]},
                {"op": "move", "path": "/b", "from": "/a"},
                {"op": "add", "path": "/c", "value": {"d": null}},
            ])))
        );
        for (expression, why) in [
            (
                "[JSONPatch{op: 'add', path: '/c', value: Object.c{d: Object.d{}}}]",
                "type mismatch: unexpected type name \"Object.d\", expected \"Object.c.d\", which matches field name path from root Object type",
            ),
            (
                "[JSONPatch{op: 'add', path: '/c', value: type(1)}]",
                "JSONPath valueExpression evaluated to a type that could not marshal to JSON: type conversion error from 'type' to JSON",
            ),
            ("'x'", "must evaluate to list(JSONPatch) but got string"),
            ("object.none", "must evaluate to list(JSONPatch) but got dyn"),
        ] {
            assert_eq!(json(expression), Err(why.to_owned()), "{expression}");
        }
    }

    #[test]
    fn configurations_name_the_way_to_their_parts() {
        let apply = |expression: &str| patch("ApplyConfiguration", "applyConfiguration", expression);
        assert_eq!(
            apply(
                "Object{metadata: Object.metadata{labels: {'a': variables.a}}, ?none: optional.none(), list: [1, 2].map(i, Object.list{i: i})}"
            ),
            Ok(Patch::Configuration(value!({"metadata": {"labels": {"a": "1"}}, "list": [{"i": 1}, {"i": 2}]})))
        );
        let failed = apply("Object{x: object.none}");
        assert_eq!(failed, Err("expression 'Object{x: object.none}' resulted in error: no such key: none".to_owned()));
    }
}
