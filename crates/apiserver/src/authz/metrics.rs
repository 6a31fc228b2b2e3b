//! Upstream's metrics of authorization.

use super::{Decision, Opinion};
use crate::measure::{DEFAULT_BUCKETS, Family};
use std::time::Duration;

/// How asking a webhook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Answered,
    TimedOut,
    Failed,
}

impl Asked {
    fn label(self) -> &'static str {
        match self {
            Self::Answered => "success",
            Self::TimedOut => "timeout",
            Self::Failed => "error",
        }
    }
}

/// What is counted. All labels are names of the configuration, so that there are few.
pub(crate) struct Metrics {
    attempts: Family,
    took: Family,
    decisions: Family,
    asked: Family,
    asking: Family,
    open: Family,
    condition_errors: Family,
    exclusions: Family,
    conditions: Family,
}

impl Default for Metrics {
    fn default() -> Self {
        const ATTEMPTS: &[f64] =
            &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
        const CONDITIONS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25];
        const WEBHOOK: &[&str] = &["name", "result"];
        const CONDITION: &[&str] = &["name", "type"];
        Self {
            attempts: Family::counter("authorization_attempts_total", &["result"], "Requests that were decided on"),
            took: Family::histogram("authorization_duration_seconds", &["result"], ATTEMPTS, "Time to decide"),
            decisions: Family::counter(
                "apiserver_authorization_decisions_total",
                &["decision", "name", "type"],
                "Decisions of an authorizer that ended the matter",
            ),
            asked: Family::counter(
                "apiserver_authorization_webhook_evaluations_total",
                WEBHOOK,
                "Times that a webhook was asked",
            ),
            asking: Family::histogram(
                "apiserver_authorization_webhook_duration_seconds",
                WEBHOOK,
                DEFAULT_BUCKETS,
                "Time of asking a webhook",
            ),
            open: Family::counter(
                "apiserver_authorization_webhook_evaluations_fail_open_total",
                WEBHOOK,
                "Times that a webhook failed and others decided",
            ),
            condition_errors: Family::counter(
                "apiserver_authorization_match_condition_evaluation_errors_total",
                CONDITION,
                "Match conditions that could not be evaluated",
            ),
            exclusions: Family::counter(
                "apiserver_authorization_match_condition_exclusions_total",
                CONDITION,
                "Requests that match conditions kept from an authorizer",
            ),
            conditions: Family::histogram(
                "apiserver_authorization_match_condition_evaluation_seconds",
                CONDITION,
                CONDITIONS,
                "Time of evaluating match conditions",
            ),
        }
    }
}

impl Metrics {
    /// A request was decided on.
    pub(super) fn attempt(&self, decision: &Decision, took: Duration) {
        let result = match decision.opinion {
            Opinion::Allow => "allowed",
            _ if !decision.error.is_empty() => "error",
            Opinion::Deny => "denied",
            Opinion::None => "no-opinion",
        };
        self.attempts.add(&[result]);
        self.took.observe(&[result], took.as_secs_f64());
    }

    /// One authorizer has decided.
    pub(super) fn decided(&self, kind: &str, name: &str, opinion: Opinion) {
        match opinion {
            Opinion::Allow => self.decisions.add(&["allowed", name, kind]),
            Opinion::Deny => self.decisions.add(&["denied", name, kind]),
            Opinion::None => {}
        }
    }

    /// A webhook was asked; `open` if others decide where it cannot.
    pub(super) fn asked(&self, name: &str, how: Asked, open: bool, took: Duration) {
        let labels = [name, how.label()];
        self.asked.add(&labels);
        self.asking.observe(&labels, took.as_secs_f64());
        if open && how != Asked::Answered {
            self.open.add(&labels);
        }
    }

    /// A webhook's conditions were evaluated.
    pub(super) fn conditions(&self, name: &str, met: Option<bool>, took: Duration) {
        let labels = [name, "Webhook"];
        self.conditions.observe(&labels, took.as_secs_f64());
        match met {
            Some(true) => {}
            Some(false) => self.exclusions.add(&labels),
            None => self.condition_errors.add(&labels),
        }
    }

    /// The exposition.
    pub(crate) fn write(&self, out: &mut String) {
        let Self { attempts, took, decisions, asked, asking, open, condition_errors, exclusions, .. } = self;
        let all = [attempts, took, decisions, asked, asking, open, condition_errors, exclusions];
        all.into_iter().chain([&self.conditions]).for_each(|family| family.write(out));
    }
}
