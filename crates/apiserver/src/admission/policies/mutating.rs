//! Mutating policies: which of them change an object, and how often they are asked.

use super::bound::{Binding, Policy};
use super::metrics::{self, NO_ERROR};
use super::patching::{self, Failure};
use super::{Seen, Turn, exempt, params};
use crate::admission::{Attributes, Operation, request};
use crate::catalogue::Served;
use std::sync::Arc;
use std::time::Instant;
use trireme_policies::{FailurePolicy, Meets, Mutating as Compiled, Subject};
use trireme_schema::{Cause, Status, Value, field};

/// The mutating policies of one request.
#[derive(Default)]
pub(in crate::admission) struct Mutating {
    /// Those that have been asked and want to see what others change after them; none before the first time.
    asked: Option<Vec<Invocation>>,
}

/// A policy that a request concerns, by one of its bindings and one of that binding's parameters.
#[derive(Clone)]
struct Invocation {
    policy: Arc<Policy<Compiled>>,
    binding: Arc<Binding>,
    wanted: Arc<Served>,
    params: Arc<Value>,
}

/// Why a request is refused if the policy says so.
struct Trouble {
    message: String,
    /// Whether the policy failed, and not what configures it.
    evaluated: bool,
}

impl Invocation {
    fn is(&self, other: &Self) -> bool {
        let name = |params: &Value| {
            let part = |field| params.str_at(&["metadata", field]).to_owned();
            (part("namespace"), part("name"))
        };
        self.policy.name == other.policy.name
            && self.binding.name == other.binding.name
            && name(&self.params) == name(&other.params)
    }
}

impl Mutating {
    /// Lets the policies change the object, one after the other; each sees what the ones before made of it. Gives
    /// whether any of them did something. When they are asked a second time, only those are that want to be.
    ///
    /// # Errors
    /// A policy fails, and must not.
    pub async fn ask(
        &mut self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<bool, Status> {
        let policies = attributes.server.policies.mutating.bound();
        let handled = matches!(attributes.operation, Operation::Create | Operation::Update);
        if policies.is_empty() || !handled || exempt(attributes) {
            return Ok(false);
        }
        let mut troubles = Vec::new();
        let mut invocations = Vec::new();
        for bound in policies.iter() {
            let policy = &bound.policy;
            let mut trouble = |binding: Option<&Binding>, why: String| {
                if policy.failure_policy == FailurePolicy::Fail {
                    let what = if binding.is_some() { "binding" } else { "policy" };
                    troubles.push(refusal(policy, binding, &format!("failed to configure {what}: {why}"), false));
                }
            };
            let wanted = match policy.matching.matches(attributes, object, old) {
                Ok(Some(wanted)) => wanted,
                Ok(None) => continue,
                Err(why) => {
                    trouble(None, why);
                    continue;
                }
            };
            let kind = policy.params.as_ref();
            let resource = match kind.map(|kind| params::resource(attributes, kind)).transpose() {
                Ok(resource) => resource,
                Err(why) => {
                    trouble(None, why);
                    continue;
                }
            };
            for binding in &bound.bindings {
                let matches = binding.matching.as_ref().map(|m| m.matches(attributes, object, old)).transpose();
                let found = match matches {
                    Ok(Some(None)) => continue,
                    Ok(_) => params::collect(attributes, resource.as_ref(), binding.params.as_ref()).await,
                    Err(why) => Err(why),
                };
                match found {
                    Ok(found) => invocations.extend(found.into_iter().map(|params| Invocation {
                        policy: policy.clone(),
                        binding: binding.clone(),
                        wanted: wanted.clone(),
                        params: Arc::new(params),
                    })),
                    Err(why) => trouble(Some(binding), why),
                }
            }
        }
        let again = self.asked.take();
        let mut asked = Vec::new();
        let mut changed = false;
        if !invocations.is_empty() {
            let seen = Seen::of(attributes, object)?;
            let mut turn = Turn::new();
            for invocation in invocations {
                turn.pause().await;
                let wants = again.as_ref().is_none_or(|before| before.iter().any(|one| one.is(&invocation)));
                let request = Request { attributes, old, seen: &seen, invocation: &invocation };
                changed |= request.mutate(object, wants, &mut troubles)?;
                if invocation.policy.compiled.again {
                    asked.push(invocation);
                }
            }
        }
        self.asked = Some(asked);
        if troubles.is_empty() { Ok(changed) } else { Err(refused(attributes, object, &troubles)) }
    }
}

/// One invocation in one request.
struct Request<'a> {
    attributes: &'a Attributes<'a>,
    old: Option<&'a Value>,
    seen: &'a Seen,
    invocation: &'a Invocation,
}

impl Request<'_> {
    /// Applies the mutations of a policy, unless it does not want to be asked; gives whether there were any.
    fn mutate(&self, object: &mut Value, wants: bool, troubles: &mut Vec<Trouble>) -> Result<bool, Status> {
        let Invocation { policy, binding, wanted, params } = self.invocation;
        let (request, asked) = self.seen.requests(self.attributes, wanted);
        let mut shown = request::shown(self.attributes, wanted, object);
        let old = request::shown(self.attributes, wanted, self.old.unwrap_or(&Value::Null));
        let without_object = Subject {
            object: &Value::Null,
            old: &old,
            request: &request,
            asked: &asked,
            namespace: &self.seen.namespace,
            params,
            asks: &self.seen.asks,
        };
        let mut trouble = |why: &str| {
            if policy.failure_policy == FailurePolicy::Fail {
                troubles.push(refusal(policy, Some(binding), why, true));
            }
        };
        match policy.compiled.meets(&Subject { object: &shown, ..without_object }) {
            Meets::Yes if wants => {}
            Meets::Yes | Meets::No => return Ok(false),
            Meets::Unknown(why) => {
                trouble(&why);
                return Ok(false);
            }
        }
        let mut changed = false;
        for mutation in &policy.compiled.mutations {
            let started = Instant::now();
            let subject = Subject { object: &shown, ..without_object };
            let patch = policy.compiled.patch(mutation, &subject).map_err(Failure::Policy);
            let patched = patch.and_then(|patch| patching::apply(self.attributes, wanted, object, &shown, &patch));
            let names = [policy.name.as_str(), binding.name.as_str()];
            let count = |error| self.attributes.server.policies.metrics.mutated(names, error, started.elapsed());
            match patched {
                Ok(new) => {
                    count(NO_ERROR);
                    changed = true;
                    *object = new;
                    shown = request::shown(self.attributes, wanted, object);
                }
                Err(Failure::Policy(why)) => {
                    count(metrics::error_type(&why));
                    trouble(&why);
                }
                Err(Failure::Status(status)) => {
                    count(metrics::error_type(&status.message));
                    return Err(status);
                }
            }
        }
        Ok(changed)
    }
}

fn refusal(policy: &Policy<Compiled>, binding: Option<&Binding>, why: &str, evaluated: bool) -> Trouble {
    let message = match binding {
        Some(binding) => format!("policy '{}' with binding '{}' denied request: {why}", policy.name, binding.name),
        None => format!("policy {} denied request: {why}", field::quote(&policy.name)),
    };
    Trouble { message, evaluated }
}

/// Upstream keeps the code of a 403 and tells the reason of a 422.
fn refused(attributes: &Attributes<'_>, object: &Value, troubles: &[Trouble]) -> Status {
    let mut status = attributes.forbidden_by_policy(object, "");
    if let Some(first) = troubles.first() {
        status.message.clone_from(&first.message);
        if first.evaluated {
            status.reason = "Invalid".into();
        }
    }
    let causes = troubles.iter().map(|trouble| Cause { message: trouble.message.clone(), ..Cause::default() });
    status.details.get_or_insert_default().causes.extend(causes);
    status
}
