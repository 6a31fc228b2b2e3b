//! Role-based access control.

use super::decision::aggregate;
use super::{Action, Decision};
use crate::server::ApiServer;
use crate::user::User;
use std::sync::Arc;
use trireme_schema::{Value, json};

/// One rule of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// Groups, or `*`.
    pub groups: Vec<String>,
    /// Resources and subresources, or `*`.
    pub resources: Vec<String>,
    /// Names; empty for all.
    pub names: Vec<String>,
    /// Paths that are no resources.
    pub urls: Vec<String>,
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    value.list_at(&[field]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Rule {
    /// Reads a `PolicyRule`.
    pub fn read(value: &Value) -> Self {
        Self {
            verbs: texts(value, "verbs"),
            groups: texts(value, "apiGroups"),
            resources: texts(value, "resources"),
            names: texts(value, "resourceNames"),
            urls: texts(value, "nonResourceURLs"),
        }
    }

    /// What who may do everything has: a rule for resources, and one for paths.
    pub fn everything() -> [Self; 2] {
        let all = || vec!["*".to_owned()];
        [
            Self { verbs: all(), groups: all(), resources: all(), ..Self::default() },
            Self { verbs: all(), urls: all(), ..Self::default() },
        ]
    }

    /// Whether the rule lets an action pass.
    pub fn allows(&self, action: &Action) -> bool {
        let any = |list: &[String], wanted: &str| list.iter().any(|x| x == "*" || x == wanted);
        if !any(&self.verbs, &action.verb) {
            return false;
        }
        if action.resource.is_empty() {
            return self.urls.iter().any(|url| match url.strip_suffix('*') {
                Some(prefix) => action.path.starts_with(prefix),
                None => *url == action.path,
            });
        }
        let full = action.full_resource();
        let resource = self.resources.iter().any(|r| {
            r == "*"
                || *r == full
                || (!action.subresource.is_empty() && r.strip_prefix("*/") == Some(&action.subresource))
        });
        any(&self.groups, &action.group) && resource && (self.names.is_empty() || self.names.contains(&action.name))
    }

    /// Whether this rule covers all that another one allows (for escalation checks).
    pub fn covers(&self, other: &Rule) -> bool {
        let all =
            |own: &[String], wanted: &[String]| own.iter().any(|x| x == "*") || wanted.iter().all(|w| own.contains(w));
        let resources = self.resources.iter().any(|x| x == "*")
            || other.resources.iter().all(|w| {
                let sub = w.split_once('/').map(|(_, s)| format!("*/{s}"));
                self.resources.contains(w) || sub.is_some_and(|s| self.resources.contains(&s))
            });
        let names = match (&self.names[..], &other.names[..]) {
            ([], _) => true,
            (_, []) => false,
            (own, wanted) => wanted.iter().all(|w| own.contains(w)),
        };
        let urls = other.urls.iter().all(|w| {
            self.urls.iter().any(|u| u == w || u.strip_suffix('*').is_some_and(|prefix| w.starts_with(prefix)))
        });
        all(&self.verbs, &other.verbs) && all(&self.groups, &other.groups) && resources && names && urls
    }

    /// The rule in rules of one verb, one group, one resource and one name each, or one verb and one path.
    pub fn parts(&self) -> Vec<Rule> {
        let mut parts = Vec::new();
        for verb in &self.verbs {
            let one = || vec![verb.clone()];
            for group in &self.groups {
                for resource in &self.resources {
                    let part = |names| Rule {
                        verbs: one(),
                        groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        names,
                        urls: Vec::new(),
                    };
                    if self.names.is_empty() {
                        parts.push(part(Vec::new()));
                    }
                    parts.extend(self.names.iter().map(|name| part(vec![name.clone()])));
                }
            }
            parts.extend(self.urls.iter().map(|url| Rule { verbs: one(), urls: vec![url.clone()], ..Rule::default() }));
        }
        parts
    }
}

impl std::fmt::Display for Rule {
    /// As Go writes lists: `{APIGroups:["" "apps"], Resources:["pods"], Verbs:["get"]}`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let said = fields.into_iter().filter(|(_, list)| !list.is_empty());
        let parts: Vec<String> = said.map(|(name, list)| format!("{name}:{}", listed(list))).collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}

/// Texts as Go writes a list of them: `["a" "b"]`.
pub(crate) fn listed(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|t| trireme_schema::field::quote(t)).collect();
    format!("[{}]", quoted.join(" "))
}

/// A subject of a binding: kind, name, namespace.
type Subject = (String, String, String);

#[derive(Debug)]
struct Binding {
    name: String,
    subjects: Vec<Subject>,
    role_kind: String,
    role_name: String,
}

impl Binding {
    fn read(value: &Value) -> Self {
        let subject = |s: &Value| {
            let text = |f| s.str_at(&[f]).to_owned();
            (text("kind"), text("name"), text("namespace"))
        };
        Self {
            name: value.str_at(&["metadata", "name"]).to_owned(),
            subjects: value.list_at(&["subjects"]).iter().map(subject).collect(),
            role_kind: value.str_at(&["roleRef", "kind"]).to_owned(),
            role_name: value.str_at(&["roleRef", "name"]).to_owned(),
        }
    }

    /// The subject by which the binding is about a user.
    fn subject_of(&self, user: &User, namespace: &str) -> Option<&Subject> {
        self.subjects.iter().find(|(kind, name, ns)| match kind.as_str() {
            "User" => *name == user.name,
            "Group" => user.is_in(name),
            "ServiceAccount" => {
                let ns = if ns.is_empty() { namespace } else { ns };
                let own = user.name.strip_prefix("system:serviceaccount:").and_then(|r| r.split_once(':'));
                !ns.is_empty() && own == Some((ns, name))
            }
            _ => false,
        })
    }

    /// Why a user has a right: `ClusterRoleBinding "b" of ClusterRole "r" to Group "g"`.
    fn reason(&self, namespace: &str, (kind, name, of): &Subject) -> String {
        let binding = match namespace {
            "" => format!("ClusterRoleBinding {:?}", self.name),
            namespace => format!("RoleBinding {:?}", format!("{}/{namespace}", self.name)),
        };
        let subject = match kind.as_str() {
            "ServiceAccount" => format!("{name}/{}", if of.is_empty() { namespace } else { of }),
            _ => name.clone(),
        };
        format!("RBAC: allowed by {binding} of {} {:?} to {kind} {subject:?}", self.role_kind, self.role_name)
    }
}

const GROUP: &str = "rbac.authorization.k8s.io";

fn role_rules(server: &ApiServer, kind: &str, namespace: &str, name: &str) -> Option<Arc<Vec<Rule>>> {
    let (plural, namespace) = if kind == "ClusterRole" { ("clusterroles", "") } else { ("roles", namespace) };
    let served = server.catalogue.stored(GROUP, plural)?;
    let record = server.store.get(&served.key(namespace, name))?;
    Some(record.memo(|bytes| {
        let value = json::parse(bytes).unwrap_or_default();
        Arc::new(value.list_at(&["rules"]).iter().map(Rule::read).collect())
    }))
}

/// Calls `visit` with the rules of each role that a user has, or with what is wrong with one, until it says that it has
/// seen enough. The reason of a rule is made when it is asked for.
fn visit(
    server: &ApiServer,
    user: &User,
    namespace: &str,
    mut enough: impl FnMut(Result<&[Rule], String>, &dyn Fn() -> String) -> bool,
) {
    let mut bindings = |plural: &str, place: &str| {
        let Some(served) = server.catalogue.stored(GROUP, plural) else { return false };
        let snapshot = server.store.topic(&served.topic).snapshot();
        snapshot.range(&served.prefix(place), None).any(|record| {
            let binding = record.memo(|bytes| Arc::new(Binding::read(&json::parse(bytes).unwrap_or_default())));
            let Some(subject) = binding.subject_of(user, place) else { return false };
            let reason = || binding.reason(place, subject);
            match role_rules(server, &binding.role_kind, place, &binding.role_name) {
                Some(rules) => enough(Ok(&rules), &reason),
                None => {
                    let kind = binding.role_kind.to_lowercase();
                    enough(Err(format!("{kind}.{GROUP} {:?} not found", binding.role_name)), &reason)
                }
            }
        })
    };
    if !bindings("clusterrolebindings", "") && !namespace.is_empty() {
        bindings("rolebindings", namespace);
    }
}

/// Whether RBAC lets an action pass.
pub(super) fn decide(server: &ApiServer, user: &User, action: &Action) -> Decision {
    let mut allowed = None;
    let mut missing: Vec<String> = Vec::new();
    visit(server, user, &action.namespace, |rules, reason| {
        match rules {
            Ok(rules) if rules.iter().any(|rule| rule.allows(action)) => allowed = Some(reason()),
            Ok(_) => {}
            Err(why) if !missing.contains(&why) => missing.push(why),
            Err(_) => {}
        }
        allowed.is_some()
    });
    match (allowed, &missing[..]) {
        (Some(reason), _) => Decision::allow(reason),
        (None, []) => Decision::no_opinion(""),
        (None, missing) => Decision::no_opinion(format!("RBAC: {}", aggregate(missing))),
    }
}

/// Whether a cluster role lets an action pass.
pub(super) fn role_allows(server: &ApiServer, role: &str, action: &Action) -> bool {
    role_rules(server, "ClusterRole", "", role).is_some_and(|rules| rules.iter().any(|rule| rule.allows(action)))
}

/// Rules, with what was missing when they were looked up.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// The rules.
    pub rules: Vec<Rule>,
    /// Roles that bindings name and that are not there.
    pub missing: Vec<String>,
}

/// The rules of a role that is given by a reference in a namespace; nothing when there is no such role.
pub fn rules_of_role(server: &ApiServer, kind: &str, namespace: &str, name: &str) -> Option<Vec<Rule>> {
    role_rules(server, kind, namespace, name).map(|rules| rules.to_vec())
}

/// All rules that hold for a user in a namespace.
pub fn resolve(server: &ApiServer, user: &User, namespace: &str) -> Resolved {
    let mut all = Resolved::default();
    visit(server, user, namespace, |rules, _| {
        match rules {
            Ok(rules) => all.rules.extend(rules.iter().cloned()),
            Err(why) => all.missing.push(why),
        }
        false
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str) -> Rule {
        let list = |text: &str| text.split(',').map(str::to_owned).collect();
        Rule { verbs: list(verbs), groups: list(groups), resources: list(resources), ..Rule::default() }
    }

    fn action(verb: &str, resource: &str, subresource: &str) -> Action {
        Action { verb: verb.into(), resource: resource.into(), subresource: subresource.into(), ..Action::default() }
    }

    #[test]
    fn subresources_are_named_apart() {
        let pods = rule("get", "", "pods");
        assert!(pods.allows(&action("get", "pods", "")));
        assert!(!pods.allows(&action("get", "pods", "log")));
        assert!(!pods.allows(&action("list", "pods", "")));
        assert!(rule("*", "*", "*/scale").allows(&action("update", "deployments", "scale")));
        assert!(rule("*", "*", "*").covers(&pods));
        assert!(!pods.covers(&rule("get,list", "", "pods")));
    }

    #[test]
    fn a_rule_falls_into_parts() {
        let named = Rule { names: vec!["a".into(), "b".into()], ..rule("get,list", "", "pods,nodes") };
        assert_eq!(named.parts().len(), 8);
        assert!(named.parts().iter().all(|part| named.covers(part)));
        let shown = r#"{APIGroups:["" "apps"], Resources:["pods"], Verbs:["get" "list"]}"#;
        assert_eq!(rule("get,list", ",apps", "pods").to_string(), shown);
    }
}
