//! Role-based access control.

use super::Action;
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
        let names = self.names.is_empty() || (!other.names.is_empty() && all(&self.names, &other.names));
        let urls = other.urls.iter().all(|w| {
            self.urls.iter().any(|u| u == w || u.strip_suffix('*').is_some_and(|prefix| w.starts_with(prefix)))
        });
        if other.urls.is_empty() {
            all(&self.verbs, &other.verbs) && all(&self.groups, &other.groups) && resources && names
        } else {
            all(&self.verbs, &other.verbs) && urls
        }
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        let fields = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("ResourceNames", &self.names),
            ("NonResourceURLs", &self.urls),
            ("Verbs", &self.verbs),
        ];
        for (name, list) in fields.into_iter().filter(|(_, list)| !list.is_empty()) {
            parts.push(format!("{name}:{list:?}"));
        }
        write!(f, "{{{}}}", parts.join(", "))
    }
}

#[derive(Debug)]
struct Binding {
    /// kind, name, namespace
    subjects: Vec<(String, String, String)>,
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
            subjects: value.list_at(&["subjects"]).iter().map(subject).collect(),
            role_kind: value.str_at(&["roleRef", "kind"]).to_owned(),
            role_name: value.str_at(&["roleRef", "name"]).to_owned(),
        }
    }

    fn is_about(&self, user: &User, namespace: &str) -> bool {
        self.subjects.iter().any(|(kind, name, ns)| match kind.as_str() {
            "User" => *name == user.name,
            "Group" => user.is_in(name),
            "ServiceAccount" => {
                let ns = if ns.is_empty() { namespace } else { ns };
                user.name.strip_prefix("system:serviceaccount:").and_then(|r| r.split_once(':')) == Some((ns, name))
            }
            _ => false,
        })
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

/// Calls `visit` with the rules of each role that a user has, until it says that it has seen enough.
fn visit(server: &ApiServer, user: &User, namespace: &str, mut enough: impl FnMut(&[Rule]) -> bool) {
    let mut bindings = |plural: &str, place: &str| {
        let Some(served) = server.catalogue.stored(GROUP, plural) else { return false };
        let snapshot = server.store.topic(&served.topic).snapshot();
        snapshot.range(&served.prefix(place), None).any(|record| {
            let binding = record.memo(|bytes| Arc::new(Binding::read(&json::parse(bytes).unwrap_or_default())));
            binding.is_about(user, place)
                && role_rules(server, &binding.role_kind, place, &binding.role_name).is_some_and(|rules| enough(&rules))
        })
    };
    if !bindings("clusterrolebindings", "") && !namespace.is_empty() {
        bindings("rolebindings", namespace);
    }
}

/// Whether RBAC lets an action pass.
pub(super) fn allows(server: &ApiServer, user: &User, action: &Action) -> bool {
    let mut allowed = false;
    visit(server, user, &action.namespace, |rules| {
        allowed = rules.iter().any(|rule| rule.allows(action));
        allowed
    });
    allowed
}

/// Whether a cluster role lets an action pass.
pub(super) fn role_allows(server: &ApiServer, role: &str, action: &Action) -> bool {
    role_rules(server, "ClusterRole", "", role).is_some_and(|rules| rules.iter().any(|rule| rule.allows(action)))
}

/// The rules of a role that is given by a reference in a namespace.
pub(crate) fn rules_of_role(server: &ApiServer, kind: &str, namespace: &str, name: &str) -> Vec<Rule> {
    role_rules(server, kind, namespace, name).map(|rules| rules.to_vec()).unwrap_or_default()
}

/// All rules that hold for a user in a namespace.
pub fn rules_of(server: &ApiServer, user: &User, namespace: &str) -> Vec<Rule> {
    let mut all = Vec::new();
    visit(server, user, namespace, |rules| {
        all.extend(rules.iter().cloned());
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
}
