//! The embedded pod network: a bridge, a veth pair per pod, host-local addresses.
//!
//! Pods get host addresses (/32, /128) and reach everything, their neighbours on the bridge too, through the node's IP
//! layer. So answers of a service's endpoint on the same bridge are translated back without `br_netfilter`, and there
//! is one place where policies can look at all traffic of a pod.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;

use super::NetworkConfig;
use super::attachment::{Attachment, PodAttach};
use super::host::{self, link_error, open_socket, require_link};
use super::host_ports;
use super::ipam::{Slots, gateway};
use super::records::Records;
use crate::error::{Context, Error, Result};
use crate::netlink::{ConntrackSocket, Idempotent, MacAddr, NewLink, Route};
use crate::netns;
use crate::nft::{Batch, NftSocket};
use crate::sysctl;

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
        host::validate(&config)?;
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
        netns::run(node.config.netns.clone(), move || host::status(&node.config)).await
    }

    pub(super) fn attachments(&self) -> Vec<Attachment> {
        self.node.state.lock().attached.clone()
    }

    pub(super) fn mtu(&self) -> u32 {
        self.node.mtu
    }

    pub(super) fn gateways(&self) -> Vec<IpAddr> {
        self.node.config.pod_cidrs.iter().map(gateway).collect()
    }
}

/// What the kernel takes as a link's name (and what is safe in a path below /proc/sys).
fn is_link_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=15).contains(&name.len()) && !matches!(name, "." | ".." | "lo") && name.bytes().all(plain)
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
        let mtu = host::prepare(&mut socket, &config)?;
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
        let nft = host::write_table(&config, &attached)?;
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
