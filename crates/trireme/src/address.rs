//! Where this machine is reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// The address from which packets leave by the default route; loopback when there is none. Nothing is sent.
pub fn of_default_route() -> IpAddr {
    let source = |local: IpAddr, far: IpAddr| {
        let socket = UdpSocket::bind((local, 0)).ok()?;
        // Documentation addresses (RFC 5737, RFC 3849): the kernel only looks up the route.
        socket.connect((far, 9)).ok()?;
        socket.local_addr().ok().map(|a| a.ip()).filter(|a| !a.is_unspecified())
    };
    source(IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))
        .or_else(|| {
            let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
            source(IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(far))
        })
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The machine's name, as nodes are named.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}
