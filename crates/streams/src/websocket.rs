//! The channel protocols over WebSocket (RFC 6455).

use crate::session::{Outcome, Session};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

/// In the order in which we prefer them.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// How long the client may take to close after us.
const PARTING: Duration = Duration::from_secs(5);
/// Closes the channel that its one byte names (v5).
const CLOSE: u8 = 255;

/// Messages larger than this end the connection.
const LARGEST: usize = 1 << 20;
/// An idle connection is kept alive by pings this often.
const PING: Duration = Duration::from_secs(30);

/// A request that is no upgrade of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// In words.
    pub why: String,
}

/// A WebSocket that will be there when the answer has been sent.
pub struct Accepted {
    upgrade: OnUpgrade,
    v5: bool,
}

/// Answers the upgrade of a request.
///
/// # Errors
/// For requests that are no WebSocket upgrade or speak no protocol of ours.
pub fn accept<B>(request: &mut Request<B>) -> Result<(Response<()>, Accepted), Refusal> {
    let text = |name: header::HeaderName| {
        let all = request.headers().get_all(name).iter().filter_map(|v| v.to_str().ok());
        all.collect::<Vec<_>>().join(",")
    };
    let refuse = |why: &str| Refusal { status: StatusCode::BAD_REQUEST, why: why.to_owned() };
    if !text(header::UPGRADE).eq_ignore_ascii_case("websocket") {
        return Err(refuse("unable to upgrade: only WebSocket connections are served"));
    }
    let key = text(header::SEC_WEBSOCKET_KEY);
    if key.is_empty() || text(header::SEC_WEBSOCKET_VERSION) != "13" {
        return Err(refuse("unable to upgrade: malformed WebSocket handshake"));
    }
    let offered = text(header::SEC_WEBSOCKET_PROTOCOL);
    let offers: Vec<&str> = offered.split(',').map(str::trim).collect();
    let Some(protocol) = PROTOCOLS.into_iter().find(|p| offers.contains(p)) else {
        let why = format!("unable to upgrade: none of the protocols {offered:?} is supported");
        return Err(Refusal { status: StatusCode::FORBIDDEN, why });
    };
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    let proof = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, proof.map_err(|_| refuse("malformed key"))?);
    let upgrade = hyper::upgrade::on(request);
    Ok((response, Accepted { upgrade, v5: protocol == PROTOCOLS[0] }))
}

/// The status that ends a stream.
fn status(outcome: &Outcome) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.escape_default());
    match outcome {
        Outcome::Exit(0) => r#"{"metadata":{},"status":"Success"}"#.to_owned(),
        Outcome::Exit(code) => format!(
            r#"{{"metadata":{{}},"status":"Failure","message":"command terminated with non-zero exit code: exit status {code}","reason":"NonZeroExitCode","details":{{"causes":[{{"reason":"ExitCode","message":"{code}"}}]}}}}"#
        ),
        Outcome::Failed(why) => format!(
            r#"{{"metadata":{{}},"status":"Failure","message":{},"reason":"InternalError","code":500}}"#,
            quoted(why)
        ),
    }
}

async fn read_some(from: &mut Option<Box<dyn AsyncRead + Send + Unpin>>) -> Option<Vec<u8>> {
    let Some(reader) = from else { return std::future::pending().await };
    let mut buffer = vec![0; 16 << 10];
    match reader.read(&mut buffer).await {
        // A terminal whose program has gone gives an error in place of an end.
        Ok(0) | Err(_) => None,
        Ok(n) => {
            buffer.truncate(n);
            Some(buffer)
        }
    }
}

fn frame(channel: u8, bytes: &[u8]) -> Message {
    let mut out = Vec::with_capacity(bytes.len() + 1);
    out.push(channel);
    out.extend_from_slice(bytes);
    Message::Binary(Bytes::from(out))
}

/// Columns and rows of `{"Width":80,"Height":24}`.
fn size(bytes: &[u8]) -> Option<(u16, u16)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number = |name: &str| {
        let rest = text.split_once(&format!("\"{name}\""))?.1.trim_start().strip_prefix(':')?.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    };
    Some((number("Width")?, number("Height")?))
}

impl Accepted {
    /// Carries a session until its process ends or the client goes.
    pub async fn serve(self, mut session: Session) {
        let upgraded: Upgraded = match self.upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                tracing::debug!(%error, "an upgrade was not finished");
                return;
            }
        };
        let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        // Clients wait for the first message on each channel that they opened.
        for channel in [STDIN, STDOUT, STDERR, ERROR].into_iter().filter(|_| !self.v5) {
            if socket.send(frame(channel, b"")).await.is_err() {
                return;
            }
        }
        let mut outcome: Option<Outcome> = None;
        let mut pings = tokio::time::interval(PING);
        let mut client = true;
        loop {
            if session.stdout.is_none() && session.stderr.is_none() && outcome.is_some() {
                break;
            }
            let sent = tokio::select! {
                message = socket.next(), if client => match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        take(&mut session, &bytes).await;
                        Ok(())
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => {
                        client = false;
                        break;
                    }
                    Some(Ok(_)) => Ok(()),
                },
                bytes = read_some(&mut session.stdout) => match bytes {
                    Some(bytes) => socket.send(frame(STDOUT, &bytes)).await,
                    None => {
                        session.stdout = None;
                        Ok(())
                    }
                },
                bytes = read_some(&mut session.stderr) => match bytes {
                    Some(bytes) => socket.send(frame(STDERR, &bytes)).await,
                    None => {
                        session.stderr = None;
                        Ok(())
                    }
                },
                ended = &mut session.exit, if outcome.is_none() => {
                    outcome = Some(ended);
                    Ok(())
                }
                _ = pings.tick() => socket.send(Message::Ping(Bytes::new())).await,
            };
            if sent.is_err() {
                return;
            }
        }
        if let (true, Some(outcome)) = (client, outcome) {
            let _ = socket.send(frame(ERROR, status(&outcome).as_bytes())).await;
        }
        // Clients take any other code for a failure. They may have gone already.
        let _ = socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() })).await;
        // To close with words of the client unread would reset the connection, and what we said last would be lost. So
        // they are read, until he has closed as well.
        let _ = tokio::time::timeout(PARTING, async { while let Some(Ok(_)) = socket.next().await {} }).await;
    }
}

/// Takes a message of the client.
async fn take(session: &mut Session, bytes: &[u8]) {
    match bytes.split_first() {
        Some((&STDIN, bytes)) => {
            if let Some(stdin) = &mut session.stdin
                && (stdin.write_all(bytes).await.is_err() || stdin.flush().await.is_err())
            {
                session.stdin = None;
            }
        }
        Some((&RESIZE, bytes)) => {
            if let Some((columns, rows)) = size(bytes) {
                (session.resize)(columns, rows);
            }
        }
        Some((&CLOSE, [STDIN])) => session.stdin = None,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_nonsense_is_not() {
        assert_eq!(size(br#"{"Width":80,"Height":24}"#), Some((80, 24)));
        assert_eq!(size(br#"{"Width":80}"#), None);
        assert_eq!(size(b"\xff"), None);
    }

    #[test]
    fn only_websockets_of_our_protocols_are_accepted() {
        let request = |protocol: &str| {
            Request::builder()
                .header("upgrade", "websocket")
                .header("connection", "Upgrade")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-protocol", protocol)
                .body(())
                .unwrap()
        };
        let (response, accepted) =
            accept(&mut request("v4.channel.k8s.io, v5.channel.k8s.io")).map_err(|r| r.why).unwrap();
        assert_eq!(response.status(), 101);
        assert!(accepted.v5);
        // The example of RFC 6455, 1.3.
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accept(&mut request("chat")).err().map(|r| r.status.as_u16()), Some(403));
        assert_eq!(accept(&mut Request::new(())).err().map(|r| r.status.as_u16()), Some(400));
    }

    #[test]
    fn the_end_of_a_process_is_told_as_kubectl_reads_it() {
        assert!(status(&Outcome::Exit(0)).contains("Success"));
        assert!(status(&Outcome::Exit(3)).contains(r#"{"reason":"ExitCode","message":"3"}"#));
        assert!(status(&Outcome::Failed("a\"b".into())).contains(r#"a\"b"#));
    }
}
