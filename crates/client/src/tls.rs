//! Whom we trust at the other end of a TLS connection, and whom Go's clients trust.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Which servers are believed to be who they say they are.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those of these authorities. A server may also show one of the certificates itself, as Go has it: so do
    /// certificates that are signed by themselves and say of themselves that they are authorities.
    Authorities(Vec<CertificateDer<'static>>),
    /// Those of the authorities that this machine trusts.
    System,
    /// All (`insecureSkipTLSVerify`).
    Anyone,
}

impl Trust {
    /// TLS towards such servers; what is shown to them is for the caller to say.
    ///
    /// # Errors
    /// For an authority that is none.
    pub fn tls(self) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let mut roots = RootCertStore::empty();
        let known = match self {
            Self::Anyone => {
                let anyone = Arc::new(Anyone(provider));
                return Ok(builder.dangerous().with_custom_certificate_verifier(anyone));
            }
            Self::System => {
                // What of the system's store cannot be read is not trusted.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Vec::new()
            }
            Self::Authorities(known) => {
                for authority in &known {
                    roots.add(authority.clone())?;
                }
                known
            }
        };
        if roots.is_empty() {
            return Ok(builder.with_root_certificates(roots));
        }
        let by_chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| Error::General(e.to_string()))?;
        Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(Known { by_chain, known })))
    }
}

/// TLS towards servers of these authorities; what is shown to them is for the caller to say.
///
/// # Errors
/// For an authority that is none.
pub fn tls_trusting(
    authorities: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    Trust::Authorities(authorities.into_iter().collect()).tls()
}

/// Chains to an authority, and the authorities' certificates themselves.
#[derive(Debug)]
struct Known {
    by_chain: Arc<WebPkiServerVerifier>,
    known: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.by_chain.verify_server_cert(shown, between, name, ocsp, now) {
            Err(_) if self.known.iter().any(|known| known == shown) => itself(shown, name, now),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_chain.verify_tls12_signature(message, shown, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_chain.verify_tls13_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_chain.supported_verify_schemes()
    }
}

/// A certificate that is trusted as it is: what is left to see is whether it holds now, for this name, for a server.
fn itself(shown: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<ServerCertVerified, Error> {
    let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
    verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
    let (_, certificate) = X509Certificate::from_der(shown).map_err(|_| bad())?;
    let now = i64::try_from(now.as_secs()).map_err(|_| bad())?;
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
    }
    if now > validity.not_after.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    match certificate.extended_key_usage().map_err(|_| bad())? {
        Some(usage) if !usage.value.any && !usage.value.server_auth => {
            Err(Error::InvalidCertificate(CertificateError::InvalidPurpose))
        }
        _ => Ok(ServerCertVerified::assertion()),
    }
}

/// Believes everybody. That who speaks has the key of what he shows is looked at all the same.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, shown, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, shown, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    fn made(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["a.b.svc".to_owned()]).unwrap();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn authority(params: &mut CertificateParams) {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }

    fn verified(known: &[&CertificateDer<'static>], shown: &CertificateDer<'_>, name: &'static str) -> bool {
        let mut roots = RootCertStore::empty();
        known.iter().for_each(|k| roots.add((*k).clone()).unwrap());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let by_chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let known = Known { by_chain, known: known.iter().map(|k| (*k).clone()).collect() };
        let name = ServerName::try_from(name).unwrap();
        known.verify_server_cert(shown, &[], &name, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn a_certificate_that_is_its_own_authority_is_trusted_for_its_names_and_no_other_is() {
        let own = made(authority);
        assert!(verified(&[&own], &own, "a.b.svc"));
        assert!(!verified(&[&own], &own, "other.b.svc"));
        assert!(!verified(&[&made(authority)], &own, "a.b.svc"), "another's of the same name");
        let client = made(|params| {
            authority(params);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        assert!(!verified(&[&client], &client, "a.b.svc"));
        let old = made(|params| {
            authority(params);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        });
        assert!(!verified(&[&old], &old, "a.b.svc"));
    }
}
