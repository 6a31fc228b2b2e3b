//! Questions about names outside of the cluster, asked of the host's resolvers.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use parking_lot::Mutex;
use rand::Rng;
use rand::seq::SliceRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;

use super::cache::{Cache, Question};
use super::response::Reply;
use super::{Upstream, resolv};

/// One server's time to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Servers asked per question: resolvers in containers give up after five seconds.
const ATTEMPTS: usize = 2;
/// Questions under way at the same time.
const CONCURRENT: usize = 1000;
/// How often at most the file is looked at for a change.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A server that failed rests: this long at first, twice as long each further time.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(30);
const PAYLOAD: u16 = 1232;

#[derive(Clone, Debug)]
struct Resolver {
    address: SocketAddr,
    failures: u32,
    rests_until: Option<Instant>,
}

struct Resolvers {
    list: Vec<Resolver>,
    changed: Option<SystemTime>,
    looked: Option<Instant>,
}

/// Asks upstream servers.
pub(super) struct Forwarder {
    upstream: Upstream,
    own: Vec<SocketAddr>,
    resolvers: Mutex<Resolvers>,
    cache: Cache,
    permits: Semaphore,
    /// Questions that somebody asks already: others wait for the same answer.
    flights: Mutex<HashMap<Question, Weak<OnceCell<Reply>>>>,
    /// Ids and questions under way: one that arrives as a question has gone in a circle.
    under_way: Mutex<HashSet<(u16, Query)>>,
}

// === impl Forwarder ===

impl Forwarder {
    /// `own` addresses are never asked.
    pub(super) fn new(upstream: Upstream, own: Vec<SocketAddr>) -> Self {
        let resolvers = Mutex::new(Resolvers { list: Vec::new(), changed: None, looked: None });
        Self {
            upstream,
            own,
            resolvers,
            cache: Cache::default(),
            permits: Semaphore::new(CONCURRENT),
            flights: Mutex::default(),
            under_way: Mutex::default(),
        }
    }

    /// Whether this question is one of our own that came back.
    pub(super) fn is_loop(&self, id: u16, query: &Query) -> bool {
        self.under_way.lock().contains(&(id, query.clone()))
    }

    /// What is known already.
    pub(super) fn cached(&self, query: &Query, dnssec: bool) -> Option<Reply> {
        self.cache.get(&question(query, dnssec), Instant::now())
    }

    /// Asks for a name.
    pub(super) async fn resolve(&self, query: &Query, dnssec: bool) -> Reply {
        if let Some(reply) = self.cached(query, dnssec) {
            return reply;
        }
        let key = question(query, dnssec);
        let flight = {
            let mut flights = self.flights.lock();
            let joined = flights.get(&key).and_then(Weak::upgrade);
            joined.unwrap_or_else(|| {
                let flight = Arc::new(OnceCell::new());
                flights.insert(key.clone(), Arc::downgrade(&flight));
                flight
            })
        };
        let reply = flight.get_or_init(|| self.resolve_anew(query, dnssec)).await.clone();
        let mut flights = self.flights.lock();
        // Whoever asked again meanwhile has a flight of its own there.
        if flights.get(&key).is_some_and(|held| held.as_ptr() == Arc::as_ptr(&flight)) {
            flights.remove(&key);
        }
        reply
    }

    async fn resolve_anew(&self, query: &Query, dnssec: bool) -> Reply {
        let Ok(_permit) = self.permits.try_acquire() else {
            tracing::warn!(name = %query.name(), "too many DNS questions under way upstream");
            return Reply::code(ResponseCode::ServFail);
        };
        let servers = self.candidates();
        if servers.is_empty() {
            tracing::debug!(name = %query.name(), "no upstream DNS server to ask");
        }
        for server in servers.into_iter().take(ATTEMPTS) {
            match self.ask(server, query, dnssec).await {
                Ok(reply) => {
                    self.note(server, true);
                    self.cache.put(question(query, dnssec), &reply, Instant::now());
                    return reply;
                }
                Err(error) => {
                    tracing::debug!(%server, %error, name = %query.name(), "upstream DNS server failed");
                    self.note(server, false);
                }
            }
        }
        Reply::code(ResponseCode::ServFail)
    }

    /// Servers in the order in which to ask: those that rest come last.
    fn candidates(&self) -> Vec<SocketAddr> {
        let now = Instant::now();
        let mut resolvers = self.resolvers.lock();
        self.refresh(&mut resolvers, now);
        let (mut fit, mut resting): (Vec<_>, Vec<_>) =
            resolvers.list.iter().partition(|r| r.rests_until.is_none_or(|until| until <= now));
        fit.shuffle(&mut rand::rng());
        resting.sort_by_key(|r| r.rests_until);
        fit.into_iter().chain(resting).map(|r| r.address).collect()
    }

    fn refresh(&self, resolvers: &mut Resolvers, now: Instant) {
        let first = resolvers.looked.is_none();
        if resolvers.looked.is_some_and(|looked| now.saturating_duration_since(looked) < LOOK_AGAIN) {
            return;
        }
        resolvers.looked = Some(now);
        let servers = match &self.upstream {
            Upstream::Servers(_) if !first => return,
            Upstream::Servers(servers) => servers.clone(),
            Upstream::File(path) if !first && resolv::changed(path) == resolvers.changed => return,
            Upstream::File(path) => match resolv::read(path) {
                Ok((changed, servers)) => {
                    resolvers.changed = changed;
                    servers
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "host's resolvers cannot be read");
                    return;
                }
            },
        };
        let (own, others): (Vec<_>, Vec<_>) = servers.into_iter().partition(|server| self.own.contains(server));
        for server in own {
            tracing::warn!(%server, "the host's resolver is cluster DNS itself; it is not asked");
        }
        let known = |address: SocketAddr| resolvers.list.iter().find(|r| r.address == address).cloned();
        let list = others
            .into_iter()
            .map(|address| known(address).unwrap_or(Resolver { address, failures: 0, rests_until: None }));
        resolvers.list = list.collect();
    }

    fn note(&self, server: SocketAddr, answered: bool) {
        let mut resolvers = self.resolvers.lock();
        let Some(resolver) = resolvers.list.iter_mut().find(|r| r.address == server) else { return };
        if answered {
            (resolver.failures, resolver.rests_until) = (0, None);
            return;
        }
        let rest = FIRST_REST.saturating_mul(1 << resolver.failures.min(10)).min(LONGEST_REST);
        resolver.failures = resolver.failures.saturating_add(1);
        resolver.rests_until = Some(Instant::now() + rest);
    }

    async fn ask(&self, server: SocketAddr, query: &Query, dnssec: bool) -> io::Result<Reply> {
        let id: u16 = rand::rng().random();
        let mut message = Message::query();
        message.metadata.id = id;
        message.metadata.recursion_desired = true;
        message.add_query(query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD).set_dnssec_ok(dnssec);
        message.set_edns(edns);
        let bytes = message.to_vec().map_err(io::Error::other)?;
        let _mark = self.mark(id, query);
        let mut answer = timeout(PATIENCE, ask_udp(server, &bytes, id, query)).await??;
        if answer.metadata.truncation {
            answer = timeout(PATIENCE, ask_tcp(server, &bytes, id, query)).await??;
        }
        match answer.metadata.response_code {
            ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp => {
                Err(io::Error::other(format!("answered {}", answer.metadata.response_code)))
            }
            code => Ok(Reply {
                code,
                authoritative: false,
                answers: answer.answers,
                authorities: answer.authorities,
                additionals: answer.additionals,
            }),
        }
    }

    fn mark(&self, id: u16, query: &Query) -> Mark<'_> {
        let key = (id, query.clone());
        self.under_way.lock().insert(key.clone());
        Mark { forwarder: self, key }
    }
}

/// A question under way, also when its asking is given up.
struct Mark<'a> {
    forwarder: &'a Forwarder,
    key: (u16, Query),
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.forwarder.under_way.lock().remove(&self.key);
    }
}

fn question(query: &Query, dnssec: bool) -> Question {
    (query.name().to_lowercase(), query.query_type(), dnssec)
}

/// The answer in these bytes, if it is one to this question: anybody can send to our port.
fn matching(bytes: &[u8], id: u16, query: &Query) -> Option<Message> {
    let message = Message::from_vec(bytes).ok()?;
    let answers = message.metadata.message_type == hickory_proto::op::MessageType::Response;
    (answers && message.metadata.id == id && message.queries.first() == Some(query)).then_some(message)
}

async fn ask_udp(server: SocketAddr, bytes: &[u8], id: u16, query: &Query) -> io::Result<Message> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0u8; 16].into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let read = socket.recv(&mut buffer).await?;
        if let Some(message) = matching(buffer.get(..read).unwrap_or_default(), id, query) {
            return Ok(message);
        }
    }
}

async fn ask_tcp(server: SocketAddr, bytes: &[u8], id: u16, query: &Query) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    matching(&answer, id, query).ok_or_else(|| io::Error::other("an answer to another question"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(addresses: &[&str]) -> Upstream {
        Upstream::Servers(addresses.iter().map(|a| a.parse().unwrap()).collect())
    }

    #[test]
    fn our_own_address_is_never_asked() {
        let own = vec!["10.43.0.10:53".parse().unwrap()];
        let forwarder = Forwarder::new(servers(&["10.43.0.10:53", "192.0.2.1:53"]), own);
        assert_eq!(forwarder.candidates(), ["192.0.2.1:53".parse().unwrap()]);
    }

    #[test]
    fn a_server_that_failed_comes_last_until_it_answers() {
        let forwarder = Forwarder::new(servers(&["192.0.2.1:53", "192.0.2.2:53"]), Vec::new());
        let (bad, good) = ("192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap());
        forwarder.candidates();
        forwarder.note(bad, false);
        for _ in 0..20 {
            assert_eq!(forwarder.candidates(), [good, bad]);
        }
        forwarder.note(bad, true);
        assert!((0..100).any(|_| forwarder.candidates() == [bad, good]));
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let forwarder = Forwarder::new(Upstream::File(path.clone()), Vec::new());
        assert!(forwarder.candidates().is_empty());
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let later = Instant::now() + LOOK_AGAIN;
        forwarder.refresh(&mut forwarder.resolvers.lock(), later);
        assert_eq!(forwarder.candidates(), ["192.0.2.1:53".parse().unwrap()]);
    }
}
