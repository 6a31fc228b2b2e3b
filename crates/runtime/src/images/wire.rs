//! HTTP to registries: connections by trust, deadlines, redirects. Knows nothing of images.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, LOCATION};
use http::{Method, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::error::{ImageError, Result};
use super::options::{Proxy, PullLimits};
use super::proxy::ProxyConnector;
use super::registries::{Registries, TlsConfig, is_loopback};
use super::trust::TrustAnybody;

type Http = Client<HttpsConnector<ProxyConnector>, Full<Bytes>>;

const MAX_REDIRECTS: usize = 8;

/// Connections to registries.
pub struct Wire {
    registries: Registries,
    limits: PullLimits,
    proxy: Proxy,
    // By certificates; none for plain HTTP, which needs none to be loaded.
    clients: Mutex<HashMap<Option<TlsConfig>, Http>>,
}

/// A request that can be sent again elsewhere.
#[derive(Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The address in full.
    pub url: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

// === impl Wire ===

impl Wire {
    /// No connection yet.
    pub fn new(registries: Registries, limits: PullLimits, proxy: Proxy) -> Self {
        Wire { registries, limits, proxy, clients: Mutex::new(HashMap::new()) }
    }

    /// The settings.
    pub fn registries(&self) -> &Registries {
        &self.registries
    }

    /// The deadlines.
    pub fn limits(&self) -> &PullLimits {
        &self.limits
    }

    /// Sends a request and follows redirects. `host` names the settings for its first address.
    pub async fn send(&self, host: &str, call: Call) -> Result<Response<Incoming>> {
        let mut call = call;
        let mut host = host.to_owned();
        for _ in 0..MAX_REDIRECTS {
            let response = self.send_once(&host, &call).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let Some(location) = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()) else {
                return Ok(response);
            };
            let next = redirect(&call.url, location).map_err(|reason| unreachable(&call, reason))?;
            if authority(&next) != authority(&call.url) {
                // The credentials are for the registry, not for the store that it sends us to.
                call.headers.remove(AUTHORIZATION);
                host = authority(&next);
            }
            call.url = next;
        }
        Err(unreachable(&call, format!("stopped after {MAX_REDIRECTS} redirects")))
    }

    async fn send_once(&self, host: &str, call: &Call) -> Result<Response<Incoming>> {
        let uri: Uri = call.url.parse().map_err(|error| unreachable(call, format!("bad address: {error}")))?;
        let client = match uri.scheme_str() {
            Some("http") => self.client(host, None)?,
            _ => self.client(host, Some(self.registries.tls(host)))?,
        };
        let mut request = http::Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = call.headers.clone();
        let agent = http::HeaderValue::from_static(concat!("trireme/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(http::header::USER_AGENT, agent);
        match tokio::time::timeout(self.limits.connect + self.limits.response, client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(unreachable(call, causes(&error))),
            Err(_) => Err(ImageError::Stalled {
                what: format!("{} {:?}", call.method, call.url),
                seconds: (self.limits.connect + self.limits.response).as_secs(),
            }),
        }
    }

    fn client(&self, host: &str, tls: Option<TlsConfig>) -> Result<Http> {
        if let Some(client) = self.clients.lock().get(&tls) {
            return Ok(client.clone());
        }
        let config =
            client_config(tls.as_ref()).map_err(|reason| ImageError::Config { host: host.to_owned(), reason })?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(self.limits.connect));
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(ProxyConnector::new(tcp, &self.proxy));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_timer(TokioTimer::new())
            .build(connector);
        self.clients.lock().insert(tls, client.clone());
        Ok(client)
    }

    /// The next bytes of a body, none at its end.
    pub async fn next_bytes(&self, what: &str, body: &mut Incoming) -> Result<Option<Bytes>> {
        loop {
            let frame = tokio::time::timeout(self.limits.stall, body.frame()).await;
            let frame = frame
                .map_err(|_| ImageError::Stalled { what: what.to_owned(), seconds: self.limits.stall.as_secs() })?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(ImageError::Unreachable {
                        method: "GET".into(),
                        url: what.to_owned(),
                        reason: causes(&error),
                    });
                }
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// A whole body of at most `limit` bytes.
    pub async fn read_all(&self, what: &str, mut body: Incoming, limit: u64) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next_bytes(what, &mut body).await? {
            if (all.len() as u64).saturating_add(bytes.len() as u64) > limit {
                return Err(ImageError::manifest(what, format!("it is longer than {limit} bytes")));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }
}

// === impl Call ===

impl Call {
    /// A GET.
    pub fn get(url: String, headers: HeaderMap) -> Self {
        Call { method: Method::GET, url, headers, body: Bytes::new() }
    }
}

/// `host[:port]` of an address.
pub fn authority(url: &str) -> String {
    url.parse::<Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string)).unwrap_or_default()
}

/// Where a redirect leads. From HTTPS to HTTP only on this machine: the content is verified, tokens are not.
fn redirect(from: &str, location: &str) -> std::result::Result<String, String> {
    let origin: Uri = from.parse().map_err(|_| format!("bad address {from:?}"))?;
    let (Some(scheme), Some(host)) = (origin.scheme_str(), origin.authority()) else {
        return Err(format!("bad address {from:?}"));
    };
    let target = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else {
        return Err(format!("redirect to {location:?}, which is not an address"));
    };
    if scheme == "https" && target.starts_with("http://") && !is_loopback(&authority(&target)) {
        return Err(format!("redirect from https to {target:?} refused"));
    }
    Ok(target)
}

fn client_config(tls: Option<&TlsConfig>) -> std::result::Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let Some(tls) = tls else {
        return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    };
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnybody::new(provider)))
    } else {
        builder.with_root_certificates(roots(tls)?)
    };
    match (&tls.cert_file, &tls.key_file) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err("cert_file and key_file go together".into()),
    }
}

fn roots(tls: &TlsConfig) -> std::result::Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = match &tls.ca_file {
        Some(file) => certificates(file)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (_, ignored) = roots.add_parsable_certificates(found);
    if ignored > 0 {
        tracing::debug!(ignored, "certificate authorities that cannot be read");
    }
    Ok(roots)
}

fn certificates(file: &Path) -> std::result::Result<Vec<CertificateDer<'static>>, String> {
    let bad = |error: rustls_pki_types::pem::Error| format!("{}: {error}", file.display());
    CertificateDer::pem_file_iter(file).map_err(bad)?.collect::<std::result::Result<_, _>>().map_err(bad)
}

fn unreachable(call: &Call, reason: String) -> ImageError {
    ImageError::Unreachable { method: call.method.to_string(), url: call.url.clone(), reason }
}

/// An error with its causes: the last one says what the operating system said.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_as_safe_as_they_began() {
        let table = [
            ("https://a/x", "https://b/y", Some("https://b/y")),
            ("https://a/x", "/y?z", Some("https://a/y?z")),
            ("https://a/x", "//b/y", Some("https://b/y")),
            ("https://a/x", "http://b/y", None),
            ("https://a/x", "http://127.0.0.1:1/y", Some("http://127.0.0.1:1/y")),
            ("http://localhost/x", "http://localhost:1/y", Some("http://localhost:1/y")),
            ("https://a/x", "y", None),
            ("https://a/x", "", None),
        ];
        for (from, location, to) in table {
            assert_eq!(redirect(from, location).ok().as_deref(), to, "{from} -> {location}");
        }
    }
}
