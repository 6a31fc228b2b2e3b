//! `matchConditions` of policies and webhooks.

use crate::expression::{Expression, Wanted};
use crate::run::{OutOfBudget, Run};
use crate::scope::Scope;
use crate::subject::Subject;
use crate::variables::Variables;
use trireme_cel::cost::limits::MATCH_CONDITIONS;
use trireme_schema::Value;

/// The compiled conditions of a webhook or policy, in their order.
#[derive(Debug)]
pub struct Conditions {
    expressions: Vec<Expression>,
    /// A webhook has none.
    none: Variables,
}

/// What the conditions say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meets {
    /// The request is concerned.
    Yes,
    /// It is not.
    No,
    /// It cannot be told: what that means is for the failure policy to say.
    Unknown(String),
}

impl Conditions {
    /// Those of a webhook.
    pub fn of_webhook<'a>(expressions: impl IntoIterator<Item = &'a str>) -> Self {
        let mut expressions = expressions.into_iter().peekable();
        let scope = expressions.peek().is_some().then(|| Scope::of_requests(false));
        let compile = |text: &str| scope.as_ref().map(|scope| Expression::compile(scope, text, &[Wanted::Bool]));
        Self { expressions: expressions.filter_map(compile).collect(), none: Variables::default() }
    }

    /// Those of a policy.
    pub(crate) fn of_policy(list: &[Value], scope: &Scope) -> Self {
        let compile =
            |condition: &Value| Expression::compile(scope, condition.str_at(&["expression"]), &[Wanted::Bool]);
        Self { expressions: list.iter().map(compile).collect(), none: Variables::default() }
    }

    /// Whether every request meets them.
    pub fn is_empty(&self) -> bool {
        self.expressions.is_empty()
    }

    /// Whether a request meets a webhook's conditions.
    pub fn meets(&self, subject: &Subject<'_>) -> Meets {
        self.meets_with(subject, &self.none)
    }

    /// Whether a request meets all of them. One that is false outweighs any that fail.
    pub(crate) fn meets_with(&self, subject: &Subject<'_>, variables: &Variables) -> Meets {
        if self.is_empty() {
            return Meets::Yes;
        }
        // Conditions come before the namespace is looked up, and see the resource that was asked for.
        let subject = Subject { namespace: &Value::Null, request: subject.asked, ..*subject };
        let run = Run::new(subject, variables, MATCH_CONDITIONS);
        let mut results = Vec::with_capacity(self.expressions.len());
        for expression in &self.expressions {
            match run.evaluate(expression) {
                Ok(result) => results.push(result.map(|value| value.as_bool())),
                Err(OutOfBudget) => return Meets::Unknown(OutOfBudget::TEXT.into()),
            }
        }
        if results.contains(&Ok(Some(false))) {
            return Meets::No;
        }
        let mut errors: Vec<String> = Vec::new();
        for why in results.into_iter().filter_map(Result::err) {
            if !errors.contains(&why) {
                errors.push(why);
            }
        }
        match &errors[..] {
            [] => Meets::Yes,
            [one] => Meets::Unknown(one.clone()),
            many => Meets::Unknown(format!("[{}]", many.join(", "))),
        }
    }
}
