//! Calls to others: webhooks that a kubeconfig names, and documents of identity providers.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Limited};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use trireme_client::pool::{self, Pool, SystemResolver};
use trireme_client::{Context, tls_trusting};
use trireme_schema::{Value, json, yaml};

/// An answer is no longer than this.
const LONGEST: usize = 4 << 20;

/// A service elsewhere.
#[derive(Clone)]
pub struct Outbound {
    url: Uri,
    pool: Pool,
    authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outbound({})", self.url)
    }
}

/// Why a call came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// It was not answered in time.
    #[error("{0}: no answer within {1:?}")]
    TimedOut(Uri, Duration),
    /// It could not be made.
    #[error("{0}: {1}")]
    Failed(Uri, String),
    /// The answer is a refusal.
    #[error("{0}: answered {1}")]
    Status(Uri, u16),
    /// The answer is no JSON.
    #[error("{0}: the answer cannot be read: {1}")]
    Answer(Uri, String),
}

impl Outbound {
    /// A service at a URL, whose certificate is of these authorities (PEM).
    ///
    /// # Errors
    /// What is wrong with URL or authorities.
    pub fn new(url: &str, authorities: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|e| format!("{url}: {e}"))?;
        let host = uri.host().ok_or_else(|| format!("{url}: no host"))?;
        let loopback = host == "localhost"
            || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        match uri.scheme_str() {
            Some("https") => {}
            // Nothing leaves this machine.
            Some("http") if loopback => {}
            _ => return Err(format!("{url}: must begin with https://")),
        }
        let tls = tls_trusting(certificates(authorities)?).map_err(|e| e.to_string())?.with_no_client_auth();
        Ok(Self { url: uri, pool: pool(tls), authorization: None })
    }

    /// The service that a kubeconfig's current context names. Files in it are relative to the kubeconfig.
    ///
    /// # Errors
    /// What is wrong with it, with the file.
    pub fn of_kubeconfig(path: &Path) -> Result<Self, String> {
        let wrong = |why: String| format!("{}: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let config = yaml::parse(&text).map_err(|e| wrong(e.to_string()))?;
        Self::of_context(&config, path.parent().unwrap_or(Path::new("."))).map_err(wrong)
    }

    fn of_context(config: &Value, dir: &Path) -> Result<Self, String> {
        let context = Context::of(config, dir)?;
        let mut service = Self::new(&context.server, &context.authorities)?;
        if context.certificate.is_some() {
            service.pool = pool(context.tls()?);
        }
        if let Some(token) = context.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|e| format!("token: {e}"))?;
            value.set_sensitive(true);
            service.authorization = Some(value);
        }
        Ok(service)
    }

    /// The same authorities at another URL.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn at(&self, url: &str) -> Result<Self, String> {
        let other = Self::new(url, "")?;
        Ok(Self { url: other.url, ..self.clone() })
    }

    /// Sends an object and reads the one that answers.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn post(&self, body: Bytes, within: Duration) -> Result<Value, CallError> {
        self.call(Method::POST, body, within).await
    }

    /// Reads an object.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(&self, within: Duration) -> Result<Value, CallError> {
        self.call(Method::GET, Bytes::new(), within).await
    }

    async fn call(&self, method: Method, body: Bytes, within: Duration) -> Result<Value, CallError> {
        match tokio::time::timeout(within, self.exchange(method, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::TimedOut(self.url.clone(), within)),
        }
    }

    async fn exchange(&self, method: Method, body: Bytes) -> Result<Value, CallError> {
        let failed = |why: &dyn std::fmt::Display| CallError::Failed(self.url.clone(), why.to_string());
        let mut request = Request::builder()
            .method(method)
            .uri(self.url.clone())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(pool::whole(body))
            .map_err(|e| failed(&e))?;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, value.clone());
        }
        let response = self.pool.send(request).await.map_err(|e| failed(&e))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST).collect().await.map_err(|e| failed(&e))?.to_bytes();
        if !status.is_success() {
            return Err(CallError::Status(self.url.clone(), status.as_u16()));
        }
        json::parse(&body).map_err(|e| CallError::Answer(self.url.clone(), e.to_string()))
    }
}

fn pool(tls: rustls::ClientConfig) -> Pool {
    Pool::new(tls, None, Arc::new(SystemResolver))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| format!("certificates: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_kubeconfig_is_told() {
        let read = |text: &str| Outbound::of_context(&yaml::parse(text).unwrap(), Path::new(".")).map(drop);
        let whole = |server: &str| {
            format!(
                "current-context: a\ncontexts: [{{name: a, context: {{cluster: c}}}}]\nclusters: [{{name: c, cluster: {{server: '{server}'}}}}]"
            )
        };
        assert!(read(&whole("https://example.com/x")).is_ok());
        assert!(read(&whole("http://127.0.0.1:1/x")).is_ok());
        assert!(read(&whole("http://example.com/x")).unwrap_err().contains("https://"));
        assert!(read("contexts: []").unwrap_err().contains("contexts"));
    }
}
