//! The listeners: UDP and TCP, each with its bounds.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::forward::Forwarder;
use super::lookup::{Found, Zone};
use super::response::{Refusal, Reply, accept, encode};
use crate::error::{Error, Result};

/// Questions over UDP that wait for an upstream server; further ones are dropped, and their clients ask again.
const WAITING: usize = 1000;
/// TCP connections; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 200;
/// A TCP client that says nothing this long is cut off (RFC 7766 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// Aliases followed in one answer.
const ALIASES: usize = 8;

/// The sockets of one address.
type Sockets = (SocketAddr, UdpSocket, TcpListener);

/// Opens the sockets of all addresses, in the calling thread's network namespace.
pub(super) fn bind(addresses: &[SocketAddr]) -> Result<Vec<Sockets>> {
    let open = |address: &SocketAddr| -> io::Result<Sockets> {
        let udp = UdpSocket::bind(address)?;
        // Port 0 is whichever is free; both protocols share it.
        let address = udp.local_addr()?;
        let tcp = TcpListener::bind(address)?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok((address, udp, tcp))
    };
    addresses
        .iter()
        .map(|address| {
            let failed = |source| Error::System { action: format!("listen for DNS on {address}"), source };
            open(address).map_err(failed)
        })
        .collect()
}

/// Answers questions.
pub(super) struct Server {
    zone: Arc<ArcSwap<Zone>>,
    forwarder: Forwarder,
}

/// What to do about a message.
enum Step {
    /// Nothing.
    Ignore,
    /// Send this.
    Answer(Vec<u8>),
    /// Ask upstream, then answer.
    Forward(Message),
}

// === impl Server ===

impl Server {
    pub(super) fn new(zone: Arc<ArcSwap<Zone>>, forwarder: Forwarder) -> Self {
        Self { zone, forwarder }
    }

    /// What can be said without waiting for anybody.
    fn step(&self, bytes: &[u8], udp: bool) -> Step {
        let message = match Message::from_vec(bytes) {
            Ok(message) => message,
            Err(_) => return malformed(bytes),
        };
        let send = |reply| encode(&message, reply, udp).map_or(Step::Ignore, Step::Answer);
        match accept(&message) {
            Ok(()) => {}
            Err(Refusal::Silence) => return Step::Ignore,
            Err(Refusal::Code(code)) => return send(Reply::code(code)),
        }
        let Some(query) = message.queries.first() else { return Step::Ignore };
        if let Some(reply) = self.local(query, wants_signatures(&message)) {
            return send(reply);
        }
        if self.forwarder.is_loop(message.metadata.id, query) {
            tracing::error!(name = %query.name(), "DNS questions come back: an upstream server forwards to cluster DNS");
            return send(Reply::code(ResponseCode::ServFail));
        }
        Step::Forward(message)
    }

    /// The reply to a question about the cluster's names, or one that is known already.
    fn local(&self, query: &Query, dnssec: bool) -> Option<Reply> {
        let zone = self.zone.load();
        let mut reply = Reply::code(ResponseCode::NoError);
        let mut name = query.name().clone();
        for _ in 0..ALIASES {
            match zone.lookup(&name, query.query_type()) {
                Found::Records(answers, additionals) => {
                    reply.authoritative = true;
                    reply.answers.extend(answers);
                    reply.additionals = additionals;
                    return Some(reply);
                }
                Found::Alias(record, target) => {
                    reply.answers.push(record);
                    name = target;
                }
                Found::Nothing(authority) => {
                    reply.authoritative = true;
                    reply.authorities = vec![authority];
                    return Some(reply);
                }
                Found::Missing(authority) => {
                    reply.authoritative = true;
                    reply.code = ResponseCode::NXDomain;
                    reply.authorities = vec![authority];
                    return Some(reply);
                }
                Found::Elsewhere => {
                    let known = self.forwarder.cached(&renamed(query, &name), dnssec)?;
                    return Some(joined(reply, known));
                }
            }
        }
        // A circle of aliases.
        Some(Reply::code(ResponseCode::ServFail))
    }

    /// The reply to a question that takes an upstream server, alone or behind an alias.
    async fn forward(&self, message: &Message) -> Reply {
        let Some(query) = message.queries.first() else { return Reply::code(ResponseCode::FormErr) };
        if !message.metadata.recursion_desired {
            // Who does not want recursion asks for what is known; and nothing is.
            return Reply::code(ResponseCode::Refused);
        }
        let zone = self.zone.load_full();
        let mut reply = Reply::code(ResponseCode::NoError);
        let mut name = query.name().clone();
        for _ in 0..ALIASES {
            match zone.lookup(&name, query.query_type()) {
                Found::Alias(record, target) => {
                    reply.answers.push(record);
                    name = target;
                }
                _ => break,
            }
        }
        let dnssec = wants_signatures(message);
        joined(reply, self.forwarder.resolve(&renamed(query, &name), dnssec).await)
    }

    /// Answers over UDP until the socket fails for good.
    pub(super) async fn serve_udp(self: Arc<Self>, socket: Arc<tokio::net::UdpSocket>) {
        let mut waiting = JoinSet::new();
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            let (read, client) = tokio::select! {
                Some(_) = waiting.join_next() => continue,
                received = socket.recv_from(&mut buffer) => match received {
                    Ok(received) => received,
                    // An ICMP error of an earlier answer shows here; it is the client's, not ours.
                    Err(error) if is_passing(&error) => continue,
                    Err(error) => {
                        tracing::error!(%error, "DNS over UDP stopped");
                        return;
                    }
                },
            };
            match self.step(buffer.get(..read).unwrap_or_default(), true) {
                Step::Ignore => {}
                Step::Answer(bytes) => send(&socket, &bytes, client).await,
                Step::Forward(_) if waiting.len() >= WAITING => {
                    tracing::warn!(%client, "DNS question dropped: too many wait for upstream servers");
                }
                Step::Forward(message) => {
                    let (server, socket) = (Arc::clone(&self), Arc::clone(&socket));
                    waiting.spawn(async move {
                        let reply = server.forward(&message).await;
                        if let Some(bytes) = encode(&message, reply, true) {
                            send(&socket, &bytes, client).await;
                        }
                    });
                }
            }
        }
    }

    /// Answers over TCP until the listener fails for good.
    pub(super) async fn serve_tcp(self: Arc<Self>, listener: tokio::net::TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        let server = Arc::clone(&self);
                        connections.spawn(async move { server.converse(stream).await });
                    }
                    Err(error) if is_passing(&error) => {}
                    Err(error) => {
                        tracing::error!(%error, "DNS over TCP stopped");
                        return;
                    }
                },
            }
        }
    }

    /// One connection: questions one after the other, until the client closes it or falls silent.
    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let question = timeout(IDLE, async {
                let mut question = vec![0; usize::from(stream.read_u16().await?)];
                stream.read_exact(&mut question).await?;
                io::Result::Ok(question)
            });
            let question = question.await??;
            let bytes = match self.step(&question, false) {
                Step::Ignore => return Ok(()),
                Step::Answer(bytes) => Some(bytes),
                Step::Forward(message) => encode(&message, self.forward(&message).await, false),
            };
            let Some(bytes) = bytes else { return Ok(()) };
            let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
            timeout(IDLE, stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat())).await??;
        }
    }
}

async fn send(socket: &tokio::net::UdpSocket, bytes: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, client).await {
        tracing::debug!(%client, %error, "DNS answer not sent");
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted};
    use io::ErrorKind::{NetworkUnreachable, WouldBlock};
    let kinds = [
        ConnectionAborted,
        ConnectionRefused,
        ConnectionReset,
        HostUnreachable,
        Interrupted,
        NetworkUnreachable,
        WouldBlock,
    ];
    // EMFILE and its kin pass when connections end.
    let full = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    kinds.contains(&error.kind()) || error.raw_os_error().is_some_and(|code| full.contains(&code))
}

fn wants_signatures(message: &Message) -> bool {
    message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok)
}

fn renamed(query: &Query, name: &hickory_proto::rr::Name) -> Query {
    let mut query = query.clone();
    query.set_name(name.clone());
    query
}

/// What an alias leads to, behind the alias.
fn joined(mut first: Reply, then: Reply) -> Reply {
    first.code = then.code;
    first.answers.extend(then.answers);
    first.authorities = then.authorities;
    first.additionals = then.additionals;
    first
}

/// What cannot be read is answered with "format error" where its header says that it is a question (RFC 1035 4.1.1).
fn malformed(bytes: &[u8]) -> Step {
    let Some([high, low, flags, ..]) = bytes.first_chunk::<12>() else { return Step::Ignore };
    if flags & 0x80 != 0 {
        return Step::Ignore;
    }
    let id = u16::from_be_bytes([*high, *low]);
    let message = Message::error_msg(id, OpCode::from_u8(flags >> 3 & 0x0f), ResponseCode::FormErr);
    message.to_vec().map_or(Step::Ignore, Step::Answer)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RecordType;
    use proptest::prelude::*;

    use super::*;
    use crate::dns::{DnsRecords, Upstream};

    fn server() -> Server {
        let zone = Zone::new("cluster.local", &[], &[], &DnsRecords::default()).unwrap();
        let forwarder = Forwarder::new(Upstream::Servers(Vec::new()), Vec::new());
        Server::new(Arc::new(ArcSwap::from_pointee(zone)), forwarder)
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), udp in any::<bool>()) {
            if let Step::Answer(answer) = server().step(&bytes, udp) {
                prop_assert_eq!(answer.get(..2), bytes.get(..2));
                prop_assert!(answer.get(2).is_some_and(|flags| flags & 0x80 != 0));
            }
        }

        #[test]
        fn a_spoilt_question_is_taken_without_panic(at in 0usize..40, value in any::<u8>()) {
            let mut message = Message::query();
            let name = hickory_proto::rr::Name::from_ascii("web.shop.svc.cluster.local.").unwrap();
            message.add_query(Query::query(name, RecordType::A));
            let mut bytes = message.to_vec().unwrap();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            server().step(&bytes, true);
        }
    }

    #[test]
    fn answers_are_never_answered() {
        let message = Message::response(7, OpCode::Query);
        assert!(matches!(server().step(&message.to_vec().unwrap(), true), Step::Ignore));
        assert!(matches!(server().step(&[0xff; 12], true), Step::Ignore));
    }
}
