//! `authorizer` in expressions: what the user of a request may do.

use super::{Attributes, request};
use crate::authz::{self, Action};
use crate::server::ApiServer;
use crate::user::User;
use std::sync::{Arc, Weak};
use trireme_cel::library::{Authorizer, Check, Decision, ResourceSubject, Subject};
use trireme_policies::Asks;
use trireme_schema::{FieldSelector, LabelSelector};

/// Decides for the user of one request.
struct OfUser {
    server: Weak<ApiServer>,
    user: Arc<User>,
}

/// What expressions may ask about the user of a request.
pub(super) fn asks(attributes: &Attributes<'_>, name: &str) -> Asks {
    let target = attributes.target;
    let own = request::named(&target.served, &target.subresource);
    let resource = ResourceSubject {
        group: own.group.to_owned(),
        resource: own.resource.to_owned(),
        subresource: own.subresource.to_owned(),
        namespace: request::namespace(attributes).to_owned(),
        name: name.to_owned(),
        ..ResourceSubject::default()
    };
    let authorizer = OfUser { server: attributes.server.itself.clone(), user: target.user.clone() };
    Asks::new(Arc::new(authorizer), resource)
}

impl Authorizer for OfUser {
    fn authorize(&self, check: &Check) -> Decision {
        let Some(server) = self.server.upgrade() else {
            return Decision { error: Some("the server stops".into()), ..Decision::default() };
        };
        let account = check.service_account.as_ref().map(|(namespace, name)| account(namespace, name));
        let user = account.as_ref().unwrap_or(&self.user);
        let decision = authz::decide_at_once(&server, user, &action(check));
        let error = Some(decision.error.clone()).filter(|error| !error.is_empty());
        Decision { allowed: decision.is_allowed(), reason: decision.reason, error }
    }
}

/// The user that a service account is.
fn account(namespace: &str, name: &str) -> User {
    let group = format!("system:serviceaccounts:{namespace}");
    User::new(&format!("system:serviceaccount:{namespace}:{name}"), &["system:serviceaccounts", &group])
}

fn action(check: &Check) -> Action {
    let verb = check.verb.clone();
    match &check.to {
        Subject::Path(path) => Action { verb, path: path.clone(), ..Action::default() },
        Subject::Resource(to) => Action {
            verb,
            group: to.group.clone(),
            version: "*".into(),
            resource: to.resource.clone(),
            subresource: to.subresource.clone(),
            namespace: to.namespace.clone(),
            name: to.name.clone(),
            fields: FieldSelector::parse(&to.field_selector).unwrap_or_default(),
            labels: LabelSelector::parse(&to.label_selector).unwrap_or_default(),
            ..Action::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_become_actions() {
        let path = Check { verb: "get".into(), to: Subject::Path("/healthz".into()), ..Check::default() };
        let got = action(&path);
        assert_eq!((got.verb.as_str(), got.path.as_str(), got.resource.as_str()), ("get", "/healthz", ""));
        let to = ResourceSubject { resource: "pods".into(), namespace: "n".into(), ..ResourceSubject::default() };
        let got = action(&Check { verb: "list".into(), to: Subject::Resource(to), ..Check::default() });
        assert_eq!((got.resource.as_str(), got.namespace.as_str(), got.path.as_str()), ("pods", "n", ""));
        assert!(account("n", "a").is_in("system:serviceaccounts:n") && account("n", "a").is_in("system:authenticated"));
    }
}
