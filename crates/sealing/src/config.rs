//! What is sealed by which provider (apiserver.config.k8s.io/v1 `EncryptionConfiguration`).

use crate::ciphers::Cipher;
use crate::kms::Kms;
use base64::Engine as _;
use bytes::Bytes;
use parking_lot::RwLock;
use std::path::Path;
use std::sync::Arc;
use trireme_schema::{Value, yaml};
use trireme_store::Seal;

/// All that is sealed begins so.
const MARK: &[u8] = b"k8s:enc:";

/// An encryption configuration cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{place}: {why}")]
pub struct ConfigError {
    /// The field, or the file.
    pub place: String,
    /// What is wrong.
    pub why: String,
}

fn wrong(place: &str, why: impl Into<String>) -> ConfigError {
    ConfigError { place: place.to_owned(), why: why.into() }
}

/// How values are sealed, by resource.
pub struct Sealing {
    entries: RwLock<Arc<Vec<Entry>>>,
}

struct Entry {
    resources: Vec<String>,
    providers: Vec<Provider>,
}

/// Seals and opens what has its prefix.
enum Provider {
    Identity,
    Cipher { prefix: Vec<u8>, cipher: Cipher },
    Kms { prefix: Vec<u8>, kms: Kms },
}

impl Sealing {
    /// Reads a file. A key service that it names is asked for a key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let at = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| wrong(&at, e.to_string()))?;
        Self::parse(&text).map_err(|e| ConfigError { place: format!("{at}: {}", e.place), why: e.why })
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// What is wrong with it, with the field.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config = yaml::parse(text).map_err(|e| wrong("", e.to_string()))?;
        if config.str_at(&["kind"]) != "EncryptionConfiguration" {
            return Err(wrong("kind", "must be EncryptionConfiguration"));
        }
        let entries = config.list_at(&["resources"]);
        if entries.is_empty() {
            return Err(wrong("resources", "at least one is required"));
        }
        let entries = entries.iter().enumerate().map(|(i, entry)| Entry::read(entry, &format!("resources[{i}]")));
        Ok(Self { entries: RwLock::new(Arc::new(entries.collect::<Result<_, _>>()?)) })
    }

    /// From now on values are sealed as another configuration says.
    pub fn replace(&self, other: Self) {
        *self.entries.write() = other.entries.into_inner();
    }

    fn entries(&self) -> Arc<Vec<Entry>> {
        self.entries.read().clone()
    }
}

/// The entry for a key of the store, which begins with the resource.
fn of<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Entry> {
    let resource = key.split('/').next().unwrap_or_default();
    entries.iter().find(|entry| entry.is_for(resource))
}

impl Entry {
    fn read(entry: &Value, place: &str) -> Result<Self, ConfigError> {
        let resources: Vec<String> =
            entry.list_at(&["resources"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if resources.is_empty() {
            return Err(wrong(&format!("{place}.resources"), "at least one is required"));
        }
        let mut providers = Vec::new();
        for (i, provider) in entry.list_at(&["providers"]).iter().enumerate() {
            Provider::read(provider, &format!("{place}.providers[{i}]"), &mut providers)?;
        }
        if providers.is_empty() {
            return Err(wrong(&format!("{place}.providers"), "at least one is required"));
        }
        Ok(Self { resources, providers })
    }

    /// Whether a resource, `plural` or `plural.group`, is meant.
    fn is_for(&self, resource: &str) -> bool {
        let group = resource.split_once('.').map_or("", |(_, group)| group);
        self.resources.iter().any(|wanted| match wanted.strip_prefix("*.") {
            Some("*") => true,
            Some(of) => of == group,
            None => wanted == resource,
        })
    }
}

impl Provider {
    /// Adds a provider for each key of an entry of `providers`.
    fn read(value: &Value, place: &str, into: &mut Vec<Self>) -> Result<(), ConfigError> {
        let map = value.as_object().map(|m| m.iter().collect::<Vec<_>>()).unwrap_or_default();
        let [(name, how)] = map[..] else {
            return Err(wrong(place, "exactly one provider must be named"));
        };
        let place = format!("{place}.{name}");
        type Make = fn(&[u8]) -> Option<Cipher>;
        let (make, lengths): (Make, &str) = match name.as_str() {
            "identity" => {
                into.push(Self::Identity);
                return Ok(());
            }
            "kms" => {
                if how.str_at(&["apiVersion"]) != "v2" {
                    return Err(wrong(&format!("{place}.apiVersion"), "only v2 is supported"));
                }
                let name = how.str_at(&["name"]);
                if name.is_empty() || name.contains(':') {
                    return Err(wrong(&format!("{place}.name"), "must be given, without colons"));
                }
                let kms = Kms::start(name, how.str_at(&["endpoint"]), how.str_at(&["timeout"]));
                let kms = kms.map_err(|why| wrong(&place, why))?;
                into.push(Self::Kms { prefix: format!("k8s:enc:kms:v2:{name}:").into_bytes(), kms });
                return Ok(());
            }
            "aesgcm" => (Cipher::gcm, "16, 24 or 32"),
            "aescbc" => (Cipher::cbc, "16, 24 or 32"),
            "secretbox" => (Cipher::secret_box, "32"),
            _ => return Err(wrong(&place, "no such provider")),
        };
        let keys = how.list_at(&["keys"]);
        if keys.is_empty() {
            return Err(wrong(&format!("{place}.keys"), "at least one is required"));
        }
        for (i, key) in keys.iter().enumerate() {
            let place = format!("{place}.keys[{i}]");
            let id = key.str_at(&["name"]);
            if id.is_empty() || id.contains(':') {
                return Err(wrong(&format!("{place}.name"), "must be given, without colons"));
            }
            let secret = base64::engine::general_purpose::STANDARD.decode(key.str_at(&["secret"]));
            // What is wrong with a secret is told without the secret.
            let secret = secret.map_err(|_| wrong(&format!("{place}.secret"), "must be base64"))?;
            let cipher = make(&secret).ok_or_else(|| {
                wrong(&format!("{place}.secret"), format!("must be {lengths} bytes long, is {}", secret.len()))
            })?;
            into.push(Self::Cipher { prefix: format!("k8s:enc:{name}:v1:{id}:").into_bytes(), cipher });
        }
        Ok(())
    }

    fn prefix(&self) -> &[u8] {
        match self {
            Self::Identity => &[],
            Self::Cipher { prefix, .. } | Self::Kms { prefix, .. } => prefix,
        }
    }
}

impl Seal for Sealing {
    fn seal(&self, key: &str, value: &Bytes) -> Result<Bytes, String> {
        let entries = self.entries();
        let Some(provider) = of(&entries, key).and_then(|entry| entry.providers.first()) else {
            return Ok(value.clone());
        };
        let sealed = match provider {
            Provider::Identity => return Ok(value.clone()),
            Provider::Cipher { cipher, .. } => cipher.seal(key.as_bytes(), value),
            Provider::Kms { kms, .. } => kms.seal(key.as_bytes(), value),
        };
        Ok([provider.prefix(), &sealed.map_err(|e| e.to_string())?].concat().into())
    }

    fn open(&self, key: &str, stored: &[u8]) -> Result<Bytes, String> {
        if !stored.starts_with(MARK) {
            return Ok(Bytes::copy_from_slice(stored));
        }
        // An entry that no longer names the resource may still hold the key.
        let entries = self.entries();
        let own = of(&entries, key).into_iter().chain(entries.iter()).flat_map(|entry| &entry.providers);
        for provider in own {
            let Some(sealed) = stored.strip_prefix(provider.prefix()) else { continue };
            let plain = match provider {
                Provider::Identity => continue,
                Provider::Cipher { cipher, .. } => cipher.open(key.as_bytes(), sealed).map_err(|e| e.to_string()),
                Provider::Kms { kms, .. } => kms.open(key.as_bytes(), sealed),
            };
            return plain.map(Bytes::from);
        }
        let end = stored.iter().enumerate().filter(|(_, b)| **b == b':').nth(4).map_or(MARK.len(), |(i, _)| i);
        let prefix = String::from_utf8_lossy(stored.get(..end).unwrap_or_default()).into_owned();
        Err(format!("no provider of the encryption configuration has {prefix}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(providers: &str) -> Result<Sealing, ConfigError> {
        Sealing::parse(&format!(
            "kind: EncryptionConfiguration\nresources:\n- resources: [secrets, '*.apps']\n  providers:\n{providers}"
        ))
    }

    const ONE: &str = "  - aescbc: {keys: [{name: one, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}\n";
    const TWO: &str = "  - secretbox: {keys: [{name: two, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}]}\n";

    #[test]
    fn keys_are_rotated_without_losing_anything() {
        let value = Bytes::from("{\"a\":1}");
        let old = config(&format!("{ONE}  - identity: {{}}")).unwrap();
        let sealed = old.seal("secrets/a/b", &value).unwrap();
        assert!(sealed.starts_with(b"k8s:enc:aescbc:v1:one:"));
        let both = config(&format!("{TWO}{ONE}")).unwrap();
        assert_eq!(both.open("secrets/a/b", &sealed).unwrap(), value);
        let again = both.seal("secrets/a/b", &value).unwrap();
        assert!(again.starts_with(b"k8s:enc:secretbox:v1:two:"));
        let new = config(TWO).unwrap();
        assert_eq!(new.open("secrets/a/b", &again).unwrap(), value);
        let lost = new.open("secrets/a/b", &sealed).unwrap_err();
        assert!(lost.ends_with("has k8s:enc:aescbc:v1:one"), "{lost}");
        assert_eq!(new.open("secrets/a/b", &value).unwrap(), value, "what was there before is read");
    }

    #[test]
    fn another_configuration_holds_from_then_on() {
        let sealing = config(ONE).unwrap();
        let old = sealing.seal("secrets/a/b", &Bytes::from("x")).unwrap();
        sealing.replace(config(&format!("{TWO}{ONE}")).unwrap());
        assert!(sealing.seal("secrets/a/b", &Bytes::from("x")).unwrap().starts_with(b"k8s:enc:secretbox:v1:two:"));
        assert_eq!(sealing.open("secrets/a/b", &old).unwrap(), "x");
    }

    #[test]
    fn only_what_is_named_is_sealed() {
        let sealing = config(ONE).unwrap();
        let is_sealed = |key: &str| sealing.seal(key, &Bytes::from("x")).unwrap() != "x";
        assert!(is_sealed("secrets/a/b") && is_sealed("deployments.apps/a/b"));
        assert!(!is_sealed("configmaps/a/b") && !is_sealed("jobs.batch/a/b"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_without_secrets() {
        let place = |providers: &str| config(providers).map(drop).unwrap_err();
        let short = place("  - aesgcm: {keys: [{name: a, secret: c2VjcmV0}]}");
        assert_eq!(short.place, "resources[0].providers[0].aesgcm.keys[0].secret");
        assert_eq!(short.why, "must be 16, 24 or 32 bytes long, is 6");
        assert!(place("  - rot13: {}").why.contains("no such provider"));
        assert_eq!(place("  - {identity: {}, aescbc: {}}").place, "resources[0].providers[0]");
        assert_eq!(
            place("  - kms: {name: a, endpoint: 'unix:///x'}").place,
            "resources[0].providers[0].kms.apiVersion"
        );
    }
}
