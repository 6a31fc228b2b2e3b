//! Streams of an external container runtime: it serves them itself, at URLs that it gives (CRI `Exec`, `Attach`,
//! `PortForward`); the request is passed on there, and what comes of it passed back.

use super::{Body, text};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use std::time::Duration;
use tokio::net::TcpStream;
use trireme_streams::relay;

/// The runtime answers by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// A refusal's text is no longer than this.
const LONGEST: usize = 64 << 10;

/// What passing a request on came to: an answer, or why there is none.
type Relayed = Result<Response<Full<Bytes>>, String>;

/// Passes a request on to where the runtime said that it serves it.
pub(super) async fn to_runtime(request: Request<Incoming>, url: Result<String, tonic::Status>) -> Response<Body> {
    let relayed = match url {
        Ok(url) => upgrade(request, &url).await,
        Err(status) => Err(status.message().to_owned()),
    };
    match relayed {
        Ok(response) => response.map(BodyExt::boxed_unsync),
        Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, why),
    }
}

/// Passes an upgrade on to a URL of the runtime.
///
/// # Errors
/// When the runtime cannot be reached or does not answer.
async fn upgrade(request: Request<Incoming>, url: &str) -> Relayed {
    let relayed = tokio::time::timeout(PATIENCE, pass_on(request, url)).await;
    relayed.unwrap_or_else(|_| Err(format!("the container runtime did not answer at {url}")))
}

async fn pass_on(mut request: Request<Incoming>, url: &str) -> Relayed {
    let uri: Uri = url.parse().map_err(|e| format!("the container runtime gave {url:?}: {e}"))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("the container runtime gave {url:?}: only http on this machine is known"));
    };
    let failed = |e: &dyn std::fmt::Display| format!("cannot reach the container runtime at {authority}: {e}");
    let place = (authority.host(), authority.port_u16().unwrap_or(80));
    let socket = TcpStream::connect(place).await.map_err(|e| failed(&e))?;
    let mut outgoing = Request::new(Full::new(Bytes::new()));
    *outgoing.method_mut() = request.method().clone();
    *outgoing.uri_mut() = uri.path_and_query().map_or("/", |p| p.as_str()).parse().map_err(|e| failed(&e))?;
    *outgoing.headers_mut() = request.headers().clone();
    outgoing.headers_mut().remove(header::CONTENT_LENGTH);
    outgoing.headers_mut().remove(header::TRANSFER_ENCODING);
    let host = HeaderValue::from_str(authority.as_str()).map_err(|e| failed(&e))?;
    outgoing.headers_mut().insert(header::HOST, host);
    let mut answer = relay::exchange(socket, outgoing).await.map_err(|e| failed(&e))?;

    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = if status == StatusCode::SWITCHING_PROTOCOLS {
        relay::join(hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut answer));
        Bytes::new()
    } else {
        Limited::new(answer.into_body(), LONGEST).collect().await.map_err(|e| failed(&e))?.to_bytes()
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.headers_mut().remove(header::TRANSFER_ENCODING);
    Ok(response)
}
