//! Neighbours (who has which hardware address) and a VXLAN link's forwarding entries.

use std::net::IpAddr;

use super::RouteSocket;
use super::link::MacAddr;
use super::message::{Attributes, CREATE, Message, REPLACE, family, ip_of, octets};
use super::socket::{Idempotent, NetlinkError};

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const NUD_NOARP: u16 = 0x40;
const NTF_SELF: u8 = 0x02;
const NDMSG: usize = 12;

/// An address and the hardware address behind it. In a forwarding entry the address is the tunnel's far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Neighbour {
    pub(crate) ip: IpAddr,
    pub(crate) mac: MacAddr,
}

fn ndmsg(family: u8, index: u32, state: u16, flags: u8) -> [u8; NDMSG] {
    let mut bytes = [0; NDMSG];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..10].copy_from_slice(&state.to_ne_bytes());
    bytes[10] = flags;
    bytes
}

fn message(kind: u16, flags: u16, index: u32, entry: &Neighbour, forwarding: bool) -> Message {
    let header = if forwarding {
        ndmsg(libc::AF_BRIDGE as u8, index, NUD_PERMANENT | NUD_NOARP, NTF_SELF)
    } else {
        ndmsg(family(entry.ip), index, NUD_PERMANENT, 0)
    };
    let mut message = Message::new(kind, flags, &header);
    message.put(NDA_DST, &octets(entry.ip)).put(NDA_LLADDR, &entry.mac.0);
    message
}

impl RouteSocket {
    /// Sets the hardware address of an address on a link.
    pub(crate) fn set_neighbour(&mut self, link: u32, entry: &Neighbour) -> Result<(), NetlinkError> {
        self.socket.request(message(RTM_NEWNEIGH, CREATE | REPLACE, link, entry, false))
    }

    /// Forgets a neighbour.
    pub(crate) fn delete_neighbour(&mut self, link: u32, entry: &Neighbour) -> Result<(), NetlinkError> {
        self.socket.request(message(RTM_DELNEIGH, 0, link, entry, false)).or_missing()
    }

    /// Tells a VXLAN link behind which tunnel end a hardware address is.
    pub(crate) fn set_forwarding(&mut self, link: u32, entry: &Neighbour) -> Result<(), NetlinkError> {
        self.socket.request(message(RTM_NEWNEIGH, CREATE | REPLACE, link, entry, true))
    }

    /// Removes a forwarding entry.
    pub(crate) fn delete_forwarding(&mut self, link: u32, entry: &Neighbour) -> Result<(), NetlinkError> {
        self.socket.request(message(RTM_DELNEIGH, 0, link, entry, true)).or_missing()
    }

    /// The permanent neighbours of a link, or its forwarding entries.
    pub(crate) fn neighbours(&mut self, link: u32, forwarding: bool) -> Result<Vec<Neighbour>, NetlinkError> {
        let mut found = Vec::new();
        let family = if forwarding { libc::AF_BRIDGE as u8 } else { 0 };
        self.socket.dump(Message::new(RTM_GETNEIGH, 0, &ndmsg(family, 0, 0, 0)), |_, body| {
            let Some(header) = body.first_chunk::<NDMSG>() else { return };
            let [_, _, _, _, i0, i1, i2, i3, s0, s1, ..] = *header;
            let attributes = Attributes(body.get(NDMSG..).unwrap_or_default());
            let mac = attributes.find(NDA_LLADDR).and_then(|b| <[u8; 6]>::try_from(b).ok()).map(MacAddr);
            if u32::from_ne_bytes([i0, i1, i2, i3]) == link
                && u16::from_ne_bytes([s0, s1]) & NUD_PERMANENT != 0
                && let (Some(ip), Some(mac)) = (attributes.find(NDA_DST).and_then(ip_of), mac)
            {
                found.push(Neighbour { ip, mac });
            }
        })?;
        Ok(found)
    }
}
