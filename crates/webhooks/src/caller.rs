//! Calls: TLS, deadlines, pooled connections.

use crate::endpoint::{Endpoint, service_of};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use trireme_client::Trust;
use trireme_client::pool::{self, Pool, Resolve, SystemResolver};

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

/// Posts to webhooks.
pub struct Caller {
    services: Arc<dyn Services>,
    clients: Mutex<HashMap<Vec<u8>, Pool>>,
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
            .body(pool::whole(body))
            .map_err(|e| unreachable(e.to_string()))?;
        let exchange = async {
            let response = client.send(request).await.map_err(|e| unreachable(e.to_string()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
            let body = body.map_err(|e| unreachable(pool::in_words(e.as_ref(), &uri)))?.to_bytes();
            if status == StatusCode::OK { Ok(body) } else { Err(CallError::Refused(in_words(status, &body))) }
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(unreachable("context deadline exceeded".into())),
        }
    }

    fn client(&self, endpoint: &Endpoint) -> Result<Pool, CallError> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(&endpoint.authorities) {
            return Ok(client.clone());
        }
        let tls = trust(&endpoint.authorities)?.tls().map_err(|e| CallError::Authorities(e.to_string()))?;
        let client = Pool::new(tls.with_no_client_auth(), None, Arc::new(OfCluster(self.services.clone())));
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

fn trust(pem: &[u8]) -> Result<Trust, CallError> {
    if pem.is_empty() {
        return Ok(Trust::System);
    }
    let authorities: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match authorities.map_err(|e| CallError::Authorities(e.to_string()))? {
        none if none.is_empty() => Err(CallError::Authorities("the bundle has no certificate".into())),
        authorities => Ok(Trust::Authorities(authorities)),
    }
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

/// Finds services of the cluster, and any other host by the system's resolver.
struct OfCluster(Arc<dyn Services>);

impl Resolve for OfCluster {
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let Some((name, namespace)) = service_of(&host) else { return SystemResolver.resolve(host) };
        let address = self.0.address(namespace, name).map_err(io::Error::other);
        async move { Ok(vec![SocketAddr::new(address?, 0)]) }.boxed()
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
        assert!(matches!(trust(b"none"), Err(CallError::Authorities(_))));
        assert!(trust(b"").is_ok());
    }
}
