//! From a request to a connection that speaks another protocol.

use crate::command::Wanted;
use crate::port_forward::Dial;
use crate::session::Session;
use crate::{channel, command, port_forward, spdy, tunnel};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Protocols of remote commands, in the order in which we prefer them. Over SPDY the two are the same.
const COMMANDS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const PORT_FORWARD: &str = "portforward.k8s.io";
/// SPDY's bytes in a WebSocket's messages.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const SPDY: &str = "SPDY/3.1";
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// A request that is no upgrade of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// In words.
    pub why: String,
}

/// A connection for a remote command, there when the answer has been sent.
pub struct Accepted {
    upgrade: OnUpgrade,
    carrier: Carrier,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Channels { v5: bool },
    Spdy,
}

/// A connection that forwards ports, there when the answer has been sent.
pub struct Forwarding {
    upgrade: OnUpgrade,
    tunnelled: bool,
}

fn refuse(status: StatusCode, why: impl Into<String>) -> Refusal {
    Refusal { status, why: why.into() }
}

fn text<B>(request: &Request<B>, name: impl header::AsHeaderName) -> String {
    let all = request.headers().get_all(name).iter().filter_map(|v| v.to_str().ok());
    all.collect::<Vec<_>>().join(",")
}

/// The first of ours that the client offers.
fn choose<'a>(offered: &str, ours: &[&'a str]) -> Result<&'a str, Refusal> {
    let offers: Vec<&str> = offered.split(',').map(str::trim).collect();
    let why = || format!("unable to upgrade: none of the protocols {offered:?} is supported");
    ours.iter().find(|p| offers.contains(p)).copied().ok_or_else(|| refuse(StatusCode::FORBIDDEN, why()))
}

fn switching(upgrade: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(upgrade));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response
}

fn websocket<B>(request: &Request<B>, protocol: &'static str) -> Result<Response<()>, Refusal> {
    let malformed = || refuse(StatusCode::BAD_REQUEST, "unable to upgrade: malformed WebSocket handshake");
    let key = text(request, header::SEC_WEBSOCKET_KEY);
    if key.is_empty() || text(request, header::SEC_WEBSOCKET_VERSION) != "13" {
        return Err(malformed());
    }
    let mut response = switching("websocket");
    let headers = response.headers_mut();
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    let proof = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| malformed())?;
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, proof);
    Ok(response)
}

fn spdy_answer(protocol: &'static str) -> Response<()> {
    let mut response = switching(SPDY);
    response.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    response
}

fn is<B>(request: &Request<B>, upgrade: &str) -> bool {
    text(request, header::UPGRADE).eq_ignore_ascii_case(upgrade)
}

const NO_UPGRADE: &str = "Upgrade request required";

/// Answers the upgrade of a request for a remote command.
///
/// # Errors
/// For requests that are no upgrade or speak no protocol of ours.
pub fn accept<B>(request: &mut Request<B>) -> Result<(Response<()>, Accepted), Refusal> {
    let (response, carrier) = if is(request, "websocket") {
        let protocol = choose(&text(request, header::SEC_WEBSOCKET_PROTOCOL), &COMMANDS)?;
        (websocket(request, protocol)?, Carrier::Channels { v5: protocol == COMMANDS[0] })
    } else if is(request, SPDY) {
        (spdy_answer(choose(&text(request, STREAM_PROTOCOL), &COMMANDS)?), Carrier::Spdy)
    } else {
        return Err(refuse(StatusCode::BAD_REQUEST, NO_UPGRADE));
    };
    Ok((response, Accepted { upgrade: hyper::upgrade::on(request), carrier }))
}

/// Answers the upgrade of a request that forwards ports.
///
/// # Errors
/// For requests that are no upgrade or speak no protocol of ours.
pub fn accept_forwarding<B>(request: &mut Request<B>) -> Result<(Response<()>, Forwarding), Refusal> {
    let (response, tunnelled) = if is(request, "websocket") {
        let protocol = choose(&text(request, header::SEC_WEBSOCKET_PROTOCOL), &[TUNNEL])?;
        (websocket(request, protocol)?, true)
    } else if is(request, SPDY) {
        (spdy_answer(choose(&text(request, STREAM_PROTOCOL), &[PORT_FORWARD])?), false)
    } else {
        return Err(refuse(StatusCode::BAD_REQUEST, NO_UPGRADE));
    };
    Ok((response, Forwarding { upgrade: hyper::upgrade::on(request), tunnelled }))
}

async fn upgraded(upgrade: OnUpgrade) -> Option<TokioIo<Upgraded>> {
    match upgrade.await {
        Ok(upgraded) => Some(TokioIo::new(upgraded)),
        Err(error) => {
            tracing::debug!(%error, "an upgrade was not finished");
            None
        }
    }
}

impl Accepted {
    /// Carries a session until its process ends or the client goes. `wanted` says which streams a SPDY client opens.
    pub async fn serve(self, wanted: Wanted, session: Session) {
        let Some(connection) = upgraded(self.upgrade).await else { return };
        match self.carrier {
            Carrier::Channels { v5 } => channel::carry(connection, v5, session).await,
            Carrier::Spdy => spdy::serve(connection, |streams| command::serve(streams, wanted, session)).await,
        }
    }
}

impl Forwarding {
    /// Carries connections until the client goes.
    pub async fn serve(self, dial: Dial) {
        let Some(connection) = upgraded(self.upgrade).await else { return };
        if self.tunnelled {
            tunnel::serve(connection, |inner| spdy::serve(inner, |streams| port_forward::serve(streams, dial))).await;
        } else {
            spdy::serve(connection, |streams| port_forward::serve(streams, dial)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn websocket(protocol: &str) -> Request<()> {
        Request::builder()
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", protocol)
            .body(())
            .unwrap()
    }

    fn spdy(protocol: &str) -> Request<()> {
        Request::builder().header("upgrade", "SPDY/3.1").header(STREAM_PROTOCOL, protocol).body(()).unwrap()
    }

    #[test]
    fn the_best_protocol_that_is_offered_is_taken() {
        let (response, accepted) =
            accept(&mut websocket("v4.channel.k8s.io, v5.channel.k8s.io")).map_err(|r| r.why).unwrap();
        assert_eq!((response.status().as_u16(), accepted.carrier), (101, Carrier::Channels { v5: true }));
        // The example of RFC 6455, 1.3.
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let (response, accepted) = accept(&mut spdy("v4.channel.k8s.io")).map_err(|r| r.why).unwrap();
        assert_eq!(
            (&response.headers()[STREAM_PROTOCOL], accepted.carrier),
            (&"v4.channel.k8s.io".parse().unwrap(), Carrier::Spdy)
        );
        assert!(accept_forwarding(&mut websocket(TUNNEL)).is_ok_and(|(_, f)| f.tunnelled));
        assert!(accept_forwarding(&mut spdy(PORT_FORWARD)).is_ok_and(|(_, f)| !f.tunnelled));
    }

    #[test]
    fn what_we_do_not_speak_is_refused() {
        assert_eq!(accept(&mut websocket("chat")).err().map(|r| r.status.as_u16()), Some(403));
        assert_eq!(accept(&mut spdy("v1")).err().map(|r| r.status.as_u16()), Some(403));
        assert_eq!(accept(&mut Request::new(())).err().map(|r| r.status.as_u16()), Some(400));
        assert_eq!(accept_forwarding(&mut Request::new(())).err().map(|r| r.status.as_u16()), Some(400));
    }
}
