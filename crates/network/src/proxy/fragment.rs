//! From one port of a service to elements: a pure function.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::layout::{self, StateChain, Table, Via};
use super::select::{Place, select};
use super::state::{ServicePort, TrafficPolicy};
use crate::nft::{Data, Key, Verdict};

/// A frontend: its family, whether it is a node port, and its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FrontendId {
    pub(super) ipv6: bool,
    pub(super) node_port: bool,
    pub(super) key: Key,
}

/// What a frontend puts into the table. No two frontends have an element in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FrontendPlan {
    /// Elements: where an interval ends, and the value.
    pub(super) elements: BTreeMap<(Table, Key), (Option<Key>, Data)>,
    pub(super) chains: BTreeSet<StateChain>,
    /// The address, or the node port, and the endpoints behind it.
    pub(super) address: Option<SocketAddr>,
    pub(super) node_port: Option<u16>,
    pub(super) endpoints: BTreeSet<SocketAddr>,
    /// With session affinity, the endpoints that clients may be remembered for.
    pub(super) sticky: BTreeSet<Key>,
}

/// What a port of a service puts into the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fragment {
    pub(super) frontends: BTreeMap<FrontendId, FrontendPlan>,
    /// Its endpoints on this node, which may reach themselves through it.
    pub(super) hairpins: BTreeSet<IpAddr>,
}

/// A way to a service port: its addresses or its node port.
struct Frontend<'a> {
    port: &'a ServicePort,
    place: &'a Place,
    ipv6: bool,
    /// Absent for the node port.
    address: Option<IpAddr>,
    kind: FrontendKind,
}

#[derive(Clone, Copy, PartialEq)]
enum FrontendKind {
    Cluster,
    External,
    LoadBalancer,
}

/// What a port of a service puts into the table.
pub(super) fn fragment(port: &ServicePort, place: &Place) -> Fragment {
    let mut fragment = Fragment::default();
    fragment.hairpins.extend(port.endpoints.iter().filter(|e| e.local).map(|e| e.ip));
    // An address that is listed twice is what it is first: source ranges must not be lost.
    let addresses = [
        (&port.cluster_ips, FrontendKind::Cluster),
        (&port.load_balancer_ips, FrontendKind::LoadBalancer),
        (&port.external_ips, FrontendKind::External),
    ];
    let ways = addresses.into_iter().flat_map(|(ips, kind)| ips.iter().map(move |ip| (ip.is_ipv6(), Some(*ip), kind)));
    let families: BTreeSet<bool> = port.cluster_ips.iter().map(IpAddr::is_ipv6).collect();
    let node_ports = families.into_iter().map(|ipv6| (ipv6, None, FrontendKind::External));
    for (ipv6, address, kind) in ways.chain(node_ports) {
        let frontend = Frontend { port, place, ipv6, address, kind };
        if let Some(id) = frontend.id() {
            fragment.frontends.entry(id).or_insert_with_key(|id| frontend.plan(&id.key));
        }
    }
    fragment
}

impl FrontendPlan {
    fn put(&mut self, table: Table, key: Key, data: Data) {
        self.elements.insert((table, key), (None, data));
    }
}

impl Frontend<'_> {
    fn id(&self) -> Option<FrontendId> {
        let protocol = self.port.protocol;
        let key = match (self.address, self.port.node_port) {
            (Some(ip), _) => Key::new().ip(ip).protocol(protocol).port(self.port.port),
            (None, Some(number)) => Key::new().protocol(protocol).port(number),
            (None, None) => return None,
        };
        Some(FrontendId { ipv6: self.ipv6, node_port: self.address.is_none(), key })
    }

    fn plan(&self, key: &Key) -> FrontendPlan {
        let (port, ipv6) = (self.port, self.ipv6);
        let node_port = self.address.is_none();
        let mut plan = FrontendPlan {
            address: self.address.map(|ip| SocketAddr::new(ip, port.port)),
            node_port: port.node_port.filter(|_| node_port),
            ..FrontendPlan::default()
        };
        let (policy, masquerade) = match (self.kind, port.external_policy) {
            (FrontendKind::Cluster, _) => (port.internal_policy, layout::MASQUERADE_OFF_CLUSTER),
            (_, TrafficPolicy::Cluster) => (TrafficPolicy::Cluster, layout::MASQUERADE),
            (_, TrafficPolicy::Local) => (TrafficPolicy::Local, layout::MASQUERADE_LOCAL),
        };
        let goto = Data::Verdict(Verdict::Goto(masquerade.to_owned()));
        plan.put(Table::Masquerades { node_port }, key.clone(), goto);
        if self.kind == FrontendKind::LoadBalancer {
            self.source_ranges(&mut plan, key);
        }
        let (outside, inside) =
            if node_port { (Via::NodePort, Via::InternalNodePort) } else { (Via::Address, Via::InternalAddress) };
        let external_local = self.kind != FrontendKind::Cluster && policy == TrafficPolicy::Local;
        if external_local {
            // Who is inside of the cluster reaches every endpoint by an external address too: the Local policy is
            // about traffic that a load balancer could have sent to another node.
            self.lead(&mut plan, key, TrafficPolicy::Cluster, inside);
        }
        if self.lead(&mut plan, key, policy, outside) {
            return plan;
        }
        // KEP-2086 and the external policy: no endpoint *here* is a drop, so that a balancer's probe times out and
        // looks elsewhere; no endpoint at all is a refusal.
        let elsewhere = !select(&port.endpoints, ipv6, TrafficPolicy::Cluster, self.place).is_empty();
        let (table, verdict) = match (elsewhere, external_local) {
            (false, _) => (Table::Rejects { node_port }, Verdict::Goto(layout::REJECT.to_owned())),
            (true, true) => (Table::ExternalDrops { node_port }, Verdict::Drop),
            (true, false) => (Table::Rejects { node_port }, Verdict::Drop),
        };
        plan.put(table, key.clone(), Data::Verdict(verdict));
        plan
    }

    /// Leads to the endpoints under a policy. Whether there are any.
    fn lead(&self, plan: &mut FrontendPlan, key: &Key, policy: TrafficPolicy, via: Via) -> bool {
        let (port, ipv6) = (self.port, self.ipv6);
        let endpoints = select(&port.endpoints, ipv6, policy, self.place);
        let size = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
        if size == 0 {
            return false;
        }
        for (index, endpoint) in (0u32..).zip(&endpoints) {
            let value = Key::new().ip(endpoint.ip).port(endpoint.port);
            if port.affinity.is_some() {
                plan.sticky.insert(value.clone());
            }
            plan.put(Table::Endpoints(via), key.clone().number(index), Data::Value(value));
        }
        let chain = StateChain::Spread { ipv6, via, size, sticky: port.affinity.is_some() };
        plan.put(Table::Frontends(via), key.clone(), Data::Verdict(Verdict::Goto(chain.name())));
        plan.chains.insert(chain);
        if let Some(timeout) = port.affinity {
            let node_port = via.is_node_port();
            let chain = StateChain::Remember { ipv6, node_port, timeout };
            plan.put(Table::Stickies { node_port }, key.clone(), Data::Verdict(Verdict::Goto(chain.name())));
            plan.chains.insert(chain);
        }
        plan.endpoints.extend(endpoints.iter().map(|e| SocketAddr::new(e.ip, e.port)));
        true
    }

    fn source_ranges(&self, plan: &mut FrontendPlan, key: &Key) {
        let all = &self.port.load_balancer_source_ranges;
        if all.is_empty() {
            return;
        }
        let ranges: Vec<IpNet> = all.iter().map(IpNet::trunc).filter(|r| r.addr().is_ipv6() == self.ipv6).collect();
        plan.put(Table::Restricted, key.clone(), Data::Member);
        // Ranges in one set must not overlap.
        for range in IpNet::aggregate(&ranges) {
            let (first, last) = (key.clone().ip(range.network()), key.clone().ip(range.broadcast()));
            plan.elements.insert((Table::Allowed, first), (Some(last), Data::Member));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;
    use crate::proxy::Endpoint;

    fn port() -> ServicePort {
        ServicePort {
            cluster_ips: vec!["10.43.0.1".parse().unwrap()],
            node_port: Some(30080),
            endpoints: vec![
                Endpoint::ready("10.42.0.2".parse().unwrap(), 8080).on_this_node(),
                Endpoint::ready("10.42.1.2".parse().unwrap(), 8080),
            ],
            ..ServicePort::new("default/web", "http", Protocol::Tcp, 80)
        }
    }

    fn planned(port: ServicePort) -> Vec<(Table, Data)> {
        let elements = fragment(&port, &Place::default()).frontends.into_values().flat_map(|f| f.elements);
        elements.map(|((table, _), (_, data))| (table, data)).collect()
    }

    fn count(plan: &[(Table, Data)], table: Table) -> usize {
        plan.iter().filter(|(t, _)| *t == table).count()
    }

    #[test]
    fn a_frontend_has_an_element_per_endpoint() {
        let plan = planned(port());
        assert_eq!(count(&plan, Table::Endpoints(Via::Address)), 2);
        assert_eq!(count(&plan, Table::Endpoints(Via::NodePort)), 2);
        assert_eq!(count(&plan, Table::Frontends(Via::Address)), 1);
        assert_eq!(count(&plan, Table::Frontends(Via::NodePort)), 1);
        assert_eq!(fragment(&port(), &Place::default()).hairpins.len(), 1);
    }

    #[test]
    fn a_service_without_endpoints_rejects() {
        let plan = planned(ServicePort { endpoints: Vec::new(), ..port() });
        assert_eq!(count(&plan, Table::Rejects { node_port: false }), 1);
        assert_eq!(count(&plan, Table::Rejects { node_port: true }), 1);
        assert_eq!(count(&plan, Table::Frontends(Via::Address)), 0);
    }

    #[test]
    fn the_external_local_policy_drops_outside_and_serves_inside() {
        let mut port = port();
        port.external_policy = TrafficPolicy::Local;
        port.endpoints.remove(0);
        let plan = planned(port);
        assert_eq!(count(&plan, Table::ExternalDrops { node_port: true }), 1);
        assert_eq!(count(&plan, Table::Frontends(Via::InternalNodePort)), 1);
        assert_eq!(count(&plan, Table::Frontends(Via::NodePort)), 0);
        assert_eq!(count(&plan, Table::Frontends(Via::Address)), 1);
    }

    #[test]
    fn the_internal_local_policy_drops_without_local_endpoints() {
        let mut port = port();
        port.internal_policy = TrafficPolicy::Local;
        port.endpoints.remove(0);
        let plan = planned(port);
        let refusals: Vec<_> = plan.iter().filter(|(t, _)| *t == Table::Rejects { node_port: false }).collect();
        assert!(matches!(refusals.as_slice(), [(_, Data::Verdict(Verdict::Drop))]), "{refusals:?}");
    }

    #[test]
    fn source_ranges_of_only_the_other_family_allow_nobody() {
        let mut port = port();
        port.load_balancer_ips = vec!["192.0.2.1".parse().unwrap()];
        port.load_balancer_source_ranges = vec!["fd00::/8".parse().unwrap()];
        let plan = planned(port);
        assert_eq!((count(&plan, Table::Restricted), count(&plan, Table::Allowed)), (1, 0));
    }
}
