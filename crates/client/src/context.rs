use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use trireme_schema::{Value, yaml};

use crate::{HttpsConfig, Trust};

/// The server and the user that a kubeconfig's current context names.
#[derive(Clone)]
pub struct Context {
    /// URL of the server.
    pub server: String,
    /// The authorities of its certificate, PEM; empty when the file names none, and those of the machine count.
    pub authorities: String,
    /// Whether whoever answers is believed to be the server.
    pub insecure: bool,
    /// The user's certificate and key, both PEM.
    pub certificate: Option<(String, String)>,
    /// The user's bearer token.
    pub token: Option<String>,
}

/// A kubeconfig that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadContext {
    /// The file cannot be read.
    #[error("cannot read the kubeconfig {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What it says makes no sense.
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl Context {
    /// Reads a file. Files that it names are relative to it.
    ///
    /// # Errors
    /// What is wrong with it, with the file.
    pub fn read(path: &Path) -> Result<Self, BadContext> {
        let wrong = |why: String| BadContext::Content { path: path.to_owned(), why };
        let text =
            std::fs::read_to_string(path).map_err(|source| BadContext::Read { path: path.to_owned(), source })?;
        let config = yaml::parse(&text).map_err(|e| wrong(e.to_string()))?;
        Self::of(&config, path.parent().unwrap_or(Path::new("."))).map_err(wrong)
    }

    /// The current context of a kubeconfig; files that it names are relative to `dir`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(config: &Value, dir: &Path) -> Result<Self, String> {
        let named = |list: &str, kind: &str, name: &str| -> Result<Value, String> {
            let all = config.list_at(&[list]);
            let found = all.iter().find(|e| e.str_at(&["name"]) == name).and_then(|e| e.get(kind));
            found.cloned().ok_or_else(|| format!("{list}: there is no {name:?}"))
        };
        let current = match config.str_at(&["current-context"]) {
            "" => config.list_at(&["contexts"]).first().map_or("", |c| c.str_at(&["name"])),
            name => name,
        };
        let context = named("contexts", "context", current)?;
        let cluster = named("clusters", "cluster", context.str_at(&["cluster"]))?;
        let user = match context.str_at(&["user"]) {
            "" => Value::object(),
            name => named("users", "user", name)?,
        };
        // Data in the file wins over a file's name, as in kubectl.
        let pem = |object: &Value, field: &str| -> Result<String, String> {
            let data = object.str_at(&[&format!("{field}-data")]);
            if !data.is_empty() {
                let bytes = STANDARD.decode(data).map_err(|e| format!("{field}-data: {e}"))?;
                return String::from_utf8(bytes).map_err(|e| format!("{field}-data: {e}"));
            }
            match object.str_at(&[field]) {
                "" => Ok(String::new()),
                file => read(dir, file),
            }
        };
        let (certificate, key) = (pem(&user, "client-certificate")?, pem(&user, "client-key")?);
        let token = match (user.str_at(&["token"]), user.str_at(&["tokenFile"])) {
            ("", "") => String::new(),
            ("", file) => read(dir, file)?.trim().to_owned(),
            (token, _) => token.to_owned(),
        };
        Ok(Self {
            server: cluster.str_at(&["server"]).to_owned(),
            authorities: pem(&cluster, "certificate-authority")?,
            insecure: cluster.bool_at(&["insecure-skip-tls-verify"]),
            certificate: (!certificate.is_empty()).then_some((certificate, key)),
            token: (!token.is_empty()).then_some(token),
        })
    }

    /// TLS towards the server, with the user's certificate if he has one.
    ///
    /// # Errors
    /// What is wrong with authorities, certificate or key.
    pub fn tls(&self) -> Result<rustls::ClientConfig, String> {
        let trust = match self.authorities.as_str() {
            _ if self.insecure => Trust::Anyone,
            "" => Trust::System,
            authorities => Trust::Authorities(certificates(authorities)?),
        };
        let builder = trust.tls().map_err(|e| e.to_string())?;
        let Some((certificate, key)) = &self.certificate else { return Ok(builder.with_no_client_auth()) };
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| format!("client-key: {e}"))?;
        let shown = certificates(certificate)?;
        builder.with_client_auth_cert(shown, key).map_err(|e| format!("client-certificate: {e}"))
    }

    /// How the server is called over HTTPS as the user.
    ///
    /// # Errors
    /// What is wrong with authorities, certificate or key.
    pub fn https(&self) -> Result<HttpsConfig, String> {
        Ok(HttpsConfig { server: self.server.clone(), tls: self.tls()?, token: self.token.clone() })
    }
}

fn read(dir: &Path, file: &str) -> Result<String, String> {
    std::fs::read_to_string(dir.join(file)).map_err(|e| format!("{file}: {e}"))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| format!("certificates: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Credentials, Kubeconfig};

    #[test]
    fn what_is_written_is_read() {
        let written = Kubeconfig {
            name: "trireme".into(),
            server: "https://10.0.0.1:6443".into(),
            ca: "authority".into(),
            credentials: Credentials::Certificate { certificate: "certificate".into(), key: "key".into() },
        };
        let context = Context::of(&yaml::parse(&written.to_yaml()).unwrap(), Path::new(".")).unwrap();
        assert_eq!((context.server.as_str(), context.authorities.as_str()), ("https://10.0.0.1:6443", "authority"));
        assert_eq!(context.certificate, Some(("certificate".into(), "key".into())));
        assert_eq!(context.token, None);
        let written = Kubeconfig { credentials: Credentials::Token("t".into()), ..written };
        let context = Context::of(&yaml::parse(&written.to_yaml()).unwrap(), Path::new(".")).unwrap();
        assert_eq!((context.certificate, context.token.as_deref()), (None, Some("t")));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (text, said) in [
            ("contexts: []", "contexts"),
            ("current-context: a\ncontexts: [{name: a, context: {cluster: c}}]", "clusters: there is no \"c\""),
            (
                "contexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: s}}]",
                "users: there is no \"u\"",
            ),
        ] {
            let error = Context::of(&yaml::parse(text).unwrap(), Path::new(".")).map(drop).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(matches!(Context::read(Path::new("/no/such/file")), Err(BadContext::Read { .. })));
    }
}
