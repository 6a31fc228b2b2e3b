//! Connection tracking: flows that outlive the endpoint they were sent to.

use std::net::{IpAddr, SocketAddr};

use super::message::{Attributes, Message, ip_of};
use super::socket::{Idempotent, NetlinkError, Protocol, Socket};

const IPCTNL_MSG_CT_GET: u16 = 0x101;
const IPCTNL_MSG_CT_DELETE: u16 = 0x102;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// Length of `struct nfgenmsg`.
const NFGEN: usize = 4;

/// A tracked flow of UDP: where the client sent to, and who answers.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// Destination of the client's packets, before translation.
    pub(crate) destination: SocketAddr,
    /// Source of the answers: the endpoint after translation.
    pub(crate) answerer: SocketAddr,
    /// What the kernel wants to see again to remove the flow.
    identity: Vec<(u16, Vec<u8>)>,
}

/// Requests about tracked flows in one network namespace.
pub(crate) struct ConntrackSocket {
    socket: Socket,
}

fn tuple(attributes: Attributes<'_>) -> Option<(u8, SocketAddr, SocketAddr)> {
    let (ip, proto) = (attributes.nested(CTA_TUPLE_IP), attributes.nested(CTA_TUPLE_PROTO));
    let address = |v4, v6| -> Option<IpAddr> { ip.find(v4).or_else(|| ip.find(v6)).and_then(ip_of) };
    let port = |kind| proto.find(kind).and_then(|b| b.first_chunk()).map(|b| u16::from_be_bytes(*b));
    let source = SocketAddr::new(address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?, port(CTA_PROTO_SRC_PORT)?);
    let destination = SocketAddr::new(address(CTA_IP_V4_DST, CTA_IP_V6_DST)?, port(CTA_PROTO_DST_PORT)?);
    Some((*proto.find(CTA_PROTO_NUM)?.first()?, source, destination))
}

fn parse(body: &[u8]) -> Option<Flow> {
    let attributes = Attributes(body.get(NFGEN..)?);
    let (protocol, _, destination) = tuple(attributes.nested(CTA_TUPLE_ORIG))?;
    let (_, answerer, _) = tuple(attributes.nested(CTA_TUPLE_REPLY))?;
    let identity = [CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE]
        .into_iter()
        .filter_map(|kind| Some((kind, attributes.find(kind)?.to_vec())))
        .collect();
    (i32::from(protocol) == libc::IPPROTO_UDP).then_some(Flow { destination, answerer, identity })
}

impl ConntrackSocket {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open(Protocol::Netfilter)? })
    }

    /// All tracked UDP flows.
    pub(crate) fn udp_flows(&mut self) -> Result<Vec<Flow>, NetlinkError> {
        let mut flows = Vec::new();
        for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
            let message = Message::new(IPCTNL_MSG_CT_GET, 0, &[family, 0, 0, 0]);
            self.socket.dump(message, |_, body| flows.extend(parse(body)))?;
        }
        Ok(flows)
    }

    /// Forgets a flow, so that its next packet chooses anew.
    pub(crate) fn delete(&mut self, flow: &Flow) -> Result<(), NetlinkError> {
        let family = if flow.destination.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
        let mut message = Message::new(IPCTNL_MSG_CT_DELETE, 0, &[family, 0, 0, 0]);
        for (kind, payload) in &flow.identity {
            message.put(if *kind == CTA_TUPLE_ORIG { kind | 0x8000 } else { *kind }, payload);
        }
        self.socket.request(message).or_missing()
    }
}
