//! From peers to routes, neighbours and forwarding entries.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Peer, vtep_mac};
use crate::cni::gateway;
use crate::netlink::{Neighbour, Route};

/// This node.
pub(super) struct Here<'a> {
    /// Index of the tunnel's link.
    pub(super) tunnel: u32,
    /// The node's own addresses in its pod CIDRs.
    pub(super) gateways: &'a [IpAddr],
}

/// What the kernel holds, or shall hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) routes: BTreeSet<Route>,
    /// A peer's gateway and the hardware address of its tunnel end.
    pub(super) neighbours: BTreeSet<Neighbour>,
    /// A peer's node and the hardware address of its tunnel end.
    pub(super) forwarding: BTreeSet<Neighbour>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    SetForwarding(Neighbour),
    SetNeighbour(Neighbour),
    SetRoute(Route),
    DeleteRoute(Route),
    DeleteNeighbour(Neighbour),
    DeleteForwarding(Neighbour),
}

/// What the kernel shall hold. `direct` has for each peer the link that it is on, if it is to be reached without tunnel.
pub(super) fn plan(here: &Here<'_>, peers: &[Peer], direct: &[Option<u32>]) -> Applied {
    let mut plan = Applied::default();
    for (peer, direct) in peers.iter().zip(direct) {
        let Some(mac) = peer.vtep_mac.or_else(|| vtep_mac(&peer.pod_cidrs)) else { continue };
        for cidr in &peer.pod_cidrs {
            let v6 = cidr.addr().is_ipv6();
            let source = here.gateways.iter().copied().find(|ip| ip.is_ipv6() == v6);
            if source.is_none() {
                continue;
            }
            let destination = cidr.trunc();
            match direct.filter(|_| peer.node_ip.is_ipv6() == v6) {
                Some(link) => {
                    let gateway = Some(peer.node_ip);
                    plan.routes.insert(Route { destination, gateway, link, source, on_link: false });
                }
                None => {
                    let far = gateway(cidr);
                    let (gateway, link) = (Some(far), here.tunnel);
                    plan.routes.insert(Route { destination, gateway, link, source, on_link: true });
                    plan.neighbours.insert(Neighbour { ip: far, mac });
                    plan.forwarding.insert(Neighbour { ip: peer.node_ip, mac });
                }
            }
        }
    }
    plan
}

/// What leads from one to the other: first what routes need, then routes, then what no route needs any more.
pub(super) fn steps(applied: &Applied, wanted: &Applied) -> Vec<Step> {
    let mut steps = Vec::new();
    // A changed entry is deleted before it is set: the kernel would keep both ends of a hardware address.
    let gone = applied.forwarding.difference(&wanted.forwarding).copied();
    steps.extend(gone.map(Step::DeleteForwarding));
    steps.extend(wanted.forwarding.difference(&applied.forwarding).copied().map(Step::SetForwarding));
    steps.extend(wanted.neighbours.difference(&applied.neighbours).copied().map(Step::SetNeighbour));
    steps.extend(wanted.routes.difference(&applied.routes).cloned().map(Step::SetRoute));
    let kept = |route: &&Route| !wanted.routes.iter().any(|new| new.destination == route.destination);
    steps.extend(applied.routes.difference(&wanted.routes).filter(kept).cloned().map(Step::DeleteRoute));
    let kept = |entry: &&Neighbour| !wanted.neighbours.iter().any(|new| new.ip == entry.ip);
    let gone = applied.neighbours.difference(&wanted.neighbours).filter(kept);
    steps.extend(gone.copied().map(Step::DeleteNeighbour));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(node_ip: &str, cidr: &str) -> Peer {
        Peer {
            name: node_ip.into(),
            node_ip: node_ip.parse().unwrap(),
            pod_cidrs: vec![cidr.parse().unwrap()],
            vtep_mac: None,
        }
    }

    fn planned(peers: &[Peer], direct: &[Option<u32>]) -> Applied {
        plan(&Here { tunnel: 7, gateways: &["10.42.0.1".parse().unwrap()] }, peers, direct)
    }

    #[test]
    fn a_peer_behind_the_tunnel_takes_one_entry_of_each_kind() {
        let plan = planned(&[peer("192.0.2.2", "10.42.1.0/24")], &[None]);
        assert_eq!(steps(&Applied::default(), &plan).len(), 3);
        assert!(steps(&plan, &plan).is_empty());
        assert_eq!(steps(&plan, &Applied::default()).len(), 3);
    }

    #[test]
    fn a_peer_on_the_link_is_routed() {
        let plan = planned(&[peer("192.0.2.2", "10.42.1.0/24")], &[Some(3)]);
        let route = plan.routes.first().unwrap();
        assert_eq!((route.link, route.gateway), (3, Some("192.0.2.2".parse().unwrap())));
        assert!(plan.forwarding.is_empty());
    }

    #[test]
    fn a_node_that_moved_keeps_its_route() {
        let before = planned(&[peer("192.0.2.2", "10.42.1.0/24")], &[None]);
        let after = planned(&[peer("192.0.2.9", "10.42.1.0/24")], &[None]);
        let steps = steps(&before, &after);
        assert!(matches!(steps.as_slice(), [Step::DeleteForwarding(_), Step::SetForwarding(_)]), "{steps:?}");
    }

    #[test]
    fn a_family_that_this_node_lacks_is_passed_over() {
        assert_eq!(planned(&[peer("192.0.2.2", "fd00:1::/64")], &[None]), Applied::default());
    }
}
