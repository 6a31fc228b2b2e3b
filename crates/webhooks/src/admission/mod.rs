//! Webhook configurations (admissionregistration.k8s.io/v1) and `AdmissionReview` (admission.k8s.io).

mod hook;
mod review;
mod rule;

pub use hook::{Condition, FailurePolicy, Hook, Reviews};
pub use review::{Asked, BadAnswer, Verdict};
pub use rule::{Named, Rule};

/// Which of the two chains a webhook belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It may change the object.
    Mutating,
    /// It may only refuse.
    Validating,
}
