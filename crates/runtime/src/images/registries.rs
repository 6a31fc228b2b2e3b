//! Where registries are and how to trust them. The shape is that of k3s' `registries.yaml`, which users know:
//! `mirrors.<registry>.endpoint[]` and `configs.<host>.{auth,tls}`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::credentials::Credentials;
use super::error::{ImageError, Result};
use super::reference::{DEFAULT_REGISTRY, Reference};

/// The host behind the name `docker.io`.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// Settings by registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registries {
    /// Other places to ask first, by registry name; `*` for all.
    pub mirrors: BTreeMap<String, Mirror>,
    /// How to speak with a host, by `host[:port]`; `*` for all.
    pub configs: BTreeMap<String, HostConfig>,
}

/// Other places for the content of a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mirror {
    /// `https://host[:port][/path]`, asked in this order before the registry itself.
    pub endpoint: Vec<String>,
}

/// How to speak with a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// Name and password.
    pub auth: Option<Credentials>,
    /// Whom to trust.
    pub tls: TlsConfig,
    /// Plain HTTP instead of HTTPS; for hosts on loopback it is the default.
    pub plain_http: Option<bool>,
}

/// Certificates of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Trust anybody.
    pub insecure_skip_verify: bool,
}

/// A place to ask for content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `host[:port]`, the key of its settings.
    pub(super) host: String,
    /// `http://host` or `https://host`, with a mirror's path.
    pub(super) base: String,
    /// The registry that a mirror stands for, told to it as `?ns=`.
    pub(super) mirrors: Option<String>,
}

// === impl Registries ===

impl Registries {
    /// Where to ask for the content of a reference, in this order: mirrors, then the registry itself.
    pub(super) fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let registry = reference.registry();
        let mut endpoints = Vec::new();
        if let Some(mirror) = self.mirrors.get(registry).or_else(|| self.mirrors.get("*")) {
            for address in &mirror.endpoint {
                endpoints.push(mirror_endpoint(registry, address)?);
            }
        }
        let host = if registry == DEFAULT_REGISTRY { DOCKER_HUB_HOST } else { registry };
        let plain = self.config(registry).and_then(|config| config.plain_http).unwrap_or_else(|| is_loopback(host));
        let scheme = if plain { "http" } else { "https" };
        endpoints.push(Endpoint { host: registry.to_owned(), base: format!("{scheme}://{host}"), mirrors: None });
        Ok(endpoints)
    }

    /// The settings of a host.
    pub(super) fn config(&self, host: &str) -> Option<&HostConfig> {
        let other_name = (host == DEFAULT_REGISTRY).then(|| self.configs.get(DOCKER_HUB_HOST)).flatten();
        self.configs.get(host).or(other_name).or_else(|| self.configs.get("*"))
    }

    /// The certificates of a host.
    pub(super) fn tls(&self, host: &str) -> TlsConfig {
        self.config(host).map(|config| config.tls.clone()).unwrap_or_default()
    }

    /// The configured credentials of a host.
    pub(super) fn credentials(&self, host: &str) -> Option<&Credentials> {
        self.config(host).and_then(|config| config.auth.as_ref())
    }
}

fn mirror_endpoint(registry: &str, address: &str) -> Result<Endpoint> {
    let bad = |reason: String| ImageError::Config { host: registry.to_owned(), reason };
    let address = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let uri: http::Uri = address.parse().map_err(|error| bad(format!("mirror endpoint {address:?}: {error}")))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) => Ok(Endpoint {
            host: authority.to_string(),
            base: address.trim_end_matches('/').trim_end_matches("/v2").to_owned(),
            mirrors: Some(registry.to_owned()),
        }),
        _ => Err(bad(format!("mirror endpoint {address:?} is not an http or https address"))),
    }
}

/// Whether a host is this machine: only there is plain HTTP as good as HTTPS.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(registries: &Registries, image: &str) -> Vec<String> {
        let reference = Reference::parse(image).unwrap();
        registries.endpoints(&reference).unwrap().into_iter().map(|e| e.base).collect()
    }

    #[test]
    fn mirrors_are_asked_before_the_registry() {
        let mut registries = Registries::default();
        assert_eq!(bases(&registries, "nginx"), ["https://registry-1.docker.io"]);
        assert_eq!(bases(&registries, "localhost:5000/a"), ["http://localhost:5000"]);
        assert_eq!(bases(&registries, "[::1]:5000/a"), ["http://[::1]:5000"]);
        assert_eq!(bases(&registries, "10.0.0.1:5000/a"), ["https://10.0.0.1:5000"]);
        let endpoint = vec!["http://127.0.0.1:5001/hub/v2/".to_owned(), "mirror.io".into()];
        registries.mirrors.insert("docker.io".into(), Mirror { endpoint });
        registries
            .configs
            .insert("10.0.0.1:5000".into(), HostConfig { plain_http: Some(true), ..HostConfig::default() });
        assert_eq!(
            bases(&registries, "nginx"),
            ["http://127.0.0.1:5001/hub", "https://mirror.io", "https://registry-1.docker.io"]
        );
        assert_eq!(bases(&registries, "10.0.0.1:5000/a"), ["http://10.0.0.1:5000"]);
        registries.mirrors.insert("*".into(), Mirror { endpoint: vec!["ftp://x".into()] });
        let quay = Reference::parse("quay.io/a/b").unwrap();
        assert!(registries.endpoints(&quay).unwrap_err().to_string().contains("ftp://x"));
    }
}
