//! Addresses of links.

use std::net::IpAddr;

use super::RouteSocket;
use super::message::{Attributes, CREATE, Message, REPLACE, family, ip_of, octets};
use super::socket::{Idempotent, NetlinkError};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// The address is ours by construction: duplicate detection would only delay its use.
const IFA_F_NODAD: u32 = 0x02;
const IFADDR: usize = 8;

fn ifaddr(family: u8, prefix: u8, index: u32) -> [u8; IFADDR] {
    let mut bytes = [0; IFADDR];
    bytes[0] = family;
    bytes[1] = prefix;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes
}

impl RouteSocket {
    /// Gives a link an address; one that it has already is fine.
    pub(crate) fn add_address(&mut self, index: u32, ip: IpAddr, prefix: u8) -> Result<(), NetlinkError> {
        let mut message = Message::new(RTM_NEWADDR, CREATE | REPLACE, &ifaddr(family(ip), prefix, index));
        message.put(IFA_LOCAL, &octets(ip)).put(IFA_ADDRESS, &octets(ip));
        if ip.is_ipv6() {
            message.put_u32(IFA_FLAGS, IFA_F_NODAD);
        }
        self.socket.request(message)
    }

    /// Takes an address from a link; one that is gone already is fine.
    pub(crate) fn delete_address(&mut self, index: u32, ip: IpAddr, prefix: u8) -> Result<(), NetlinkError> {
        let mut message = Message::new(RTM_DELADDR, 0, &ifaddr(family(ip), prefix, index));
        message.put(IFA_LOCAL, &octets(ip));
        self.socket.request(message).or_missing()
    }

    /// The addresses of a link.
    pub(crate) fn addresses(&mut self, index: u32) -> Result<Vec<(IpAddr, u8)>, NetlinkError> {
        let mut found = Vec::new();
        self.socket.dump(Message::new(RTM_GETADDR, 0, &ifaddr(0, 0, 0)), |_, body| {
            let (Some(header), Some(rest)) = (body.first_chunk::<IFADDR>(), body.get(IFADDR..)) else { return };
            let [_, prefix, _, _, at @ ..] = *header;
            let attributes = Attributes(rest);
            let ip = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS)).and_then(ip_of);
            if u32::from_ne_bytes(at) == index
                && let Some(ip) = ip
            {
                found.push((ip, prefix));
            }
        })?;
        Ok(found)
    }
}
