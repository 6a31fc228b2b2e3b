//! A certificate that is shown to others, and replaced while connections go on.

use crate::Failure;
use parking_lot::RwLock;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use trireme_pki::Identity;

/// The certificate that new connections show.
#[derive(Debug)]
pub struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    /// Shows an identity.
    ///
    /// # Errors
    /// When its key cannot be used.
    pub fn new(identity: &Identity) -> Result<Arc<Self>, Failure> {
        Ok(Arc::new(Self(RwLock::new(certified(identity)?))))
    }

    /// Shows another one from here on.
    ///
    /// # Errors
    /// When its key cannot be used.
    pub fn replace(&self, identity: &Identity) -> Result<(), Failure> {
        *self.0.write() = certified(identity)?;
        Ok(())
    }
}

fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, Failure> {
    let key = any_supported_type(&identity.private_key()?)?;
    Ok(Arc::new(CertifiedKey::new(identity.chain()?, key)))
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
