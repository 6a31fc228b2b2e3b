//! A webhook of a configuration.

use super::{Named, Rule};
use crate::endpoint::{BadEndpoint, Endpoint};
use std::time::Duration;
use trireme_schema::selector::BadSelector;
use trireme_schema::{LabelSelector, Value};

/// What a webhook that gives no answer means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailurePolicy {
    /// As if the webhook were not there.
    Ignore,
    /// The request fails.
    Fail,
}

/// The version in which a webhook is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reviews {
    /// `admission.k8s.io/v1`.
    V1,
    /// `admission.k8s.io/v1beta1`.
    V1Beta1,
}

/// A CEL condition that a request must meet before the webhook is asked (`matchConditions`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its name.
    pub name: String,
    /// The expression.
    pub expression: String,
}

/// A webhook of a configuration.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The configuration that it stands in.
    pub configuration: String,
    /// Its name, as messages tell it.
    pub name: String,
    /// Where it listens; an error is told when it is to be called.
    pub endpoint: Result<Endpoint, BadEndpoint>,
    /// Requests that it wants to see.
    pub rules: Vec<Rule>,
    /// What no answer means.
    pub failure_policy: FailurePolicy,
    /// Whether it also wants requests to other versions of its resources (`matchPolicy: Equivalent`).
    pub equivalent: bool,
    /// Labels of the namespace.
    pub namespaces: Result<LabelSelector, BadSelector>,
    /// Labels of the object.
    pub objects: Result<LabelSelector, BadSelector>,
    /// Whether a dry run may be shown to it.
    pub side_effects: bool,
    /// How long it is waited for.
    pub timeout: Duration,
    /// Whether it is asked again when the object changed after it (`reinvocationPolicy: IfNeeded`).
    pub again: bool,
    /// The version in which it is asked; `None` when it knows none of ours.
    pub reviews: Option<Reviews>,
    /// Conditions.
    pub conditions: Vec<Condition>,
}

const TIMEOUT: i64 = 10;

impl Hook {
    /// The webhooks of a `MutatingWebhookConfiguration` or a `ValidatingWebhookConfiguration`, in their order.
    pub fn all(configuration: &Value) -> Vec<Self> {
        let name = configuration.str_at(&["metadata", "name"]);
        configuration.list_at(&["webhooks"]).iter().map(|hook| Self::read(name, hook)).collect()
    }

    fn read(configuration: &str, hook: &Value) -> Self {
        let empty = Value::object();
        let of = |field: &str| hook.get(field).unwrap_or(&empty);
        let known = |v: &Value| match v.as_str() {
            Some("v1") => Some(Reviews::V1),
            Some("v1beta1") => Some(Reviews::V1Beta1),
            _ => None,
        };
        let condition = |c: &Value| Condition {
            name: c.str_at(&["name"]).to_owned(),
            expression: c.str_at(&["expression"]).to_owned(),
        };
        let seconds = hook.int_at(&["timeoutSeconds"]).unwrap_or(TIMEOUT).clamp(1, 30);
        Self {
            configuration: configuration.to_owned(),
            name: hook.str_at(&["name"]).to_owned(),
            endpoint: Endpoint::read(of("clientConfig")),
            rules: hook.list_at(&["rules"]).iter().map(Rule::read).collect(),
            failure_policy: match hook.str_at(&["failurePolicy"]) {
                "Ignore" => FailurePolicy::Ignore,
                _ => FailurePolicy::Fail,
            },
            equivalent: hook.str_at(&["matchPolicy"]) != "Exact",
            namespaces: LabelSelector::from_object(of("namespaceSelector")),
            objects: LabelSelector::from_object(of("objectSelector")),
            side_effects: !matches!(hook.str_at(&["sideEffects"]), "None" | "NoneOnDryRun"),
            timeout: Duration::from_secs(seconds.unsigned_abs()),
            again: hook.str_at(&["reinvocationPolicy"]) == "IfNeeded",
            reviews: hook.list_at(&["admissionReviewVersions"]).iter().find_map(known),
            conditions: hook.list_at(&["matchConditions"]).iter().map(condition).collect(),
        }
    }

    /// Whether one of the rules wants this operation on this resource.
    pub fn wants(&self, operation: &str, named: &Named<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(operation, named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn a_configuration_is_read() {
        let text = br#"{"metadata":{"name":"c"},"webhooks":[{"name":"a.b.c","clientConfig":{"url":"https://x/y"},
            "rules":[{"operations":["*"],"apiGroups":["*"],"apiVersions":["*"],"resources":["*"]}],
            "failurePolicy":"Ignore","sideEffects":"None","timeoutSeconds":3,"reinvocationPolicy":"IfNeeded",
            "admissionReviewVersions":["v2","v1beta1","v1"],"matchPolicy":"Exact"}]}"#;
        let hooks = Hook::all(&json::parse(text).unwrap());
        let [hook] = hooks.as_slice() else { panic!("{hooks:?}") };
        assert_eq!((hook.failure_policy, hook.reviews), (FailurePolicy::Ignore, Some(Reviews::V1Beta1)));
        assert!(hook.again && !hook.side_effects && !hook.equivalent && hook.endpoint.is_ok());
        assert_eq!(hook.timeout, Duration::from_secs(3));
        let named = Named { group: "", version: "v1", resource: "pods", subresource: "", namespaced: true };
        assert!(hook.wants("DELETE", &named));
    }
}
