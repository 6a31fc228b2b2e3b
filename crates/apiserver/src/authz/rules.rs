//! What a user may do in a namespace, as far as it can be told without asking about each action.

use super::chain::Authorizer;
use super::decision::aggregate;
use super::{Resolved, Rule, resolve};
use crate::server::ApiServer;
use crate::user::User;

/// Rules of all authorizers.
pub(crate) struct Rules {
    /// The rules.
    pub(crate) rules: Vec<Rule>,
    /// Whether there may be more.
    pub(crate) incomplete: bool,
    /// Why they could not be told; empty if they could.
    pub(crate) error: String,
}

/// The rules of a user.
pub(crate) fn rules(server: &ApiServer, user: &User, namespace: &str) -> Rules {
    let (mut all, mut incomplete, mut errors) = (Vec::new(), false, Vec::new());
    for link in &server.authorization.chain().0 {
        match &link.authorizer {
            Authorizer::Node if user.node().is_some() => {
                incomplete = true;
                errors.push("node authorizer does not support user rule resolution".to_owned());
            }
            Authorizer::Node | Authorizer::AlwaysDeny => {}
            Authorizer::Rbac => {
                let Resolved { rules, missing } = resolve(server, user, namespace);
                all.extend(rules);
                errors.extend(missing);
            }
            Authorizer::AlwaysAllow => all.extend(Rule::everything()),
            Authorizer::Webhook(_) => {
                incomplete = true;
                errors.push("webhook authorizer does not support user rule resolution".to_owned());
            }
        }
    }
    Rules { rules: all, incomplete, error: aggregate(&errors) }
}
