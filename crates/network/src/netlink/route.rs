//! Routes of the main table.

use std::net::IpAddr;

use ipnet::IpNet;

use super::RouteSocket;
use super::message::{Attributes, CREATE, Message, REPLACE, family, ip_of, octets};
use super::socket::{Idempotent, NetlinkError};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;
const RTM_F_CLONED: u32 = 0x200;
const RTMSG: usize = 12;

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) destination: IpNet,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) link: u32,
    /// The source address that locally made packets take.
    pub(crate) source: Option<IpAddr>,
    /// The gateway is on the link though no address of the link says so.
    pub(crate) on_link: bool,
}

fn rtmsg(family: u8, prefix: u8, table: u8, scope: u8, flags: u32) -> [u8; RTMSG] {
    let mut bytes = [family, prefix, 0, 0, table, RTPROT_STATIC, scope, RTN_UNICAST, 0, 0, 0, 0];
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

fn message(kind: u16, flags: u16, route: &Route) -> Message {
    let ip = route.destination.network();
    let scope = if route.gateway.is_none() && ip.is_ipv4() { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE };
    let next_hop = if route.on_link { RTNH_F_ONLINK } else { 0 };
    let header = rtmsg(family(ip), route.destination.prefix_len(), RT_TABLE_MAIN, scope, next_hop);
    let mut message = Message::new(kind, flags, &header);
    message.put(RTA_DST, &octets(ip));
    if let Some(gateway) = route.gateway {
        message.put(RTA_GATEWAY, &octets(gateway));
    }
    message.put_u32(RTA_OIF, route.link);
    if let Some(source) = route.source {
        message.put(RTA_PREFSRC, &octets(source));
    }
    message
}

fn parse(body: &[u8]) -> Option<Route> {
    let [family, prefix, _, _, table, _, _, kind, flags @ ..] = *body.first_chunk::<RTMSG>()?;
    let flags = u32::from_ne_bytes(flags);
    if table != RT_TABLE_MAIN || kind != RTN_UNICAST || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let attributes = Attributes(body.get(RTMSG..)?);
    let any = match i32::from(family) {
        libc::AF_INET => IpAddr::from([0; 4]),
        libc::AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    Some(Route {
        destination: IpNet::new(attributes.find(RTA_DST).and_then(ip_of).unwrap_or(any), prefix).ok()?,
        gateway: attributes.find(RTA_GATEWAY).and_then(ip_of),
        link: attributes.u32(RTA_OIF)?,
        source: attributes.find(RTA_PREFSRC).and_then(ip_of),
        on_link: flags & RTNH_F_ONLINK != 0,
    })
}

impl RouteSocket {
    /// Adds a route, or replaces the one to the same destination.
    pub(crate) fn set_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.socket.request(message(RTM_NEWROUTE, CREATE | REPLACE, route))
    }

    /// Removes a route; one that is gone already is fine.
    pub(crate) fn delete_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.socket.request(message(RTM_DELROUTE, 0, route)).or_missing()
    }

    /// All routes of the main table.
    pub(crate) fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
            let header = [family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            self.socket.dump(Message::new(RTM_GETROUTE, 0, &header), |_, body| routes.extend(parse(body)))?;
        }
        Ok(routes)
    }

    /// How the kernel would reach an address: the link, and the gateway unless the address is on the link.
    pub(crate) fn path_to(&mut self, ip: IpAddr) -> Result<Option<(u32, Option<IpAddr>)>, NetlinkError> {
        let mut header = [0; RTMSG];
        header[0] = family(ip);
        header[1] = if ip.is_ipv4() { 32 } else { 128 };
        let mut message = Message::new(RTM_GETROUTE, 0, &header);
        message.put(RTA_DST, &octets(ip));
        match self.socket.get(message) {
            Ok(body) => {
                let attributes = Attributes(body.get(RTMSG..).unwrap_or_default());
                Ok(attributes.u32(RTA_OIF).map(|link| (link, attributes.find(RTA_GATEWAY).and_then(ip_of))))
            }
            Err(NetlinkError::Refused { errno: libc::ENETUNREACH | libc::EHOSTUNREACH, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
