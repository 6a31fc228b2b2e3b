//! Validating policies: what they say of a request, and what is done about it.

use super::bound::{Action, Binding, Bound};
use super::metrics::{self, NO_ERROR};
use super::{Seen, Turn, Versions, exempt, params};
use crate::admission::Attributes;
use crate::catalogue::Served;
use std::collections::BTreeMap;
use std::sync::Arc;
use trireme_policies::{Decision, Evaluation, FailurePolicy, Subject, Told, Validating, Verdict};
use trireme_schema::{Cause, Status, Value, json};

/// What is noted of an annotation, in bytes.
const LONGEST_ANNOTATION: usize = 10 << 10;
/// Where the audit log tells of rules that did not hold.
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

/// Asks all validating policies that a request concerns.
///
/// # Errors
/// The first refusal, by the names of policies and bindings.
pub(in crate::admission) async fn validate(
    attributes: &Attributes<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let policies = attributes.server.policies.validating.bound();
    if policies.is_empty() || exempt(attributes) {
        return Ok(());
    }
    let mut request = Request {
        attributes,
        object,
        old,
        seen: None,
        versions: Versions::default(),
        turn: Turn::new(),
        refusals: Vec::new(),
    };
    for bound in policies.iter() {
        request.ask(bound).await?;
    }
    match request.refusals.into_iter().next() {
        Some(refusal) => Err(refusal.status(attributes, object)),
        None => Ok(()),
    }
}

struct Request<'a> {
    attributes: &'a Attributes<'a>,
    object: &'a Value,
    old: Option<&'a Value>,
    /// Looked up when the first policy concerns the request.
    seen: Option<Arc<Seen>>,
    versions: Versions,
    turn: Turn,
    refusals: Vec<Refusal>,
}

/// Why a request is refused.
struct Refusal {
    message: String,
    reason: String,
}

impl Request<'_> {
    async fn ask(&mut self, bound: &Bound<Validating>) -> Result<(), Status> {
        let policy = &bound.policy;
        let wanted = match policy.matching.matches(self.attributes, self.object, self.old) {
            Ok(Some(wanted)) => wanted,
            Ok(None) => return Ok(()),
            Err(why) => {
                self.misconfigured(bound, None, &why);
                return Ok(());
            }
        };
        let resource = match policy.params.as_ref().map(|kind| params::resource(self.attributes, kind)).transpose() {
            Ok(resource) => resource,
            Err(why) => {
                self.misconfigured(bound, None, &why);
                return Ok(());
            }
        };
        let mut notes = BTreeMap::new();
        for binding in &bound.bindings {
            let matches = binding.matching.as_ref().map(|m| m.matches(self.attributes, self.object, self.old));
            let params = match matches.transpose() {
                Ok(Some(None)) => continue,
                Ok(_) => params::collect(self.attributes, resource.as_ref(), binding.params.as_ref()).await,
                Err(why) => Err(why),
            };
            match params {
                Ok(params) => self.judge(bound, binding, &wanted, &params, &mut notes).await?,
                Err(why) => self.misconfigured(bound, Some(binding), &why),
            }
        }
        self.note(&policy.name, notes);
        Ok(())
    }

    /// The policy or binding makes no sense for this request.
    fn misconfigured(&mut self, bound: &Bound<Validating>, binding: Option<&Binding>, why: &str) {
        if bound.policy.failure_policy == FailurePolicy::Ignore {
            return;
        }
        let what = if binding.is_some() { "binding" } else { "policy" };
        let why = format!("failed to configure {what}: {why}");
        self.refuse(bound, binding, &why, "");
    }

    fn refuse(&mut self, bound: &Bound<Validating>, binding: Option<&Binding>, why: &str, reason: &str) {
        let by = match binding {
            Some(binding) => format!(" with binding '{}'", binding.name),
            None => String::new(),
        };
        let message = format!("ValidatingAdmissionPolicy '{}'{by} denied request: {why}", bound.policy.name);
        self.refusals.push(Refusal { message, reason: reason.to_owned() });
    }

    /// What one binding comes to, for each of its parameters.
    async fn judge(
        &mut self,
        bound: &Bound<Validating>,
        binding: &Binding,
        wanted: &Arc<Served>,
        params: &[Value],
        notes: &mut BTreeMap<String, Vec<String>>,
    ) -> Result<(), Status> {
        let seen = match &self.seen {
            Some(seen) => seen.clone(),
            None => self.seen.insert(Arc::new(Seen::of(self.attributes, self.object)?)).clone(),
        };
        if params.is_empty() {
            return Ok(());
        }
        let (request, asked) = seen.requests(self.attributes, wanted);
        let shown = self.versions.of(self.attributes, wanted, self.object, self.old);
        for params in params {
            let subject = Subject {
                object: &shown.object,
                old: &shown.old,
                request: &request,
                asked: &asked,
                namespace: &seen.namespace,
                params,
                asks: &seen.asks,
            };
            let Verdict { decisions, annotations } = bound.policy.compiled.validate(&subject);
            self.turn.pause().await;
            for (i, decision) in decisions.iter().enumerate() {
                self.carry_out(bound, binding, i, decision);
            }
            for annotation in annotations {
                match annotation.told {
                    Told::Nothing => {}
                    Told::Value(text) => {
                        let texts: &mut Vec<String> = notes.entry(annotation.key).or_default();
                        let end = text.floor_char_boundary(LONGEST_ANNOTATION.min(text.len()));
                        if !texts.iter().any(|there| *there == text[..end]) {
                            texts.push(text[..end].to_owned());
                        }
                    }
                    Told::Error(why) => {
                        self.count(bound, binding, metrics::error_type(&why), "deny", annotation.elapsed);
                        self.refuse(bound, Some(binding), &why, "");
                    }
                }
            }
        }
        Ok(())
    }

    fn count(
        &self,
        bound: &Bound<Validating>,
        binding: &Binding,
        error: &str,
        action: &str,
        took: std::time::Duration,
    ) {
        let names = [bound.policy.name.as_str(), binding.name.as_str()];
        self.attributes.server.policies.metrics.validated(names, error, action, took);
    }

    fn carry_out(&mut self, bound: &Bound<Validating>, binding: &Binding, index: usize, decision: &Decision) {
        let error = match decision.evaluation {
            Evaluation::Admit => NO_ERROR,
            _ => metrics::error_type(&decision.message),
        };
        if !decision.denies {
            if decision.evaluation == Evaluation::Error {
                self.count(bound, binding, error, "allow", decision.elapsed);
            }
            return;
        }
        for action in &binding.actions {
            let counted = match action {
                Action::Deny => {
                    self.refuse(bound, Some(binding), &decision.message, &decision.reason);
                    "deny"
                }
                Action::Audit => {
                    self.attributes.target.notes.annotate(FAILURE, failure(bound, binding, index, &decision.message));
                    "audit"
                }
                Action::Warn => {
                    self.attributes.target.warnings.add([format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                        bound.policy.name, binding.name, decision.message
                    )]);
                    "warn"
                }
            };
            self.count(bound, binding, error, counted, decision.elapsed);
        }
    }

    /// Notes what audit annotations gave; bindings whose parameters gave different values have them all.
    fn note(&self, policy: &str, notes: BTreeMap<String, Vec<String>>) {
        for (key, texts) in notes {
            self.attributes.target.notes.annotate(&format!("{policy}/{key}"), texts.join(", "));
        }
    }
}

/// What the audit log tells of a rule that did not hold, in the order of upstream's struct.
fn failure(bound: &Bound<Validating>, binding: &Binding, index: usize, message: &str) -> String {
    let text = |text: &str| json::to_string(&Value::from(text));
    let actions: Vec<String> = binding.actions.iter().map(|action| text(action.name())).collect();
    format!(
        "[{{\"message\":{},\"policy\":{},\"binding\":{},\"expressionIndex\":{index},\"validationActions\":[{}]}}]",
        text(message),
        text(&bound.policy.name),
        text(&binding.name),
        actions.join(",")
    )
}

impl Refusal {
    fn status(self, attributes: &Attributes<'_>, object: &Value) -> Status {
        let mut status = attributes.forbidden_by_policy(object, &self.message);
        let (code, reason) = match self.reason.as_str() {
            "Forbidden" => (403, "Forbidden"),
            "Unauthorized" => (401, "Unauthorized"),
            "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
            _ => (422, "Invalid"),
        };
        status.code = code;
        status.reason = reason.into();
        let cause = Cause { message: self.message, ..Cause::default() };
        status.details.get_or_insert_default().causes.push(cause);
        status
    }
}
