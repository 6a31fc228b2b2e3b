//! The service proxy: services become elements of nftables maps in one table of our own.

mod fragment;
mod health;
pub(crate) mod layout;
mod select;
mod services;
mod stale;
mod state;
mod sticky;

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;

pub use select::Place;
pub use state::{Endpoint, ProxyState, ServicePort, TrafficPolicy};

use crate::InstanceId;
use crate::error::{Context, Error, Result};
use crate::netlink::{ConntrackSocket, Idempotent};
use crate::netns;
use crate::nft::{Batch, NftSocket};
use health::HealthPorts;
use services::{Memory, Services};

/// How the service proxy is set up.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Whose services these are.
    pub instance: InstanceId,
    /// Addresses of pods: traffic from them is inside of the cluster.
    pub cluster_cidrs: Vec<IpNet>,
    /// Where the node is, for topology hints.
    pub place: Place,
    /// Network namespace of the node; `None` is the process's own.
    pub netns: Option<PathBuf>,
}

/// What one sync did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Elements that were added, removed or replaced.
    pub changed: usize,
    /// UDP flows that were forgotten.
    pub forgotten_flows: usize,
    /// The table was written anew.
    pub rebuilt: bool,
}

/// The service proxy of one node.
pub struct Proxy {
    config: ProxyConfig,
    rules: Arc<Mutex<Rules>>,
    health: tokio::sync::Mutex<HealthPorts>,
}

/// The kernel's side of the proxy.
struct Rules {
    nft: NftSocket,
    conntrack: Option<ConntrackSocket>,
    /// What the table holds; `None` when that is not known.
    programmed: Option<Services>,
}

// === impl Proxy ===

impl Proxy {
    /// Opens the proxy. The table is written at the first sync: until then one of an earlier process serves on.
    pub async fn open(config: ProxyConfig) -> Result<Self> {
        let (nft, conntrack) = netns::run(config.netns.clone(), || {
            let nft = NftSocket::open().context(|| "open nftables socket".into())?;
            let conntrack = ConntrackSocket::open()
                .inspect_err(|error| tracing::warn!(%error, "flows to removed UDP endpoints cannot be forgotten"));
            Ok((nft, conntrack.ok()))
        })
        .await?;
        let rules = Rules { nft, conntrack, programmed: None };
        Ok(Self { config, rules: Arc::new(Mutex::new(rules)), health: tokio::sync::Mutex::default() })
    }

    /// Makes the kernel do what `state` says: one commit, of the differences only.
    pub async fn sync(&self, state: ProxyState) -> Result<SyncReport> {
        let health = health::wanted(&state);
        let (rules, config) = (Arc::clone(&self.rules), self.config.clone());
        let work = move || rules.lock().sync(&config, &state);
        let report = tokio::task::spawn_blocking(work).await.map_err(|error| Error::System {
            action: "sync services".into(),
            source: std::io::Error::other(error),
        })??;
        self.health.lock().await.update(self.config.netns.clone(), health).await;
        Ok(report)
    }
}

impl Rules {
    fn sync(&mut self, config: &ProxyConfig, state: &ProxyState) -> Result<SyncReport> {
        let table = config.instance.proxy_table();
        let mut batch = Batch::new(&table);
        // Unknown until the commit has succeeded: after a failure the next sync writes everything.
        let before = self.programmed.take();
        let rebuilt = before.is_none();
        let mut services = before.unwrap_or_default();
        let changes = services.update(state, &config.place);
        for conflict in &changes.conflicts {
            tracing::warn!(conflict, "services share an address and port; the first one has it");
        }
        if rebuilt {
            layout::create(&mut batch, &config.cluster_cidrs);
            self.keep_clients(&table, &changes.after, &mut batch);
        }
        changes.write(&mut batch);
        self.nft.commit(batch).map_err(|source| match source.is_unsupported() {
            true => Error::Unsupported {
                feature: "nftables (nf_tables, nft_nat, nft_fib, nft_numgen, nft_masq, nft_reject)",
                hint: "the service proxy needs a kernel with these modules",
            },
            false => Error::Netlink { action: format!("commit services to nftables table {table}"), source },
        })?;
        self.programmed = Some(services);
        let forgotten_flows = self.forget_flows(&stale::changed(&changes.before.udp, &changes.after.udp));
        if !rebuilt {
            self.forget_clients(&table, &sticky::changed(&changes.before.sticky, &changes.after.sticky));
        }
        Ok(SyncReport { changed: changes.count(), forgotten_flows, rebuilt })
    }

    /// Takes the remembered clients of a table from before a restart over into the new one.
    fn keep_clients(&mut self, table: &str, wanted: &Memory, batch: &mut Batch) {
        for (node_port, ipv6) in [(false, false), (false, true), (true, false), (true, true)] {
            let map = layout::affinity_map(node_port, ipv6);
            // No such table is the usual case.
            let elements = self.nft.elements(table, &map).unwrap_or_default();
            let kept =
                elements.iter().filter(|e| e.life.is_some() && sticky::holds(&wanted.sticky, node_port, ipv6, e));
            batch.add_elements(&map, kept);
        }
    }

    /// Forgets clients that are remembered for endpoints which are gone.
    fn forget_clients(&mut self, table: &str, changed: &sticky::Changed) {
        for (node_port, ipv6) in changed.maps() {
            let map = layout::affinity_map(node_port, ipv6);
            let elements = match self.nft.elements(table, &map) {
                Ok(elements) => elements,
                Err(error) => {
                    tracing::warn!(%error, map, "remembered clients cannot be read");
                    continue;
                }
            };
            for element in elements.iter().filter(|element| changed.concerns(node_port, ipv6, element)) {
                let mut batch = Batch::new(table);
                batch.delete_elements(&map, std::iter::once(element));
                // One at a time: one that expired meanwhile must not keep the others.
                if let Err(error) = self.nft.commit(batch).or_missing() {
                    tracing::warn!(%error, map, "a client stays with an endpoint that is gone");
                }
            }
        }
    }

    fn forget_flows(&mut self, changed: &stale::Changed) -> usize {
        let Some(conntrack) = self.conntrack.as_mut().filter(|_| !changed.is_empty()) else { return 0 };
        let flows = match conntrack.udp_flows() {
            Ok(flows) => flows,
            Err(error) => {
                tracing::warn!(%error, "tracked flows cannot be read");
                return 0;
            }
        };
        let mut forgotten = 0;
        for flow in flows.iter().filter(|flow| changed.concerns(flow)) {
            match conntrack.delete(flow) {
                Ok(()) => forgotten += 1,
                Err(error) => tracing::warn!(%error, destination = %flow.destination, "stale flow stays"),
            }
        }
        forgotten
    }
}
