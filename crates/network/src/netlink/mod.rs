//! Netlink: messages, a socket, and the few requests that the pod network makes with them.
//!
//! A socket belongs to the network namespace of the thread that opened it, whichever thread uses it later. The calls
//! are synchronous: the kernel answers a request before `sendto` returns.

mod address;
mod conntrack;
mod link;
mod message;
mod neighbour;
mod route;
mod socket;
mod sockopt;

pub(crate) use conntrack::{ConntrackSocket, Flow};
pub use link::MacAddr;
pub(crate) use link::{Link, NewLink};
pub(crate) use message::{Attributes, Message};
pub(crate) use neighbour::Neighbour;
pub(crate) use route::Route;
pub use socket::NetlinkError;
pub(crate) use socket::{Idempotent, Protocol as NetlinkProtocol, Socket};

/// Requests about links, addresses, routes and neighbours in one network namespace.
pub(crate) struct RouteSocket {
    socket: Socket,
}

impl RouteSocket {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open(NetlinkProtocol::Route)? })
    }
}
