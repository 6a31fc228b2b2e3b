//! Connections through an HTTP proxy: for HTTPS by CONNECT (RFC 9110 9.3.6), as `HTTPS_PROXY` and `NO_PROXY` mean it.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use super::options::Proxy;
use super::registries::is_loopback;

/// TCP, through the proxy where one is set for the destination.
#[derive(Clone)]
pub struct ProxyConnector {
    tcp: HttpConnector,
    matcher: Arc<Matcher>,
}

type BoxError = Box<dyn Error + Send + Sync>;
type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, BoxError>> + Send>>;

// === impl ProxyConnector ===

impl ProxyConnector {
    /// Connects with `tcp`, to the proxy or the destination.
    pub fn new(tcp: HttpConnector, proxy: &Proxy) -> Self {
        let builder = Matcher::builder().no(proxy.except.clone());
        let matcher = match &proxy.https {
            Some(address) => builder.https(address.clone()).build(),
            None => builder.build(),
        };
        ProxyConnector { tcp, matcher: Arc::new(matcher) }
    }
}

impl Service<Uri> for ProxyConnector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, destination: Uri) -> Connecting {
        // This machine is never reached through another one.
        let local = destination.authority().is_some_and(|authority| is_loopback(authority.as_str()));
        match self.matcher.intercept(&destination).filter(|_| !local) {
            None => {
                let connecting = self.tcp.call(destination);
                Box::pin(async move { connecting.await.map_err(Into::into) })
            }
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp.clone());
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                let connecting = tunnel.call(destination);
                Box::pin(async move { connecting.await.map_err(Into::into) })
            }
        }
    }
}
