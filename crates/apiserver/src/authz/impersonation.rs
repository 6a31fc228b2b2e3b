//! Impersonation: whom a user wants to be, by the headers `Impersonate-*`. What he may do as somebody else can be bound
//! (KEP-5284): each mode asks whether he may do this request as such a user, and whether he may be this user. The mode
//! of old asks only the latter.

use super::{Action, allows, check, refusal};
use crate::server::ApiServer;
use crate::user::User;
use http::HeaderMap;
use std::collections::BTreeMap;
use trireme_schema::field::quote;
use trireme_schema::{Status, names};

/// A user as another one.
#[derive(Clone, Debug)]
pub struct Impersonated {
    /// Whose rights hold.
    pub user: User,
    /// By which verb he may be that; empty for the mode of old.
    pub constraint: String,
}

/// From so many groups or values on one check for all of them is tried first.
const MANY: usize = 4;
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Takes away the headers that name whom to be: it has been looked at, and nobody later is to believe it.
pub fn forget_impersonation(headers: &mut HeaderMap) {
    let named = |name: &&http::HeaderName| name.as_str().starts_with("impersonate-");
    let found: Vec<http::HeaderName> = headers.keys().filter(named).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Whom the headers name; nobody when there are none.
fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
    };
    let first = |name: &str| all(name).into_iter().next().unwrap_or_default();
    let mut user = User {
        name: first("impersonate-user"),
        uid: first("impersonate-uid"),
        groups: all("impersonate-group"),
        extra: BTreeMap::new(),
    };
    for header in headers.keys() {
        if let Some(key) = header.as_str().strip_prefix("impersonate-extra-") {
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
            user.extra.entry(key).or_default().extend(all(header.as_str()));
        }
    }
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    if user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty() {
        return Ok(None);
    }
    Err(Status::bad_request(format!("requested {} without impersonating a user name", go_syntax(&user))))
}

/// A user as Go writes its `DefaultInfo`, which clients see in the one message above.
fn go_syntax(user: &User) -> String {
    let list = |texts: &[String]| {
        let quoted: Vec<String> = texts.iter().map(|t| quote(t)).collect();
        format!("[]string{{{}}}", quoted.join(", "))
    };
    let groups = if user.groups.is_empty() { "[]string(nil)".to_owned() } else { list(&user.groups) };
    let pairs: Vec<String> = user.extra.iter().map(|(k, v)| format!("{}:{}", quote(k), list(v))).collect();
    let extra = if pairs.is_empty() { "(nil)".to_owned() } else { format!("{{{}}}", pairs.join(", ")) };
    format!(
        "&user.DefaultInfo{{Name:{}, UID:{}, Groups:{groups}, Extra:map[string][]string{extra}}}",
        quote(&user.name),
        quote(&user.uid)
    )
}

/// Namespace and name of a service account's user name.
fn service_account(name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let fine = names::dns1123_label(namespace).is_empty() && names::dns1123_subdomain(name).is_empty();
    fine.then_some((namespace, name))
}

/// The node of a node agent's user name.
fn node(name: &str) -> Option<&str> {
    name.strip_prefix("system:node:").filter(|node| names::dns1123_subdomain(node).is_empty())
}

/// How somebody can be somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// A service account as the node that its pod runs on.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    /// As it was before: whoever may be somebody may do all that this one may.
    Legacy,
}

impl Mode {
    const ALL: [Self; 5] =
        [Self::AssociatedNode, Self::ArbitraryNode, Self::ServiceAccount, Self::UserInfo, Self::Legacy];

    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    /// The verb for being somebody.
    fn verb(self) -> String {
        if self == Self::Legacy { "impersonate".to_owned() } else { format!("impersonate:{}", self.name()) }
    }

    /// Being somebody, or having what he has. The mode of old has no group for users, groups and service accounts.
    fn to_be(self, group: &str, resource: &str, subresource: &str, name: &str) -> Action {
        Action {
            verb: self.verb(),
            group: group.to_owned(),
            version: if group.is_empty() { String::new() } else { "v1".to_owned() },
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            name: name.to_owned(),
            ..Action::default()
        }
    }

    /// The group of users, groups, nodes and service accounts that one wants to be.
    fn group(self) -> &'static str {
        if self == Self::Legacy { "" } else { AUTHENTICATION }
    }

    /// Whether the mode is for such a user.
    fn is_for(self, asker: &User, wanted: &User) -> bool {
        let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let (node, account) = (node(&wanted.name), service_account(&wanted.name));
        match self {
            Self::AssociatedNode => {
                let own = asker.extra.get("authentication.kubernetes.io/node-name");
                let of_asker = own.filter(|v| v.len() == 1).and_then(|v| v.first()).map(String::as_str);
                only_name && service_account(&asker.name).is_some() && node.is_some() && node == of_asker
            }
            Self::ArbitraryNode => only_name && node.is_some(),
            Self::ServiceAccount => only_name && account.is_some(),
            Self::UserInfo => node.is_none() && account.is_none(),
            Self::Legacy => true,
        }
    }
}

/// The user as whom a request is made.
///
/// # Errors
/// 400 for headers without a user, 403 when he may not be that.
pub async fn impersonated(
    server: &ApiServer,
    asker: &User,
    headers: &HeaderMap,
    action: &Action,
) -> Result<Option<Impersonated>, Status> {
    let Some(wanted) = wanted(headers)? else { return Ok(None) };
    let mut first = None;
    for mode in Mode::ALL {
        if !mode.is_for(asker, &wanted) {
            continue;
        }
        match tried(server, mode, asker, &wanted, action).await {
            Ok(user) => {
                let constraint = if mode == Mode::Legacy { String::new() } else { mode.verb() };
                return Ok(Some(Impersonated { user, constraint }));
            }
            Err(why) => drop(first.get_or_insert(why)),
        }
    }
    Err(first.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

async fn tried(server: &ApiServer, mode: Mode, asker: &User, wanted: &User, action: &Action) -> Result<User, Status> {
    if mode != Mode::Legacy {
        let on = Action { verb: format!("impersonate-on:{}:{}", mode.name(), action.verb), ..action.clone() };
        check(server, asker, &on).await?;
    }
    let group = mode.group();
    let mut user = wanted.clone();
    let mut named = mode.to_be(group, "users", "", &wanted.name);
    if let (Some(node), true) = (node(&wanted.name), mode != Mode::Legacy) {
        // A service account that may be its own node may be so on every node.
        let name = if mode == Mode::AssociatedNode { "*" } else { node };
        named = mode.to_be(group, "nodes", "", name);
        user.groups = vec!["system:nodes".into()];
    }
    if let Some((namespace, name)) = service_account(&wanted.name) {
        named = Action { namespace: namespace.to_owned(), ..mode.to_be(group, "serviceaccounts", "", name) };
        if wanted.groups.is_empty() {
            user.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
        }
    }
    check(server, asker, &named).await?;
    if !wanted.uid.is_empty() {
        check(server, asker, &mode.to_be(AUTHENTICATION, "uids", "", &wanted.uid)).await?;
    }
    groups(server, mode, asker, &wanted.groups).await?;
    extra(server, mode, asker, &wanted.extra).await?;
    let implied = match user.name.as_str() {
        "system:anonymous" => "system:unauthenticated",
        _ if user.is_in("system:unauthenticated") => return Ok(user),
        _ => "system:authenticated",
    };
    if !user.is_in(implied) {
        user.groups.push(implied.to_owned());
    }
    Ok(user)
}

async fn groups(server: &ApiServer, mode: Mode, asker: &User, groups: &[String]) -> Result<(), Status> {
    let be = |name: &str| mode.to_be(mode.group(), "groups", "", name);
    if mode != Mode::Legacy {
        if groups.iter().any(String::is_empty) {
            return Err(refusal(asker, &be(""), "impersonating the empty string group is not allowed"));
        }
        if groups.iter().any(|g| g == "system:masters") {
            let why = "impersonating the system:masters group is not allowed";
            return Err(refusal(asker, &be("system:masters"), why));
        }
        if groups.len() >= MANY && allows(server, asker, &be("*")).await {
            return Ok(());
        }
    }
    for group in groups {
        check(server, asker, &be(group)).await?;
    }
    Ok(())
}

async fn extra(
    server: &ApiServer,
    mode: Mode,
    asker: &User,
    extra: &BTreeMap<String, Vec<String>>,
) -> Result<(), Status> {
    let be = |key: &str, value: &str| mode.to_be(AUTHENTICATION, "userextras", key, value);
    if mode != Mode::Legacy {
        if let Some(why) = wrong_extra(extra) {
            return Err(refusal(asker, &be("", ""), &why));
        }
        let many = extra.len() >= MANY || extra.values().map(Vec::len).sum::<usize>() >= MANY;
        if many && allows(server, asker, &be("*", "*")).await {
            return Ok(());
        }
    }
    for (key, values) in extra {
        for value in values {
            check(server, asker, &be(key, value)).await?;
        }
    }
    Ok(())
}

/// What is wrong with extra values, in a mode that is strict about them.
fn wrong_extra(extra: &BTreeMap<String, Vec<String>>) -> Option<String> {
    extra.iter().find_map(|(key, values)| {
        let why = if key.is_empty() {
            "the empty string key in extra".to_owned()
        } else if *key != key.to_lowercase() {
            return Some(format!("impersonating a non-lowercase key in extra is not allowed: {}", quote(key)));
        } else if values.is_empty() {
            "empty values in extra".to_owned()
        } else if values.iter().any(String::is_empty) {
            "the empty string value in extra".to_owned()
        } else {
            return None;
        };
        Some(format!("impersonating {why} is not allowed"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn headers_name_a_user_with_all_that_he_has() {
        let pairs = [("impersonate-user", "u"), ("impersonate-group", "a"), ("impersonate-extra-acme.com%2fp", "v")];
        let user = wanted(&headers(&pairs)).unwrap().unwrap();
        assert_eq!((user.name.as_str(), user.groups.len()), ("u", 1));
        assert_eq!(user.extra["acme.com/p"], ["v"]);
        assert!(wanted(&headers(&[("impersonate-user", "")])).unwrap().is_none());
    }

    #[test]
    fn headers_without_a_user_are_refused_as_upstream_writes_them() {
        let status = wanted(&headers(&[("impersonate-extra-x", "y")])).unwrap_err();
        assert_eq!(status.code, 400);
        assert_eq!(
            status.message,
            r#"requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string(nil), Extra:map[string][]string{"x":[]string{"y"}}} without impersonating a user name"#
        );
    }

    #[test]
    fn each_mode_is_for_its_own_users() {
        let named = |name: &str| User { name: name.into(), ..User::default() };
        let modes = |asker: &User, wanted: &User| -> Vec<Mode> {
            Mode::ALL.into_iter().filter(|m| m.is_for(asker, wanted)).collect()
        };
        let mut pod = named("system:serviceaccount:a:b");
        pod.extra.insert("authentication.kubernetes.io/node-name".into(), vec!["n1".into()]);
        let node = named("system:node:n1");
        assert_eq!(modes(&pod, &node), [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::Legacy]);
        assert_eq!(modes(&node, &named("system:node:n2")), [Mode::ArbitraryNode, Mode::Legacy]);
        assert_eq!(modes(&node, &pod)[..], [Mode::Legacy]);
        assert_eq!(modes(&node, &named("system:serviceaccount:a:b")), [Mode::ServiceAccount, Mode::Legacy]);
        assert_eq!(modes(&node, &named("u")), [Mode::UserInfo, Mode::Legacy]);
    }
}
