//! ValidatingAdmissionPolicy: what a policy says of a request.

use crate::conditions::{Conditions, Meets};
use crate::expression::{Expression, Wanted};
use crate::run::{OutOfBudget, Run};
use crate::scope::Scope;
use crate::subject::{FailurePolicy, Subject};
use crate::variables::Variables;
use std::borrow::Cow;
use std::time::{Duration, Instant};
use trireme_cel::Value as Cel;
use trireme_cel::cost::limits::{LONGEST_MESSAGE, PER_OBJECT};
use trireme_schema::Value;

/// A compiled policy.
#[derive(Debug)]
pub struct Validating {
    failure_policy: FailurePolicy,
    conditions: Conditions,
    variables: Variables,
    validations: Vec<Validation>,
    annotations: Vec<(String, Expression)>,
}

#[derive(Debug)]
struct Validation {
    expression: Expression,
    message: String,
    words: Option<Expression>,
    reason: String,
}

/// How an evaluation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluation {
    /// The rule holds.
    Admit,
    /// It does not.
    Deny,
    /// It cannot be told.
    Error,
}

/// What one rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// How its evaluation ended.
    pub evaluation: Evaluation,
    /// Whether the request is refused; a failure is one if the failure policy says so.
    pub denies: bool,
    /// Why.
    pub message: Cow<'static, str>,
    /// The reason of a refusal's status; empty for the usual one.
    pub reason: String,
    /// How long it took.
    pub elapsed: Duration,
}

/// What an audit annotation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is noted.
    Value(String),
    /// There is nothing to note.
    Nothing,
    /// It failed, and that refuses the request.
    Error(String),
}

/// One audit annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Its key, within the policy.
    pub key: String,
    /// What is noted.
    pub told: Told,
    /// How long it took.
    pub elapsed: Duration,
}

/// What a policy says of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Rule by rule.
    pub decisions: Vec<Decision>,
    /// For the audit log.
    pub annotations: Vec<Annotation>,
}

impl Validating {
    /// Compiles a policy. What does not compile fails when it is evaluated.
    pub fn compile(policy: &Value) -> Self {
        let with_params = policy.at(&["spec", "paramKind"]).is_some_and(|kind| !kind.is_null());
        let list = |name: &str| policy.list_at(&["spec", name]);
        let mut scope = Scope::of_requests(with_params).with_variables();
        let variables = Variables::compile(list("variables"), &mut scope);
        let words = Scope::of_messages(with_params).with_variables_of(&scope);
        let validation = |v: &Value| Validation {
            expression: Expression::compile(&scope, v.str_at(&["expression"]), &[Wanted::Bool]),
            message: v.str_at(&["message"]).to_owned(),
            words: match v.str_at(&["messageExpression"]) {
                "" => None,
                text => Some(Expression::compile(&words, text, &[Wanted::String])),
            },
            reason: v.str_at(&["reason"]).to_owned(),
        };
        let annotation = |a: &Value| {
            let value = a.str_at(&["valueExpression"]);
            let wanted = [Wanted::String, Wanted::Null];
            (a.str_at(&["key"]).to_owned(), Expression::compile(&scope, value, &wanted))
        };
        Self {
            failure_policy: FailurePolicy::read(policy.str_at(&["spec", "failurePolicy"])),
            conditions: Conditions::of_policy(list("matchConditions"), &scope),
            validations: list("validations").iter().map(validation).collect(),
            annotations: list("auditAnnotations").iter().map(annotation).collect(),
            variables,
        }
    }

    /// What it says of a request.
    pub fn validate(&self, subject: &Subject<'_>) -> Verdict {
        match (self.conditions.meets_with(subject, &self.variables), self.failure_policy) {
            (Meets::Yes, _) => {}
            (Meets::No, _) | (Meets::Unknown(_), FailurePolicy::Ignore) => return Verdict::default(),
            (Meets::Unknown(why), FailurePolicy::Fail) => return self.failed(why),
        }
        let decisions = match self.decisions(subject) {
            Ok(decisions) => decisions,
            Err(OutOfBudget) => return self.failed(OutOfBudget::TEXT),
        };
        match self.annotate(subject) {
            Ok(annotations) => Verdict { decisions, annotations },
            Err(OutOfBudget) => self.failed(OutOfBudget::TEXT),
        }
    }

    fn decisions(&self, subject: &Subject<'_>) -> Result<Vec<Decision>, OutOfBudget> {
        let run = Run::new(*subject, &self.variables, PER_OBJECT);
        let mut results = Vec::with_capacity(self.validations.len());
        for validation in &self.validations {
            let started = Instant::now();
            let result = run.evaluate(&validation.expression)?;
            results.push((result.map(|value| value.as_bool() == Some(true)), started.elapsed()));
        }
        let words = self.words(subject, run.left());
        let decide = |(i, (result, elapsed)): (usize, (Result<bool, String>, Duration))| {
            let words = words.as_ref().map(|words| words.get(i).and_then(Option::as_deref));
            Decision { elapsed, ..self.decision(self.validations.get(i), result, words) }
        };
        Ok(results.into_iter().enumerate().map(decide).collect())
    }

    /// What the message expressions give, from what the rules left of the budget.
    fn words(&self, subject: &Subject<'_>, budget: u64) -> Result<Vec<Option<String>>, OutOfBudget> {
        let run = Run::new(*subject, &self.variables, budget).without_authorizer();
        let mut words = Vec::with_capacity(self.validations.len());
        for validation in &self.validations {
            let Some(expression) = &validation.words else {
                words.push(None);
                continue;
            };
            let text = run.evaluate(expression)?.ok();
            let text = text.and_then(|value| value.as_str().map(|text| text.trim().to_owned()));
            words.push(text.filter(|text| text.len() <= LONGEST_MESSAGE && !text.contains('\n')));
        }
        Ok(words)
    }

    fn decision(
        &self,
        validation: Option<&Validation>,
        result: Result<bool, String>,
        words: Result<Option<&str>, &OutOfBudget>,
    ) -> Decision {
        let admitted = Decision {
            evaluation: Evaluation::Admit,
            denies: false,
            message: Cow::Borrowed(""),
            reason: String::new(),
            elapsed: Duration::ZERO,
        };
        let words = match (&result, words) {
            (Err(why), _) => return self.failure(why.clone()),
            (_, Err(OutOfBudget)) => return self.failure(format!("failed messageExpression: {}", OutOfBudget::TEXT)),
            (Ok(true), _) => return admitted,
            (Ok(false), Ok(words)) => words,
        };
        let Some(validation) = validation else { return admitted };
        let said = words.filter(|text| !text.is_empty());
        let said = said.or_else(|| Some(validation.message.trim()).filter(|text| !text.is_empty()));
        let message = match said {
            Some(text) => text.to_owned(),
            None => format!("failed expression: {}", validation.expression.text.trim()),
        };
        Decision {
            evaluation: Evaluation::Deny,
            denies: true,
            message: message.into(),
            reason: validation.reason.clone(),
            ..admitted
        }
    }

    /// An expression failed.
    fn failure(&self, why: impl Into<Cow<'static, str>>) -> Decision {
        Decision {
            evaluation: Evaluation::Error,
            denies: self.failure_policy == FailurePolicy::Fail,
            message: why.into(),
            reason: String::new(),
            elapsed: Duration::ZERO,
        }
    }

    /// The policy as a whole failed.
    fn failed(&self, why: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict { decisions: vec![self.failure(why)], annotations: Vec::new() }
    }

    fn annotate(&self, subject: &Subject<'_>) -> Result<Vec<Annotation>, OutOfBudget> {
        let run = Run::new(*subject, &self.variables, PER_OBJECT).without_authorizer();
        let mut all = Vec::with_capacity(self.annotations.len());
        for (key, expression) in &self.annotations {
            let started = Instant::now();
            let told = match (run.evaluate(expression)?, self.failure_policy) {
                (Err(_), FailurePolicy::Ignore) => Told::Nothing,
                (Err(why), FailurePolicy::Fail) => Told::Error(why),
                (Ok(Cel::Null), _) => Told::Nothing,
                (Ok(Cel::String(text)), _) if text.trim().is_empty() => Told::Nothing,
                (Ok(Cel::String(text)), _) => Told::Value(text.trim().to_owned()),
                (Ok(other), _) => Told::Error(format!(
                    "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                    expression.text,
                    other.type_of().name()
                )),
            };
            all.push(Annotation { key: key.clone(), told, elapsed: started.elapsed() });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::with_subject;
    use trireme_schema::value;

    fn verdict(spec: Value) -> Verdict {
        let policy = Validating::compile(&value!({"spec": spec}));
        with_subject(|subject| policy.validate(subject))
    }

    fn messages(validations: Value) -> Vec<String> {
        let decisions = verdict(value!({"validations": validations})).decisions;
        decisions.into_iter().map(|d| format!("{:?} {} {}", d.evaluation, d.denies, d.message)).collect()
    }

    #[test]
    fn a_rule_says_why_as_well_as_it_can() {
        let words =
            |expression: &str| value!({"expression": "false", "messageExpression": expression, "message": " plain "});
        let long = format!("'{}'", "a".repeat(LONGEST_MESSAGE + 1));
        assert_eq!(
            messages(Value::Array(vec![
                value!({"expression": "true"}),
                value!({"expression": " 1 == 2 "}),
                words("'name is ' + object.metadata.name + ' '"),
                words("' '"),
                words("'a' + '\\n' + 'b'"),
                words("object.none"),
                words(&long),
                value!({"expression": "object.none == 1"}),
            ])),
            [
                "Admit false ",
                "Deny true failed expression: 1 == 2",
                "Deny true name is m",
                "Deny true plain",
                "Deny true plain",
                "Deny true plain",
                "Deny true plain",
                "Error true expression 'object.none == 1' resulted in error: no such key: none",
            ]
        );
    }

    #[test]
    fn variables_are_made_once_for_all_rules() {
        // Twelve times this would be more than all rules may take together.
        let dear = "lists.range(400).map(i, lists.range(200).all(j, i + j >= 0 && i >= 0))";
        let rules = vec![value!({"expression": "size(variables.dear) == 400"}); 40];
        let spec = value!({"variables": [{"name": "dear", "expression": dear}], "validations": rules});
        assert!(verdict(spec).decisions.iter().all(|d| d.evaluation == Evaluation::Admit));
        let rules = vec![value!({"expression": format!("size({dear}) == 400")}); 40];
        let decisions = verdict(value!({"validations": rules})).decisions;
        assert_eq!((decisions.len(), decisions[0].message.as_ref()), (1, OutOfBudget::TEXT));
    }

    #[test]
    fn failures_of_a_policy_that_ignores_them_deny_nothing() {
        let spec = |policy: &str| {
            value!({
                "failurePolicy": policy,
                "validations": [{"expression": "object.none == 1"}],
                "auditAnnotations": [
                    {"key": "fails", "valueExpression": "object.none"},
                    {"key": "asks", "valueExpression": "authorizer.requestResource.check('get').reason()"},
                    {"key": "tells", "valueExpression": "' ' + request.resource.resource + ' '"},
                    {"key": "empty", "valueExpression": "' '"},
                ],
            })
        };
        let told = |verdict: &Verdict| verdict.annotations.iter().map(|a| a.told.clone()).collect::<Vec<_>>();
        let ignored = verdict(spec("Ignore"));
        assert!(!ignored.decisions[0].denies);
        assert_eq!(told(&ignored), [Told::Nothing, Told::Nothing, Told::Value("seen".into()), Told::Nothing]);
        let failed = told(&verdict(spec("Fail")));
        assert!(
            matches!(&failed[0], Told::Error(why) if why.starts_with("compilation error: must evaluate to one of"))
        );
        assert!(
            matches!(&failed[1], Told::Error(why) if why.ends_with("no such attribute(s): authorizer.requestResource"))
        );
    }

    #[test]
    fn conditions_see_variables() {
        let spec = |expression: &str| {
            value!({
                "variables": [{"name": "a", "expression": "object.data.a"}],
                "matchConditions": [{"name": "c", "expression": expression}],
                "validations": [{"expression": "false"}],
            })
        };
        assert_eq!(verdict(spec("variables.a == '1'")).decisions.len(), 1);
        assert_eq!(verdict(spec("variables.a == '2'")), Verdict::default());
    }
}
