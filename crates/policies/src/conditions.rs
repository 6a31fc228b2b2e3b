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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::with_subject;

    #[test]
    fn one_that_is_false_outweighs_those_that_fail() {
        let fails = "object.none == 1";
        let unknown = |texts: &[&str]| {
            let told = |text: &&str| format!("expression '{text}' resulted in error: no such key: none");
            let told: Vec<String> = texts.iter().map(told).collect();
            Meets::Unknown(if told.len() == 1 { told.concat() } else { format!("[{}]", told.join(", ")) })
        };
        for (expressions, want) in [
            (&[][..], Meets::Yes),
            (&["true", "request.operation == 'CREATE'"], Meets::Yes),
            (&["true", "false"], Meets::No),
            (&[fails, "false"], Meets::No),
            (&[fails, "true"], unknown(&[fails])),
            (&[fails, fails, "object.none == 2"], unknown(&[fails, "object.none == 2"])),
            (&["authorizer.group('').resource('pods').check('get').allowed()"], Meets::Yes),
            (&["authorizer.requestResource.check('delete').allowed()"], Meets::No),
            (&["request.resource.resource == 'asked' && namespaceObject == null"], Meets::Yes),
        ] {
            let conditions = Conditions::of_webhook(expressions.iter().copied());
            assert_eq!(with_subject(|subject| conditions.meets(subject)), want, "{expressions:?}");
        }
    }

    #[test]
    fn what_does_not_compile_is_told_when_it_is_asked() {
        let conditions = Conditions::of_webhook(["object.a ="]);
        let Meets::Unknown(why) = with_subject(|subject| conditions.meets(subject)) else { panic!() };
        assert!(why.starts_with("compilation error: compilation failed: ERROR: <input>:1:"), "{why}");
    }

    #[test]
    fn all_conditions_share_one_budget() {
        // Each takes most of a million; three are more than the two and a half that all may take.
        let dear = "lists.range(400).all(i, lists.range(200).all(j, i + j >= 0 && i >= 0))";
        let meets = |n: usize| {
            let conditions = Conditions::of_webhook(vec![dear; n]);
            with_subject(|subject| conditions.meets(subject))
        };
        assert_eq!(meets(1), Meets::Yes);
        assert_eq!(meets(8), Meets::Unknown(OutOfBudget::TEXT.into()));
    }
}
