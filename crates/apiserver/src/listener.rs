//! The network: TLS, HTTP/1.1 and HTTP/2, client certificates.

use crate::authn::Credentials;
use crate::server::{ApiServer, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// TLS that shows one certificate, and asks for (and does not insist on) a client certificate of one of `clients`.
///
/// # Errors
/// When certificate or key cannot be used.
pub fn tls(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: &[CertificateDer<'static>],
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let shown = CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider())?;
    tls_showing(Arc::new(SingleCertAndKey::from(shown)), clients)
}

/// The same with a certificate that may be replaced.
///
/// # Errors
/// When the authority of clients is none.
pub fn tls_showing(
    shown: Arc<dyn ResolvesServerCert>,
    clients: &[CertificateDer<'static>],
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in clients {
        roots.add(certificate.clone())?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long connections may take to finish when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until `stop`; then ends watches and lets requests finish.
pub async fn serve(server: Arc<ApiServer>, listener: TcpListener, tls: Arc<ServerConfig>, stop: CancellationToken) {
    let acceptor = TlsAcceptor::from(tls);
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
        let (server, acceptor, stop) = (server.clone(), acceptor.clone(), stop.clone());
        connections.spawn(async move {
            let secured = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(secured)) => secured,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "TLS handshake failed");
                    return;
                }
                Err(_) => return,
            };
            let mut peer = credentials(secured.get_ref().1.peer_certificates());
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

/// Common name and organizations of a verified client certificate.
fn credentials(chain: Option<&[CertificateDer<'_>]>) -> Credentials {
    let Some(leaf) = chain.and_then(|c| c.first()) else { return Credentials::default() };
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else { return Credentials::default() };
    let subject = certificate.subject();
    let name = subject.iter_common_name().next().and_then(|a| a.as_str().ok()).map(str::to_owned);
    let organizations = subject.iter_organization().filter_map(|a| a.as_str().ok()).map(str::to_owned).collect();
    Credentials { certificate: name.map(|name| (name, organizations)), ..Credentials::default() }
}
