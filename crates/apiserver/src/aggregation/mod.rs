//! Aggregation: groups and versions that other servers have, as if they were this one's (KEP-263).
//!
//! An `APIService` ([`service`]) says where a group and version is. Those of what this server has itself are made and
//! kept by `register`; for each of the others there is a `remote`, and for each remote three tasks that live as long as
//! its APIService leads to the same place: `availability` says whether it is there, `versions` what resources it has,
//! `openapi` how its objects look. Requests about its objects and documents go by `proxy` to where `locate` says it is,
//! over `peer`. `authentication` tells such servers whom to believe.

mod authentication;
mod availability;
mod condition;
mod locate;
mod metrics;
mod openapi;
mod peer;
mod priority;
pub(crate) mod proxy;
mod register;
mod remote;
mod service;
mod versions;
mod write;

pub use locate::Routing;
pub(crate) use priority::Ties;
pub(crate) use remote::Remote;

use crate::catalogue::Shelf;
use crate::server::ApiServer;
use arc_swap::ArcSwap;
use openapi::V3;
use register::{Registrar, SERVICES};
use rustls::client::ResolvesClientCert;
use service::ApiService;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use trireme_schema::{GroupVersion, Value, json};
use trireme_store::Topic;

/// What the server is told of aggregation.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What is shown to aggregated servers: the certificate of a front proxy.
    pub client: Option<Arc<dyn ResolvesClientCert>>,
    /// How their services are reached.
    pub routing: Routing,
}

/// A write that was refused is made again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Which server has what.
#[derive(Default)]
pub(crate) struct Aggregation {
    table: ArcSwap<Table>,
    pub(crate) metrics: metrics::Metrics,
}

#[derive(Default)]
struct Table {
    services: BTreeMap<String, ApiService>,
    remotes: BTreeMap<String, Arc<Remote>>,
}

/// The server of a request that is not this one.
pub(crate) struct Elsewhere {
    pub remote: Arc<Remote>,
    /// Its APIService says that it is available.
    pub available: bool,
}

/// Makes the APIServices of what the server has, takes up the others, and follows them until the server stops.
pub(crate) async fn start(server: &Arc<ApiServer>) {
    let topics = [SERVICES, ("apiextensions.k8s.io", "customresourcedefinitions")]
        .map(|(group, plural)| server.store.topic(&crate::catalogue::topic(group, plural)));
    let seen = topics.each_ref().map(|t| t.snapshot().revision);
    let mut registrar = Registrar::default();
    let unfinished = !registrar.reconcile(server).await;
    server.aggregation.take_up(server);
    tokio::spawn(follow(Arc::downgrade(server), server.stopping.clone(), topics, seen, (registrar, unfinished)));
    authentication::start(server).await;
}

async fn follow(
    server: Weak<ApiServer>,
    stopping: CancellationToken,
    topics: [Arc<Topic>; 2],
    mut seen: [i64; 2],
    (mut registrar, mut unfinished): (Registrar, bool),
) {
    loop {
        // Events that are gone are as good as seen: the whole state is read each time.
        let open = |i: usize| {
            let (topic, from) = (topics.get(i)?, *seen.get(i)?);
            topic.watch("", from).or_else(|gone| topic.watch("", gone.oldest)).ok()
        };
        let (Some(mut services), Some(mut definitions)) = (open(0), open(1)) else { return };
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = services.next() => {}
            _ = definitions.next() => {}
            () = tokio::time::sleep(AGAIN), if unfinished => {}
        }
        let Some(server) = server.upgrade() else { return };
        seen = topics.each_ref().map(|t| t.snapshot().revision);
        server.aggregation.take_up(&server);
        unfinished = !registrar.reconcile(&server).await;
    }
}

impl Aggregation {
    /// Takes up the APIServices as they are: lets go of servers that are gone, and begins with those that are new.
    fn take_up(&self, server: &Arc<ApiServer>) {
        let old = self.table.load_full();
        let mut table = Table::default();
        for object in server.read_all(SERVICES.0, SERVICES.1, "") {
            let service = ApiService::read(&object);
            let name = service.name();
            self.metrics.is(&name, service.available);
            if let Some(backend) = &service.backend {
                let kept = old.remotes.get(&name).filter(|remote| remote.backend == *backend);
                let remote = match kept {
                    Some(remote) => {
                        refresh(remote, &object, old.services.get(&name), &service);
                        remote.clone()
                    }
                    None => begin(server, &service, backend.clone()),
                };
                table.remotes.insert(name.clone(), remote);
            }
            table.services.insert(name, service);
        }
        let gone =
            old.remotes.iter().filter(|(name, was)| table.remotes.get(*name).is_none_or(|is| !Arc::ptr_eq(is, was)));
        let mut documents = false;
        for (_, remote) in gone {
            remote.ended.cancel();
            documents |= remote.specs.load().v2.is_some();
        }
        self.metrics.keep(|name| table.services.contains_key(name));
        self.table.store(Arc::new(table));
        if documents {
            server.documents.forget(&std::collections::BTreeSet::new());
        }
    }

    /// The server of what a path is about, unless it is this one.
    pub fn elsewhere(&self, path: &str) -> Option<Elsewhere> {
        let table = self.table.load();
        if table.remotes.is_empty() {
            return None;
        }
        let name = service::of_path(path)?;
        let remote = table.remotes.get(&name)?.clone();
        Some(Elsewhere { remote, available: table.services.get(&name)?.available })
    }

    /// The server that has the v3 document of this name, unless it is this one.
    pub fn document_elsewhere(&self, name: &str) -> Option<Elsewhere> {
        self.elsewhere(&format!("/{name}"))
    }

    /// The server of a group and version, unless it is this one.
    pub fn of(&self, gv: &GroupVersion) -> Option<Arc<Remote>> {
        self.table.load().remotes.get(&service::name_of(&gv.group, &gv.version)).cloned()
    }

    /// Whether there is a group, or a version of it, that this or another server has.
    pub fn has_group(&self, group: &str) -> bool {
        self.table.load().remotes.values().any(|remote| remote.gv.group == group)
    }

    /// Groups with their versions, of all servers, in the order in which clients are told of them.
    pub fn groups(&self, shelf: &Shelf, ties: Ties) -> Vec<(String, Vec<String>)> {
        let table = self.table.load();
        let own = shelf.versions().map(|gv| (gv.group.as_str(), gv.version.as_str()));
        let others = table.remotes.values().map(|r| (r.gv.group.as_str(), r.gv.version.as_str()));
        priority::order(own.chain(others), &table.services, ties)
    }

    /// What v3 documents other servers have: name and URL.
    pub fn v3_index(&self) -> Vec<(String, String)> {
        let table = self.table.load();
        let url = |remote: &Arc<Remote>| {
            let name = openapi::v3_key(&remote.gv.group, &remote.gv.version);
            let url = match remote.specs.load().v3.as_ref()? {
                V3::There(url) => url.clone(),
                V3::Made(document) => format!("/openapi/v3/{name}?hash={}", document.hash()),
            };
            Some((name, url))
        };
        table.remotes.values().filter_map(url).collect()
    }

    /// Adds what other servers have to a v2 document, those first that come first.
    pub fn merge_v2(&self, shelf: &Shelf, document: &mut Value) {
        for (group, versions) in self.groups(shelf, Ties::Service) {
            for version in versions {
                let remote = self.of(&GroupVersion { group: group.clone(), version });
                let part = remote.and_then(|remote| remote.specs.load().v2.clone());
                if let Some(part) = part.and_then(|part| json::parse(&part.unpack()).ok()) {
                    openapi::merge(document, part);
                }
            }
        }
    }
}

/// Tells the tasks of a server that its APIService has changed.
fn refresh(remote: &Remote, object: &Value, old: Option<&ApiService>, new: &ApiService) {
    let otherwise = remote.said.lock().as_ref().is_some_and(|said| !said.is_said_of(object));
    if otherwise {
        remote.look.notify_one();
    }
    if old.is_none_or(|old| old.available != new.available) {
        remote.refresh.iter().for_each(tokio::sync::Notify::notify_one);
    }
}

/// A server that was not known, or not there.
fn begin(server: &Arc<ApiServer>, service: &ApiService, backend: service::Backend) -> Arc<Remote> {
    let options = &server.config.aggregation;
    let gv = GroupVersion { group: service.group.clone(), version: service.version.clone() };
    let remote = Arc::new(Remote::new(gv, backend, options.routing, options.client.clone()));
    let weak = || Arc::downgrade(server);
    tokio::spawn(availability::keep(weak(), remote.clone()));
    tokio::spawn(versions::keep(weak(), remote.clone()));
    tokio::spawn(openapi::keep(weak(), remote.clone(), server.stopping.clone()));
    remote
}
