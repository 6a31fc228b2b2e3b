//! Who may do what: `system:masters` everything, nodes what they need, everybody else what RBAC says.

mod impersonation;
pub(crate) mod node;
mod pods;
mod rbac;

pub use impersonation::{forget_impersonation, impersonated};
pub use node::NodePods;
pub(crate) use rbac::listed;
pub use rbac::{Resolved, Rule, resolve, rules_of_role};

use crate::request::RequestInfo;
use crate::server::ApiServer;
use crate::user::User;
use trireme_schema::Status;

/// Something that somebody wants to do.
#[derive(Clone, Debug, Default)]
pub struct Action {
    /// The verb.
    pub verb: String,
    /// The group; for resources.
    pub group: String,
    /// The resource; empty for paths.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The path, for what is no resource.
    pub path: String,
    /// The field selector of what is done to many.
    pub field_selector: String,
}

impl Action {
    /// What a request wants.
    pub fn of(info: &RequestInfo) -> Self {
        Self {
            verb: info.verb.clone(),
            group: info.group.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            path: if info.is_resource { String::new() } else { info.path.clone() },
            field_selector: info.field_selector.clone(),
        }
    }

    fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be done, with the reason.
    Allow(String),
    /// Nothing speaks for it, with what is missing, if anything is to say.
    NoOpinion(String),
}

impl Decision {
    /// Whether it may be done.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// The reason.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) | Self::NoOpinion(reason) => reason,
        }
    }

    /// This one, or what another authorizer says when this one does not allow; both have said why not.
    fn or(self, other: impl FnOnce() -> Self) -> Self {
        let Self::NoOpinion(mut why) = self else { return self };
        match other() {
            Self::NoOpinion(more) => {
                if !why.is_empty() && !more.is_empty() {
                    why.push('\n');
                }
                why.push_str(&more);
                Self::NoOpinion(why)
            }
            allowed => allowed,
        }
    }
}

/// Whether a user may do something, and why.
pub fn decide(server: &ApiServer, user: &User, action: &Action) -> Decision {
    if user.is_in("system:masters") {
        return Decision::Allow(String::new());
    }
    node::decide(server, user, action).or(|| rbac::decide(server, user, action))
}

/// Whether a user may do something.
pub fn allows(server: &ApiServer, user: &User, action: &Action) -> bool {
    decide(server, user, action).is_allowed()
}

/// Lets an action pass or not.
///
/// # Errors
/// 403 in upstream's words.
pub fn check(server: &ApiServer, user: &User, action: &Action) -> Result<(), Status> {
    match decide(server, user, action) {
        Decision::Allow(_) => Ok(()),
        Decision::NoOpinion(why) => Err(refusal(user, action, &why)),
    }
}

/// Lets a request pass or not.
///
/// # Errors
/// 403 in upstream's words.
pub fn authorize(server: &ApiServer, user: &User, info: &RequestInfo) -> Result<(), Status> {
    check(server, user, &Action::of(info))
}

/// Lets a request pass that was decided on, or not.
///
/// # Errors
/// 403 in upstream's words.
pub fn passes(decision: &Decision, user: &User, info: &RequestInfo) -> Result<(), Status> {
    match decision {
        Decision::Allow(_) => Ok(()),
        Decision::NoOpinion(why) => Err(refusal(user, &Action::of(info), why)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_all_who_do_not_allow_are_told() {
        let no = |why: &str| Decision::NoOpinion(why.into());
        assert_eq!(no("a").or(|| no("b")), no("a\nb"));
        assert_eq!(no("").or(|| no("b")), no("b"));
        assert_eq!(no("a").or(|| Decision::Allow("c".into())), Decision::Allow("c".into()));
    }
}
