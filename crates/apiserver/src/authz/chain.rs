//! The authorizers of a server, asked one after the other until one allows or denies.

use super::webhook::Webhook;
use super::{Action, Decision, Opinion, metrics::Metrics, node, rbac};
use crate::server::ApiServer;
use crate::user::User;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// What decides.
#[derive(Debug)]
pub(super) enum Authorizer {
    /// Node agents get what their pods need.
    Node,
    /// Roles and bindings.
    Rbac,
    /// Everything may be done.
    AlwaysAllow,
    /// Nothing may be done.
    AlwaysDeny,
    /// A service elsewhere decides.
    Webhook(Box<Webhook>),
}

impl Authorizer {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Rbac => "RBAC",
            Self::AlwaysAllow => "AlwaysAllow",
            Self::AlwaysDeny => "AlwaysDeny",
            Self::Webhook(_) => "Webhook",
        }
    }
}

/// An authorizer with its name.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) authorizer: Authorizer,
}

impl Link {
    async fn decide(&self, server: &ApiServer, user: &User, action: &Action) -> Decision {
        match &self.authorizer {
            Authorizer::Node => node::decide(server, user, action),
            Authorizer::Rbac => rbac::decide(server, user, action),
            Authorizer::AlwaysAllow => Decision::allow(""),
            Authorizer::AlwaysDeny => Decision::no_opinion("Everything is forbidden."),
            Authorizer::Webhook(webhook) => {
                webhook.decide(&self.name, user, action, server.authorization.metrics()).await
            }
        }
    }
}

/// The authorizers in the order in which they are asked, as modes or an `AuthorizationConfiguration` name them.
#[derive(Debug)]
pub struct Chain(pub(super) Vec<Link>);

impl Default for Chain {
    /// Node and RBAC, as every distribution has it.
    fn default() -> Self {
        let link = |name: &str, authorizer| Link { name: name.to_owned(), authorizer };
        Self(vec![link("node", Authorizer::Node), link("rbac", Authorizer::Rbac)])
    }
}

/// Who decides in a server now.
pub(crate) struct Authorization {
    chain: ArcSwap<Chain>,
    metrics: Metrics,
}

impl Authorization {
    pub(crate) fn new(chain: Arc<Chain>) -> Self {
        Self { chain: ArcSwap::new(chain), metrics: Metrics::default() }
    }

    /// From now on others decide.
    pub(crate) fn replace(&self, chain: Chain) {
        self.chain.store(Arc::new(chain));
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn chain(&self) -> Arc<Chain> {
        self.chain.load_full()
    }

    /// Whether a decision may wait for others.
    pub(super) fn asks_others(&self) -> bool {
        self.chain.load().0.iter().any(|link| matches!(link.authorizer, Authorizer::Webhook(_)))
    }

    /// Asks one after the other. `system:masters` may do everything, whatever the chain.
    pub(super) async fn decide(&self, server: &ApiServer, user: &User, action: &Action) -> Decision {
        if user.is_in("system:masters") {
            return Decision::allow("");
        }
        let mut without = Vec::new();
        for link in &self.chain().0 {
            let decision = link.decide(server, user, action).await;
            self.metrics.decided(link.authorizer.kind(), &link.name, decision.opinion);
            if decision.opinion != Opinion::None {
                return decision;
            }
            without.push(decision);
        }
        Decision::of_all(without)
    }
}
