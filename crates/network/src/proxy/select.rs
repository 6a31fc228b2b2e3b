//! Which endpoints of a service port take traffic.

use super::state::{Endpoint, TrafficPolicy};

/// Where this node is, for topology hints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The node's name.
    pub node: String,
    /// The node's zone (`topology.kubernetes.io/zone`).
    pub zone: Option<String>,
}

/// The endpoints of one family that take traffic under a policy.
///
/// Ready ones first; when there is none, those that terminate but still serve (KEP-1669). Hints narrow the choice of
/// the Cluster policy only, and only when every ready endpoint has them and one of them is meant for us (KEP-2433,
/// KEP-4444).
pub(super) fn select<'a>(
    endpoints: &'a [Endpoint],
    ipv6: bool,
    policy: TrafficPolicy,
    place: &Place,
) -> Vec<&'a Endpoint> {
    let of_family =
        |e: &&Endpoint| e.ip.is_ipv6() == ipv6 && (policy == TrafficPolicy::Cluster || e.local) && e.port != 0;
    let ready: Vec<_> = endpoints.iter().filter(of_family).filter(|e| e.ready).collect();
    if ready.is_empty() {
        return endpoints.iter().filter(of_family).filter(|e| e.serving && e.terminating).collect();
    }
    if policy == TrafficPolicy::Local {
        return ready;
    }
    let hinted = |meant: &dyn Fn(&Endpoint) -> bool, has: &dyn Fn(&Endpoint) -> bool| {
        let chosen: Vec<_> = ready.iter().copied().filter(|e| meant(e)).collect();
        (ready.iter().all(|e| has(e)) && !chosen.is_empty()).then_some(chosen)
    };
    hinted(&|e| e.nodes.contains(&place.node), &|e| !e.nodes.is_empty())
        .or_else(|| {
            let zone = place.zone.as_ref()?;
            hinted(&|e| e.zones.contains(zone), &|e| !e.zones.is_empty())
        })
        .unwrap_or(ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(last: u8) -> Endpoint {
        Endpoint::ready([10, 0, 0, last].into(), 80)
    }

    fn chosen(endpoints: &[Endpoint], policy: TrafficPolicy) -> Vec<u8> {
        let place = Place { node: "n1".into(), zone: Some("z1".into()) };
        let last = |e: &&Endpoint| match e.ip {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        };
        select(endpoints, false, policy, &place).iter().map(last).collect()
    }

    #[test]
    fn ready_endpoints_win_over_terminating_ones() {
        let going = Endpoint { ready: false, terminating: true, ..endpoint(2) };
        assert_eq!(chosen(&[endpoint(1), going.clone()], TrafficPolicy::Cluster), [1]);
        assert_eq!(chosen(std::slice::from_ref(&going), TrafficPolicy::Cluster), [2]);
        let gone = Endpoint { serving: false, ..going };
        assert!(chosen(&[gone], TrafficPolicy::Cluster).is_empty());
    }

    #[test]
    fn the_local_policy_takes_this_nodes_endpoints_only() {
        let endpoints = [endpoint(1), endpoint(2).on_this_node()];
        assert_eq!(chosen(&endpoints, TrafficPolicy::Local), [2]);
        assert!(chosen(&endpoints[..1], TrafficPolicy::Local).is_empty());
    }

    #[test]
    fn hints_count_only_when_all_have_them_and_one_is_ours() {
        let hint = |last, zone: &str| Endpoint { zones: vec![zone.into()], ..endpoint(last) };
        assert_eq!(chosen(&[hint(1, "z1"), hint(2, "z2")], TrafficPolicy::Cluster), [1]);
        assert_eq!(chosen(&[hint(1, "z1"), endpoint(2)], TrafficPolicy::Cluster), [1, 2]);
        assert_eq!(chosen(&[hint(1, "z3"), hint(2, "z2")], TrafficPolicy::Cluster), [1, 2]);
        let near = Endpoint { nodes: vec!["n1".into()], ..hint(3, "z1") };
        let far = Endpoint { nodes: vec!["n2".into()], ..hint(4, "z1") };
        assert_eq!(chosen(&[near, far], TrafficPolicy::Cluster), [3]);
    }

    #[test]
    fn an_endpoint_of_the_other_family_is_no_endpoint() {
        let v6 = Endpoint::ready("fd00::1".parse().unwrap(), 80);
        assert!(chosen(&[v6], TrafficPolicy::Cluster).is_empty());
    }
}
