//! Webhooks among the plugins: which of them a request concerns, in which order they are asked, and what comes of it.

mod ask;
mod known;

pub(crate) use known::{Known, ServiceAddresses};

use super::{Attributes, request};
use crate::catalogue::Served;
use ask::{Outcome, Question};
use known::Compiled;
use std::sync::Arc;
use trireme_schema::{Status, Value};
use trireme_webhooks::admission::{Hook, Phase};

/// The mutating webhooks that a request concerns.
pub(super) struct Mutating {
    /// Each with the object as it left it, if it wants to see what others change after that.
    hooks: Vec<(Concerned, Option<Value>)>,
    asked: bool,
}

impl Mutating {
    /// Those that want to see the request.
    pub(super) fn of(attributes: &Attributes<'_>) -> Self {
        let runs = attributes.server.admission.plugins.iter().any(|p| p.webhooks == Some(Phase::Mutating));
        let hooks = if runs { concerned(attributes, Phase::Mutating) } else { Vec::new() };
        Self { hooks: hooks.into_iter().map(|hook| (hook, None)).collect(), asked: false }
    }

    /// Asks them one after the other; each sees what the ones before made of the object. Gives whether it changed.
    ///
    /// When they are asked a second time, only those are that want to see what others changed after them.
    ///
    /// # Errors
    /// The first refusal.
    pub(super) async fn ask(
        &mut self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<bool, Status> {
        let again = std::mem::replace(&mut self.asked, true);
        let mut changed = false;
        for (concerned, left) in &mut self.hooks {
            if again && left.as_ref().is_none_or(|left| left == object) {
                continue;
            }
            let question = Question { attributes, phase: Phase::Mutating, concerned, object, old };
            match question.ask().await? {
                Outcome::NotAsked => continue,
                Outcome::Unchanged => {}
                Outcome::Changed(new) => {
                    changed |= new != *object;
                    *object = new;
                }
            }
            if concerned.compiled.hook.again {
                *left = Some(object.clone());
            }
        }
        Ok(changed)
    }
}

/// Asks all validating webhooks that the request concerns, side by side.
///
/// # Errors
/// A refusal; of several, that of the first in order.
pub(super) async fn validate(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    let hooks = concerned(attributes, Phase::Validating);
    let questions = hooks.iter().map(|concerned| {
        let question = Question { attributes, phase: Phase::Validating, concerned, object, old };
        async move { question.ask().await }
    });
    futures::future::join_all(questions).await.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
}

/// A webhook that wants to see a request.
struct Concerned {
    compiled: Arc<Compiled>,
    /// The version of the request's resource in which it wants to see it.
    wanted: Arc<Served>,
}

fn concerned(attributes: &Attributes<'_>, phase: Phase) -> Vec<Concerned> {
    let server = attributes.server;
    let all = server.webhooks.of(server, phase);
    if all.is_empty() || exempt(attributes) {
        return Vec::new();
    }
    let wants = |compiled: Arc<Compiled>| {
        let wanted = wanted_as(attributes, &compiled.hook)?;
        Some(Concerned { compiled, wanted })
    };
    all.into_iter().filter_map(wants).collect()
}

/// Webhooks cannot keep anybody from mending webhooks and policies, and are not asked twice about a binding.
fn exempt(attributes: &Attributes<'_>) -> bool {
    let served = &attributes.target.served;
    served.group() == "admissionregistration.k8s.io" || attributes.follows_binding()
}

/// The version of the request's resource in which a webhook wants to see it: that of the request if it has a rule for
/// it, else (`matchPolicy: Equivalent`) another version of the same objects.
fn wanted_as(attributes: &Attributes<'_>, hook: &Hook) -> Option<Arc<Served>> {
    let target = attributes.target;
    let operation = request::operation(attributes.operation);
    let wants = |served: &Served| hook.wants(operation, &request::named(served, &target.subresource));
    if wants(&target.served) {
        return Some(target.served.clone());
    }
    if !hook.equivalent {
        return None;
    }
    request::equivalents(attributes).into_iter().find(|served| wants(served))
}
