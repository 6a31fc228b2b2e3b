//! The host's resolvers, out of a file such as /etc/resolv.conf.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::SystemTime;

/// The name servers of a resolver configuration (resolv.conf(5)), in their order. Lines that mean nothing are passed
/// over, as every resolver does.
pub(super) fn name_servers(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        // A link-local address carries its link's name, which a socket address has no place for.
        let ip = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        if let Some(server) = ip.map(|ip| SocketAddr::new(ip, 53)).filter(|server| !servers.contains(server)) {
            servers.push(server);
        }
    }
    servers
}

/// The file's name servers, with the time of its last change.
pub(super) fn read(path: &Path) -> std::io::Result<(Option<SystemTime>, Vec<SocketAddr>)> {
    let changed = fs::metadata(path)?.modified().ok();
    Ok((changed, name_servers(&fs::read_to_string(path)?)))
}

/// The time of the file's last change.
pub(super) fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_addresses_are_name_servers() {
        let text = "# nameserver 1.1.1.1\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 \nnameserver fe80::1%eth0\n\
                    nameserver 192.0.2.1\noptions ndots:5\nsearch a b\nnameserverx 192.0.2.9\nnameserver\n";
        let expected: Vec<SocketAddr> = vec!["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()];
        assert_eq!(name_servers(text), expected);
    }
}
