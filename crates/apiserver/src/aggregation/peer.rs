//! Connections to the server of an APIService.

use super::service::Backend;
use crate::kubelet::Connection;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use trireme_client::Trust;
use trireme_client::pool::{self, Outgoing, Pool, SystemResolver, Unreached};

/// How the server of an APIService is spoken to: whatever its address, it is asked for the name `SERVICE.NAMESPACE.svc`
/// and shown the front proxy's certificate.
pub(super) struct Peer {
    pool: Pool,
    /// HTTP/1.1 alone, which can be left for another protocol.
    upgrades: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
}

impl Peer {
    /// Connections are made when they are needed.
    ///
    /// # Errors
    /// What is wrong with the authorities or the name.
    pub fn new(backend: &Backend, shown: Option<Arc<dyn ResolvesClientCert>>) -> Result<Self, String> {
        let name = format!("{}.{}.svc", backend.name, backend.namespace);
        let name = ServerName::try_from(name).map_err(|e| e.to_string())?;
        let tls = trust(backend)?.tls().map_err(|e| format!("unable to load root certificates: {e}"))?;
        let mut tls = match shown {
            Some(shown) => tls.with_client_cert_resolver(shown),
            None => tls.with_no_client_auth(),
        };
        let pool = Pool::new(tls.clone(), Some(name.clone()), Arc::new(SystemResolver));
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { pool, upgrades: Arc::new(tls), name })
    }

    /// Sends a request, whose URI has the server's address.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, request: Request<Outgoing>) -> Result<Response<hyper::body::Incoming>, Unreached> {
        self.pool.send(request).await
    }

    /// Sends a request and reads the answer, up to so many bytes and for so long.
    ///
    /// # Errors
    /// In words: when there is none.
    pub async fn ask(
        &self,
        request: Request<Outgoing>,
        most: usize,
        within: Duration,
    ) -> Result<Response<Bytes>, String> {
        let asked = async {
            let (parts, body) = self.send(request).await.map_err(|e| e.0)?.into_parts();
            let body = Limited::new(body, most).collect().await.map_err(|e| e.to_string())?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        match tokio::time::timeout(within, asked).await {
            Ok(answer) => answer,
            Err(_) => Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into()),
        }
    }

    /// A connection of its own, for a request that asks to leave HTTP.
    pub fn connect<'a>(&'a self, authority: &'a str) -> BoxFuture<'a, Result<Box<dyn Connection>, Unreached>> {
        Box::pin(async move {
            let uri = http::Uri::builder().scheme("https").authority(authority).path_and_query("/").build();
            let uri = uri.map_err(|e| Unreached(e.to_string()))?;
            let connecting = async {
                let stream = TcpStream::connect(authority).await?;
                stream.set_nodelay(true)?;
                tokio_rustls::TlsConnector::from(self.upgrades.clone()).connect(self.name.clone(), stream).await
            };
            match tokio::time::timeout(pool::CONNECT, connecting).await {
                Ok(Ok(stream)) => Ok(Box::new(stream) as Box<dyn Connection>),
                Ok(Err(error)) => Err(Unreached(pool::in_words(&error, &uri))),
                Err(_) => Err(Unreached(format!("dial tcp {authority}: i/o timeout"))),
            }
        })
    }
}

fn trust(backend: &Backend) -> Result<Trust, String> {
    if backend.insecure {
        return Ok(Trust::Anyone);
    }
    if backend.authorities.is_empty() {
        return Ok(Trust::System);
    }
    let authorities: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&backend.authorities).collect();
    match authorities {
        Ok(authorities) if !authorities.is_empty() => Ok(Trust::Authorities(authorities)),
        _ => Err("unable to load root certificates: unable to parse bytes as PEM block".into()),
    }
}
