//! From services to elements: a pure function, and the difference of two of its results.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::layout::{self, StateChain, Table, Via};
use super::select::{Place, select};
use super::state::{ProxyState, ServicePort, TrafficPolicy};
use crate::Protocol;
use crate::nft::{Batch, Data, Element, Key, Verdict};

/// The elements of one set or map: where an interval ends, and the value.
type Elements = BTreeMap<Key, (Option<Key>, Data)>;

/// What the table shall hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) elements: BTreeMap<(bool, Table), Elements>,
    pub(super) chains: BTreeSet<StateChain>,
    /// Endpoints behind UDP frontends: their flows in conntrack outlive a change.
    pub(super) udp: UdpFrontends,
    /// Frontends with session affinity, by family and shape, and the endpoints that clients may be remembered for.
    pub(super) sticky: BTreeMap<(bool, bool, Key), BTreeSet<Key>>,
    /// Frontends that two services claim: the first one has it.
    pub(super) conflicts: Vec<String>,
}

/// UDP frontends and their endpoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct UdpFrontends {
    pub(super) addresses: BTreeMap<SocketAddr, BTreeSet<SocketAddr>>,
    pub(super) node_ports: BTreeMap<u16, BTreeSet<SocketAddr>>,
}

/// A way to a service port: its addresses or its node port.
struct Frontend<'a> {
    port: &'a ServicePort,
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

/// Collects the plan.
struct Planner<'a> {
    plan: Plan,
    place: &'a Place,
}

/// What the table shall hold for these services.
pub(super) fn plan(state: &ProxyState, place: &Place) -> Plan {
    let mut planner = Planner { plan: Plan::default(), place };
    let mut ports: Vec<&ServicePort> = state.ports.iter().collect();
    ports.sort_by(|a, b| (&a.service, &a.name, a.port).cmp(&(&b.service, &b.name, b.port)));
    for port in ports {
        planner.service_port(port);
    }
    planner.plan
}

impl Planner<'_> {
    fn put(&mut self, ipv6: bool, table: Table, key: Key, data: Data) {
        self.plan.elements.entry((ipv6, table)).or_default().entry(key).or_insert((None, data));
    }

    fn taken(&self, ipv6: bool, key: &Key, node_port: bool) -> bool {
        let masquerades = Table::Masquerades { node_port };
        self.plan.elements.get(&(ipv6, masquerades)).is_some_and(|elements| elements.contains_key(key))
    }

    fn service_port(&mut self, port: &ServicePort) {
        for endpoint in port.endpoints.iter().filter(|e| e.local) {
            let key = Key::new().ip(endpoint.ip).ip(endpoint.ip);
            self.put(endpoint.ip.is_ipv6(), Table::Hairpins, key, Data::Member);
        }
        let addresses = [
            (&port.cluster_ips, FrontendKind::Cluster),
            (&port.external_ips, FrontendKind::External),
            (&port.load_balancer_ips, FrontendKind::LoadBalancer),
        ];
        for (ips, kind) in addresses {
            for ip in ips {
                self.frontend(&Frontend { port, ipv6: ip.is_ipv6(), address: Some(*ip), kind });
            }
        }
        if port.node_port.is_some() {
            let families: BTreeSet<bool> = port.cluster_ips.iter().map(|ip| ip.is_ipv6()).collect();
            for ipv6 in families {
                self.frontend(&Frontend { port, ipv6, address: None, kind: FrontendKind::External });
            }
        }
    }

    /// Leads a frontend to its endpoints under a policy. Whether it has any.
    fn lead(&mut self, frontend: &Frontend<'_>, key: &Key, policy: TrafficPolicy, via: Via) -> bool {
        let (port, ipv6) = (frontend.port, frontend.ipv6);
        let endpoints = select(&port.endpoints, ipv6, policy, self.place);
        let size = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
        if size == 0 {
            return false;
        }
        for (index, endpoint) in (0u32..).zip(&endpoints) {
            let value = Key::new().ip(endpoint.ip).port(endpoint.port);
            if port.affinity.is_some() {
                let place = (ipv6, via.is_node_port(), key.clone());
                self.plan.sticky.entry(place).or_default().insert(value.clone());
            }
            self.put(ipv6, Table::Endpoints(via), key.clone().number(index), Data::Value(value));
        }
        let chain = StateChain::Spread { ipv6, via, size, sticky: port.affinity.is_some() };
        self.put(ipv6, Table::Frontends(via), key.clone(), Data::Verdict(Verdict::Goto(chain.name())));
        self.plan.chains.insert(chain);
        if let Some(timeout) = port.affinity {
            let node_port = via.is_node_port();
            let chain = StateChain::Remember { ipv6, node_port, timeout };
            let goto = Data::Verdict(Verdict::Goto(chain.name()));
            self.put(ipv6, Table::Stickies { node_port }, key.clone(), goto);
            self.plan.chains.insert(chain);
        }
        self.remember_udp(frontend, endpoints.iter().map(|e| SocketAddr::new(e.ip, e.port)));
        true
    }

    fn remember_udp(&mut self, frontend: &Frontend<'_>, endpoints: impl Iterator<Item = SocketAddr>) {
        if frontend.port.protocol != Protocol::Udp {
            return;
        }
        let udp = &mut self.plan.udp;
        match (frontend.address, frontend.port.node_port) {
            (Some(ip), _) => {
                udp.addresses.entry(SocketAddr::new(ip, frontend.port.port)).or_default().extend(endpoints);
            }
            (None, Some(port)) => udp.node_ports.entry(port).or_default().extend(endpoints),
            (None, None) => {}
        }
    }

    fn frontend(&mut self, frontend: &Frontend<'_>) {
        let (port, ipv6) = (frontend.port, frontend.ipv6);
        let node_port = frontend.address.is_none();
        let key = match (frontend.address, port.node_port) {
            (Some(ip), _) => Key::new().ip(ip).protocol(port.protocol).port(port.port),
            (None, Some(number)) => Key::new().protocol(port.protocol).port(number),
            (None, None) => return,
        };
        if self.taken(ipv6, &key, node_port) {
            let place = frontend.address.map_or_else(|| "node port".to_owned(), |ip| ip.to_string());
            self.plan.conflicts.push(format!("{} ({place} {} {})", port.service, port.protocol, port.port));
            return;
        }
        let (policy, masquerade) = match (frontend.kind, port.external_policy) {
            (FrontendKind::Cluster, _) => (port.internal_policy, layout::MASQUERADE_OFF_CLUSTER),
            (_, TrafficPolicy::Cluster) => (TrafficPolicy::Cluster, layout::MASQUERADE),
            (_, TrafficPolicy::Local) => (TrafficPolicy::Local, layout::MASQUERADE_LOCAL),
        };
        let goto = Data::Verdict(Verdict::Goto(masquerade.to_owned()));
        self.put(ipv6, Table::Masquerades { node_port }, key.clone(), goto);
        self.remember_udp(frontend, std::iter::empty());
        if frontend.kind == FrontendKind::LoadBalancer {
            self.source_ranges(port, ipv6, &key);
        }

        let (outside, inside) =
            if node_port { (Via::NodePort, Via::InternalNodePort) } else { (Via::Address, Via::InternalAddress) };
        let external_local = frontend.kind != FrontendKind::Cluster && policy == TrafficPolicy::Local;
        if external_local {
            // Who is inside of the cluster reaches every endpoint by an external address too: the Local policy is
            // about traffic that a load balancer could have sent to another node.
            self.lead(frontend, &key, TrafficPolicy::Cluster, inside);
        }
        if self.lead(frontend, &key, policy, outside) {
            return;
        }
        // KEP-2086 and the external policy: no endpoint *here* is a drop, so that a balancer's probe times out and
        // looks elsewhere; no endpoint at all is a refusal.
        let elsewhere = !select(&port.endpoints, ipv6, TrafficPolicy::Cluster, self.place).is_empty();
        if !elsewhere {
            let refuse = Data::Verdict(Verdict::Goto(layout::REJECT.to_owned()));
            self.put(ipv6, Table::Rejects { node_port }, key, refuse);
        } else if external_local {
            self.put(ipv6, Table::ExternalDrops { node_port }, key, Data::Verdict(Verdict::Drop));
        } else {
            self.put(ipv6, Table::Rejects { node_port }, key, Data::Verdict(Verdict::Drop));
        }
    }

    fn source_ranges(&mut self, port: &ServicePort, ipv6: bool, key: &Key) {
        let ranges: Vec<IpNet> =
            port.load_balancer_source_ranges.iter().map(IpNet::trunc).filter(|r| r.addr().is_ipv6() == ipv6).collect();
        if port.load_balancer_source_ranges.is_empty() {
            return;
        }
        self.put(ipv6, Table::Restricted, key.clone(), Data::Member);
        for range in IpNet::aggregate(&ranges) {
            let (first, last) = (key.clone().ip(range.network()), key.clone().ip(range.broadcast()));
            let allowed = self.plan.elements.entry((ipv6, Table::Allowed)).or_default();
            allowed.insert(first, (Some(last), Data::Member));
        }
    }
}

/// Writes to `batch` what leads from `old` to `new`; how many elements change.
pub(super) fn diff(old: &Plan, new: &Plan, batch: &mut Batch) -> usize {
    for chain in new.chains.difference(&old.chains) {
        chain.create(batch);
    }
    let mut changed = 0;
    let nothing = BTreeMap::new();
    let element = |(key, (end, data)): (&Key, &(Option<Key>, Data))| Element {
        key: key.clone(),
        end: end.clone(),
        data: data.clone(),
        life: None,
    };
    // Removals first: an element with a new value goes and comes back in one commit, and ranges must not overlap.
    for ipv6 in [false, true] {
        for table in layout::TABLES {
            let place = (ipv6, table);
            let before = old.elements.get(&place).unwrap_or(&nothing);
            let after = new.elements.get(&place).unwrap_or(&nothing);
            let gone: Vec<Element> =
                before.iter().filter(|(key, value)| after.get(*key) != Some(value)).map(element).collect();
            let come: Vec<Element> =
                after.iter().filter(|(key, value)| before.get(*key) != Some(value)).map(element).collect();
            changed += gone.len().max(come.len());
            let name = table.name(ipv6);
            batch.delete_elements(&name, gone.iter());
            batch.add_elements(&name, come.iter());
        }
    }
    for chain in old.chains.difference(&new.chains) {
        batch.delete_chain(&chain.name());
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn planned(ports: Vec<ServicePort>) -> Plan {
        plan(&ProxyState { ports }, &Place::default())
    }

    fn count(plan: &Plan, table: Table) -> usize {
        plan.elements.get(&(false, table)).map_or(0, BTreeMap::len)
    }

    #[test]
    fn a_frontend_has_an_element_per_endpoint() {
        let plan = planned(vec![port()]);
        assert_eq!(count(&plan, Table::Endpoints(Via::Address)), 2);
        assert_eq!(count(&plan, Table::Endpoints(Via::NodePort)), 2);
        assert_eq!(count(&plan, Table::Frontends(Via::Address)), 1);
        assert_eq!(count(&plan, Table::Frontends(Via::NodePort)), 1);
        assert_eq!(count(&plan, Table::Hairpins), 1);
    }

    #[test]
    fn a_service_without_endpoints_rejects() {
        let plan = planned(vec![ServicePort { endpoints: Vec::new(), ..port() }]);
        assert_eq!(count(&plan, Table::Rejects { node_port: false }), 1);
        assert_eq!(count(&plan, Table::Rejects { node_port: true }), 1);
        assert_eq!(count(&plan, Table::Frontends(Via::Address)), 0);
    }

    #[test]
    fn the_external_local_policy_drops_outside_and_serves_inside() {
        let mut port = port();
        port.external_policy = TrafficPolicy::Local;
        port.endpoints.remove(0);
        let plan = planned(vec![port]);
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
        let plan = planned(vec![port]);
        let drops = &plan.elements[&(false, Table::Rejects { node_port: false })];
        assert!(drops.values().all(|(_, data)| *data == Data::Verdict(Verdict::Drop)));
        assert_eq!(drops.len(), 1);
    }

    #[test]
    fn source_ranges_of_only_the_other_family_allow_nobody() {
        let mut port = port();
        port.load_balancer_ips = vec!["192.0.2.1".parse().unwrap()];
        port.load_balancer_source_ranges = vec!["fd00::/8".parse().unwrap()];
        let plan = planned(vec![port]);
        assert_eq!((count(&plan, Table::Restricted), count(&plan, Table::Allowed)), (1, 0));
    }

    #[test]
    fn the_first_claimant_keeps_an_address() {
        let second = ServicePort { service: "default/zzz".into(), ..port() };
        let plan = planned(vec![second, port()]);
        assert_eq!(plan.conflicts.len(), 2);
        assert!(plan.conflicts.iter().all(|c| c.starts_with("default/zzz")));
    }

    #[test]
    fn one_more_endpoint_changes_a_handful_of_elements() {
        let place = Place::default();
        let before = plan(&ProxyState { ports: vec![port()] }, &place);
        let mut more = port();
        more.endpoints.push(Endpoint::ready("10.42.2.2".parse().unwrap(), 8080));
        let after = plan(&ProxyState { ports: vec![more] }, &place);
        let mut batch = Batch::new("t");
        assert_eq!(diff(&before, &after, &mut batch), 4);
        let mut batch = Batch::new("t");
        assert_eq!(diff(&after, &after, &mut batch), 0);
        assert!(batch.is_empty());
    }
}
