//! The node's side of the pod network, whoever attaches the pods: the link that holds the node's address among them and
//! leads to services, forwarding, and the network's table.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::attachment::Attachment;
use super::host_ports;
use super::ipam::{Slots, gateway};
use super::{NetworkConfig, Provider};
use crate::InstanceId;
use crate::error::{Context, Error, Result};
use crate::netlink::{MacAddr, NewLink, Route, RouteSocket};
use crate::netns;
use crate::nft::{Batch, NftSocket};
use crate::sysctl;

/// What VXLAN adds to a packet over IPv4 (IPv6 adds twenty bytes more, which the smaller default leaves room for).
const OVERLAY_OVERHEAD: u32 = 70;
const DEFAULT_MTU: u32 = 1500;
/// IPv6 demands it (RFC 8200, section 5).
const MINIMUM_MTU: u32 = 1280;

/// Makes the link and lets packets pass. What pods' MTU is to be. Runs in the node's namespace.
pub(super) fn prepare(socket: &mut RouteSocket, config: &NetworkConfig) -> Result<u32> {
    refuse_overlap(socket, config)?;
    let mtu = match config.mtu {
        Some(mtu) => mtu,
        None => default_mtu(socket)?,
    };
    forward(config)?;
    make_bridge(socket, config, mtu)?;
    Ok(mtu)
}

/// Writes the network's table anew, with what the pods that are attached have in it.
pub(super) fn write_table(config: &NetworkConfig, attached: &[Attachment]) -> Result<NftSocket> {
    let mut nft = NftSocket::open().context(|| "open nftables socket".into())?;
    let table = config.instance.network_table();
    let mut batch = Batch::new(&table);
    host_ports::create(&mut batch, config, attached);
    nft.commit(batch).map_err(|source| match source.is_unsupported() {
        true => Error::Unsupported {
            feature: "nftables (nf_tables, nft_nat, nft_masq, nft_fib, nft_reject)",
            hint: "the pod network needs a kernel with these modules",
        },
        false => Error::Netlink { action: format!("write nftables table {table}"), source },
    })?;
    // An accept of ours does not undo a drop elsewhere: the operator has to know.
    for chain in nft.dropping_forward_chains().context(|| "list nftables chains".into())? {
        tracing::warn!(
            chain,
            "this firewall chain drops forwarded packets unless its rules accept them; pods need rules there for \
             link {}",
            config.instance.bridge()
        );
    }
    Ok(nft)
}

/// Whether the link is there. Runs in the node's namespace.
pub(super) fn status(config: &NetworkConfig) -> Result<()> {
    require_link(&mut open_socket()?, &config.instance.bridge()).map(|_| ())
}

pub(super) fn validate(config: &NetworkConfig) -> Result<()> {
    let bad = |field, reason: String| Err(Error::Config { field, reason });
    let families = |v6: bool| config.pod_cidrs.iter().filter(|c| c.addr().is_ipv6() == v6).count();
    if config.pod_cidrs.is_empty() || families(false) > 1 || families(true) > 1 {
        return bad("podCIDRs", format!("one per family is needed, not {:?}", config.pod_cidrs));
    }
    for cidr in &config.pod_cidrs {
        if cidr.trunc() != *cidr {
            return bad("podCIDRs", format!("{cidr} has bits set beyond its prefix"));
        }
        if Slots::new(vec![*cidr]).is_none() {
            return bad("podCIDRs", format!("{cidr} has no room for pods"));
        }
    }
    match config.mtu {
        Some(mtu) if !(576..=65535).contains(&mtu) => bad("mtu", format!("{mtu} is not between 576 and 65535")),
        _ => Ok(()),
    }
}

pub(super) fn open_socket() -> Result<RouteSocket> {
    RouteSocket::open().context(|| "open netlink socket".into())
}

pub(super) fn require_link(socket: &mut RouteSocket, name: &str) -> Result<crate::netlink::Link> {
    socket.link(name).context(|| format!("find link {name}"))?.ok_or_else(|| Error::System {
        action: format!("find link {name}"),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

/// Says which kernel feature is missing where that is why a link could not be made.
pub(crate) fn link_error(feature: &'static str, name: &str) -> impl FnOnce(crate::netlink::NetlinkError) -> Error {
    let action = format!("create {feature} link {name}");
    move |source| match source.is_unsupported() {
        true => Error::Unsupported { feature, hint: "load the kernel module of this name, or choose an external CNI" },
        false => Error::Netlink { action, source },
    }
}

/// Two clusters, or a cluster and the machine's own network, must not share addresses.
fn refuse_overlap(socket: &mut RouteSocket, config: &NetworkConfig) -> Result<()> {
    let ours = [config.instance.bridge(), config.instance.vxlan()];
    for link in socket.links().context(|| "list links".into())? {
        if ours.contains(&link.name) {
            continue;
        }
        // The links that a runtime makes for its pods hold the pods' gateway.
        let of_pods = match config.provider {
            Provider::Runtime if !InstanceId::is_bridge(&link.name) => &[][..],
            _ => &config.pod_cidrs[..],
        };
        for (ip, _) in socket.addresses(link.index).context(|| "list addresses".into())? {
            let taken = of_pods.iter().chain(&config.service_cidrs).find(|cidr| cidr.contains(&ip));
            if let Some(cidr) = taken {
                return Err(Error::Config {
                    field: "podCIDRs, serviceCIDRs",
                    reason: format!(
                        "{cidr} holds address {ip} of link {}: choose another --cluster-cidr or --service-cidr",
                        link.name
                    ),
                });
            }
        }
    }
    Ok(())
}

fn default_mtu(socket: &mut RouteSocket) -> Result<u32> {
    let routes = socket.routes().context(|| "list routes".into())?;
    let Some(route) = routes.iter().find(|route| route.destination.prefix_len() == 0) else {
        return Ok(DEFAULT_MTU - OVERLAY_OVERHEAD);
    };
    let links = socket.links().context(|| "list links".into())?;
    let under = links.iter().find(|link| link.index == route.link).map_or(DEFAULT_MTU, |link| link.mtu);
    Ok(under.saturating_sub(OVERLAY_OVERHEAD).clamp(MINIMUM_MTU, 65535 - OVERLAY_OVERHEAD))
}

/// Lets the node pass packets on.
fn forward(config: &NetworkConfig) -> Result<()> {
    sysctl::set("ipv4/ip_forward", "1")?;
    if config.pod_cidrs.iter().any(|cidr| cidr.addr().is_ipv6()) {
        sysctl::set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

fn make_bridge(socket: &mut RouteSocket, config: &NetworkConfig, mtu: u32) -> Result<()> {
    let name = config.instance.bridge();
    let found = socket.link(&name).context(|| format!("find link {name}"))?;
    if found.is_none() {
        let mac = config.pod_cidrs.first().map(|cidr| MacAddr::of_ip(gateway(cidr)));
        // A hardware address of its own: one taken from a port would change as pods come and go.
        let mac = mac.unwrap_or(MacAddr([0x0a, 0x58, 0, 0, 0, 1]));
        socket.create_link(&NewLink::Bridge { name: &name, mac, mtu }).map_err(link_error("bridge", &name))?;
    }
    let bridge = require_link(socket, &name)?;
    if bridge.mtu != mtu {
        socket.set_mtu(bridge.index, mtu).context(|| format!("set MTU of {name}"))?;
    }
    // Node ports on 127.0.0.1 lead to pods, and their answers come back by this link.
    sysctl::try_set(&format!("ipv4/conf/{name}/route_localnet"), "1");
    // Pods share a link with those that they reach through us: do not tell them.
    sysctl::try_set("ipv4/conf/all/send_redirects", "0");
    sysctl::try_set(&format!("ipv4/conf/{name}/send_redirects"), "0");
    sysctl::try_set(&format!("ipv6/conf/{name}/accept_dad"), "0");
    let address = |cidr: &IpNet| match config.provider {
        // The way to the pods is for their links to say.
        Provider::Runtime => (gateway(cidr), cidr.max_prefix_len()),
        _ => (gateway(cidr), cidr.prefix_len()),
    };
    // A node that got another pod CIDR must not go on answering for the old one.
    for (ip, prefix) in socket.addresses(bridge.index).context(|| format!("list addresses of {name}"))? {
        let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if !link_local && !config.pod_cidrs.iter().any(|cidr| address(cidr) == (ip, prefix)) {
            let removed = socket.delete_address(bridge.index, ip, prefix);
            removed.context(|| format!("remove address {ip} from {name}"))?;
        }
    }
    for cidr in &config.pod_cidrs {
        let (ip, prefix) = address(cidr);
        let added = socket.add_address(bridge.index, ip, prefix);
        added.context(|| format!("add address {ip} to {name}"))?;
    }
    socket.set_up(bridge.index).context(|| format!("set {name} up"))?;
    for cidr in &config.service_cidrs {
        let source = config.pod_cidrs.iter().find(|c| c.addr().is_ipv6() == cidr.addr().is_ipv6()).map(gateway);
        if source.is_none() {
            continue;
        }
        let route = Route { destination: cidr.trunc(), gateway: None, link: bridge.index, source, on_link: false };
        socket.set_route(&route).context(|| format!("route service CIDR {cidr} to {name}"))?;
    }
    Ok(())
}

/// Removes the links and the table of an instance, in the node's namespace.
pub(crate) fn teardown(instance: InstanceId, netns: Option<&Path>) -> Result<()> {
    netns::run_in(netns.map(PathBuf::from).as_deref(), || {
        let mut socket = open_socket()?;
        let (prefix, bridge, vxlan) = (instance.veth_prefix(), instance.bridge(), instance.vxlan());
        // Routes by host gateway are on the machine's own links; they are known by the bridge's address as source.
        if let Some(link) = socket.link(&bridge).context(|| format!("find link {bridge}"))? {
            let own = socket.addresses(link.index).context(|| format!("list addresses of {bridge}"))?;
            for route in socket.routes().context(|| "list routes".into())? {
                if route.gateway.is_some() && own.iter().any(|(ip, _)| route.source == Some(*ip)) {
                    let removed = socket.delete_route(&route);
                    removed.context(|| format!("remove route to {}", route.destination))?;
                }
            }
        }
        for link in socket.links().context(|| "list links".into())? {
            if link.name.starts_with(&prefix) || link.name == bridge || link.name == vxlan {
                socket.delete_link(&link.name).context(|| format!("remove link {}", link.name))?;
            }
        }
        let mut nft = NftSocket::open().context(|| "open nftables socket".into())?;
        for table in [instance.network_table(), instance.proxy_table()] {
            nft.delete_table(&table).context(|| format!("remove nftables table {table}"))?;
        }
        Ok(())
    })
}
