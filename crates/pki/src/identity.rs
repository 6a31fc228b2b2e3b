use std::time::{Duration, SystemTime};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;

/// A certificate and its private key.
#[derive(Clone)]
pub struct Identity {
    /// PEM of the certificate chain, leaf first.
    pub certificate: String,
    /// PEM of the private key (PKCS #8).
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The certificates of a PEM text.
pub fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let refused = |reason: String| Error::Pem { what: what.to_owned(), reason };
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| refused(e.to_string()))?;
    if found.is_empty() { Err(refused("it holds no certificate".to_owned())) } else { Ok(found) }
}

impl Identity {
    /// The certificate chain for rustls.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        certificates(&self.certificate, "the certificate")
    }

    /// The private key for rustls.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|error| Error::Pem { what: "the private key".to_owned(), reason: error.to_string() })
    }

    /// When the certificate ends.
    pub fn expires(&self) -> Result<SystemTime, Error> {
        let chain = self.chain()?;
        let refused = |reason: String| Error::Pem { what: "the certificate".to_owned(), reason };
        let leaf = chain.first().ok_or_else(|| refused("it is empty".to_owned()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|error| refused(error.to_string()))?;
        let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }
}
