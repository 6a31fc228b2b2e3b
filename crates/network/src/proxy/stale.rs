//! Which tracked UDP flows must be forgotten after a change.
//!
//! UDP has no connection that ends: a client that keeps its source port would stick to an endpoint that is gone, or to
//! the untranslated address of a service that had no endpoints when it began.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::services::UdpFrontends;
use crate::netlink::Flow;

/// Frontends whose endpoints changed, with their endpoints now.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changed {
    addresses: BTreeMap<SocketAddr, BTreeSet<SocketAddr>>,
    node_ports: BTreeMap<u16, BTreeSet<SocketAddr>>,
}

fn changes<K: Ord + Copy>(
    old: &BTreeMap<K, BTreeSet<SocketAddr>>,
    new: &BTreeMap<K, BTreeSet<SocketAddr>>,
) -> BTreeMap<K, BTreeSet<SocketAddr>> {
    let nothing = BTreeSet::new();
    old.keys()
        .chain(new.keys())
        .filter_map(|key| {
            let (before, after) = (old.get(key).unwrap_or(&nothing), new.get(key).unwrap_or(&nothing));
            // One more endpoint beside others leaves no flow stale.
            let stale = !before.is_subset(after) || before.is_empty() && !after.is_empty();
            stale.then(|| (*key, after.clone()))
        })
        .collect()
}

/// What changed in a way that leaves flows stale.
pub(super) fn changed(old: &UdpFrontends, new: &UdpFrontends) -> Changed {
    Changed {
        addresses: changes(&old.addresses, &new.addresses),
        node_ports: changes(&old.node_ports, &new.node_ports),
    }
}

impl Changed {
    /// Whether no flow can be stale.
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.node_ports.is_empty()
    }

    /// Whether a flow goes where it no longer should.
    pub(super) fn concerns(&self, flow: &Flow) -> bool {
        if let Some(endpoints) = self.addresses.get(&flow.destination) {
            return !endpoints.contains(&flow.answerer);
        }
        // A flow to the same port of some other machine is not translated: it answers for itself.
        let translated = flow.answerer != flow.destination;
        let node_port = self.node_ports.get(&flow.destination.port());
        node_port.is_some_and(|endpoints| translated && !endpoints.contains(&flow.answerer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frontends(endpoints: &[&str]) -> UdpFrontends {
        let endpoints = endpoints.iter().map(|e| e.parse().unwrap()).collect();
        UdpFrontends { addresses: [("10.43.0.10:53".parse().unwrap(), endpoints)].into(), ..UdpFrontends::default() }
    }

    #[test]
    fn only_lost_endpoints_and_first_endpoints_leave_stale_flows() {
        let table: [(&[&str], &[&str], bool); 5] = [
            (&["10.42.0.2:53"], &["10.42.0.2:53"], false),
            (&["10.42.0.2:53"], &["10.42.0.2:53", "10.42.0.3:53"], false),
            (&["10.42.0.2:53"], &["10.42.0.3:53"], true),
            (&["10.42.0.2:53"], &[], true),
            (&[], &["10.42.0.2:53"], true),
        ];
        for (before, after, stale) in table {
            assert_eq!(!changed(&frontends(before), &frontends(after)).is_empty(), stale, "{before:?} {after:?}");
        }
    }
}
