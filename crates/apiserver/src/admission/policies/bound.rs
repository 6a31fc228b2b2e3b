//! Policies and bindings as they are configured.

use super::matching::Matching;
use std::sync::Arc;
use trireme_policies::FailurePolicy;
use trireme_schema::selector::BadSelector;
use trireme_schema::{GroupVersion, LabelSelector, Value};

/// A policy and those that bind it.
#[derive(Debug)]
pub(super) struct Bound<P> {
    pub policy: Arc<Policy<P>>,
    pub bindings: Vec<Arc<Binding>>,
}

/// A policy, with its expressions as `P`.
#[derive(Debug)]
pub(super) struct Policy<P> {
    pub name: String,
    pub matching: Matching,
    pub failure_policy: FailurePolicy,
    pub params: Option<ParamKind>,
    pub compiled: P,
}

/// The kind of the objects that bindings refer to.
#[derive(Debug)]
pub(super) struct ParamKind {
    pub gv: GroupVersion,
    pub kind: String,
}

/// A binding.
#[derive(Debug)]
pub(super) struct Binding {
    pub name: String,
    pub policy: String,
    /// Which of the policy's requests it is about; none for all of them.
    pub matching: Option<Matching>,
    pub params: Option<ParamRef>,
    /// What is done when a rule does not hold.
    pub actions: Vec<Action>,
}

/// Something that is done when a rule does not hold (`validationActions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Deny,
    Warn,
    Audit,
}

/// What a binding refers to.
#[derive(Debug)]
pub(super) struct ParamRef {
    pub namespace: String,
    pub which: Which,
    /// Whether a request is refused when there is none.
    pub required: bool,
}

#[derive(Debug)]
pub(super) enum Which {
    Named(String),
    Selected(Result<LabelSelector, BadSelector>),
}

impl<P> Policy<P> {
    pub fn read(policy: &Value, compile: fn(&Value) -> P) -> Self {
        let kind = policy.at(&["spec", "paramKind"]).filter(|kind| !kind.is_null());
        Self {
            name: policy.str_at(&["metadata", "name"]).to_owned(),
            matching: Matching::read(policy.at(&["spec", "matchConstraints"]).unwrap_or(&Value::Null)),
            failure_policy: FailurePolicy::read(policy.str_at(&["spec", "failurePolicy"])),
            params: kind.map(|kind| ParamKind {
                gv: GroupVersion::parse(kind.str_at(&["apiVersion"])),
                kind: kind.str_at(&["kind"]).to_owned(),
            }),
            compiled: compile(policy),
        }
    }
}

impl ParamKind {
    /// As Go writes it.
    pub fn shown(&self) -> String {
        format!("{}/{}, Kind={}", self.gv.group, self.gv.version, self.kind)
    }
}

impl Binding {
    pub fn read(binding: &Value) -> Self {
        let part = |name: &str| binding.at(&["spec", name]).filter(|part| !part.is_null());
        let action = |action: &Value| match action.as_str()? {
            "Deny" => Some(Action::Deny),
            "Warn" => Some(Action::Warn),
            "Audit" => Some(Action::Audit),
            _ => None,
        };
        Self {
            name: binding.str_at(&["metadata", "name"]).to_owned(),
            policy: binding.str_at(&["spec", "policyName"]).to_owned(),
            matching: part("matchResources").map(Matching::read),
            params: part("paramRef").map(|given| ParamRef {
                namespace: given.str_at(&["namespace"]).to_owned(),
                which: match given.str_at(&["name"]) {
                    "" => Which::Selected(LabelSelector::from_object(given.get("selector").unwrap_or(&Value::Null))),
                    name => Which::Named(name.to_owned()),
                },
                required: given.str_at(&["parameterNotFoundAction"]) == "Deny",
            }),
            actions: binding.list_at(&["spec", "validationActions"]).iter().filter_map(action).collect(),
        }
    }
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Action::Deny => "Deny",
            Action::Warn => "Warn",
            Action::Audit => "Audit",
        }
    }
}
