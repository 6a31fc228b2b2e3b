//! A service elsewhere that decides, asked by a `SubjectAccessReview`.

use super::conditions::Conditions;
use super::metrics::{Asked, Metrics};
use super::{Action, Decision, Opinion};
use crate::outbound::{CallError, Outbound};
use crate::remembered::Remembered;
use crate::user::User;
use bytes::Bytes;
use std::time::{Duration, Instant};
use trireme_schema::{Map, Value, json};

/// Answers that are kept at most, and the length of a question that is kept (it is chosen by who asks).
const MOST: usize = 8192;
const LONGEST: usize = 10_000;
/// How often the service is asked, and how long is waited between (`DefaultAuthWebhookRetryBackoff`).
const TRIES: u32 = 5;
const BACK_OFF: Duration = Duration::from_millis(500);
const FACTOR: f64 = 1.5;
const JITTER: f64 = 0.2;

/// The version of the reviews that a service is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V1Beta1,
}

/// How a service is asked.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) service: Outbound,
    pub(super) version: Version,
    /// For one try.
    pub(super) timeout: Duration,
    /// How long answers are kept; zero if they are not.
    pub(super) allowed_life: Duration,
    pub(super) denied_life: Duration,
    /// What holds when it cannot be asked.
    pub(super) on_failure: Opinion,
    pub(super) conditions: Conditions,
}

/// What it answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Status {
    allowed: bool,
    denied: bool,
    reason: String,
}

impl Status {
    fn read(review: &Value) -> Self {
        Self {
            allowed: review.bool_at(&["status", "allowed"]),
            denied: review.bool_at(&["status", "denied"]),
            reason: review.str_at(&["status", "reason"]).to_owned(),
        }
    }

    fn decision(self) -> Decision {
        let (opinion, error) = match (self.denied, self.allowed) {
            (true, true) => (Opinion::Deny, "webhook subject access review returned both allow and deny response"),
            (true, false) => (Opinion::Deny, ""),
            (false, true) => (Opinion::Allow, ""),
            (false, false) => (Opinion::None, ""),
        };
        Decision { opinion, reason: self.reason, error: error.to_owned() }
    }
}

/// A service that decides.
pub(super) struct Webhook {
    settings: Settings,
    answers: Remembered<Bytes, Status>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

impl Webhook {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, answers: Remembered::new(MOST) }
    }

    pub(super) async fn decide(&self, name: &str, user: &User, action: &Action, metrics: &Metrics) -> Decision {
        let settings = &self.settings;
        if !settings.conditions.is_empty() {
            let started = Instant::now();
            let met = settings.conditions.met(&Value::Object(action.review(user, true)));
            metrics.conditions(name, met.as_ref().ok().copied(), started.elapsed());
            match met {
                Ok(true) => {}
                Ok(false) => return Decision::no_opinion(""),
                Err(error) => return Decision::failed(settings.on_failure, error),
            }
        }
        let question = Bytes::from(json::to_vec(&self.review(user, action)));
        if let Some(status) = self.answers.get(&question) {
            return status.decision();
        }
        let started = Instant::now();
        let answer = self.ask(&question).await;
        let how = match &answer {
            Ok(_) => Asked::Answered,
            Err(CallError::TimedOut(..) | CallError::Status(_, 504)) => Asked::TimedOut,
            Err(_) => Asked::Failed,
        };
        metrics.asked(name, how, settings.on_failure == Opinion::None, started.elapsed());
        match answer {
            Ok(review) => {
                let status = Status::read(&review);
                if is_short(action) {
                    let life = if status.allowed { settings.allowed_life } else { settings.denied_life };
                    self.answers.keep(question, status.clone(), life);
                }
                status.decision()
            }
            Err(error) => {
                tracing::error!(%error, name, "an authorization webhook cannot be asked");
                Decision::failed(settings.on_failure, error.to_string())
            }
        }
    }

    fn review(&self, user: &User, action: &Action) -> Value {
        let mut spec = action.review(user, false);
        let version = match self.settings.version {
            Version::V1 => "authorization.k8s.io/v1",
            Version::V1Beta1 => {
                if let Some(groups) = spec.remove("groups") {
                    spec.insert("group", groups);
                }
                "authorization.k8s.io/v1beta1"
            }
        };
        let mut review = Map::from_iter([("kind", "SubjectAccessReview"), ("apiVersion", version)]);
        review.insert("spec", Value::Object(spec));
        Value::Object(review)
    }

    async fn ask(&self, question: &Bytes) -> Result<Value, CallError> {
        let mut pause = BACK_OFF;
        for _ in 1..TRIES {
            match self.settings.service.post(question.clone(), self.settings.timeout).await {
                // What another try may change.
                Err(CallError::Status(_, 429 | 500 | 504)) => {}
                other => return other,
            }
            tokio::time::sleep(pause.mul_f64(1.0 + JITTER * rand::random::<f64>())).await;
            pause = pause.mul_f64(FACTOR);
        }
        self.settings.service.post(question.clone(), self.settings.timeout).await
    }
}

/// Whether what the asker chose is short enough that its answer can be kept.
fn is_short(action: &Action) -> bool {
    let Action { verb, group, version, resource, subresource, namespace, name, path, .. } = action;
    let texts = [verb, group, version, resource, subresource, namespace, name, path].map(|text| text.len());
    let fields = action.fields.0.iter().map(|r| r.field.len() + r.value.len());
    let labels = action.labels.0.iter().map(|r| r.key.len());
    texts.into_iter().chain(fields).chain(labels).sum::<usize>() < LONGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_decision() {
        let decide = |text: &str| Status::read(&json::parse(text.as_bytes()).unwrap()).decision();
        assert_eq!(decide(r#"{"status":{"allowed":true,"reason":"r"}}"#), Decision::allow("r"));
        assert_eq!(decide(r#"{"status":{"allowed":false,"reason":"r"}}"#), Decision::no_opinion("r"));
        assert_eq!(decide(r#"{"status":{"denied":true}}"#).opinion, Opinion::Deny);
        let both = decide(r#"{"status":{"denied":true,"allowed":true}}"#);
        assert!(both.opinion == Opinion::Deny && both.error.contains("both allow and deny"));
    }
}
