//! The distribution protocol, the reading half (OCI distribution-spec): manifests and blobs of one repository, from its
//! mirrors or its registry, with the credentials that they ask for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde::Deserialize;

use super::challenge::Challenge;
use super::credentials::Credentials;
use super::digest::Digest;
use super::error::{ImageError, Result};
use super::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, MAX_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use super::reference::Reference;
use super::registries::{Endpoint, is_loopback};
use super::wire::{Call, Wire};

/// The longest pause between two attempts, whatever a registry asks for.
const MAX_PAUSE: Duration = Duration::from_secs(20);
/// How much of an error's body is read.
const MAX_ERROR: u64 = 64 << 10;

/// One repository, for the time of a pull.
pub struct Session {
    wire: Arc<Wire>,
    reference: Reference,
    credentials: Option<Credentials>,
    endpoints: Vec<Endpoint>,
    // By endpoint: the header that it last accepted.
    accepted: Mutex<HashMap<String, HeaderValue>>,
}

/// A manifest or index as it came.
pub struct Fetched {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// What the registry calls it.
    pub media_type: Option<String>,
}

/// The beginning of a blob's answer.
pub struct BlobAnswer {
    /// Where the bytes to come begin within the blob.
    pub offset: u64,
    /// The bytes.
    pub body: Incoming,
    /// Where they come from, for messages.
    pub url: String,
}

// === impl Session ===

impl Session {
    /// Prepares to read one repository. `credentials` are for the registry itself, never for a mirror.
    pub fn new(wire: Arc<Wire>, reference: Reference, credentials: Option<Credentials>) -> Result<Self> {
        let endpoints = wire.registries().endpoints(&reference)?;
        Ok(Session { wire, reference, credentials, endpoints, accepted: Mutex::new(HashMap::new()) })
    }

    /// The wire.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Fetches what a tag or digest names, verified.
    pub async fn manifest(&self, name: &ManifestName) -> Result<Fetched> {
        let what = match name {
            ManifestName::Tag(tag) => format!("{}:{tag}", self.reference.name()),
            ManifestName::Digest(digest) => format!("{}@{digest}", self.reference.name()),
        };
        self.retrying(|endpoint| {
            let what = what.clone();
            async move {
                let path = format!("/v2/{}/manifests/{}", self.reference.repository(), name.text());
                let mut headers = HeaderMap::new();
                let accept = format!("{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_INDEX}, {DOCKER_MANIFEST}, */*;q=0.1");
                headers.insert(ACCEPT, header(&accept)?);
                let response = self.get(endpoint, &path, headers, &what).await?;
                let text = |name| response.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
                let media_type = text(CONTENT_TYPE).map(|t| t.split(';').next().unwrap_or(t).trim().to_owned());
                let said = text(http::HeaderName::from_static("docker-content-digest")).map(str::to_owned);
                let bytes = self.wire.read_all(&what, response.into_body(), MAX_MANIFEST).await?;
                let actual = Digest::of(&bytes);
                let expected = match name {
                    ManifestName::Digest(digest) => Some(*digest),
                    ManifestName::Tag(_) => said.and_then(|digest| digest.parse().ok()),
                };
                match expected.filter(|expected| *expected != actual) {
                    Some(expected) => Err(ImageError::DigestMismatch { kind: "manifest", expected, actual }),
                    None => Ok(Fetched { bytes, digest: actual, media_type }),
                }
            }
        })
        .await
    }

    /// Begins a blob at `offset`. The answer may begin earlier: not every server knows ranges.
    pub async fn blob(&self, digest: Digest, offset: u64) -> Result<BlobAnswer> {
        let what = format!("{}@{digest}", self.reference.name());
        self.retrying(|endpoint| {
            let what = what.clone();
            async move {
                let path = format!("/v2/{}/blobs/{digest}", self.reference.repository());
                let mut headers = HeaderMap::new();
                if offset > 0 {
                    headers.insert(RANGE, header(&format!("bytes={offset}-"))?);
                }
                let response = match self.get(endpoint, &path, headers, &what).await {
                    // Nothing is left of it: our part is as long as the blob, or longer.
                    Err(ImageError::Status { status: 416, .. }) => {
                        self.get(endpoint, &path, HeaderMap::new(), &what).await?
                    }
                    other => other?,
                };
                let offset = match response.status() {
                    StatusCode::PARTIAL_CONTENT => range_start(response.headers()).unwrap_or(offset),
                    _ => 0,
                };
                Ok(BlobAnswer { offset, body: response.into_body(), url: format!("{}{path}", endpoint.base) })
            }
        })
        .await
    }

    /// Asks the endpoints in turn, and all of them again later when the last one's failure may pass.
    async fn retrying<'a, T, F>(&'a self, ask: impl Fn(&'a Endpoint) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let limits = self.wire.limits();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut failure = ImageError::NotFound { what: self.reference.to_string() };
            for endpoint in &self.endpoints {
                match ask(endpoint).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => {
                        if endpoint.mirrors.is_some() {
                            tracing::info!(mirror = endpoint.base, %error, "mirror does not serve, trying the next");
                        }
                        failure = error;
                    }
                }
            }
            if !failure.is_transient() || attempt >= limits.attempts {
                return Err(failure);
            }
            let pause = pause_after(limits.pause, attempt, &failure);
            tracing::debug!(%failure, attempt, ?pause, "request to registry failed, trying again");
            tokio::time::sleep(pause).await;
        }
    }

    /// One GET, with the credentials that the endpoint asks for. Anything but success is an error.
    async fn get(&self, endpoint: &Endpoint, path: &str, headers: HeaderMap, what: &str) -> Result<Response<Incoming>> {
        let mut url = format!("{}{path}", endpoint.base);
        if let Some(registry) = &endpoint.mirrors {
            url = format!("{url}?ns={registry}");
        }
        let mut call = Call::get(url, headers);
        if let Some(value) = self.accepted.lock().get(&endpoint.base) {
            call.headers.insert(AUTHORIZATION, value.clone());
        }
        let mut response = self.wire.send(&endpoint.host, call.clone()).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // Either we came without, or the token grew old.
            let value = self.authorize(endpoint, &response).await?;
            call.headers.insert(AUTHORIZATION, value.clone());
            response = self.wire.send(&endpoint.host, call.clone()).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                self.accepted.lock().insert(endpoint.base.clone(), value);
            }
        }
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.failure(&call, response, what).await)
    }

    /// Turns an answer into the error that it is.
    async fn failure(&self, call: &Call, response: Response<Incoming>, what: &str) -> ImageError {
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|seconds| seconds.parse().ok())
            .map(Duration::from_secs);
        let body = self.wire.read_all(what, response.into_body(), MAX_ERROR).await.unwrap_or_default();
        let message = server_message(&body);
        let (method, url) = (call.method.to_string(), call.url.clone());
        match status {
            StatusCode::NOT_FOUND => ImageError::NotFound { what: what.to_owned() },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let reason = if message.is_empty() { status.to_string() } else { message };
                ImageError::Unauthorized { repository: self.reference.name(), reason }
            }
            StatusCode::TOO_MANY_REQUESTS => ImageError::TooManyRequests { method, url, message, retry_after },
            _ => ImageError::Status { method, url, status: status.as_u16(), message },
        }
    }

    fn credentials(&self, endpoint: &Endpoint) -> Option<&Credentials> {
        let own = self.credentials.as_ref().filter(|credentials| endpoint.mirrors.is_none() && !credentials.is_empty());
        own.or_else(|| self.wire.registries().credentials(&endpoint.host))
    }

    /// Meets a challenge: the `Authorization` header to send.
    async fn authorize(&self, endpoint: &Endpoint, response: &Response<Incoming>) -> Result<HeaderValue> {
        let denied =
            |reason: &str| ImageError::Unauthorized { repository: self.reference.name(), reason: reason.to_owned() };
        let challenge = response
            .headers()
            .get_all(http::header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(Challenge::parse)
            .ok_or_else(|| denied("the registry asks for credentials in no known way"))?;
        let credentials = self.credentials(endpoint);
        let value = match challenge {
            Challenge::Basic => {
                let (name, password) =
                    credentials.and_then(Credentials::basic).ok_or_else(|| denied("no basic auth credentials"))?;
                basic(&name, &password)
            }
            Challenge::Bearer { realm, service, scope } => {
                let token = match credentials.filter(|credentials| !credentials.registry_token.is_empty()) {
                    Some(credentials) => credentials.registry_token.clone(),
                    None => self.token(endpoint, &realm, service, scope, credentials).await?,
                };
                format!("Bearer {token}")
            }
        };
        let mut value = header(&value)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Fetches a token (distribution: "Token Authentication", and "OAuth2 Token Authentication" for refresh tokens).
    async fn token(
        &self,
        endpoint: &Endpoint,
        realm: &str,
        service: Option<String>,
        scope: Option<String>,
        credentials: Option<&Credentials>,
    ) -> Result<String> {
        let denied = |reason: String| ImageError::Unauthorized { repository: self.reference.name(), reason };
        let host = super::wire::authority(realm);
        if !realm.starts_with("https://") && !is_loopback(&host) && !endpoint.base.starts_with("http://") {
            return Err(denied(format!("token realm {realm:?} is not https")));
        }
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository()));
        let mut query = vec![("scope", scope)];
        query.extend(service.map(|service| ("service", service)));
        let mut headers = HeaderMap::new();
        let refresh = credentials.map(|c| c.identity_token.clone()).filter(|token| !token.is_empty());
        let call = match refresh {
            Some(refresh) => {
                query.extend([
                    ("grant_type", "refresh_token".to_owned()),
                    ("client_id", "trireme".to_owned()),
                    ("refresh_token", refresh),
                ]);
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
                Call { method: Method::POST, url: realm.to_owned(), headers, body: Bytes::from(form(&query)) }
            }
            None => {
                if let Some((name, password)) = credentials.and_then(Credentials::basic) {
                    headers.insert(AUTHORIZATION, header(&basic(&name, &password))?);
                }
                let separator = if realm.contains('?') { '&' } else { '?' };
                Call::get(format!("{realm}{separator}{}", form(&query)), headers)
            }
        };
        let response = self.wire.send(&host, call.clone()).await?;
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) {
            let body = self.wire.read_all(realm, response.into_body(), MAX_ERROR).await.unwrap_or_default();
            let message = server_message(&body);
            return Err(denied(format!("failed to fetch oauth token: {status} {message}").trim_end().to_owned()));
        }
        if !status.is_success() {
            return Err(self.failure(&call, response, realm).await);
        }
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            token: Option<String>,
            #[serde(default)]
            access_token: Option<String>,
        }
        let body = self.wire.read_all(realm, response.into_body(), 1 << 20).await?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|error| denied(format!("token of {realm}: {error}")))?;
        answer.token.or(answer.access_token).ok_or_else(|| denied(format!("{realm} gave no token")))
    }
}

/// How a manifest is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestName {
    /// By tag.
    Tag(String),
    /// By digest.
    Digest(Digest),
}

// === impl ManifestName ===

impl ManifestName {
    /// A digest counts more than a tag.
    pub fn of(reference: &Reference) -> Self {
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => ManifestName::Digest(digest),
            (None, tag) => ManifestName::Tag(tag.unwrap_or("latest").to_owned()),
        }
    }

    fn text(&self) -> String {
        match self {
            ManifestName::Tag(tag) => tag.clone(),
            ManifestName::Digest(digest) => digest.to_string(),
        }
    }
}

/// Doubling from `first`, at most [`MAX_PAUSE`], shortened at random by up to a half so that nodes do not march in step.
pub fn pause_after(first: Duration, attempt: u32, failure: &ImageError) -> Duration {
    let doubled = first.saturating_mul(1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX)).min(MAX_PAUSE);
    let jittered = doubled.mul_f64(rand::random_range(0.5..=1.0));
    match failure {
        ImageError::TooManyRequests { retry_after: Some(wish), .. } => jittered.max(*wish).min(MAX_PAUSE),
        _ => jittered,
    }
}

fn header(value: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(value)
        .map_err(|_| ImageError::Unsupported { what: "a credential or name with control characters".into() })
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// `bytes 10-19/20` begins at 10.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// `application/x-www-form-urlencoded`.
fn form(pairs: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte as char),
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

/// The messages of a registry's error document, or the start of whatever else it sent.
fn server_message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Errors>(body) {
        Ok(document) => {
            let texts: Vec<String> = document
                .errors
                .iter()
                .map(|one| match one.code.is_empty() {
                    true => one.message.clone(),
                    false => format!("{}: {}", one.code.to_lowercase(), one.message),
                })
                .collect();
            texts.join("; ")
        }
        Err(_) => String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(200).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_heed_the_registry() {
        let failure = ImageError::Cancelled;
        for (attempt, least, most) in [(1, 125, 250), (2, 250, 500), (3, 500, 1000), (40, 10_000, 20_000)] {
            let pause = pause_after(Duration::from_millis(250), attempt, &failure).as_millis();
            assert!((least..=most).contains(&pause), "{attempt}: {pause}");
        }
        let asked = ImageError::TooManyRequests {
            method: String::new(),
            url: String::new(),
            message: String::new(),
            retry_after: Some(Duration::from_secs(3)),
        };
        assert_eq!(pause_after(Duration::from_millis(1), 1, &asked), Duration::from_secs(3));
    }

    #[test]
    fn messages_of_registries_are_shown() {
        let body = br#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
        assert_eq!(server_message(body), "denied: requested access to the resource is denied");
        assert_eq!(server_message(b"<html>\n"), "<html>");
        assert_eq!(form(&[("scope", "repository:a/b:pull".into())]), "scope=repository%3Aa%2Fb%3Apull");
    }
}
