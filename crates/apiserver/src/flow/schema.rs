//! A flow schema: which requests are its own, and to which flow each belongs.

use super::metrics::Counters;
use crate::request::RequestInfo;
use crate::user::User;
use http::HeaderValue;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use trireme_fairness::{Queuing, Shares, Spec};
use trireme_schema::Value;

/// What sets requests of a schema apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distinguisher {
    None,
    User,
    Namespace,
}

#[derive(Clone, Debug)]
enum Subject {
    User(String),
    Group(String),
    ServiceAccount { namespace: String, name: String },
}

#[derive(Clone, Debug)]
struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

#[derive(Clone, Debug)]
struct PathRule {
    verbs: Vec<String>,
    paths: Vec<String>,
}

#[derive(Clone, Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

/// A flow schema as it is used.
pub(super) struct Schema {
    pub(super) name: String,
    pub(super) precedence: i64,
    pub(super) level: String,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
    /// UIDs of the schema and of its level, as answers name them.
    pub(super) headers: [HeaderValue; 2],
    pub(super) counters: Arc<Counters>,
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    value.list_at(&[field]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|x| x == "*" || x == wanted)
}

impl Subject {
    fn read(value: &Value) -> Option<Self> {
        let text = |path: &[&str]| value.str_at(path).to_owned();
        Some(match value.str_at(&["kind"]) {
            "User" => Self::User(text(&["user", "name"])),
            "Group" => Self::Group(text(&["group", "name"])),
            "ServiceAccount" => Self::ServiceAccount {
                namespace: text(&["serviceAccount", "namespace"]),
                name: text(&["serviceAccount", "name"]),
            },
            _ => return None,
        })
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Self::User(name) => name == "*" || *name == user.name,
            Self::Group(name) => name == "*" || user.is_in(name),
            Self::ServiceAccount { namespace, name } => {
                let own = user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
                own.is_some_and(|(ns, n)| ns == namespace && (name == "*" || n == name))
            }
        }
    }
}

impl ResourceRule {
    fn is(&self, info: &RequestInfo) -> bool {
        let resource = self.resources.iter().any(|r| match r.split_once('/') {
            _ if r == "*" => true,
            None => info.subresource.is_empty() && *r == info.resource,
            Some((resource, sub)) => resource == info.resource && sub == info.subresource,
        });
        let place = if info.namespace.is_empty() { self.cluster_scope } else { has(&self.namespaces, &info.namespace) };
        resource && place && has(&self.verbs, &info.verb) && has(&self.groups, &info.group)
    }
}

impl PathRule {
    fn is(&self, info: &RequestInfo) -> bool {
        let path = self.paths.iter().any(|p| match p.strip_suffix('*') {
            Some(start) => info.path.starts_with(start),
            None => *p == info.path,
        });
        path && has(&self.verbs, &info.verb)
    }
}

impl Rule {
    fn is(&self, user: &User, info: &RequestInfo) -> bool {
        let what = if info.is_resource {
            self.resources.iter().any(|r| r.is(info))
        } else {
            self.paths.iter().any(|r| r.is(info))
        };
        what && self.subjects.iter().any(|s| s.is(user))
    }
}

impl Schema {
    /// Reads a `FlowSchema`; `level_uid` is that of its level.
    pub(super) fn read(value: &Value, level_uid: &str) -> Self {
        let rule = |rule: &Value| Rule {
            subjects: rule.list_at(&["subjects"]).iter().filter_map(Subject::read).collect(),
            resources: rule
                .list_at(&["resourceRules"])
                .iter()
                .map(|r| ResourceRule {
                    verbs: texts(r, "verbs"),
                    groups: texts(r, "apiGroups"),
                    resources: texts(r, "resources"),
                    cluster_scope: r.bool_at(&["clusterScope"]),
                    namespaces: texts(r, "namespaces"),
                })
                .collect(),
            paths: rule
                .list_at(&["nonResourceRules"])
                .iter()
                .map(|r| PathRule { verbs: texts(r, "verbs"), paths: texts(r, "nonResourceURLs") })
                .collect(),
        };
        let name = value.str_at(&["metadata", "name"]).to_owned();
        let level = value.str_at(&["spec", "priorityLevelConfiguration", "name"]).to_owned();
        let header = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
        Self {
            precedence: value.int_at(&["spec", "matchingPrecedence"]).unwrap_or(1000),
            distinguisher: match value.str_at(&["spec", "distinguisherMethod", "type"]) {
                "ByUser" => Distinguisher::User,
                "ByNamespace" => Distinguisher::Namespace,
                _ => Distinguisher::None,
            },
            rules: value.list_at(&["spec", "rules"]).iter().map(rule).collect(),
            headers: [header(value.str_at(&["metadata", "uid"])), header(level_uid)],
            counters: Arc::default(),
            name,
            level,
        }
    }

    /// Whether a request is the schema's.
    pub(super) fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        self.rules.iter().any(|rule| rule.is(user, info))
    }

    /// The flow of a request.
    pub(super) fn flow(&self, user: &User, info: &RequestInfo) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        match self.distinguisher {
            Distinguisher::None => {}
            Distinguisher::User => user.name.hash(&mut hasher),
            Distinguisher::Namespace => info.namespace.hash(&mut hasher),
        }
        hasher.finish()
    }
}

/// Reads a `PriorityLevelConfiguration`.
pub(super) fn level(value: &Value) -> Spec {
    if value.str_at(&["spec", "type"]) == "Exempt" {
        return Spec::Exempt;
    }
    let limited = |path: &[&str]| {
        let mut whole = vec!["spec", "limited"];
        whole.extend_from_slice(path);
        value.int_at(&whole)
    };
    let number = |n: i64| u32::try_from(n).unwrap_or_default();
    let size = |path: &str, default: usize| {
        limited(&["limitResponse", "queuing", path]).and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
    };
    let queues = value.str_at(&["spec", "limited", "limitResponse", "type"]) == "Queue";
    Spec::Limited {
        shares: Shares {
            nominal: limited(&["nominalConcurrencyShares"]).map_or(30, number),
            lendable_percent: limited(&["lendablePercent"]).map_or(0, number),
            borrowing_percent: limited(&["borrowingLimitPercent"]).map(number),
        },
        queuing: queues.then(|| Queuing {
            queues: size("queues", 64),
            hand: size("handSize", 8),
            length: size("queueLengthLimit", 50),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas() -> Vec<Schema> {
        let all = super::super::bootstrap::objects();
        let mut schemas: Vec<Schema> =
            all.iter().filter(|(kind, _)| kind == "FlowSchema").map(|(_, o)| Schema::read(o, "")).collect();
        schemas.sort_by_key(|s| (s.precedence, s.name.clone()));
        schemas
    }

    fn info(verb: &str, group: &str, resource: &str, namespace: &str) -> RequestInfo {
        RequestInfo {
            is_resource: true,
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            namespace: namespace.into(),
            ..RequestInfo::default()
        }
    }

    #[test]
    fn requests_find_their_schema() {
        let all = schemas();
        let of = |user: &User, info: &RequestInfo| {
            all.iter().find(|s| s.matches(user, info)).map(|s| s.name.clone()).unwrap_or_default()
        };
        let admin = User::new("a", &["system:masters"]);
        let node = User::new("system:node:n", &["system:nodes"]);
        let account = |ns: &str| User::new(&format!("system:serviceaccount:{ns}:x"), &["system:serviceaccounts"]);
        let pods = info("list", "", "pods", "d");
        let lease = info("update", "coordination.k8s.io", "leases", "kube-system");
        assert_eq!(of(&admin, &pods), "exempt");
        assert_eq!(of(&node, &lease), "system-node-high");
        assert_eq!(of(&node, &pods), "system-nodes");
        assert_eq!(of(&account("kube-system"), &lease), "system-leader-election");
        assert_eq!(of(&account("kube-system"), &pods), "kube-system-service-accounts");
        assert_eq!(of(&account("d"), &pods), "service-accounts");
        assert_eq!(of(&User::new("u", &[]), &pods), "global-default");
        let probe = RequestInfo { path: "/readyz".into(), verb: "get".into(), ..RequestInfo::default() };
        assert_eq!(of(&User::anonymous(), &probe), "probes");
    }

    #[test]
    fn flows_are_set_apart_by_what_the_schema_says() {
        let all = schemas();
        let schema = |name: &str| all.iter().find(|s| s.name == name).unwrap();
        let (a, b) = (User::new("a", &[]), User::new("b", &[]));
        let (in_d, in_e) = (info("get", "", "pods", "d"), info("get", "", "pods", "e"));
        let by_user = schema("global-default");
        assert_ne!(by_user.flow(&a, &in_d), by_user.flow(&b, &in_d));
        assert_eq!(by_user.flow(&a, &in_d), by_user.flow(&a, &in_e));
        let by_namespace = schema("kube-scheduler");
        assert_ne!(by_namespace.flow(&a, &in_d), by_namespace.flow(&a, &in_e));
    }
}
