//! Which authorizers there are: `--authorization-mode`, or a file with an `AuthorizationConfiguration` (KEP-3221).

use super::Opinion;
use super::chain::{Authorizer, Chain, Link};
use super::conditions::Conditions;
use super::webhook::{Settings, Version, Webhook};
use crate::outbound::Outbound;
use std::path::{Path as File, PathBuf};
use std::time::Duration;
use trireme_schema::field::{Error, Path, aggregate};
use trireme_schema::{Value, names, time, yaml};

const KINDS: [&str; 5] = ["AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const GROUP: &str = "apiserver.config.k8s.io";
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);

/// An authorization webhook as flags describe it.
#[derive(Clone, Debug)]
pub struct WebhookFlags {
    /// The kubeconfig that leads to it.
    pub kubeconfig: PathBuf,
    /// `v1` or `v1beta1`.
    pub version: String,
    /// How long what was allowed is kept; zero: not at all.
    pub allowed_life: Duration,
    /// How long the rest is kept.
    pub denied_life: Duration,
}

impl Chain {
    /// The authorizers that `--authorization-mode` names.
    ///
    /// # Errors
    /// What is wrong with the modes, or with the webhook's kubeconfig.
    pub fn of_modes(modes: &[String], webhook: Option<&WebhookFlags>) -> Result<Self, String> {
        if modes.is_empty() {
            return Err("at least one authorization mode must be passed".into());
        }
        let mut links = Vec::new();
        for (i, mode) in modes.iter().enumerate() {
            if modes.iter().take(i).any(|other| other == mode) {
                return Err(format!("authorization-mode {modes:?} has mode specified more than once"));
            }
            let (name, authorizer) = match mode.as_str() {
                "Node" => ("node", Authorizer::Node),
                "RBAC" => ("rbac", Authorizer::Rbac),
                "AlwaysAllow" => ("alwaysallow", Authorizer::AlwaysAllow),
                "AlwaysDeny" => ("alwaysdeny", Authorizer::AlwaysDeny),
                "Webhook" => {
                    let flags = webhook.ok_or("authorization-mode Webhook's authorization config file not passed")?;
                    ("default", Authorizer::Webhook(Box::new(flags.webhook()?)))
                }
                other => return Err(format!("{other:?} is not a valid mode; there are {}", KINDS.join(", "))),
            };
            links.push(Link { name: name.to_owned(), authorizer });
        }
        if webhook.is_some() && !modes.iter().any(|mode| mode == "Webhook") {
            return Err("cannot specify authorization-webhook-config-file without mode Webhook".into());
        }
        Ok(Self(links))
    }

    /// Reads the file of an `AuthorizationConfiguration`.
    ///
    /// # Errors
    /// All that is wrong with it, with the file.
    pub fn read_config(path: &File) -> Result<Self, String> {
        let wrong = |why: String| format!("{}: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        Self::parse(&text).map_err(wrong)
    }

    /// Reads an `AuthorizationConfiguration`.
    ///
    /// # Errors
    /// All that is wrong with it, with the fields.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config = yaml::parse(text).map_err(|e| e.to_string())?;
        let version = config.str_at(&["apiVersion"]).strip_prefix(GROUP).and_then(|v| v.strip_prefix('/'));
        let kind = config.str_at(&["kind"]);
        if kind != "AuthorizationConfiguration" || !matches!(version, Some("v1" | "v1beta1" | "v1alpha1")) {
            let given = config.str_at(&["apiVersion"]);
            return Err(format!("expected AuthorizationConfiguration of {GROUP}/v1, got {kind:?} of {given:?}"));
        }
        let mut errors = Errors::default();
        errors.only(&config, &["apiVersion", "kind", "authorizers"], &Path::default());
        let entries = config.list_at(&["authorizers"]);
        let path = Path::new("authorizers");
        if entries.is_empty() {
            errors.add(Error::required(&path, "at least one authorization mode must be defined"));
        }
        let mut links: Vec<Link> = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            links.extend(errors.link(entry, &path.index(i), &links));
        }
        if errors.0.is_empty() { Ok(Self(links)) } else { Err(aggregate(&errors.0)) }
    }
}

impl WebhookFlags {
    fn webhook(&self) -> Result<Webhook, String> {
        let version = match self.version.as_str() {
            "v1" => Version::V1,
            "v1beta1" => Version::V1Beta1,
            other => {
                return Err(format!(
                    "unsupported webhook authorizer version {other:?}, supported versions are \"v1\", \"v1beta1\""
                ));
            }
        };
        Ok(Webhook::new(Settings {
            service: Outbound::of_kubeconfig(&self.kubeconfig)?,
            version,
            timeout: LONGEST_TIMEOUT,
            allowed_life: self.allowed_life,
            denied_life: self.denied_life,
            on_failure: Opinion::None,
            conditions: Conditions::default(),
        }))
    }
}

/// What is wrong so far.
#[derive(Default)]
struct Errors(Vec<Error>);

impl Errors {
    fn add(&mut self, error: Error) {
        self.0.push(error);
    }

    /// No other fields than these are known.
    fn only(&mut self, object: &Value, known: &[&str], path: &Path) {
        for name in object.as_object().into_iter().flat_map(|map| map.keys()) {
            if !known.contains(&name.as_str()) {
                self.add(Error::forbidden(&path.child(name), "unknown field"));
            }
        }
    }

    /// One of `authorizers`; nothing if it cannot be used.
    fn link(&mut self, entry: &Value, path: &Path, before: &[Link]) -> Option<Link> {
        self.only(entry, &["type", "name", "webhook"], path);
        let kind = entry.str_at(&["type"]);
        let at = path.child("type");
        let simple = match kind {
            "" => return self.none(Error::required(&at, "")),
            "Node" => Some(Authorizer::Node),
            "RBAC" => Some(Authorizer::Rbac),
            "AlwaysAllow" => Some(Authorizer::AlwaysAllow),
            "AlwaysDeny" => Some(Authorizer::AlwaysDeny),
            "Webhook" => None,
            other => return self.none(Error::not_supported(&at, other, &KINDS)),
        };
        if simple.is_some() && before.iter().any(|link| link.authorizer.kind() == kind) {
            return self.none(Error::duplicate(&at, kind));
        }
        let name = entry.str_at(&["name"]);
        let at = path.child("name");
        let wrong = names::dns1123_subdomain(name);
        if name.is_empty() {
            self.add(Error::required(&at, ""));
        } else if before.iter().any(|link| link.name == name) {
            self.add(Error::duplicate(&at, name));
        } else if !wrong.is_empty() {
            self.add(Error::invalid(&at, name, format!("authorizer name is invalid: {}", wrong.join(", "))));
        }
        let at = path.child("webhook");
        let authorizer = match (simple, entry.get("webhook")) {
            (None, None) => return self.none(Error::required(&at, "required when type=Webhook")),
            (None, Some(webhook)) => Authorizer::Webhook(Box::new(Webhook::new(self.webhook(webhook, path)?))),
            (Some(_), Some(_)) => {
                return self.none(Error::invalid(&at, "non-null", "may only be specified when type=Webhook"));
            }
            (Some(simple), None) => simple,
        };
        Some(Link { name: name.to_owned(), authorizer })
    }

    fn none<T>(&mut self, error: Error) -> Option<T> {
        self.add(error);
        None
    }

    /// `path` is that of the authorizer: upstream leaves `webhook` out of its paths.
    fn webhook(&mut self, given: &Value, path: &Path) -> Option<Settings> {
        const KNOWN: [&str; 10] = [
            "authorizedTTL",
            "cacheAuthorizedRequests",
            "cacheUnauthorizedRequests",
            "connectionInfo",
            "failurePolicy",
            "matchConditionSubjectAccessReviewVersion",
            "matchConditions",
            "subjectAccessReviewVersion",
            "timeout",
            "unauthorizedTTL",
        ];
        self.only(given, &KNOWN, &path.child("webhook"));
        let timeout = self.duration(given, "timeout", None, path).and_then(|timeout| {
            if timeout <= LONGEST_TIMEOUT {
                return Some(timeout);
            }
            let shown = time::duration(timeout.as_nanos().try_into().unwrap_or(i64::MAX));
            self.none(Error::invalid(&path.child("timeout"), shown, "must be > 0s and <= 30s"))
        });
        let kept = |field: &str| given.get(field).is_none_or(|v| v.as_bool() != Some(false));
        let allowed_life = self.duration(given, "authorizedTTL", Some(Duration::from_secs(300)), path);
        let denied_life = self.duration(given, "unauthorizedTTL", Some(Duration::from_secs(30)), path);
        let zero_unless = |kept, life: Option<Duration>| life.map(|life| if kept { life } else { Duration::ZERO });
        let version = self.one_of(
            given,
            "subjectAccessReviewVersion",
            &[("v1", Version::V1), ("v1beta1", Version::V1Beta1)],
            path,
        );
        let conditions = given.list_at(&["matchConditions"]);
        let at = path.child("matchConditionSubjectAccessReviewVersion");
        match given.str_at(&["matchConditionSubjectAccessReviewVersion"]) {
            "" if conditions.is_empty() => {}
            "" => self.add(Error::required(&at, "required if match conditions are specified")),
            "v1" => {}
            other => self.add(Error::not_supported(&at, other, &["v1"])),
        }
        let policies = [("NoOpinion", Opinion::None), ("Deny", Opinion::Deny)];
        let on_failure = self.one_of(given, "failurePolicy", &policies, path);
        let service = self.connection(given.get("connectionInfo"), &path.child("connectionInfo"));
        let (conditions, wrong) = Conditions::read(conditions, path);
        let compiled = wrong.is_empty();
        self.0.extend(wrong);
        compiled.then_some(())?;
        Some(Settings {
            service: service?,
            version: version?,
            timeout: timeout?,
            allowed_life: zero_unless(kept("cacheAuthorizedRequests"), allowed_life)?,
            denied_life: zero_unless(kept("cacheUnauthorizedRequests"), denied_life)?,
            on_failure: on_failure?,
            conditions,
        })
    }

    fn one_of<T: Copy>(&mut self, given: &Value, name: &str, values: &[(&str, T)], path: &Path) -> Option<T> {
        let path = path.child(name);
        match given.str_at(&[name]) {
            "" => self.none(Error::required(&path, "")),
            text => {
                let found = values.iter().find(|(value, _)| *value == text).map(|(_, means)| *means);
                let names: Vec<&str> = values.iter().map(|(value, _)| *value).collect();
                found.or_else(|| self.none(Error::not_supported(&path, text, &names)))
            }
        }
    }

    fn duration(&mut self, given: &Value, name: &str, default: Option<Duration>, path: &Path) -> Option<Duration> {
        let path = path.child(name);
        let text = given.str_at(&[name]);
        match (time::parse_duration(text), default) {
            (None, Some(default)) if text.is_empty() => Some(default),
            (None | Some(0), _) if text.is_empty() || text == "0s" || text == "0" => {
                self.none(Error::required(&path, ""))
            }
            (Some(nanos), _) => match u64::try_from(nanos) {
                Ok(nanos) => Some(Duration::from_nanos(nanos)),
                Err(_) if name == "timeout" => self.none(Error::invalid(&path, text, "must be > 0s and <= 30s")),
                Err(_) => self.none(Error::invalid(&path, text, "must be > 0s")),
            },
            (None, _) => self.none(Error::invalid(&path, text, "must be a duration such as 3s")),
        }
    }

    fn connection(&mut self, given: Option<&Value>, path: &Path) -> Option<Outbound> {
        let none = Value::Null;
        let given = given.unwrap_or(&none);
        let at = path.child("kubeConfigFile");
        match given.str_at(&["type"]) {
            "" => self.none(Error::required(&path.child("type"), "")),
            "KubeConfigFile" => match given.str_at(&["kubeConfigFile"]) {
                "" => self.none(Error::required(&at, "")),
                file if !file.starts_with('/') => self.none(Error::invalid(&at, file, "must be an absolute path")),
                file => Outbound::of_kubeconfig(File::new(file))
                    .map_err(|why| self.add(Error::invalid(&at, file, format!("error loading file: {why}"))))
                    .ok(),
            },
            // It is for other servers that delegate to this one.
            "InClusterConfig" => self.none(Error::invalid(
                &path.child("type"),
                "InClusterConfig",
                "an API server cannot ask itself; use KubeConfigFile",
            )),
            other => {
                self.none(Error::not_supported(&path.child("type"), other, &["InClusterConfig", "KubeConfigFile"]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n";

    fn parse(authorizers: &str) -> Result<Vec<(String, &'static str)>, String> {
        let chain = Chain::parse(&format!("{HEAD}authorizers: {authorizers}"))?;
        Ok(chain.0.iter().map(|link| (link.name.clone(), link.authorizer.kind())).collect())
    }

    #[test]
    fn a_chain_is_read_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = dir.path().join("k");
        let text = "contexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: 'https://example.com'}}]";
        std::fs::write(&kubeconfig, text).unwrap();
        let webhook = format!(
            "{{timeout: 3s, subjectAccessReviewVersion: v1, failurePolicy: Deny, cacheAuthorizedRequests: false, connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {}}}}}",
            kubeconfig.display()
        );
        let text = format!(
            "[{{type: Node, name: node}}, {{type: Webhook, name: a.example.com, webhook: {webhook}}}, {{type: Webhook, name: b, webhook: {webhook}}}, {{type: RBAC, name: rbac}}]"
        );
        let chain = parse(&text).unwrap();
        let shown: Vec<(&str, &str)> = chain.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        assert_eq!(shown, [("node", "Node"), ("a.example.com", "Webhook"), ("b", "Webhook"), ("rbac", "RBAC")]);
    }

    #[test]
    fn all_that_is_wrong_is_told_with_its_field() {
        for (authorizers, wrong) in [
            ("[]", "authorizers: Required value: at least one authorization mode must be defined"),
            ("[{name: a}]", "authorizers[0].type: Required value"),
            ("[{type: ABC, name: a}]", "authorizers[0].type: Unsupported value: \"ABC\": supported values: "),
            ("[{type: Node, name: a}, {type: Node, name: b}]", "authorizers[1].type: Duplicate value: \"Node\""),
            ("[{type: Node}]", "authorizers[0].name: Required value"),
            ("[{type: Node, name: a}, {type: RBAC, name: a}]", "authorizers[1].name: Duplicate value: \"a\""),
            ("[{type: Node, name: A}]", "authorizers[0].name: Invalid value: \"A\": authorizer name is invalid: "),
            ("[{type: Webhook, name: a}]", "authorizers[0].webhook: Required value: required when type=Webhook"),
            ("[{type: Node, name: a, webhook: {}}]", "authorizers[0].webhook: Invalid value: \"non-null\""),
            ("[{type: Node, name: a, colour: x}]", "authorizers[0].colour: Forbidden: unknown field"),
            ("[{type: Webhook, name: a, webhook: {}}]", "authorizers[0].timeout: Required value"),
            ("[{type: Webhook, name: a, webhook: {}}]", "authorizers[0].subjectAccessReviewVersion: Required value"),
            ("[{type: Webhook, name: a, webhook: {}}]", "authorizers[0].failurePolicy: Required value"),
            ("[{type: Webhook, name: a, webhook: {}}]", "authorizers[0].connectionInfo.type: Required value"),
            ("[{type: Webhook, name: a, webhook: {timeout: 31s}}]", "authorizers[0].timeout: Invalid value: \"31s\""),
            ("[{type: Webhook, name: a, webhook: {timeout: -1s}}]", "authorizers[0].timeout: Invalid value: \"-1s\""),
            (
                "[{type: Webhook, name: a, webhook: {matchConditions: [{expression: 'true'}]}}]",
                "matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified",
            ),
            (
                "[{type: Webhook, name: a, webhook: {connectionInfo: {type: KubeConfigFile, kubeConfigFile: a}}}]",
                "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"a\": must be an absolute path",
            ),
        ] {
            let told = parse(authorizers).unwrap_err();
            assert!(told.contains(wrong), "{authorizers}: {told}");
        }
        assert!(Chain::parse("kind: AuthorizationConfiguration").unwrap_err().contains("apiserver.config.k8s.io/v1"));
    }

    #[test]
    fn modes_are_a_chain() {
        let of = |modes: &[&str]| {
            let modes: Vec<String> = modes.iter().map(|m| (*m).to_owned()).collect();
            Chain::of_modes(&modes, None).map(|chain| chain.0.len())
        };
        assert_eq!(of(&["Node", "RBAC"]), Ok(2));
        assert!(of(&["Node", "Node"]).unwrap_err().contains("more than once"));
        assert!(of(&["Webhook"]).unwrap_err().contains("config file not passed"));
        assert!(of(&["Foo"]).unwrap_err().contains("not a valid mode"));
        assert!(of(&[]).is_err());
    }
}
