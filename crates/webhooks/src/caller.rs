//! Calls: TLS, deadlines, pooled connections.

use crate::endpoint::{Endpoint, service_of};
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Finds the cluster's services.
pub trait Services: Send + Sync {
    /// The cluster IP of a service.
    ///
    /// # Errors
    /// In words, such as `service "w" not found`.
    fn address(&self, namespace: &str, name: &str) -> Result<IpAddr, String>;
}

/// Why a webhook gave no answer, in the words of upstream's client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It was not reached, or not in time.
    #[error("Post \"{uri}\": {cause}")]
    Unreachable {
        /// What was asked.
        uri: String,
        /// Why.
        cause: String,
    },
    /// It answered with a failure.
    #[error("{0}")]
    Refused(String),
    /// Its certificates cannot be checked.
    #[error("unable to load root certificates: {0}")]
    Authorities(String),
}

/// An answer may have this many bytes.
const LARGEST_ANSWER: usize = 16 << 20;
/// Clients (one for each set of authorities) that are kept at most.
const MOST_CLIENTS: usize = 256;
const IDLE: Duration = Duration::from_secs(90);

type Https = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// Posts to webhooks.
pub struct Caller {
    services: Arc<dyn Services>,
    clients: Mutex<HashMap<Vec<u8>, Https>>,
}

impl Caller {
    /// A caller that finds services by `services`.
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services, clients: Mutex::default() }
    }

    /// Posts JSON; gives the answer's body.
    ///
    /// # Errors
    /// When there was no answer in time, or none of status 200.
    pub async fn post(&self, endpoint: &Endpoint, body: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        // The webhook learns how long its caller waits.
        let uri = with_timeout(&endpoint.uri, timeout);
        let unreachable = |cause: String| CallError::Unreachable { uri: uri.to_string(), cause };
        let client = self.client(endpoint)?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(body))
            .map_err(|e| unreachable(e.to_string()))?;
        let exchange = async {
            let response = client.request(request).await.map_err(|e| unreachable(innermost(&e)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
            let body = body.map_err(|e| unreachable(innermost(e.as_ref())))?.to_bytes();
            if status == StatusCode::OK { Ok(body) } else { Err(CallError::Refused(in_words(status, &body))) }
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(unreachable("context deadline exceeded".into())),
        }
    }

    fn client(&self, endpoint: &Endpoint) -> Result<Https, CallError> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(&endpoint.authorities) {
            return Ok(client.clone());
        }
        let client = https(roots(&endpoint.authorities)?, Resolver(self.services.clone()))?;
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        clients.insert(endpoint.authorities.clone(), client.clone());
        Ok(client)
    }
}

fn with_timeout(uri: &Uri, timeout: Duration) -> Uri {
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let separator = if path.contains('?') { '&' } else { '?' };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = format!("{path}{separator}timeout={}s", timeout.as_secs()).parse().ok();
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

fn roots(pem: &[u8]) -> Result<RootCertStore, CallError> {
    if pem.is_empty() {
        let mut roots = RootCertStore::empty();
        // What of the system's store cannot be read is not trusted.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| CallError::Authorities(e.to_string()))?;
        roots.add(certificate).map_err(|e| CallError::Authorities(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(CallError::Authorities("the bundle has no certificate".into()));
    }
    Ok(roots)
}

fn https(roots: RootCertStore, resolver: Resolver) -> Result<Https, CallError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| CallError::Authorities(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .enable_http2()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .timer(TokioTimer::new())
        .build(connector))
}

/// What a failure's status says to who asked.
fn in_words(status: StatusCode, body: &[u8]) -> String {
    match status {
        StatusCode::NOT_FOUND => "the server could not find the requested resource".into(),
        StatusCode::UNAUTHORIZED => "the server has asked for the client to provide credentials".into(),
        StatusCode::METHOD_NOT_ALLOWED => "the server does not allow this method on the requested resource".into(),
        status if status.is_server_error() => {
            let text: String = String::from_utf8_lossy(body).trim().chars().take(1024).collect();
            let text = if text.is_empty() { "unknown".to_owned() } else { text };
            format!("an error on the server ({text:?}) has prevented the request from succeeding")
        }
        _ => "the server rejected our request for an unknown reason".into(),
    }
}

/// hyper's own words hide the reason in the error's sources.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Finds services of the cluster, and any other host by the system's resolver.
#[derive(Clone)]
struct Resolver(Arc<dyn Services>);

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let services = self.0.clone();
        Box::pin(async move {
            if let Some((name, namespace)) = service_of(name.as_str()) {
                let address = services.address(namespace, name).map_err(io::Error::other)?;
                return Ok(vec![SocketAddr::new(address, 0)].into_iter());
            }
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(found.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_told() {
        let uri: Uri = "https://a.b.svc:443/p?x=1".parse().unwrap();
        let told = with_timeout(&uri, Duration::from_secs(10));
        assert_eq!(told.to_string(), "https://a.b.svc:443/p?x=1&timeout=10s");
        let told = with_timeout(&"https://a/".parse().unwrap(), Duration::from_secs(1));
        assert_eq!(told.to_string(), "https://a/?timeout=1s");
    }

    #[test]
    fn a_bundle_without_certificates_is_refused() {
        assert!(matches!(roots(b"none"), Err(CallError::Authorities(_))));
        assert!(roots(b"").is_ok());
    }
}
