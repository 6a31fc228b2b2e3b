//! The network: TLS, HTTP/1.1 and HTTP/2, client certificates.

use crate::authn::Credentials;
use crate::server::{ApiServer, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Whose client certificates are believed: users', and those of front proxies, which say in headers who asks.
#[derive(Debug)]
pub struct Clients {
    users: Arc<dyn ClientCertVerifier>,
    proxies: Option<Arc<dyn ClientCertVerifier>>,
    hints: Vec<DistinguishedName>,
}

impl Clients {
    /// Clients with certificates of these authorities.
    ///
    /// # Errors
    /// When an authority is none, or there is none for users.
    pub fn new(
        users: &[CertificateDer<'static>],
        proxies: &[CertificateDer<'static>],
    ) -> Result<Arc<Self>, rustls::Error> {
        let users = verifier(users)?;
        let proxies = if proxies.is_empty() { None } else { Some(verifier(proxies)?) };
        let mut hints = users.root_hint_subjects().to_vec();
        hints.extend(proxies.iter().flat_map(|p| p.root_hint_subjects().iter().cloned()));
        Ok(Arc::new(Self { users, proxies, hints }))
    }

    /// What a chain that was shown proves: what it says of a user, and the name of a proxy.
    fn credentials(&self, chain: Option<&[CertificateDer<'_>]>) -> Credentials {
        let Some((leaf, between)) = chain.and_then(|c| c.split_first()) else { return Credentials::default() };
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else { return Credentials::default() };
        let subject = certificate.subject();
        let name = subject.iter_common_name().next().and_then(|a| a.as_str().ok()).map(str::to_owned);
        let organizations = subject.iter_organization().filter_map(|a| a.as_str().ok()).map(str::to_owned).collect();
        let now = UnixTime::now();
        let is = |by: &Arc<dyn ClientCertVerifier>| by.verify_client_cert(leaf, between, now).is_ok();
        Credentials {
            proxy: name.clone().filter(|_| self.proxies.as_ref().is_some_and(is)),
            certificate: name.filter(|_| is(&self.users)).map(|name| (name, organizations)),
            ..Credentials::default()
        }
    }
}

fn verifier(authorities: &[CertificateDer<'static>]) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots.add(certificate.clone())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
    verifier.build().map_err(|e| rustls::Error::General(e.to_string()))
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let refused = match self.users.verify_client_cert(shown, between, now) {
            Ok(verified) => return Ok(verified),
            Err(refused) => refused,
        };
        let by_proxies = self.proxies.as_ref().and_then(|p| p.verify_client_cert(shown, between, now).ok());
        by_proxies.ok_or(refused)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.users.verify_tls12_signature(message, shown, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.users.verify_tls13_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.users.supported_verify_schemes()
    }
}

/// What the listener shows, and whom it believes.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    clients: Arc<Clients>,
}

impl Tls {
    /// TLS that shows one certificate, and asks for (and does not insist on) a client certificate.
    ///
    /// # Errors
    /// When certificate or key cannot be used.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        clients: Arc<Clients>,
    ) -> Result<Self, rustls::Error> {
        let shown = CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider())?;
        Self::showing(Arc::new(SingleCertAndKey::from(shown)), clients)
    }

    /// The same with a certificate that may be replaced.
    ///
    /// # Errors
    /// When there is no version of TLS to speak.
    pub fn showing(shown: Arc<dyn ResolvesServerCert>, clients: Arc<Clients>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients.clone())
            .with_cert_resolver(shown);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), clients })
    }
}

/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long connections may take to finish when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until `stop`; then ends watches and lets requests finish.
pub async fn serve(server: Arc<ApiServer>, listener: TcpListener, tls: Tls, stop: CancellationToken) {
    let (acceptor, clients) = (TlsAcceptor::from(tls.config), tls.clients);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, say: connections that end make room.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (server, acceptor, clients, stop) = (server.clone(), acceptor.clone(), clients.clone(), stop.clone());
        connections.spawn(async move {
            let secured = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(secured)) => secured,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "TLS handshake failed");
                    return;
                }
                Err(_) => return,
            };
            let mut peer = clients.credentials(secured.get_ref().1.peer_certificates());
            peer.address = Some(address.ip());
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (server, peer) = (server.clone(), peer.clone());
                async move {
                    let response = server.answer(request.map(Incoming::Network), peer).await;
                    Ok::<_, Infallible>(response)
                }
            });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http2().max_concurrent_streams(1000).initial_stream_window_size(1 << 20);
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(secured), service);
            tokio::pin!(connection);
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "connection ended");
                    }
                }
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(DRAIN, connection).await;
                }
            }
        });
    }
    server.stop();
    connections.close();
    let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
}
