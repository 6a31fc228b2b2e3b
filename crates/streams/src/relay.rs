//! Passing on: what a server does that has the request of one and sends it to another.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Sends a request over a connection of its own; the answer may be an upgrade.
///
/// # Errors
/// When the other side does not answer in HTTP.
pub async fn exchange(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Response<Incoming>> {
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await?;
    tokio::spawn(driver.with_upgrades());
    sender.send_request(request).await
}

/// Joins two connections that have both left HTTP, in the background, until either side ends it.
pub fn join(client: OnUpgrade, server: OnUpgrade) {
    tokio::spawn(async move {
        let (Ok(client), Ok(server)) = tokio::join!(client, server) else { return };
        // What it ended with is theirs to tell each other.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
    });
}
