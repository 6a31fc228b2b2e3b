//! Packets between the pods of different nodes: VXLAN (RFC 7348), or plain routes where nodes share a link.

mod plan;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;

use crate::InstanceId;
use crate::cni::{gateway, link_error};
use crate::error::{Context, Error, Result};
use crate::netlink::{Link, MacAddr, NewLink, RouteSocket};
use crate::{netns, sysctl};
use plan::{Applied, Here, Step};

/// How nodes reach each other's pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverlayMode {
    /// Every packet in a tunnel.
    #[default]
    Vxlan,
    /// A route to the node where it is on the same link, else a tunnel.
    HostGateway,
}

/// How the overlay of a node is set up.
#[derive(Clone, Debug)]
pub struct OverlayConfig {
    /// Whose overlay this is.
    pub instance: InstanceId,
    /// Network namespace of the node; `None` is the process's own.
    pub netns: Option<PathBuf>,
    /// The node's address that the other nodes know.
    pub node_ip: IpAddr,
    /// The node's pod CIDRs.
    pub pod_cidrs: Vec<IpNet>,
    /// How nodes reach each other's pods.
    pub mode: OverlayMode,
    /// VXLAN network identifier, the same on all nodes of a cluster.
    pub vni: u32,
    /// UDP port of VXLAN, the same on all nodes of a cluster (8472 is Linux's own default).
    pub port: u16,
    /// MTU of the tunnel; that of the pods.
    pub mtu: u32,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Name, for messages.
    pub name: String,
    /// Its address.
    pub node_ip: IpAddr,
    /// Its pod CIDRs.
    pub pod_cidrs: Vec<IpNet>,
    /// Hardware address of its tunnel end; `None` is what [`vtep_mac`] makes of its pod CIDRs.
    pub vtep_mac: Option<MacAddr>,
}

/// Hardware address of a node's tunnel end: a function of its pod CIDRs, so that nodes need not tell each other.
pub fn vtep_mac(pod_cidrs: &[IpNet]) -> Option<MacAddr> {
    let MacAddr([_, _, rest @ ..]) = MacAddr::of_ip(gateway(pod_cidrs.first()?));
    let [a, b, c, d] = rest;
    // Another prefix than pods have: the bridge has the hardware address of the same gateway.
    Some(MacAddr([0x0a, 0x56, a, b, c, d]))
}

/// The overlay of one node.
pub struct Overlay {
    config: OverlayConfig,
    socket: Arc<Mutex<RouteSocket>>,
    link: u32,
}

// === impl Overlay ===

impl Overlay {
    /// Opens the overlay: makes the tunnel's link where it is missing.
    pub async fn open(config: OverlayConfig) -> Result<Self> {
        if config.vni == 0 || config.vni >= 1 << 24 {
            return Err(Error::Config { field: "vni", reason: format!("{} is not of 24 bits", config.vni) });
        }
        let own = config.clone();
        let (socket, link) = netns::run(config.netns.clone(), move || {
            let mut socket = RouteSocket::open().context(|| "open netlink socket".into())?;
            let link = make_tunnel(&mut socket, &own)?;
            Ok((socket, link))
        })
        .await?;
        Ok(Self { config, socket: Arc::new(Mutex::new(socket)), link })
    }

    /// Makes the node reach exactly these peers. How many entries changed.
    pub async fn sync(&self, peers: Vec<Peer>) -> Result<usize> {
        let (socket, config, link) = (Arc::clone(&self.socket), self.config.clone(), self.link);
        let work = move || sync(&mut socket.lock(), &config, link, &peers);
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::System { action: "sync overlay".into(), source: std::io::Error::other(error) })?
    }
}

fn make_tunnel(socket: &mut RouteSocket, config: &OverlayConfig) -> Result<u32> {
    let name = config.instance.vxlan();
    let mac = vtep_mac(&config.pod_cidrs)
        .ok_or_else(|| Error::Config { field: "podCIDRs", reason: "the node has none".into() })?;
    let wanted = (config.vni, config.port, Some(config.node_ip));
    let mut found = find(socket, &name)?;
    if found.as_ref().is_some_and(|link| link.vxlan != Some(wanted) || link.mac != Some(mac)) {
        tracing::info!(link = name, "tunnel has other settings; made anew");
        socket.delete_link(&name).context(|| format!("remove link {name}"))?;
        found = None;
    }
    if found.is_none() {
        let (vni, port, local, mtu) = (config.vni, config.port, config.node_ip, config.mtu);
        let link = NewLink::Vxlan { name: &name, mac, mtu, vni, port, local };
        match socket.create_link(&link) {
            Err(error) if error.exists() => {
                return Err(Error::Config {
                    field: "vni",
                    reason: format!("another VXLAN link of this machine has VNI {vni} on UDP port {port}"),
                });
            }
            other => other.map_err(link_error("vxlan", &name))?,
        }
    }
    let link = find(socket, &name)?.ok_or_else(|| Error::System {
        action: format!("find link {name}"),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    if link.mtu != config.mtu {
        socket.set_mtu(link.index, config.mtu).context(|| format!("set MTU of {name}"))?;
    }
    // Translated loopback traffic (node ports on 127.0.0.1) goes to other nodes' pods too.
    sysctl::try_set(&format!("ipv4/conf/{name}/route_localnet"), "1");
    sysctl::try_set(&format!("ipv6/conf/{name}/accept_dad"), "0");
    for cidr in &config.pod_cidrs {
        // What is masqueraded into the tunnel takes this address, which the peer answers through the tunnel.
        let ip = gateway(cidr);
        let added = socket.add_address(link.index, ip, cidr.max_prefix_len());
        added.context(|| format!("add address {ip} to {name}"))?;
    }
    socket.set_up(link.index).context(|| format!("set {name} up"))?;
    Ok(link.index)
}

fn find(socket: &mut RouteSocket, name: &str) -> Result<Option<Link>> {
    socket.link(name).context(|| format!("find link {name}"))
}

fn sync(socket: &mut RouteSocket, config: &OverlayConfig, link: u32, peers: &[Peer]) -> Result<usize> {
    let own: Vec<IpAddr> = config.pod_cidrs.iter().map(gateway).collect();
    let mut direct = Vec::new();
    for peer in peers {
        let path = match config.mode {
            OverlayMode::Vxlan => None,
            OverlayMode::HostGateway => {
                socket.path_to(peer.node_ip).context(|| format!("find path to node {}", peer.name))?
            }
        };
        direct.push(path.and_then(|(link, gateway)| gateway.is_none().then_some(link)));
    }
    let here = Here { tunnel: link, gateways: &own };
    let wanted = plan::plan(&here, peers, &direct);
    let is_ours = |route: &crate::netlink::Route| {
        route.gateway.is_some() && (route.link == link || route.source.is_some_and(|source| own.contains(&source)))
    };
    let applied = Applied {
        routes: socket.routes().context(|| "list routes".into())?.into_iter().filter(is_ours).collect(),
        neighbours: socket.neighbours(link, false).context(|| "list neighbours".into())?.into_iter().collect(),
        forwarding: socket.neighbours(link, true).context(|| "list forwarding entries".into())?.into_iter().collect(),
    };
    let steps = plan::steps(&applied, &wanted);
    for step in &steps {
        let done = match step {
            Step::SetForwarding(entry) => socket.set_forwarding(link, entry),
            Step::SetNeighbour(entry) => socket.set_neighbour(link, entry),
            Step::SetRoute(route) => socket.set_route(route),
            Step::DeleteRoute(route) => socket.delete_route(route),
            Step::DeleteNeighbour(entry) => socket.delete_neighbour(link, entry),
            Step::DeleteForwarding(entry) => socket.delete_forwarding(link, entry),
        };
        done.context(|| format!("overlay: {step:?}"))?;
    }
    Ok(steps.len())
}
