//! Trust in a server by the digest of its authority, which the join token carries.

use crate::Failure;
use crate::progress::Progress;
use crate::shown::Shown;
use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use trireme_client::{Backoff, Client};

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its URL, without a slash at the end.
    pub url: String,
    /// Its host, as in the URL.
    host: String,
}

/// The server, and how it is known.
#[derive(Debug)]
pub struct Pinned {
    /// Where it is.
    pub server: Server,
    digest: String,
    provider: Arc<CryptoProvider>,
    /// The authority, once it was seen.
    authority: Mutex<Option<CertificateDer<'static>>>,
    /// Why the last handshake failed.
    trouble: Mutex<Option<String>>,
}

impl Server {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("--server {url:?} is not a URL such as https://10.0.0.1:6443");
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("https") {
            return Err(format!("--server {url:?}: agents join over https only"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?.to_owned();
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        Ok(Self { url: format!("https://{host}:{}", uri.port_u16().unwrap_or(6443)), host })
    }
}

impl Pinned {
    /// The server whose authority has this digest.
    pub fn new(server: Server, digest: &str) -> Arc<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let digest = digest.to_owned();
        Arc::new(Self { server, digest, provider, authority: Mutex::default(), trouble: Mutex::default() })
    }

    /// The certificate of the authority, once the server has been reached.
    pub fn authority(&self) -> Option<CertificateDer<'static>> {
        self.authority.lock().clone()
    }

    /// TLS that trusts this server alone.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub fn tls(self: &Arc<Self>, shown: Option<Arc<Shown>>) -> Result<rustls::ClientConfig, Failure> {
        let builder = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(self.clone());
        Ok(match shown {
            Some(shown) => builder.with_client_cert_resolver(shown),
            None => builder.with_no_client_auth(),
        })
    }

    /// Waits until the server answers, at most `patience`; what will not get better ends the wait at once.
    ///
    /// # Errors
    /// Why it does not answer.
    pub async fn answers(self: &Arc<Self>, patience: Option<Duration>, progress: &Progress) -> Result<(), Failure> {
        let client = Client::new(self.transport(None, None)?, "trireme-agent");
        let deadline = patience.map(|patience| tokio::time::Instant::now() + patience);
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut said = false;
        loop {
            let Err(error) = client.request(http::Method::GET, "/readyz", None).await else { return Ok(()) };
            if let Some(trouble) = self.trouble.lock().take() {
                return Err(trouble.into());
            }
            let pause = backoff.step();
            let text = match &error {
                trireme_client::Error::Unreachable(text) => {
                    // The client names the server too.
                    text.strip_prefix(&format!("{}: ", self.server.url)).unwrap_or(text).to_owned()
                }
                other => other.to_string(),
            };
            let reason = format!("the server {} does not answer: {text}", self.server.url);
            if deadline.is_some_and(|deadline| tokio::time::Instant::now() + pause > deadline) {
                return Err(reason.into());
            }
            if !said {
                progress.say(&format!("  waiting: {reason}"));
                said = true;
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let meant = |certificate: &&CertificateDer<'_>| hex::encode(Sha256::digest(certificate)) == self.digest;
        let authority = others.iter().find(meant).ok_or(CertificateError::UnknownIssuer)?.clone().into_owned();
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|e| Error::General(e.to_string()))?;
        let verified = verifier.verify_server_cert(leaf, &[], name, ocsp, now)?;
        *self.authority.lock() = Some(authority);
        Ok(verified)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let result = self.check(leaf, others, name, ocsp, now);
        if let Err(error) = &result {
            *self.trouble.lock() = Some(explain(error, &self.server));
        }
        result
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What an operator does about a certificate that is not accepted.
fn explain(error: &Error, server: &Server) -> String {
    let Server { url, host } = server;
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            format!("the server {url} is not the one of the token: its authority has another digest")
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::Expired
            | CertificateError::ExpiredContext { .. },
        ) => format!("the certificate of the server {url} is not valid now: compare the clocks of both machines"),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("the certificate of the server {url} is not for {host}: start the server with --tls-san {host}"),
        other => format!("the certificate of the server {url} is refused: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_pki::{Authority, Purpose, Subject, digest};

    #[test]
    fn urls_are_https_and_have_no_path() {
        assert_eq!(Server::parse("https://a").unwrap().url, "https://a:6443");
        assert_eq!(Server::parse("https://[fd00::1]:7443/").unwrap().url, "https://[fd00::1]:7443");
        for bad in ["http://a:6443", "a:6443", "https://", "https://a/x", ""] {
            assert!(Server::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_authority_of_the_token_is_trusted_and_every_refusal_is_explained() {
        let (ours, theirs) = (Authority::create("a").unwrap(), Authority::create("b").unwrap());
        let pin = Pinned::new(Server::parse("https://a:1").unwrap(), &digest(ours.certificate()).unwrap());
        let chain = |authority: &Authority, shown: &Authority| {
            let purpose = Purpose::Server { names: vec!["a".into()], addresses: Vec::new() };
            let leaf = authority.issue(&Subject::new("s", &[]), &purpose, Duration::from_secs(3600)).unwrap();
            let root = trireme_pki::certificates(shown.certificate(), "root").unwrap();
            (leaf.chain().unwrap().remove(0), root)
        };
        let verify = |chain: &(CertificateDer<'static>, Vec<CertificateDer<'static>>), name: &str, at: u64| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
            pin.verify_server_cert(&chain.0, &chain.1, &name, &[], at).is_ok()
        };
        let now = UnixTime::now().as_secs();
        assert!(verify(&chain(&ours, &ours), "a", now));
        assert!(pin.authority().is_some());
        // Signed by another, though the right authority is shown beside it.
        let cases = [
            (chain(&theirs, &theirs), "a", now, "not the one of the token"),
            (chain(&theirs, &ours), "a", now, "another digest"),
            (chain(&ours, &ours), "b", now, "--tls-san"),
            (chain(&ours, &ours), "a", now - 86_400, "clocks"),
            (chain(&ours, &ours), "a", now + 86_400, "clocks"),
        ];
        for (chain, name, at, said) in cases {
            assert!(!verify(&chain, name, at));
            let trouble = pin.trouble.lock().take().unwrap();
            assert!(trouble.contains(said), "{trouble}");
        }
    }
}
