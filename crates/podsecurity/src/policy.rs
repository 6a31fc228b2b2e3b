//! The policy of a namespace: a level and a version for each mode, from labels.

use trireme_schema::field::{Error, Path};
use trireme_schema::{Map, Value};

/// How strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything goes.
    Privileged,
    /// Known ways to gain privileges are closed.
    Baseline,
    /// Hardened as is current practice.
    Restricted,
}

/// Whose state of the standards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// That of this server.
    Latest,
    /// That of Kubernetes 1.N.
    Minor(u32),
}

/// A level at a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    /// The level.
    pub level: Level,
    /// The version.
    pub version: Version,
}

/// What is done about a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The pod is refused.
    Enforce,
    /// The audit event says so.
    Audit,
    /// The client is told.
    Warn,
}

/// The standards of a namespace; by default privileged in all modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Pods that violate it are refused.
    pub enforce: Standard,
    /// Violations are noted in the audit log.
    pub audit: Standard,
    /// Violations are told to the client.
    pub warn: Standard,
}

impl Level {
    fn parse(text: &str) -> Result<Self, &'static str> {
        Ok(match text {
            "privileged" => Self::Privileged,
            "baseline" => Self::Baseline,
            "restricted" => Self::Restricted,
            _ => return Err("must be one of privileged, baseline, restricted"),
        })
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        })
    }
}

impl Version {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "must be \"latest\" or \"v1.x\"";
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let minor = text.strip_prefix("v1.").ok_or(WRONG)?;
        let plain = minor.bytes().all(|b| b.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
        if plain { minor.parse().map(Self::Minor).map_err(|_| WRONG) } else { Err(WRONG) }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Minor(minor) => write!(f, "v1.{minor}"),
        }
    }
}

impl std::fmt::Display for Standard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

impl Default for Standard {
    fn default() -> Self {
        Self { level: Level::Privileged, version: Version::Latest }
    }
}

/// Reads the value of one label, and notes what is wrong with it.
fn read<T>(
    labels: &Map,
    label: &str,
    parse: fn(&str) -> Result<T, &'static str>,
    errors: &mut Vec<Error>,
) -> Option<Result<T, ()>> {
    let key = format!("pod-security.kubernetes.io/{label}");
    let text = labels.get(&key)?.as_str().unwrap_or_default();
    Some(parse(text).map_err(|why| errors.push(Error::invalid(&Path::new("metadata.labels").key(&key), text, why))))
}

impl Policy {
    /// The policy that labels give, over defaults; with what is wrong with the labels. A level that cannot be read is the
    /// strictest to enforce, and none to tell of.
    pub fn of_labels(labels: Option<&Map>, defaults: Self) -> (Self, Vec<Error>) {
        let mut policy = defaults;
        let mut errors = Vec::new();
        let Some(labels) = labels else { return (policy, errors) };
        let enforce = read(labels, "enforce", Level::parse, &mut errors);
        if let Some(level) = enforce {
            policy.enforce.level = level.unwrap_or(Level::Restricted);
        }
        let version = |label: &str, standard: &mut Standard, errors: &mut Vec<Error>| {
            let given = read(labels, label, Version::parse, errors);
            if let Some(version) = given {
                standard.version = version.unwrap_or(Version::Latest);
            }
            given.is_some()
        };
        version("enforce-version", &mut policy.enforce, &mut errors);
        if let Some(level) = read(labels, "audit", Level::parse, &mut errors) {
            policy.audit.level = level.unwrap_or(Level::Privileged);
        }
        version("audit-version", &mut policy.audit, &mut errors);
        let warn = read(labels, "warn", Level::parse, &mut errors);
        if let Some(level) = warn {
            policy.warn.level = level.unwrap_or(Level::Privileged);
        }
        let warn_version = version("warn-version", &mut policy.warn, &mut errors);
        // What is enforced is told of too, where workloads are made whose pods come later.
        if warn.is_none() && matches!(enforce, Some(Ok(_))) && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if !warn_version {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }

    /// The policy of a namespace.
    pub fn of_namespace(namespace: &Value, defaults: Self) -> (Self, Vec<Error>) {
        Self::of_labels(namespace.at(&["metadata", "labels"]).and_then(Value::as_object), defaults)
    }

    /// Whether nothing is forbidden and nothing told.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|s| s.level == Level::Privileged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(labels: &[(&str, &str)]) -> (Policy, usize) {
        let labels = Map::from_iter(labels.iter().map(|(k, v)| (format!("pod-security.kubernetes.io/{k}"), *v)));
        let (policy, errors) = Policy::of_labels(Some(&labels), Policy::default());
        (policy, errors.len())
    }

    #[test]
    fn what_is_enforced_is_warned_of() {
        let (policy, errors) = policy(&[("enforce", "baseline"), ("enforce-version", "v1.20")]);
        assert_eq!((policy.warn.to_string().as_str(), errors), ("baseline:v1.20", 0));
        assert_eq!(policy.audit.level, Level::Privileged);
    }

    #[test]
    fn what_cannot_be_read_is_enforced_most_strictly() {
        let (policy, errors) = policy(&[("enforce", "x"), ("warn", "x"), ("audit-version", "v1.07")]);
        assert_eq!((policy.enforce.level, policy.warn.level, errors), (Level::Restricted, Level::Privileged, 3));
    }
}
