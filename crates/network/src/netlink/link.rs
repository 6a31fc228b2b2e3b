//! Links: bridges, veth pairs, VXLAN (`linux/if_link.h`).

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::RouteSocket;
use super::message::{Attributes, CREATE, EXCL, Message, octets};
use super::socket::{Idempotent, NetlinkError, Socket};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_BRPORT_MODE: u16 = 4;

const IFF_UP: u32 = 1;
const IF_OPER_UP: u8 = 6;
/// How long a link may take to become operational.
const UP_DEADLINE: Duration = Duration::from_secs(1);
const AF_UNSPEC: u8 = 0;
const AF_BRIDGE: u8 = libc::AF_BRIDGE as u8;
/// Length of `struct ifinfomsg`.
const IFINFO: usize = 16;

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

/// A link as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) mtu: u32,
    /// Packets pass: set up, with a carrier, and both known to whoever is above and below it.
    pub(crate) operational: bool,
    pub(crate) kind: Option<String>,
    /// VXLAN: the tunnel's identity, port and local end.
    pub(crate) vxlan: Option<(u32, u16, Option<IpAddr>)>,
}

/// A link to be made.
pub(crate) enum NewLink<'a> {
    Bridge {
        name: &'a str,
        mac: MacAddr,
        mtu: u32,
    },
    /// A veth pair whose second end is born in the namespace `peer_netns`.
    Veth {
        name: &'a str,
        mtu: u32,
        peer_name: &'a str,
        peer_mac: MacAddr,
        peer_netns: BorrowedFd<'a>,
    },
    Vxlan {
        name: &'a str,
        mac: MacAddr,
        mtu: u32,
        vni: u32,
        port: u16,
        local: IpAddr,
    },
}

// === impl MacAddr ===

impl MacAddr {
    /// A locally administered address that is a function of an IP address, so that everybody who knows the IP address
    /// knows the hardware address too.
    pub fn of_ip(ip: IpAddr) -> Self {
        let bytes = octets(ip);
        let mut mac = [0x0a, 0x58, 0, 0, 0, 0];
        for (index, byte) in bytes.iter().enumerate() {
            if let Some(slot) = mac.get_mut(2 + index % 4) {
                *slot ^= byte;
            }
        }
        Self(mac)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for MacAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes: Option<Vec<u8>> =
            text.split(':').map(|part| u8::from_str_radix(part, 16).ok().filter(|_| is_two_digits(part))).collect();
        match bytes.as_deref() {
            Some([a, b, c, d, e, g]) => Ok(Self([*a, *b, *c, *d, *e, *g])),
            _ => Err(format!("{text:?} is not a hardware address")),
        }
    }
}

fn is_two_digits(part: &str) -> bool {
    part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit())
}

impl TryFrom<String> for MacAddr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

// === impl RouteSocket (links) ===

fn ifinfo(family: u8, index: u32, flags: u32, change: u32) -> [u8; IFINFO] {
    let mut bytes = [0; IFINFO];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

fn parse(body: &[u8]) -> Option<Link> {
    let index = body.get(4..8)?.first_chunk().map(|b| u32::from_ne_bytes(*b))?;
    let attributes = Attributes(body.get(IFINFO..)?);
    let info = attributes.nested(IFLA_LINKINFO);
    let kind = info.text(IFLA_INFO_KIND);
    let vxlan = (kind.as_deref() == Some("vxlan")).then(|| info.nested(IFLA_INFO_DATA)).and_then(|data| {
        let port = data.find(IFLA_VXLAN_PORT)?.first_chunk().map(|b| u16::from_be_bytes(*b))?;
        let local = data.find(IFLA_VXLAN_LOCAL).or_else(|| data.find(IFLA_VXLAN_LOCAL6));
        Some((data.u32(IFLA_VXLAN_ID)?, port, local.and_then(super::message::ip_of)))
    });
    Some(Link {
        index,
        name: attributes.text(IFLA_IFNAME)?,
        mac: attributes.find(IFLA_ADDRESS).and_then(|b| <[u8; 6]>::try_from(b).ok()).map(MacAddr),
        mtu: attributes.u32(IFLA_MTU).unwrap_or(0),
        operational: attributes.find(IFLA_OPERSTATE) == Some(&[IF_OPER_UP]),
        kind,
        vxlan,
    })
}

impl RouteSocket {
    /// Makes a link.
    pub(crate) fn create_link(&mut self, link: &NewLink<'_>) -> Result<(), NetlinkError> {
        let mut message = Message::new(RTM_NEWLINK, CREATE | EXCL, &ifinfo(AF_UNSPEC, 0, 0, 0));
        match link {
            NewLink::Bridge { name, mac, mtu } => {
                message.put_str(IFLA_IFNAME, name).put(IFLA_ADDRESS, &mac.0).put_u32(IFLA_MTU, *mtu);
                message.nest(IFLA_LINKINFO, |m| {
                    m.put_str(IFLA_INFO_KIND, "bridge");
                });
            }
            NewLink::Veth { name, mtu, peer_name, peer_mac, peer_netns } => {
                message.put_str(IFLA_IFNAME, name).put_u32(IFLA_MTU, *mtu);
                message.nest(IFLA_LINKINFO, |m| {
                    m.put_str(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| {
                        m.nest(VETH_INFO_PEER, |m| {
                            m.raw(&ifinfo(AF_UNSPEC, 0, 0, 0))
                                .put_str(IFLA_IFNAME, peer_name)
                                .put(IFLA_ADDRESS, &peer_mac.0)
                                .put_u32(IFLA_MTU, *mtu)
                                .put_u32(IFLA_NET_NS_FD, peer_netns.as_raw_fd() as u32);
                        });
                    });
                });
            }
            NewLink::Vxlan { name, mac, mtu, vni, port, local } => {
                message.put_str(IFLA_IFNAME, name).put(IFLA_ADDRESS, &mac.0).put_u32(IFLA_MTU, *mtu);
                message.nest(IFLA_LINKINFO, |m| {
                    m.put_str(IFLA_INFO_KIND, "vxlan").nest(IFLA_INFO_DATA, |m| {
                        let local_kind = if local.is_ipv4() { IFLA_VXLAN_LOCAL } else { IFLA_VXLAN_LOCAL6 };
                        m.put_u32(IFLA_VXLAN_ID, *vni)
                            .put(local_kind, &octets(*local))
                            .put(IFLA_VXLAN_LEARNING, &[0])
                            .put(IFLA_VXLAN_PORT, &port.to_be_bytes());
                    });
                });
            }
        }
        self.socket.request(message)
    }

    /// The link of this name, if there is one.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut message = Message::new(RTM_GETLINK, 0, &ifinfo(AF_UNSPEC, 0, 0, 0));
        message.put_str(IFLA_IFNAME, name);
        match self.socket.get(message) {
            Ok(body) => Ok(Some(parse(&body).ok_or(NetlinkError::Truncated)?)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All links.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let mut links = Vec::new();
        let message = Message::new(RTM_GETLINK, 0, &ifinfo(AF_UNSPEC, 0, 0, 0));
        self.socket.dump(message, |_, body| links.extend(parse(body)))?;
        Ok(links)
    }

    /// Sets a link up.
    pub(crate) fn set_up(&mut self, index: u32) -> Result<(), NetlinkError> {
        self.socket.request(Message::new(RTM_NEWLINK, 0, &ifinfo(AF_UNSPEC, index, IFF_UP, IFF_UP)))
    }

    /// Waits until packets pass a link: the kernel tells a bridge of a new port's carrier later, and by then a pod's
    /// first packets would be lost. Whether they pass within a second.
    pub(crate) fn wait_operational(&mut self, name: &str) -> Result<bool, NetlinkError> {
        let begin = Instant::now();
        // Open before the first look, so that no change falls between the two.
        let mut events = Socket::open_link_events(UP_DEADLINE)?;
        loop {
            match self.link(name)? {
                Some(link) if link.operational => return Ok(true),
                Some(_) if begin.elapsed() < UP_DEADLINE => {}
                _ => return Ok(false),
            }
            if !events.wait_for_event()? {
                return Ok(false);
            }
        }
    }

    /// Makes a link a port of a bridge.
    pub(crate) fn set_master(&mut self, index: u32, master: u32) -> Result<(), NetlinkError> {
        let mut message = Message::new(RTM_SETLINK, 0, &ifinfo(AF_UNSPEC, index, 0, 0));
        message.put_u32(IFLA_MASTER, master);
        self.socket.request(message)
    }

    /// Sets a link's MTU.
    pub(crate) fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        let mut message = Message::new(RTM_SETLINK, 0, &ifinfo(AF_UNSPEC, index, 0, 0));
        message.put_u32(IFLA_MTU, mtu);
        self.socket.request(message)
    }

    /// Lets a bridge send a frame back out of the port that it came in by.
    pub(crate) fn set_hairpin(&mut self, index: u32) -> Result<(), NetlinkError> {
        let mut message = Message::new(RTM_SETLINK, 0, &ifinfo(AF_BRIDGE, index, 0, 0));
        message.nest(IFLA_PROTINFO, |m| {
            m.put(IFLA_BRPORT_MODE, &[1]);
        });
        self.socket.request(message)
    }

    /// Removes a link; one that is gone already is fine.
    pub(crate) fn delete_link(&mut self, name: &str) -> Result<(), NetlinkError> {
        let mut message = Message::new(RTM_DELLINK, 0, &ifinfo(AF_UNSPEC, 0, 0, 0));
        message.put_str(IFLA_IFNAME, name);
        self.socket.request(message).or_missing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_reads_back() {
        let mac = MacAddr::of_ip("10.42.0.7".parse().unwrap());
        assert_eq!(mac.to_string(), "0a:58:0a:2a:00:07");
        assert_eq!("0a:58:0a:2a:00:07".parse(), Ok(mac));
        for bad in ["", "0a:58", "0a:58:0a:2a:00:07:01", "0a:58:0a:2a:00:g7", "0a:58:0a:2a:00:+7"] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }
}
