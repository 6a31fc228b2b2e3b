//! The embedded pod network: a bridge, a veth pair per pod, host-local addresses.
//!
//! Pods get host addresses (/32, /128) and reach everything, their neighbours on the bridge too, through the node's IP
//! layer. So answers of a service's endpoint on the same bridge are translated back without `br_netfilter`, and there
//! is one place where policies can look at all traffic of a pod.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;

use super::NetworkConfig;
use super::attachment::{Attachment, PodAttach};
use super::host_ports;
use super::ipam::{Slots, gateway};
use super::records::Records;
use crate::InstanceId;
use crate::error::{Context, Error, Result};
use crate::netlink::{ConntrackSocket, Idempotent, MacAddr, NewLink, Route, RouteSocket};
use crate::netns;
use crate::nft::{Batch, NftSocket};
use crate::sysctl;

/// What VXLAN adds to a packet over IPv4 (IPv6 adds twenty bytes more, which the smaller default leaves room for).
const OVERLAY_OVERHEAD: u32 = 70;
const DEFAULT_MTU: u32 = 1500;
/// IPv6 demands it (RFC 8200, section 5).
const MINIMUM_MTU: u32 = 1280;

/// The embedded pod network of one node.
pub(super) struct Embedded {
    node: Arc<Node>,
}

struct Node {
    config: NetworkConfig,
    mtu: u32,
    records: Records,
    state: Mutex<State>,
}

struct State {
    slots: Slots,
    attached: Vec<Attachment>,
    nft: NftSocket,
}

// === impl Embedded ===

impl Embedded {
    pub(super) async fn open(config: NetworkConfig) -> Result<Self> {
        validate(&config)?;
        let node = netns::run(config.netns.clone(), move || Node::open(config)).await?;
        Ok(Self { node: Arc::new(node) })
    }

    pub(super) async fn attach(&self, pod: PodAttach) -> Result<Attachment> {
        let node = Arc::clone(&self.node);
        netns::run(node.config.netns.clone(), move || node.attach(pod)).await
    }

    pub(super) async fn detach(&self, sandbox: &str) -> Result<()> {
        let (node, sandbox) = (Arc::clone(&self.node), sandbox.to_owned());
        netns::run(node.config.netns.clone(), move || node.detach(&sandbox)).await
    }

    pub(super) async fn check(&self, sandbox: &str) -> Result<()> {
        let (node, sandbox) = (Arc::clone(&self.node), sandbox.to_owned());
        netns::run(node.config.netns.clone(), move || node.check(&sandbox)).await
    }

    pub(super) async fn status(&self) -> Result<()> {
        let node = Arc::clone(&self.node);
        netns::run(node.config.netns.clone(), move || {
            let name = node.config.instance.bridge();
            require_link(&mut open_socket()?, &name).map(|_| ())
        })
        .await
    }

    pub(super) fn attachments(&self) -> Vec<Attachment> {
        self.node.state.lock().attached.clone()
    }

    pub(super) fn gateways(&self) -> Vec<IpAddr> {
        self.node.config.pod_cidrs.iter().map(gateway).collect()
    }
}

fn validate(config: &NetworkConfig) -> Result<()> {
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

/// What the kernel takes as a link's name (and what is safe in a path below /proc/sys).
fn is_link_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=15).contains(&name.len()) && !matches!(name, "." | ".." | "lo") && name.bytes().all(plain)
}

fn open_socket() -> Result<RouteSocket> {
    RouteSocket::open().context(|| "open netlink socket".into())
}

fn require_link(socket: &mut RouteSocket, name: &str) -> Result<crate::netlink::Link> {
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

// === impl Node ===

impl Node {
    /// Runs in the node's namespace.
    fn open(config: NetworkConfig) -> Result<Self> {
        let records = Records::open(config.state_dir.join("attachments"))?;
        let attached: Vec<Attachment> = records.load()?;
        let mut slots = Slots::new(config.pod_cidrs.clone())
            .ok_or_else(|| Error::Config { field: "podCIDRs", reason: "no room for pods".into() })?;
        let mut socket = open_socket()?;
        refuse_overlap(&mut socket, &config)?;
        let mtu = match config.mtu {
            Some(mtu) => mtu,
            None => default_mtu(&mut socket)?,
        };
        for attachment in &attached {
            for ip in &attachment.ips {
                slots.slot_of(*ip).into_iter().for_each(|slot| slots.take(slot));
            }
        }
        // A link whose record was lost still has its address.
        let prefix = config.instance.veth_prefix();
        for link in socket.links().context(|| "list links".into())? {
            let slot = link.name.strip_prefix(&prefix).and_then(|slot| u32::from_str_radix(slot, 16).ok());
            slot.into_iter().for_each(|slot| slots.take(slot));
        }
        forward(&config)?;
        make_bridge(&mut socket, &config, mtu)?;
        let mut nft = NftSocket::open().context(|| "open nftables socket".into())?;
        let table = config.instance.network_table();
        let mut batch = Batch::new(&table);
        host_ports::create(&mut batch, &config, &attached);
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
        Ok(Self { config, mtu, records, state: Mutex::new(State { slots, attached, nft }) })
    }

    fn attach(&self, pod: PodAttach) -> Result<Attachment> {
        if !Attachment::is_plain(&pod.sandbox) {
            return Err(Error::Config { field: "sandbox", reason: format!("{:?} is no id", pod.sandbox) });
        }
        if !is_link_name(&pod.interface) {
            return Err(Error::Config { field: "interface", reason: format!("{:?} is no link name", pod.interface) });
        }
        self.detach(&pod.sandbox)?;
        let (slot, attachment) = self.reserve(pod)?;
        let made = self.make(slot, &attachment);
        if let Err(error) = made {
            if let Err(undo) = self.detach(&attachment.pod.sandbox) {
                tracing::warn!(sandbox = attachment.pod.sandbox, error = %undo, "half an attachment stays");
            }
            return Err(error);
        }
        Ok(attachment)
    }

    /// Takes addresses and writes them down before anything uses them.
    fn reserve(&self, pod: PodAttach) -> Result<(u32, Attachment)> {
        let (slot, attachment) = {
            let mut state = self.state.lock();
            for port in &pod.host_ports {
                let wants =
                    |held: &&Attachment| host_ports::conflict(held, port.protocol, port.host_port, port.host_ip);
                if let Some(holder) = state.attached.iter().find(wants) {
                    return Err(Error::HostPortTaken {
                        protocol: port.protocol,
                        port: port.host_port,
                        host_ip: port.host_ip.unwrap_or(IpAddr::from([0; 4])),
                        holder: holder.pod.sandbox.clone(),
                    });
                }
            }
            let slot = state.slots.allocate();
            let cidr = self.config.pod_cidrs.first().copied().unwrap_or_default();
            let slot = slot.ok_or(Error::Exhausted { cidr })?;
            let ips = state.slots.ips(slot);
            let attachment = Attachment {
                mac: ips.first().map(|ip| MacAddr::of_ip(*ip)),
                ips,
                gateways: self.config.pod_cidrs.iter().map(gateway).collect(),
                host_link: Some(self.config.instance.veth(slot)),
                pod,
            };
            state.attached.push(attachment.clone());
            (slot, attachment)
        };
        self.records.save(&attachment.pod.sandbox, &attachment).inspect_err(|_| self.forget(&attachment))?;
        Ok((slot, attachment))
    }

    fn forget(&self, attachment: &Attachment) {
        let mut state = self.state.lock();
        state.attached.retain(|held| held.pod.sandbox != attachment.pod.sandbox);
        let slots: Vec<u32> = attachment.ips.iter().filter_map(|ip| state.slots.slot_of(*ip)).collect();
        slots.into_iter().for_each(|slot| state.slots.release(slot));
    }

    /// Runs in the node's namespace.
    fn make(&self, slot: u32, attachment: &Attachment) -> Result<()> {
        let pod = &attachment.pod;
        let mut host = open_socket()?;
        let bridge = require_link(&mut host, &self.config.instance.bridge())?;
        let namespace = netns::open(&pod.netns)?;
        let name = self.config.instance.veth(slot);
        let mac = attachment.mac.unwrap_or(MacAddr([0x0a, 0x58, 0, 0, 0, 1]));
        host.delete_link(&name).context(|| format!("remove old link {name}"))?;
        let veth = NewLink::Veth {
            name: &name,
            mtu: self.mtu,
            peer_name: &pod.interface,
            peer_mac: mac,
            peer_netns: std::os::fd::AsFd::as_fd(&namespace),
        };
        host.create_link(&veth).map_err(link_error("veth", &name))?;
        let index = require_link(&mut host, &name)?.index;
        // Pods talk to the bridge, not to the port: the port needs no address of its own.
        sysctl::try_set(&format!("ipv6/conf/{name}/disable_ipv6"), "1");
        host.set_master(index, bridge.index).context(|| format!("put {name} on bridge {}", bridge.name))?;
        host.set_hairpin(index).context(|| format!("set hairpin of {name}"))?;
        host.set_up(index).context(|| format!("set {name} up"))?;

        netns::run_in(Some(&pod.netns), || configure_pod(attachment))?;
        for link in [&name, &bridge.name] {
            if !host.wait_operational(link).context(|| format!("wait for link {link}"))? {
                tracing::warn!(link, sandbox = pod.sandbox, "link is not operational yet; first packets may be lost");
            }
        }

        if !pod.host_ports.is_empty() {
            let mut batch = Batch::new(&self.config.instance.network_table());
            host_ports::add(&mut batch, &host_ports::elements(attachment));
            let mut state = self.state.lock();
            state.nft.commit(batch).context(|| format!("open host ports of sandbox {}", pod.sandbox))?;
        }
        Ok(())
    }

    fn detach(&self, sandbox: &str) -> Result<()> {
        let held = self.state.lock().attached.iter().find(|a| a.pod.sandbox == sandbox).cloned();
        let Some(attachment) = held else { return Ok(()) };
        if let Some(name) = &attachment.host_link {
            open_socket()?.delete_link(name).context(|| format!("remove link {name}"))?;
        }
        for ((ipv6, map), elements) in host_ports::elements(&attachment) {
            // One at a time: an element that an unfinished attach never added must not keep the others.
            for element in elements {
                let mut batch = Batch::new(&self.config.instance.network_table());
                host_ports::remove(&mut batch, &[((ipv6, map), vec![element])].into());
                let removed = self.state.lock().nft.commit(batch);
                removed.or_missing().context(|| format!("close host ports of sandbox {sandbox}"))?;
            }
        }
        forget_flows(&attachment);
        self.records.remove(sandbox)?;
        self.forget(&attachment);
        Ok(())
    }

    fn check(&self, sandbox: &str) -> Result<()> {
        let held = self.state.lock().attached.iter().find(|a| a.pod.sandbox == sandbox).cloned();
        let missing = |what: String| Error::System { action: what, source: std::io::ErrorKind::NotFound.into() };
        let attachment = held.ok_or_else(|| missing(format!("find attachment of sandbox {sandbox}")))?;
        if let Some(name) = &attachment.host_link {
            require_link(&mut open_socket()?, name)?;
        }
        let have = netns::run_in(Some(&attachment.pod.netns), || {
            let mut socket = open_socket()?;
            let link = require_link(&mut socket, &attachment.pod.interface)?;
            socket.addresses(link.index).context(|| "list addresses".into())
        })?;
        match attachment.ips.iter().find(|ip| !have.iter().any(|(have, _)| have == *ip)) {
            Some(ip) => Err(missing(format!("find address {ip} in sandbox {sandbox}"))),
            None => Ok(()),
        }
    }
}

/// UDP clients of a host port that keep their own port would go on to an address that is nobody's, or another pod's.
fn forget_flows(attachment: &Attachment) {
    if !attachment.pod.host_ports.iter().any(|port| port.protocol == crate::Protocol::Udp) {
        return;
    }
    let forget = || -> Result<(), crate::NetlinkError> {
        let mut conntrack = ConntrackSocket::open()?;
        let flows = conntrack.udp_flows()?;
        flows.iter().filter(|f| attachment.ips.contains(&f.answerer.ip())).try_for_each(|f| conntrack.delete(f))
    };
    if let Err(error) = forget() {
        tracing::warn!(sandbox = attachment.pod.sandbox, %error, "flows to host ports stay in connection tracking");
    }
}

/// Runs in the pod's namespace.
fn configure_pod(attachment: &Attachment) -> Result<()> {
    let interface = &attachment.pod.interface;
    netns::loopback_up()?;
    let has_v6 = attachment.ips.iter().any(IpAddr::is_ipv6);
    if has_v6 {
        sysctl::try_set(&format!("ipv6/conf/{interface}/disable_ipv6"), "0");
        sysctl::try_set(&format!("ipv6/conf/{interface}/accept_ra"), "0");
        sysctl::try_set(&format!("ipv6/conf/{interface}/accept_dad"), "0");
        sysctl::try_set(&format!("ipv6/conf/{interface}/accept_redirects"), "0");
    }
    // Neighbours are reached through the node: a redirect to the direct way would go around translation.
    sysctl::try_set("ipv4/conf/all/accept_redirects", "0");
    sysctl::try_set(&format!("ipv4/conf/{interface}/accept_redirects"), "0");
    let mut socket = open_socket()?;
    let link = require_link(&mut socket, interface)?.index;
    for ip in &attachment.ips {
        let prefix = if ip.is_ipv4() { 32 } else { 128 };
        socket.add_address(link, *ip, prefix).context(|| format!("add address {ip} to {interface}"))?;
    }
    socket.set_up(link).context(|| format!("set {interface} up"))?;
    for gateway in &attachment.gateways {
        let any = if gateway.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        let default = IpNet::new(any, 0).unwrap_or_default();
        let to_gateway =
            Route { destination: IpNet::from(*gateway), gateway: None, link, source: None, on_link: false };
        let to_all = Route { destination: default, gateway: Some(*gateway), link, source: None, on_link: false };
        for route in [to_gateway, to_all] {
            socket.set_route(&route).context(|| format!("add route to {} in the pod", route.destination))?;
        }
    }
    Ok(())
}

/// Two clusters, or a cluster and the machine's own network, must not share addresses.
fn refuse_overlap(socket: &mut RouteSocket, config: &NetworkConfig) -> Result<()> {
    let ours = [config.instance.bridge(), config.instance.vxlan()];
    for link in socket.links().context(|| "list links".into())? {
        if ours.contains(&link.name) {
            continue;
        }
        for (ip, _) in socket.addresses(link.index).context(|| "list addresses".into())? {
            let taken = config.pod_cidrs.iter().chain(&config.service_cidrs).find(|cidr| cidr.contains(&ip));
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
    // A node that got another pod CIDR must not go on answering for the old one.
    for (ip, prefix) in socket.addresses(bridge.index).context(|| format!("list addresses of {name}"))? {
        let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if !link_local && !config.pod_cidrs.iter().any(|c| gateway(c) == ip && c.prefix_len() == prefix) {
            let removed = socket.delete_address(bridge.index, ip, prefix);
            removed.context(|| format!("remove address {ip} from {name}"))?;
        }
    }
    for cidr in &config.pod_cidrs {
        let ip = gateway(cidr);
        let added = socket.add_address(bridge.index, ip, cidr.prefix_len());
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
