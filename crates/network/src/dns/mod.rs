//! Cluster DNS: names of services and pods from plain records, everything else from the host's resolvers.
//!
//! Behaves as the Kubernetes DNS specification 1.1.0 and CoreDNS's `kubernetes` plugin do, since resolvers in
//! containers rely on it: a name that does not exist is NXDOMAIN, so that the search path goes on; one that exists
//! without records of the type is an empty answer, so that it stops.

mod cache;
mod forward;
mod lookup;
mod records;
mod resolv;
mod response;
mod server;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::task::JoinSet;

pub use records::{DnsEndpoint, DnsPort, DnsRecords, DnsService, DnsTarget};

use crate::error::{Error, Result};
use crate::netns;
use forward::Forwarder;
use lookup::Zone;
use server::Server;

/// How cluster DNS is set up.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// Where to listen, over UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Network namespace to listen in; `None` is the process's own.
    pub netns: Option<PathBuf>,
    /// The cluster's domain, such as `cluster.local`.
    pub domain: String,
    /// Addresses by which pods know this server: cluster IPs of the DNS service.
    pub cluster_ips: Vec<IpAddr>,
    /// Networks whose reverse names are ours: pod and service CIDRs.
    pub reverse: Vec<IpNet>,
    /// Whom to ask about other names.
    pub upstream: Upstream,
}

/// Whom to ask about names outside of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// The name servers in a file such as /etc/resolv.conf, which is read again when it changes.
    File(PathBuf),
    /// These name servers.
    Servers(Vec<SocketAddr>),
}

/// The running server. Dropping it stops it.
pub struct Dns {
    zone: Arc<ArcSwap<Zone>>,
    domain: String,
    reverse: Vec<IpNet>,
    cluster_ips: Vec<IpAddr>,
    addresses: Vec<SocketAddr>,
    _tasks: JoinSet<()>,
}

// === impl Dns ===

impl Dns {
    /// Starts to listen, with no records yet.
    pub async fn serve(config: DnsConfig) -> Result<Self> {
        let zone = Zone::new(&config.domain, &config.reverse, &config.cluster_ips, &DnsRecords::default())
            .map_err(|reason| Error::Config { field: "clusterDomain", reason })?;
        let zone = Arc::new(ArcSwap::from_pointee(zone));
        let listen = config.listen.clone();
        let sockets = netns::run(config.netns.clone(), move || server::bind(&listen)).await?;
        let addresses: Vec<SocketAddr> = sockets.iter().map(|(address, ..)| *address).collect();
        // Neither the listeners nor the service's address may be asked: the query would come back.
        let service = config.cluster_ips.iter().map(|ip| SocketAddr::new(*ip, 53));
        let own: Vec<SocketAddr> = addresses.iter().copied().chain(service).collect();
        let forwarder = Forwarder::new(config.upstream, own);
        let server = Arc::new(Server::new(Arc::clone(&zone), forwarder));
        let mut tasks = JoinSet::new();
        for (address, udp, tcp) in sockets {
            let failed = |source| Error::System { action: format!("listen for DNS on {address}"), source };
            let udp = Arc::new(tokio::net::UdpSocket::from_std(udp).map_err(failed)?);
            let tcp = tokio::net::TcpListener::from_std(tcp).map_err(failed)?;
            tasks.spawn(Arc::clone(&server).serve_udp(udp));
            tasks.spawn(Arc::clone(&server).serve_tcp(tcp));
        }
        let DnsConfig { domain, reverse, cluster_ips, .. } = config;
        Ok(Self { zone, domain, reverse, cluster_ips, addresses, _tasks: tasks })
    }

    /// Answers from these records from now on.
    pub fn update(&self, records: &DnsRecords) -> Result<()> {
        let zone = Zone::new(&self.domain, &self.reverse, &self.cluster_ips, records)
            .map_err(|reason| Error::Config { field: "clusterDomain", reason })?;
        self.zone.store(Arc::new(zone));
        Ok(())
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}
