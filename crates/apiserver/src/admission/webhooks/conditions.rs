//! `matchConditions`: CEL expressions that decide whether a webhook is asked.

use super::request;
use crate::admission::Attributes;
use crate::reviews::user_value;
use trireme_cel::{Budget, CompileError, Env, Program, Type, Value as Cel};
use trireme_schema::{Map, Value};
use trireme_webhooks::admission::{FailurePolicy, Hook};

/// What the conditions of one webhook may cost in all (upstream's `RuntimeCELCostBudgetMatchConditions`).
const COST: u64 = 2_500_000;

/// The compiled conditions of a webhook, in their order.
#[derive(Debug)]
pub(super) struct Conditions(Vec<(String, Result<Program, CompileError>)>);

/// What the conditions say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meets {
    /// The webhook is asked.
    Yes,
    /// It is not.
    No,
    /// It cannot be told, and that means that the request fails.
    Unknown(String),
}

fn environment() -> Env {
    ["object", "oldObject", "request"]
        .into_iter()
        .fold(Env::kubernetes(), |env, name| env.with_variable(name, Type::Dyn))
}

impl Conditions {
    /// Those of a webhook.
    pub fn of(hook: &Hook) -> Self {
        if hook.conditions.is_empty() {
            return Self(Vec::new());
        }
        let env = environment();
        Self(hook.conditions.iter().map(|c| (c.name.clone(), env.compile(&c.expression))).collect())
    }

    /// Whether a request meets all of them. One that is false outweighs any that fail.
    pub fn meets(&self, attributes: &Attributes<'_>, hook: &Hook, object: &Value, old: &Value) -> Meets {
        if self.0.is_empty() {
            return Meets::Yes;
        }
        let about = about(attributes);
        let variable = |value| Cel::from_json(value, None).unwrap_or(Cel::Null);
        let variables = [("object", variable(object)), ("oldObject", variable(old)), ("request", variable(&about))];
        let mut budget = Budget::new(COST);
        let mut errors = Vec::new();
        for (name, program) in &self.0 {
            let result = match program {
                Ok(program) => program.evaluate(&variables, &mut budget).map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match result.map(|value| value.as_bool()) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Meets::No,
                Ok(None) => errors.push(format!("matchCondition {name}: the result is no bool")),
                Err(error) => errors.push(format!("error evaluating matchCondition {name}: {error}")),
            }
        }
        match (errors.is_empty(), hook.failure_policy) {
            (true, _) => Meets::Yes,
            (false, FailurePolicy::Ignore) => Meets::No,
            (false, FailurePolicy::Fail) => Meets::Unknown(errors.join("; ")),
        }
    }
}

/// The variable `request`.
fn about(attributes: &Attributes<'_>) -> Value {
    let target = attributes.target;
    let (served, named) = (&target.served, request::named(&target.served, &target.subresource));
    let kind = [("group", named.group), ("version", named.version), ("kind", request::kind(attributes, served))];
    let resource = [("group", named.group), ("version", named.version), ("resource", named.resource)];
    let (kind, resource) = (Map::from_iter(kind), Map::from_iter(resource));
    let mut about = Map::new();
    about.insert("kind", kind.clone());
    about.insert("resource", resource.clone());
    about.insert("subResource", named.subresource);
    about.insert("requestKind", kind);
    about.insert("requestResource", resource);
    about.insert("requestSubResource", named.subresource);
    about.insert("name", target.name.as_str());
    about.insert("namespace", target.namespace.as_str());
    about.insert("operation", super::operation(attributes.operation));
    about.insert("userInfo", user_value(&target.user));
    about.insert("dryRun", attributes.dry_run);
    Value::Object(about)
}
