//! HTTPS to one kind of peer, over connections that are kept: the one client below all that calls others.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;

/// What a body may break with.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A body that is sent.
pub type Outgoing = UnsyncBoxBody<Bytes, BodyError>;

/// A body that is there already.
pub fn whole(bytes: impl Into<Bytes>) -> Outgoing {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Finds the addresses of hosts; the port is of no meaning.
pub trait Resolve: Send + Sync {
    /// The addresses of a host.
    ///
    /// # Errors
    /// In words, as an I/O error.
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host.as_str(), 0)).await?.collect()) })
    }
}

/// Connections are made within this time.
pub const CONNECT: Duration = Duration::from_secs(10);
/// A connection that nobody uses is kept for this long.
const IDLE: Duration = Duration::from_secs(90);
/// A silent HTTP/2 connection is asked whether it is alive after the first, and given up after the second.
const ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15));

/// Connections to peers that are trusted alike; clones share them.
#[derive(Clone)]
pub struct Pool {
    http: Client<HttpsConnector<HttpConnector<Resolver>>, Outgoing>,
}

/// There was no answer; in the words of Go's client, which operators know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreached(pub String);

impl Pool {
    /// A pool; connections are made when they are needed. With `name` all servers are asked for that name, whatever the
    /// URL's host is.
    pub fn new(tls: ClientConfig, name: Option<ServerName<'static>>, resolver: Arc<dyn Resolve>) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(resolver));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let builder = match name {
            Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name)),
            None => builder.with_server_name_resolver(DefaultServerNameResolver::default()),
        };
        let connector = builder.enable_all_versions().wrap_connector(tcp);
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(Some(ALIVE.0))
            .http2_keep_alive_timeout(ALIVE.1)
            .http2_adaptive_window(true)
            .build(connector);
        Self { http }
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn send(&self, request: Request<Outgoing>) -> Result<Response<hyper::body::Incoming>, Unreached> {
        let uri = request.uri().clone();
        self.http.request(request).await.map_err(|error| Unreached(in_words(&error, &uri)))
    }
}

/// Why there was no answer, as Go's client says it; hyper's own words hide the reason in the error's sources.
pub fn in_words(error: &(dyn std::error::Error + 'static), uri: &Uri) -> String {
    let mut error = error;
    loop {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return tls_in_words(tls);
        }
        if let Some(io) = error.downcast_ref::<io::Error>()
            && let Some(words) = io_in_words(io, uri)
        {
            return words;
        }
        // An I/O error's source is what is below the error that it carries, not that itself.
        let carried = error.downcast_ref::<io::Error>().and_then(|io| io.get_ref()).map(|inner| inner as &_);
        match carried.or_else(|| error.source()) {
            Some(inner) => error = inner,
            None => return error.to_string(),
        }
    }
}

fn io_in_words(error: &io::Error, uri: &Uri) -> Option<String> {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(443);
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused",
        io::ErrorKind::HostUnreachable => "connect: no route to host",
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable",
        io::ErrorKind::TimedOut => "i/o timeout",
        io::ErrorKind::UnexpectedEof => return Some("EOF".into()),
        _ => return None,
    };
    Some(format!("dial tcp {host}:{port}: {why}"))
}

fn tls_in_words(error: &rustls::Error) -> String {
    use rustls::CertificateError as Bad;
    let rustls::Error::InvalidCertificate(bad) = error else { return format!("tls: {error}") };
    let why = match bad {
        Bad::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        Bad::NotValidForNameContext { expected, presented } if presented.is_empty() => {
            format!("certificate is not valid for any names, but wanted to match {}", expected.to_str())
        }
        Bad::NotValidForNameContext { expected, presented } => {
            // As `DnsName("x")` and `IpAddress(x)`.
            let names: Vec<&str> = presented
                .iter()
                .map(|p| p.split_once('(').map_or(p.as_str(), |(_, name)| name.trim_matches([')', '"'])))
                .collect();
            format!("certificate is valid for {}, not {}", names.join(", "), expected.to_str())
        }
        Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => {
            "certificate specifies an incompatible key usage".to_owned()
        }
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}

/// The resolver as hyper asks for it.
#[derive(Clone)]
struct Resolver(Arc<dyn Resolve>);

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let found = self.0.resolve(name.as_str().to_owned());
        Box::pin(async move { found.await.map(Vec::into_iter) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Trust;

    #[tokio::test]
    async fn who_is_not_there_is_told_as_go_tells_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let tls = Trust::Anyone.tls().unwrap().with_no_client_auth();
        let pool = Pool::new(tls, None, Arc::new(SystemResolver));
        let request = Request::get(format!("https://127.0.0.1:{port}/")).body(whole("")).unwrap();
        let error = pool.send(request).await.unwrap_err();
        assert_eq!(error.0, format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_as_go_tells_it() {
        let uri = Uri::from_static("https://a/");
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = io::Error::other(io::Error::other(unknown));
        let words = in_words(&wrapped, &uri);
        assert_eq!(words, "tls: failed to verify certificate: x509: certificate signed by unknown authority");
    }
}
