//! Who may do what: `system:masters` everything, all others what a chain of authorizers says. That of usual is that nodes
//! get what they need, and everybody what RBAC says.

mod action;
mod chain;
mod conditions;
mod config;
mod decision;
mod impersonation;
pub(crate) mod metrics;
pub(crate) mod node;
mod pods;
mod rbac;
mod rules;
mod webhook;

pub use action::Action;
pub(crate) use chain::Authorization;
pub use chain::Chain;
pub use config::WebhookFlags;
pub use decision::{Decision, Opinion};
pub use impersonation::{forget_impersonation, impersonated};
pub use node::NodePods;
pub(crate) use rbac::listed;
pub use rbac::{Resolved, Rule, resolve, rules_of_role};
pub(crate) use rules::rules;

use crate::server::ApiServer;
use crate::user::User;
use futures::FutureExt as _;
use std::time::Instant;
use tokio::runtime::RuntimeFlavor;
use trireme_schema::Status;

/// Whether a user may do something, and why.
pub async fn decide(server: &ApiServer, user: &User, action: &Action) -> Decision {
    server.authorization.decide(server, user, action).await
}

/// The same for who cannot wait, as the expressions of policies cannot. A webhook holds up the thread, which gives its other
/// work away before; a runtime of one thread cannot do that.
pub fn decide_at_once(server: &ApiServer, user: &User, action: &Action) -> Decision {
    let work = decide(server, user, action);
    if !server.authorization.asks_others() {
        return work.now_or_never().unwrap_or_default();
    }
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(|| runtime.block_on(work))
        }
        _ => Decision::failed(Opinion::None, "authorization webhooks cannot be asked here"),
    }
}

/// Whether a request may be made.
pub async fn decide_request(server: &ApiServer, user: &User, action: &Action) -> Decision {
    let started = Instant::now();
    let decision = decide(server, user, action).await;
    server.authorization.metrics().attempt(&decision, started.elapsed());
    decision
}

/// Whether a user may do something.
pub async fn allows(server: &ApiServer, user: &User, action: &Action) -> bool {
    decide(server, user, action).await.is_allowed()
}

/// Lets an action pass or not.
///
/// # Errors
/// 403 in upstream's words.
pub async fn check(server: &ApiServer, user: &User, action: &Action) -> Result<(), Status> {
    let decision = decide(server, user, action).await;
    if decision.is_allowed() { Ok(()) } else { Err(refusal(user, action, &decision.reason)) }
}

/// The 403 for an action, with the reason if there is one.
pub fn refusal(user: &User, action: &Action, reason: &str) -> Status {
    let name = &user.name;
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    if action.resource.is_empty() {
        let why = format!("User \"{name}\" cannot {} path \"{}\"{because}", action.verb, action.path);
        let mut status = Status::forbidden("", "", "", &why);
        status.message = format!("forbidden: {why}");
        return status;
    }
    let place = match action.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let why = format!(
        "User \"{name}\" cannot {} resource \"{}\" in API group \"{}\" {place}{because}",
        action.verb,
        action.full_resource(),
        action.group
    );
    Status::forbidden(&action.group, &action.resource, &action.name, &why)
}
