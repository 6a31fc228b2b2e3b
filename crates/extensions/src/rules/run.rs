//! Whether an object keeps its rules.

use super::{PER_CALL, PER_OBJECT, compile};
use crate::node::{Additional, Node, Rule};
use crate::paths;
use crate::validate::correlated;
use trireme_cel::{Activation, Budget, EvalError, Program, Value as Cel};
use trireme_schema::field::{Error, Path};
use trireme_schema::{Value, json};

/// The longest message that an expression may make, in bytes.
const LONGEST_MESSAGE: usize = 5 * 1024;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What rules an object, or its change, breaks. A rule that was broken before by the same value is let pass (KEP-4008).
pub fn check(path: &Path, new: &Value, old: Option<&Value>, schema: &Node) -> Vec<Error> {
    let mut run = Run { left: PER_OBJECT, errors: Vec::new() };
    // When the budget is used up that is among the errors.
    let _ = run.value(path, new, &Before { value: old, equal: false }, schema);
    for error in run.errors.iter_mut().filter(|error| error.field.is_empty()) {
        error.field = "<nil>".into();
    }
    run.errors
}

struct Run {
    left: u64,
    errors: Vec<Error>,
}

/// Nothing more is evaluated.
struct Stop;

/// What a value was before the change.
struct Before<'a> {
    /// The value, where it can be told which it was.
    value: Option<&'a Value>,
    /// Where not: whether the nearest value around it that can be told is unchanged.
    equal: bool,
}

struct Variables<'a> {
    own: &'a Result<Cel<'a>, EvalError>,
    old: &'a Option<Result<Cel<'a>, EvalError>>,
}

impl Activation for Variables<'_> {
    fn variable(&self, name: &str) -> Result<Option<Cel<'_>>, EvalError> {
        match name {
            "self" => self.own.clone().map(Some),
            "oldSelf" => self.old.clone().transpose(),
            _ => Ok(None),
        }
    }
}

impl Run {
    fn value(&mut self, path: &Path, value: &Value, before: &Before<'_>, schema: &Node) -> Result<(), Stop> {
        if !schema.ruled || value.is_null() {
            return Ok(());
        }
        self.rules(path, value, before, schema)?;
        let unchanged = || before.value.map_or(before.equal, |old| old == value);
        match value {
            Value::Array(items) => {
                let Some(element) = schema.items.as_ref().filter(|element| element.ruled) else { return Ok(()) };
                for (i, item) in items.iter().enumerate() {
                    let old = before.value.and_then(|old| correlated(schema, old, item));
                    let before = Before { value: old, equal: old.is_none() && unchanged() };
                    self.value(&path.index(i), item, &before, element)?;
                }
            }
            Value::Object(map) => {
                for (name, value) in map.iter() {
                    let (node, at) = match (schema.property(name), &schema.additional) {
                        (Some(node), _) => (node, path.child(name)),
                        (None, Additional::Of(node)) => (node, path.key(name)),
                        _ => continue,
                    };
                    let old = before.value.filter(|_| !schema.atomic).and_then(|old| old.get(name));
                    let before = Before { value: old, equal: old.is_none() && unchanged() };
                    self.value(&at, value, &before, node)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rules(&mut self, path: &Path, value: &Value, before: &Before<'_>, schema: &Node) -> Result<(), Stop> {
        if schema.rules.is_empty() {
            return Ok(());
        }
        let kind = || schema.kind.name();
        let compiled = schema.programs.get_or_init(|| compile(schema).map(Into::into));
        let Some(compiled) = compiled else {
            let why = "rule compiler initialization error: failed to convert to declType for CEL validation rules";
            self.errors.push(Error::invalid(path, kind(), why));
            return Ok(());
        };
        if self.left == 0 {
            self.errors.push(Error::invalid(path, kind(), OUT_OF_BUDGET));
            return Err(Stop);
        }
        let own = Cel::from_json(value, Some(schema));
        let old = before.value.filter(|old| !old.is_null()).map(|old| Cel::from_json(old, Some(schema)));
        let optional = Some(match &old {
            None => Ok(Cel::Optional(None)),
            Some(old) => old.clone().map(Cel::some),
        });
        for (rule, compiled) in schema.rules.iter().zip(compiled.iter()) {
            let Some(compiled) = compiled else { continue };
            let program = match &compiled.program {
                Ok(program) => program,
                Err(why) => {
                    self.errors.push(Error::invalid(path, kind(), format!("rule compile error: {why}")));
                    continue;
                }
            };
            let may_be_new = rule.optional_old_self == Some(true);
            if compiled.uses_old && old.is_none() && !may_be_new {
                continue;
            }
            let variables = Variables { own: &own, old: if may_be_new { &optional } else { &old } };
            let mut budget = Budget::new(PER_CALL);
            let result = program.evaluate(&variables, &mut budget);
            self.spend(budget.spent(), path, schema)?;
            match result {
                Ok(Cel::Bool(true)) => continue,
                Ok(_) => {}
                Err(error) => {
                    self.failed(path, schema, rule, &error)?;
                    continue;
                }
            }
            let detail = match compiled.message.as_ref().map(|m| &m.program) {
                Some(Ok(program)) => self.message(program, &variables, path, schema)?,
                _ => None,
            };
            let unchanged = before.value.map_or(before.equal, |old| old == value);
            if compiled.uses_old || !unchanged {
                let detail = detail.unwrap_or_else(|| told(rule));
                self.errors.push(broken(path, value, schema, rule, detail));
            }
        }
        Ok(())
    }

    fn spend(&mut self, cost: u64, path: &Path, schema: &Node) -> Result<(), Stop> {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.errors.push(Error::invalid(path, schema.kind.name(), OUT_OF_BUDGET));
                Err(Stop)
            }
        }
    }

    fn failed(&mut self, path: &Path, schema: &Node, rule: &Rule, error: &EvalError) -> Result<(), Stop> {
        let (text, rule) = (error.to_string(), named(rule));
        let over = matches!(error, EvalError::OverBudget);
        let why = if text.starts_with("no such overload") {
            format!(
                "'{text}': call arguments did not match a supported operator, function or macro signature for rule: {rule}"
            )
        } else if over {
            format!("'{text}': no further validation rules will be run due to call cost exceeds limit for rule: {rule}")
        } else {
            format!("{text} evaluating rule: {rule}")
        };
        self.errors.push(Error::invalid(path, schema.kind.name(), why));
        if over { Err(Stop) } else { Ok(()) }
    }

    /// The message that an expression makes, if it is one that can be shown.
    fn message(
        &mut self,
        program: &Program,
        variables: &Variables<'_>,
        path: &Path,
        schema: &Node,
    ) -> Result<Option<String>, Stop> {
        let mut budget = Budget::new(PER_CALL);
        let result = program.evaluate(variables, &mut budget);
        let text = result.ok().and_then(|value| value.as_str().map(str::to_owned));
        self.spend(budget.spent(), path, schema)?;
        Ok(text.filter(|text| {
            !text.trim().is_empty() && text.trim().len() <= LONGEST_MESSAGE && !text.contains(['\n', '\r'])
        }))
    }
}

/// How a rule is named: by its message, or by itself.
fn named(rule: &Rule) -> &str {
    if rule.message.is_empty() { rule.rule.trim() } else { rule.message.trim() }
}

fn told(rule: &Rule) -> String {
    if rule.message.is_empty() { format!("failed rule: {}", named(rule)) } else { named(rule).to_owned() }
}

fn broken(path: &Path, value: &Value, schema: &Node, rule: &Rule, detail: String) -> Error {
    let below = paths::below(&rule.field_path, schema);
    let path = if below.is_empty() { path.clone() } else { path.child(&below) };
    // What is large is not repeated.
    let large = matches!(schema.kind, crate::node::Kind::Object | crate::node::Kind::Array);
    let shown = || match value {
        _ if large => String::new(),
        Value::String(text) => trireme_schema::field::quote(text),
        other => json::to_string(other),
    };
    match &*rule.reason {
        "FieldValueForbidden" => Error::forbidden(&path, detail),
        "FieldValueRequired" => Error::required(&path, detail),
        "FieldValueDuplicate" => Error::duplicate(&path, "").showing(shown()),
        _ => Error::invalid(&path, "", detail).showing(shown()),
    }
}
