//! The audit policy: the first rule that is about a request says how much of it is noted.

use super::Stage;
use crate::request::RequestInfo;
use crate::user::User;
use trireme_schema::{Value, yaml};

/// How much is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

#[derive(Clone, Debug)]
struct Resources {
    group: String,
    resources: Vec<String>,
    names: Vec<String>,
}

#[derive(Clone, Debug)]
struct Rule {
    level: Level,
    users: Vec<String>,
    groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    paths: Vec<String>,
    omit: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

/// An audit policy (audit.k8s.io/v1 `Policy`).
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    omit: Vec<Stage>,
    omit_managed_fields: bool,
}

/// A request, as rules look at it.
pub(super) struct Asked<'a> {
    pub(super) user: &'a User,
    pub(super) info: &'a RequestInfo,
}

/// What a policy says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) level: Level,
    pub(super) omit: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    value.list_at(&[field]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn stages(value: &Value, place: &str) -> Result<Vec<Stage>, String> {
    let stage = |text: String| match text.as_str() {
        "RequestReceived" => Ok(Some(Stage::RequestReceived)),
        "ResponseStarted" => Ok(Some(Stage::ResponseStarted)),
        "ResponseComplete" => Ok(Some(Stage::ResponseComplete)),
        // No request of this server panics and is answered.
        "Panic" => Ok(None),
        other => Err(format!("{place}omitStages: no stage {other:?}")),
    };
    texts(value, "omitStages").into_iter().filter_map(|text| stage(text).transpose()).collect()
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// What is wrong with it, with the field.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value = yaml::parse(text).map_err(|e| e.to_string())?;
        let (version, kind) = (value.str_at(&["apiVersion"]), value.str_at(&["kind"]));
        if (version, kind) != ("audit.k8s.io/v1", "Policy") {
            return Err(format!("expected kind Policy of audit.k8s.io/v1, found {kind} of {version}"));
        }
        let rules = value.list_at(&["rules"]);
        if rules.is_empty() {
            return Err("rules: a policy without rules notes nothing; name at least one".into());
        }
        Ok(Self {
            rules: rules.iter().enumerate().map(|(i, r)| Rule::read(r, i)).collect::<Result<_, _>>()?,
            omit: stages(&value, "")?,
            omit_managed_fields: value.bool_at(&["omitManagedFields"]),
        })
    }

    /// What it says of a request.
    pub(super) fn of(&self, asked: &Asked<'_>) -> Told {
        match self.rules.iter().find(|rule| rule.is_about(asked)) {
            None => Told { level: Level::None, omit: Vec::new(), omit_managed_fields: false },
            Some(rule) => Told {
                level: rule.level,
                omit: self.omit.iter().chain(&rule.omit).copied().collect(),
                omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
            },
        }
    }
}

impl Rule {
    fn read(value: &Value, i: usize) -> Result<Self, String> {
        let level = match value.str_at(&["level"]) {
            "None" => Level::None,
            "Metadata" => Level::Metadata,
            "Request" => Level::Request,
            "RequestResponse" => Level::RequestResponse,
            other => return Err(format!("rules[{i}].level: no level {other:?}")),
        };
        let resources: Vec<Resources> = value
            .list_at(&["resources"])
            .iter()
            .map(|r| Resources {
                group: r.str_at(&["group"]).to_owned(),
                resources: texts(r, "resources"),
                names: texts(r, "resourceNames"),
            })
            .collect();
        let paths = texts(value, "nonResourceURLs");
        if !paths.is_empty() && (!resources.is_empty() || !value.list_at(&["namespaces"]).is_empty()) {
            return Err(format!(
                "rules[{i}].nonResourceURLs: rules cannot apply to both regular resources and non-resource URLs"
            ));
        }
        if let Some(path) = paths.iter().find(|p| *p != "*" && !p.starts_with('/')) {
            return Err(format!("rules[{i}].nonResourceURLs: {path:?} must begin with a slash"));
        }
        Ok(Self {
            level,
            users: texts(value, "users"),
            groups: texts(value, "userGroups"),
            verbs: texts(value, "verbs"),
            resources,
            namespaces: texts(value, "namespaces"),
            paths,
            omit: stages(value, &format!("rules[{i}]."))?,
            omit_managed_fields: value.at(&["omitManagedFields"]).and_then(Value::as_bool),
        })
    }

    fn is_about(&self, asked: &Asked<'_>) -> bool {
        let (user, info) = (asked.user, asked.info);
        let listed = |list: &[String], wanted: &str| list.is_empty() || list.iter().any(|x| x == wanted);
        if !listed(&self.users, &user.name)
            || !(self.groups.is_empty() || self.groups.iter().any(|g| user.is_in(g)))
            || !listed(&self.verbs, &info.verb)
        {
            return false;
        }
        if !self.resources.is_empty() || !self.namespaces.is_empty() {
            return info.is_resource
                && listed(&self.namespaces, &info.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|r| r.is(info)));
        }
        if !self.paths.is_empty() {
            return !info.is_resource
                && self.paths.iter().any(|path| match path.strip_suffix('*') {
                    Some(start) => info.path.starts_with(start),
                    None => *path == info.path,
                });
        }
        true
    }
}

impl Resources {
    fn is(&self, info: &RequestInfo) -> bool {
        if self.group != info.group {
            return false;
        }
        let named = self.names.is_empty() || self.names.contains(&info.name);
        if self.resources.is_empty() {
            return named;
        }
        named
            && self.resources.iter().any(|r| match r.split_once('/') {
                None => r == "*" || (*r == info.resource && info.subresource.is_empty()),
                Some((resource, sub)) => {
                    (resource == "*" || resource == info.resource)
                        && (sub == "*" && !info.subresource.is_empty() || sub == info.subresource)
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: ['system:kube-proxy']
  verbs: [watch]
- level: Metadata
  resources: [{group: '', resources: [secrets, 'pods/*']}]
  omitManagedFields: false
- level: None
  nonResourceURLs: ['/healthz*']
- level: RequestResponse
  resources: [{group: apps}]
  namespaces: [a]
- level: Request
";

    fn told(user: &str, verb: &str, group: &str, resource: &str, namespace: &str) -> Told {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let info = RequestInfo {
            is_resource: !resource.is_empty(),
            path: namespace.into(),
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            ..RequestInfo::default()
        };
        Policy::parse(POLICY).unwrap().of(&Asked { user: &User::new(user, &[]), info: &info })
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        assert_eq!(told("system:kube-proxy", "watch", "", "pods", "a").level, Level::None);
        let secret = told("u", "get", "", "secrets", "a");
        assert_eq!((secret.level, secret.omit_managed_fields), (Level::Metadata, false));
        assert_eq!(secret.omit, [Stage::RequestReceived]);
        assert_eq!(told("u", "create", "", "pods/exec", "a").level, Level::Metadata);
        assert_eq!(told("u", "get", "", "pods", "a").level, Level::Request);
        assert_eq!(told("u", "get", "", "", "/healthz/etcd").level, Level::None);
        assert_eq!(told("u", "get", "apps", "deployments", "a").level, Level::RequestResponse);
        assert_eq!(told("u", "get", "apps", "deployments", "b").level, Level::Request);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let with = |rules: &str| Policy::parse(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}"));
        assert!(with("- level: All").unwrap_err().starts_with("rules[0].level"));
        assert!(with("- {level: None, omitStages: [x]}").unwrap_err().contains("rules[0].omitStages"));
        assert!(with("- {level: None, nonResourceURLs: [a]}").is_err());
        assert!(Policy::parse("kind: Policy").is_err());
    }
}
