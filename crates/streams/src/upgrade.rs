//! From a request to a connection that speaks another protocol.

use crate::command::Wanted;
use crate::port_forward::Dial;
use crate::protocol::{self, Protocol, choose};
use crate::session::Session;
use crate::{channel, command, port_channels, port_forward, spdy, tunnel};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

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
    Channels(Protocol),
    Spdy(Protocol),
}

/// A connection that forwards ports, there when the answer has been sent.
pub struct Forwarding {
    upgrade: OnUpgrade,
    way: Way,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Spdy,
    /// SPDY within a WebSocket.
    Tunnel,
    /// Channels of a WebSocket for these ports.
    Channels(Protocol, Vec<u16>),
}

fn refuse(status: StatusCode, why: impl Into<String>) -> Refusal {
    Refusal { status, why: why.into() }
}

fn text<B>(request: &Request<B>, name: impl header::AsHeaderName) -> String {
    let all = request.headers().get_all(name).iter().filter_map(|v| v.to_str().ok());
    all.collect::<Vec<_>>().join(",")
}

/// What the client offers; over WebSocket nothing is an offer too.
fn offers(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).collect()
}

/// The protocol for a WebSocket.
fn for_websocket<B>(request: &Request<B>, ours: &[Protocol]) -> Result<Protocol, Refusal> {
    let offered = text(request, header::SEC_WEBSOCKET_PROTOCOL);
    let why = || format!("unable to upgrade: none of the protocols {offered:?} is supported");
    choose(&offers(&offered), ours).ok_or_else(|| refuse(StatusCode::FORBIDDEN, why()))
}

/// The protocol for SPDY.
fn for_spdy<'a, B>(request: &Request<B>, ours: &[&'a str]) -> Result<&'a str, Refusal> {
    let offered = text(request, STREAM_PROTOCOL);
    if offered.is_empty() {
        return Err(refuse(StatusCode::BAD_REQUEST, "unable to upgrade: X-Stream-Protocol-Version is required"));
    }
    let offers = offers(&offered);
    let why = || {
        let (offers, ours) = (offers.join(" "), ours.join(" "));
        format!("unable to upgrade: unable to negotiate protocol: client supports [{offers}], server accepts [{ours}]")
    };
    let chosen = offers.iter().find_map(|offer| ours.iter().find(|own| *own == offer));
    chosen.copied().ok_or_else(|| refuse(StatusCode::FORBIDDEN, why()))
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
    if !protocol.is_empty() {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
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
        let protocol = for_websocket(request, &protocol::WEBSOCKET)?;
        (websocket(request, protocol.name)?, Carrier::Channels(protocol))
    } else if is(request, SPDY) {
        let name = for_spdy(request, &protocol::SPDY.map(|p| p.name))?;
        let protocol = choose(&[name], &protocol::SPDY).ok_or_else(|| refuse(StatusCode::FORBIDDEN, NO_UPGRADE))?;
        (spdy_answer(protocol.name), Carrier::Spdy(protocol))
    } else {
        return Err(refuse(StatusCode::BAD_REQUEST, NO_UPGRADE));
    };
    Ok((response, Accepted { upgrade: hyper::upgrade::on(request), carrier }))
}

/// Answers the upgrade of a request that forwards ports. `ports` are the parameters that name them, which only clients
/// need that have a channel for each.
///
/// # Errors
/// For requests that are no upgrade or speak no protocol of ours.
pub fn accept_forwarding<B>(request: &mut Request<B>, ports: &[String]) -> Result<(Response<()>, Forwarding), Refusal> {
    let (response, way) = if is(request, "websocket") {
        if offers(&text(request, header::SEC_WEBSOCKET_PROTOCOL)).contains(&TUNNEL) {
            (websocket(request, TUNNEL)?, Way::Tunnel)
        } else {
            let protocol = for_websocket(request, &protocol::PORT_CHANNELS)?;
            (websocket(request, protocol.name)?, Way::Channels(protocol, checked(ports)?))
        }
    } else if is(request, SPDY) {
        (spdy_answer(for_spdy(request, &[PORT_FORWARD])?), Way::Spdy)
    } else {
        return Err(refuse(StatusCode::BAD_REQUEST, NO_UPGRADE));
    };
    Ok((response, Forwarding { upgrade: hyper::upgrade::on(request), way }))
}

/// The ports of a request that has them in its query; a parameter may have several, with commas.
fn checked(parameters: &[String]) -> Result<Vec<u16>, Refusal> {
    let bad = |why: String| refuse(StatusCode::BAD_REQUEST, why);
    if parameters.is_empty() {
        return Err(bad("query parameter \"port\" is required".into()));
    }
    let mut ports = Vec::new();
    for parameter in parameters {
        if parameter.is_empty() {
            return Err(bad("query parameter \"port\" cannot be empty".into()));
        }
        for text in parameter.split(',') {
            match text.parse::<u16>() {
                Err(_) => return Err(bad(format!("unable to parse {parameter:?} as a port"))),
                Ok(0) => return Err(bad(format!("port {parameter:?} must be > 0"))),
                Ok(port) => ports.push(port),
            }
        }
    }
    // A channel is a byte, and each port has two.
    if ports.len() > 127 {
        return Err(bad(format!("{} ports are more than a connection has channels for", ports.len())));
    }
    Ok(ports)
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
            Carrier::Channels(protocol) => channel::carry(connection, protocol, wanted, session).await,
            Carrier::Spdy(protocol) => {
                spdy::serve(connection, |streams| command::serve(streams, protocol, wanted, session)).await;
            }
        }
    }
}

impl Forwarding {
    /// Carries connections until the client goes.
    pub async fn serve(self, dial: Dial) {
        let Some(connection) = upgraded(self.upgrade).await else { return };
        match self.way {
            Way::Spdy => spdy::serve(connection, |streams| port_forward::serve(streams, dial)).await,
            Way::Tunnel => {
                tunnel::serve(connection, |inner| spdy::serve(inner, |streams| port_forward::serve(streams, dial)))
                    .await;
            }
            Way::Channels(protocol, ports) => port_channels::serve(connection, protocol.codec, ports, dial).await,
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
    fn what_the_client_offers_first_is_taken() {
        let (response, accepted) =
            accept(&mut websocket("v5.channel.k8s.io, v4.channel.k8s.io")).map_err(|r| r.why).unwrap();
        assert_eq!(response.status().as_u16(), 101);
        assert!(matches!(accepted.carrier, Carrier::Channels(p) if p.name == "v5.channel.k8s.io"));
        // The example of RFC 6455, 1.3.
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let (response, _) = accept(&mut spdy("v2.channel.k8s.io, v4.channel.k8s.io")).map_err(|r| r.why).unwrap();
        assert_eq!(response.headers()[STREAM_PROTOCOL], "v2.channel.k8s.io");
        let ways = |request: &mut Request<()>| accept_forwarding(request, &["80,81".into()]).map(|(_, f)| f.way);
        assert_eq!(ways(&mut websocket(TUNNEL)).unwrap(), Way::Tunnel);
        assert_eq!(ways(&mut spdy(PORT_FORWARD)).unwrap(), Way::Spdy);
        assert!(matches!(ways(&mut websocket("v4.channel.k8s.io")), Ok(Way::Channels(_, ports)) if ports == [80, 81]));
    }

    #[test]
    fn a_websocket_without_a_protocol_speaks_the_first() {
        let mut request = websocket("");
        request.headers_mut().remove("sec-websocket-protocol");
        let (response, accepted) = accept(&mut request).map_err(|r| r.why).unwrap();
        assert!(!response.headers().contains_key("sec-websocket-protocol"));
        assert!(matches!(accepted.carrier, Carrier::Channels(p) if p.name.is_empty()));
    }

    #[test]
    fn what_we_do_not_speak_is_refused() {
        assert_eq!(accept(&mut websocket("chat")).err().map(|r| r.status.as_u16()), Some(403));
        let refusal = accept(&mut spdy("v1, v9")).err().unwrap();
        assert_eq!(
            (refusal.status.as_u16(), refusal.why.as_str()),
            (
                403,
                "unable to upgrade: unable to negotiate protocol: client supports [v1 v9], server accepts \
                 [v4.channel.k8s.io v3.channel.k8s.io v2.channel.k8s.io channel.k8s.io]"
            )
        );
        let mut silent = spdy("");
        silent.headers_mut().remove(STREAM_PROTOCOL);
        assert_eq!(accept(&mut silent).err().map(|r| r.status.as_u16()), Some(400));
        assert_eq!(accept(&mut Request::new(())).err().map(|r| r.status.as_u16()), Some(400));
        assert_eq!(accept_forwarding(&mut Request::new(()), &[]).err().map(|r| r.status.as_u16()), Some(400));
    }

    #[test]
    fn ports_in_the_query_are_checked() {
        let check = |parameters: &[&str]| {
            let parameters: Vec<String> = parameters.iter().map(|p| (*p).to_owned()).collect();
            checked(&parameters).map_err(|r| r.why)
        };
        assert_eq!(check(&["80", "81,82"]), Ok(vec![80, 81, 82]));
        for bad in [&[][..], &[""], &["0"], &["x"], &["70000"], &["80,"]] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert!(check(&["1"; 128]).is_err());
    }
}
