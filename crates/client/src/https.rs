use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use http_body_util::{BodyExt, Limited};
use rand::Rng;

use crate::client::escape;
use crate::frames;
use crate::pool::{self, Pool, SystemResolver};
use crate::{Error, Request, Response, Selection, Transport, WatchStream};

/// The longest answer that is read into memory: a list of a large cluster.
const MOST: usize = 1 << 30;

/// Talks to an API server over the network. Clones share their connections.
#[derive(Clone)]
pub struct Https {
    shared: Arc<Shared>,
    /// Whom we ask to be taken for.
    impersonated: Arc<HeaderMap>,
}

/// Where the server is and who we are.
pub struct HttpsConfig {
    /// URL of the server, such as `https://10.0.0.1:6443`.
    pub server: String,
    /// TLS settings: which servers are trusted, and our client certificate if that is how we prove who we are.
    pub tls: rustls::ClientConfig,
    /// A bearer token.
    pub token: Option<String>,
}

struct Shared {
    pool: Pool,
    server: String,
    token: ArcSwapOption<String>,
}

impl Https {
    /// A transport; connections are made when they are needed.
    pub fn new(config: HttpsConfig) -> Self {
        let shared = Shared {
            pool: Pool::new(config.tls, None, Arc::new(SystemResolver)),
            server: config.server.trim_end_matches('/').to_owned(),
            token: ArcSwapOption::from_pointee(config.token),
        };
        Self { shared: Arc::new(shared), impersonated: Arc::default() }
    }

    /// The same server and connections, as another user: who we are must be allowed to be him.
    ///
    /// # Errors
    /// For a name that no header can hold.
    pub fn impersonating(&self, user: &str, groups: &[&str]) -> Result<Self, Error> {
        let value = |text: &str| HeaderValue::from_str(text).map_err(|e| bad(&e));
        let mut headers = HeaderMap::new();
        headers.insert("impersonate-user", value(user)?);
        for group in groups {
            headers.append("impersonate-group", value(group)?);
        }
        Ok(Self { shared: Arc::clone(&self.shared), impersonated: Arc::new(headers) })
    }

    /// Replaces the bearer token, for tokens that expire.
    pub fn set_token(&self, token: Option<String>) {
        self.shared.token.store(token.map(Arc::new));
    }
}

impl Shared {
    async fn begin(&self, mut request: Request) -> Result<http::Response<hyper::body::Incoming>, Error> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri: Uri = format!("{}{path}", self.server).parse().map_err(|e: http::uri::InvalidUri| bad(&e))?;
        *request.uri_mut() = uri;
        if let Some(token) = self.token.load().as_deref() {
            let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|e| bad(&e))?;
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let answer = self.pool.send(request.map(pool::whole)).await;
        answer.map_err(|error| Error::Unreachable(format!("{}: {error}", self.server)))
    }
}

fn bad(error: &dyn std::fmt::Display) -> Error {
    Error::Request(error.to_string())
}

async fn whole(body: hyper::body::Incoming) -> Result<Bytes, Error> {
    let collected = Limited::new(body, MOST).collect().await;
    collected.map(|body| body.to_bytes()).map_err(|error| Error::Unreachable(error.to_string()))
}

impl Transport for Https {
    fn send(&self, mut request: Request) -> BoxFuture<'static, Result<Response, Error>> {
        let shared = Arc::clone(&self.shared);
        request.headers_mut().extend((*self.impersonated).clone());
        Box::pin(async move {
            let (parts, body) = shared.begin(request).await?.into_parts();
            Ok(Response::from_parts(parts, whole(body).await?))
        })
    }

    fn watch(&self, selection: Selection, since: Option<String>) -> WatchStream {
        let (shared, impersonated) = (Arc::clone(&self.shared), Arc::clone(&self.impersonated));
        futures::stream::once(async move {
            let mut request = watch_request(&selection, since.as_deref())?;
            request.headers_mut().extend((*impersonated).clone());
            let answer = shared.begin(request).await?;
            if !answer.status().is_success() {
                let status = answer.status();
                return Err(Error::from_answer(status, &whole(answer.into_body()).await?));
            }
            Ok(frames::events(answer.into_body()))
        })
        .try_flatten()
        .boxed()
    }
}

fn watch_request(selection: &Selection, since: Option<&str>) -> Result<Request, Error> {
    // Watches end after 5 to 10 minutes, at random so that a server is not asked by everybody at once.
    let timeout = rand::rng().random_range(300..600);
    let mut uri = format!("{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={timeout}", selection.collection);
    match since {
        Some(since) => uri.push_str(&format!("&resourceVersion={}", escape(since))),
        None => uri.push_str("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"),
    }
    for (key, value) in [("labelSelector", &selection.labels), ("fieldSelector", &selection.fields)] {
        if let Some(value) = value {
            uri.push_str(&format!("&{key}={}", escape(value)));
        }
    }
    let accept = if selection.metadata_only {
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    } else {
        "application/json"
    };
    http::Request::builder()
        .method(Method::GET)
        .uri(uri)
        .header(header::ACCEPT, accept)
        .body(Bytes::new())
        .map_err(|error| bad(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_watch_asks_for_the_initial_events_and_a_later_one_goes_on() {
        let selection = Selection {
            collection: "/api/v1/pods".into(),
            fields: Some("spec.nodeName=a".into()),
            ..Selection::default()
        };
        let first = watch_request(&selection, None).unwrap().uri().to_string();
        assert!(
            first.contains("sendInitialEvents=true") && first.contains("fieldSelector=spec.nodeName%3Da"),
            "{first}"
        );
        let later = watch_request(&selection, Some("5")).unwrap().uri().to_string();
        assert!(later.contains("resourceVersion=5") && !later.contains("sendInitialEvents"), "{later}");
    }
}
