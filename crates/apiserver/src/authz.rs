//! Who may do what: `system:masters` everything, nodes what they need, everybody else what RBAC says.

mod node;
mod rbac;

pub(crate) use rbac::rules_of_role;
pub use rbac::{Rule, rules_of};

use crate::request::RequestInfo;
use crate::server::ApiServer;
use crate::user::User;
use http::HeaderMap;
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

/// Whether a user may do something.
pub fn allows(server: &ApiServer, user: &User, action: &Action) -> bool {
    user.is_in("system:masters") || node::allows(server, user, action) || rbac::allows(server, user, action)
}

/// Lets a request pass or not.
///
/// # Errors
/// 403 in upstream's words.
pub fn authorize(server: &ApiServer, user: &User, info: &RequestInfo) -> Result<(), Status> {
    let action = Action::of(info);
    if allows(server, user, &action) { Ok(()) } else { Err(refusal(user, &action)) }
}

/// The 403 for an action.
pub fn refusal(user: &User, action: &Action) -> Status {
    let name = &user.name;
    if action.resource.is_empty() {
        let why = format!("User \"{name}\" cannot {} path \"{}\"", action.verb, action.path);
        let mut status = Status::forbidden("", "", "", &why);
        status.message = format!("forbidden: {why}");
        return status;
    }
    let place = match action.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let why = format!(
        "User \"{name}\" cannot {} resource \"{}\" in API group \"{}\" {place}",
        action.verb,
        action.full_resource(),
        action.group
    );
    Status::forbidden(&action.group, &action.resource, &action.name, &why)
}

/// The user whom a user wants to be (headers `Impersonate-*`).
///
/// # Errors
/// 403 when he may not, 500 (as upstream) for headers without a user.
pub fn impersonated(server: &ApiServer, user: User, headers: &HeaderMap) -> Result<User, Status> {
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
    };
    let wanted = all("impersonate-user").into_iter().next().unwrap_or_default();
    let groups = all("impersonate-group");
    let uid = all("impersonate-uid").into_iter().next().unwrap_or_default();
    let extras: Vec<(String, Vec<String>)> = headers
        .keys()
        .filter_map(|k| k.as_str().strip_prefix("impersonate-extra-"))
        .map(|key| {
            let decoded = percent_encoding::percent_decode_str(key).decode_utf8_lossy().to_lowercase();
            (decoded, all(&format!("impersonate-extra-{key}")))
        })
        .collect();
    if wanted.is_empty() {
        if groups.is_empty() && uid.is_empty() && extras.is_empty() {
            return Ok(user);
        }
        return Err(Status::internal(
            "requested [{groups}] without impersonating a user".replace("{groups}", &groups.join(" ")),
        ));
    }
    let check = |group: &str, resource: &str, namespace: &str, subresource: &str, name: &str| {
        let action = Action {
            verb: "impersonate".into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            path: String::new(),
        };
        if allows(server, &user, &action) { Ok(()) } else { Err(refusal(&user, &action)) }
    };
    let mut new = User {
        name: wanted.clone(),
        uid: uid.clone(),
        groups: groups.clone(),
        extra: extras.iter().cloned().collect(),
    };
    match wanted.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        Some((namespace, name)) => {
            check("", "serviceaccounts", namespace, "", name)?;
            if new.groups.is_empty() {
                new.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
            }
        }
        None => check("", "users", "", "", &wanted)?,
    }
    for group in &groups {
        check("", "groups", "", "", group)?;
    }
    for (key, values) in &extras {
        for value in values {
            check("authentication.k8s.io", "userextras", "", key, value)?;
        }
    }
    if !uid.is_empty() {
        check("authentication.k8s.io", "uids", "", "", &uid)?;
    }
    let implied = if new.name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
    if !new.is_in(implied) && !new.is_in("system:unauthenticated") {
        new.groups.push(implied.to_owned());
    }
    Ok(new)
}
