//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: which of them a request concerns, and what comes of it.
//!
//! What expressions see and give is [`trireme_policies`]' business. Here policies are [`known`] (compiled once for each
//! version of a policy), match requests ([`matching`]), get their [`params`], and their say is carried out
//! ([`validating`], [`mutating`]).

mod bound;
mod known;
mod matching;
mod metrics;
mod mutating;
mod params;
mod patching;
mod validating;

pub(crate) use known::Known;
pub(super) use mutating::Mutating;
pub(super) use validating::validate;

use super::{Attributes, authorizer, request};
use crate::catalogue::Served;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trireme_policies::Asks;
use trireme_schema::{Map, Status, Value};

/// Policies cannot keep anybody from mending policies, and are not asked twice about a binding.
fn exempt(attributes: &Attributes<'_>) -> bool {
    const OWN: [&str; 4] = [
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    ];
    let served = &attributes.target.served;
    let own = served.group() == "admissionregistration.k8s.io" && OWN.contains(&served.plural());
    own || attributes.follows_binding()
}

/// What all policies see alike of one request.
struct Seen {
    name: String,
    asks: Asks,
    /// The namespace, without what is nobody's business; null for what is in none.
    namespace: Value,
}

impl Seen {
    /// # Errors
    /// 404: there is no such namespace.
    fn of(attributes: &Attributes<'_>, object: &Value) -> Result<Self, Status> {
        let target = attributes.target;
        let name = attributes.name(object).to_owned();
        let asks = authorizer::asks(attributes, &name);
        if !target.served.resource.namespaced || target.namespace.is_empty() {
            return Ok(Self { name, asks, namespace: Value::Null });
        }
        let namespace = attributes.server.read("", "namespaces", "", &target.namespace);
        let namespace = namespace.ok_or_else(|| Status::not_found("", "namespaces", &target.namespace))?;
        Ok(Self { name, asks, namespace: public(&namespace) })
    }

    /// The variable `request`, as rules see it and as conditions do.
    fn requests(&self, attributes: &Attributes<'_>, wanted: &Served) -> (Value, Value) {
        let served = &attributes.target.served;
        let about = |seen_as| request::about(attributes, wanted, seen_as, &self.name);
        (about(wanted), about(served))
    }
}

/// What expressions see of a namespace.
fn public(namespace: &Value) -> Value {
    const METADATA: [&str; 12] = [
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "finalizers",
    ];
    let given = |path: &[&str]| namespace.at(path).cloned();
    let metadata = METADATA.into_iter().filter_map(|field| Some((field, given(&["metadata", field])?)));
    let mut seen = Map::from_iter([("metadata", Value::Object(metadata.collect()))]);
    for part in ["spec", "status"] {
        seen.insert(part, given(&[part]).unwrap_or_else(Value::object));
    }
    Value::Object(seen)
}

/// Evaluations for so long keep nobody waiting who shares the thread.
const SLICE: Duration = Duration::from_millis(10);

/// Lets others have the thread when evaluations have taken long: a policy with many parameters may take seconds.
struct Turn(Instant);

impl Turn {
    fn new() -> Self {
        Self(Instant::now())
    }

    async fn pause(&mut self) {
        if self.0.elapsed() > SLICE {
            tokio::task::yield_now().await;
            self.0 = Instant::now();
        }
    }
}

/// The objects of a request in one version.
struct Shown {
    /// The new one; null when it is deleted.
    object: Value,
    /// The old one; null when there is none.
    old: Value,
}

/// The objects of a request in the versions in which policies see them, each shown once.
#[derive(Default)]
struct Versions(Vec<(Arc<Served>, Arc<Shown>)>);

impl Versions {
    fn of(
        &mut self,
        attributes: &Attributes<'_>,
        wanted: &Arc<Served>,
        object: &Value,
        old: Option<&Value>,
    ) -> Arc<Shown> {
        if let Some((_, shown)) = self.0.iter().find(|(served, _)| Arc::ptr_eq(served, wanted)) {
            return shown.clone();
        }
        let show = |object: &Value| request::shown(attributes, wanted, object);
        let shown = Arc::new(Shown { object: show(object), old: old.map(show).unwrap_or_default() });
        self.0.push((wanted.clone(), shown.clone()));
        shown
    }
}
