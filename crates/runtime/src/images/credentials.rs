//! Credentials for registries, and the docker config documents in which image pull secrets hold them.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::reference::{DEFAULT_REGISTRY, Reference};

/// What to show a registry: the fields of CRI's `AuthConfig`.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The password.
    pub password: String,
    /// base64 of `username:password`, used when they are empty.
    pub auth: String,
    /// A refresh token to be exchanged for access tokens.
    #[serde(alias = "identitytoken")]
    pub identity_token: String,
    /// An access token to be sent as it is.
    #[serde(alias = "registrytoken")]
    pub registry_token: String,
}

/// A document of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerConfig {
    entries: BTreeMap<String, Credentials>,
}

// === impl Credentials ===

impl Credentials {
    /// Name and password, from whichever field has them.
    pub fn basic(&self) -> Option<(String, String)> {
        if !self.username.is_empty() || !self.password.is_empty() {
            return Some((self.username.clone(), self.password.clone()));
        }
        let decoded = STANDARD.decode(self.auth.trim()).ok().filter(|bytes| !bytes.is_empty())?;
        let text = String::from_utf8(decoded).ok()?;
        let (name, password) = text.split_once(':')?;
        // Old docker clients padded the value with NUL.
        Some((name.to_owned(), password.trim_end_matches('\0').to_owned()))
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.basic().is_none() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

// === impl DockerConfig ===

impl DockerConfig {
    /// Reads either form: `{"auths": {...}}` or the bare map of the older `.dockercfg`.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Wrapped {
            auths: BTreeMap<String, Credentials>,
        }
        let entries = match serde_json::from_slice::<Wrapped>(bytes) {
            Ok(wrapped) => wrapped.auths,
            Err(error) => match serde_json::from_slice::<BTreeMap<String, Credentials>>(bytes) {
                Ok(entries) if !entries.contains_key("auths") => entries,
                _ => return Err(error),
            },
        };
        Ok(DockerConfig { entries })
    }

    /// The credentials to try for an image, the most specific first. An entry's key is `[scheme://]host[:port][/path]`;
    /// each label of its host may be a pattern with `*` and `?`, its path must be the start of the image's
    /// (kubernetes.io: "Interpretation of config.json").
    pub fn lookup(&self, reference: &Reference) -> Vec<Credentials> {
        let mut found: Vec<(&str, &Credentials)> = self
            .entries
            .iter()
            .filter_map(|(key, credentials)| {
                let key = key.split_once("://").map_or(key.as_str(), |(_, rest)| rest);
                // The old address of Docker Hub is https://index.docker.io/v1/.
                let key = key.strip_suffix("/v1/").or_else(|| key.strip_suffix("/v2/")).unwrap_or(key);
                matches(key.trim_end_matches('/'), reference).then_some((key, credentials))
            })
            .filter(|(_, credentials)| !credentials.is_empty())
            .collect();
        found.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| b.cmp(a)));
        found.into_iter().map(|(_, credentials)| credentials.clone()).collect()
    }
}

fn matches(key: &str, reference: &Reference) -> bool {
    let (key_host, key_path) = key.split_once('/').unwrap_or((key, ""));
    let docker_hub = matches!(key_host, "index.docker.io" | "docker.io" | "registry-1.docker.io");
    let host_fits = match docker_hub {
        true => reference.registry() == DEFAULT_REGISTRY,
        false => host_matches(key_host, reference.registry()),
    };
    host_fits
        && (key_path.is_empty()
            || reference
                .repository()
                .strip_prefix(key_path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || key_path.ends_with('/')))
}

fn host_matches(pattern: &str, host: &str) -> bool {
    let split = |text: &str| match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host.to_owned(), port.to_owned()),
        _ => (text.to_owned(), String::new()),
    };
    let ((pattern, pattern_port), (host, port)) = (split(pattern), split(host));
    if pattern_port != port {
        return false;
    }
    let (patterns, labels): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), host.split('.').collect());
    patterns.len() == labels.len() && patterns.iter().zip(&labels).all(|(p, l)| glob(p.as_bytes(), l.as_bytes()))
}

/// `*` for any run, `?` for one character; linear in time but for backtracking to the last star.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || text.get(t) == Some(c) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, seen)) => {
                    star = Some((at, seen + 1));
                    p = at + 1;
                    t = seen + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_matched_by_host_pattern_and_path() {
        let config = DockerConfig::parse(
            br#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"aHViOnB3"},
            "reg.io":{"username":"r","password":"1"},
            "reg.io/team":{"username":"t","password":"2"},
            "*.example.com":{"username":"w","password":"3"},
            "127.0.0.1:5000":{"username":"l","password":"4"},
            "empty.io":{}}}"#,
        )
        .unwrap();
        let names = |image: &str| -> Vec<String> {
            let reference = Reference::parse(image).unwrap();
            config.lookup(&reference).iter().filter_map(Credentials::basic).map(|(name, _)| name).collect()
        };
        assert_eq!(names("nginx"), ["hub"]);
        assert_eq!(names("reg.io/team/app"), ["t", "r"]);
        assert_eq!(names("reg.io/teamwork/app"), ["r"]);
        assert_eq!(names("a.example.com/x"), ["w"]);
        assert_eq!(names("a.b.example.com/x"), [""; 0]);
        assert_eq!(names("127.0.0.1:5000/x"), ["l"]);
        assert_eq!(names("127.0.0.1:5001/x"), [""; 0]);
        assert_eq!(names("empty.io/x"), [""; 0]);
    }

    #[test]
    fn the_old_form_is_read_and_nonsense_is_not() {
        let old = DockerConfig::parse(br#"{"reg.io":{"username":"u","password":"p","email":"e"}}"#).unwrap();
        assert_eq!(old.lookup(&Reference::parse("reg.io/a").unwrap()).len(), 1);
        for bad in [&b"{"[..], b"[]", br#"{"auths":1}"#, br#"{"a":"b"}"#] {
            assert!(DockerConfig::parse(bad).is_err());
        }
    }

    #[test]
    fn passwords_are_not_printed() {
        let credentials = Credentials { username: "u".into(), password: "secret".into(), ..Credentials::default() };
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
