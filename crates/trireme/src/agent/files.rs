//! What an agent keeps in its data directory.

use super::join::Kind;
use super::pin::Pinned;
use crate::Failure;
use crate::private::private;
use std::path::{Path, PathBuf};
use trireme_client::{Credentials, Kubeconfig};
use trireme_pki::Identity;

/// What a private key begins with.
const KEY: &str = "-----BEGIN PRIVATE KEY-----";

/// The directory of an agent's certificates.
pub struct Files(PathBuf);

impl Files {
    /// Opens it; makes it when it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
        Ok(Self(dir.to_owned()))
    }

    /// A certificate and its key, if they are there and fit together.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn identity(&self, kind: Kind) -> Result<Option<Identity>, Failure> {
        let path = self.0.join(format!("{}.pem", kind.file()));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display()).into()),
        };
        // Certificate and key are one file, so that a crash leaves both old or both new.
        let (certificate, key) = text.split_at(text.find(KEY).unwrap_or(text.len()));
        let identity = Identity { certificate: certificate.to_owned(), key: key.to_owned() };
        if identity.chain().is_err() || identity.private_key().is_err() {
            return Err(format!("{} is damaged: remove it to join again", path.display()).into());
        }
        Ok(Some(identity))
    }

    /// Keeps a certificate and its key.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&self, kind: Kind, identity: &Identity) -> Result<(), Failure> {
        let path = self.0.join(format!("{}.pem", kind.file()));
        let text = format!("{}{}", identity.certificate, identity.key);
        private(&path, &text).map_err(|e| format!("cannot write {}: {e}", path.display()).into())
    }

    /// Writes the node's kubeconfig.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig(&self, pinned: &Pinned, identity: &Identity) -> Result<(), Failure> {
        let authority = pinned.authority().ok_or("the server's authority is not known yet")?;
        let text = Kubeconfig {
            name: "trireme".into(),
            server: pinned.server.url.clone(),
            ca: trireme_pki::to_pem(&authority),
            credentials: Credentials::Certificate {
                certificate: identity.certificate.clone(),
                key: identity.key.clone(),
            },
        }
        .to_yaml();
        let path = self.0.join("kubeconfig");
        private(&path, &text).map_err(|e| format!("cannot write {}: {e}", path.display()).into())
    }
}
