//! All services together, and what a new state changes: work goes with the change, not with the number of services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::fragment::{Fragment, FrontendId, FrontendPlan, fragment};
use super::layout::{StateChain, Table};
use super::select::Place;
use super::state::{ProxyState, ServicePort};
use super::sticky::Sticky;
use crate::Protocol;
use crate::nft::{Batch, Data, Element, Key};

/// Identity of a service port: service, name, number, protocol.
type PortId = (String, String, u16, Protocol);

/// What the table holds, and why.
#[derive(Debug, Default)]
pub(super) struct Services {
    ports: BTreeMap<PortId, (ServicePort, Fragment)>,
    /// Who wants a frontend: the first one has it.
    claims: BTreeMap<FrontendId, BTreeSet<PortId>>,
    /// Local endpoints and how many ports have them.
    hairpins: BTreeMap<IpAddr, usize>,
    /// Chains and how many frontends lead there.
    chains: BTreeMap<StateChain, usize>,
}

/// UDP frontends and their endpoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct UdpFrontends {
    pub(super) addresses: BTreeMap<SocketAddr, BTreeSet<SocketAddr>>,
    pub(super) node_ports: BTreeMap<u16, BTreeSet<SocketAddr>>,
}

/// What frontends that a change touches mean to the kernel's memory of connections.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Memory {
    pub(super) udp: UdpFrontends,
    pub(super) sticky: Sticky,
}

/// What leads from one state to the next.
#[derive(Debug, Default)]
pub(super) struct Changes {
    new_chains: Vec<StateChain>,
    gone_chains: Vec<StateChain>,
    gone: BTreeMap<(bool, Table), Vec<Element>>,
    come: BTreeMap<(bool, Table), Vec<Element>>,
    pub(super) before: Memory,
    pub(super) after: Memory,
    /// Frontends that more than one service claims.
    pub(super) conflicts: Vec<String>,
}

// === impl Memory ===

impl Memory {
    fn add(&mut self, id: &FrontendId, plan: &FrontendPlan, udp: bool) {
        if !plan.sticky.is_empty() {
            self.sticky.insert((id.ipv6, id.node_port, id.key.clone()), plan.sticky.clone());
        }
        if !udp {
            return;
        }
        if let Some(address) = plan.address {
            self.udp.addresses.entry(address).or_default().extend(&plan.endpoints);
        }
        if let Some(port) = plan.node_port {
            self.udp.node_ports.entry(port).or_default().extend(&plan.endpoints);
        }
    }
}

// === impl Services ===

impl Services {
    /// The plan of whoever has the frontend.
    fn holder(&self, id: &FrontendId) -> Option<(&PortId, &FrontendPlan)> {
        let port = self.claims.get(id)?.first()?;
        Some((port, self.ports.get(port)?.1.frontends.get(id)?))
    }

    /// Takes a new state over; what changes with it.
    pub(super) fn update(&mut self, state: &ProxyState, place: &Place) -> Changes {
        let identity = |p: &ServicePort| (p.service.clone(), p.name.clone(), p.port, p.protocol);
        let wanted: BTreeMap<PortId, &ServicePort> = state.ports.iter().map(|p| (identity(p), p)).collect();
        let gone = self.ports.keys().filter(|id| !wanted.contains_key(*id)).cloned().map(|id| (id, None));
        let mut replaced: Vec<(PortId, Option<(ServicePort, Fragment)>)> = gone.collect();
        for (id, port) in wanted {
            if self.ports.get(&id).is_none_or(|(known, _)| known != port) {
                replaced.push((id, Some((port.clone(), fragment(port, place)))));
            }
        }
        let mut touched = BTreeSet::new();
        let mut hairpins = BTreeSet::new();
        for (id, new) in &replaced {
            let old = self.ports.get(id);
            for (_, fragment) in old.into_iter().chain(new) {
                touched.extend(fragment.frontends.keys().cloned());
                hairpins.extend(&fragment.hairpins);
            }
        }

        let mut changes = Changes::default();
        let mut before = BTreeMap::new();
        for id in &touched {
            if let Some((port, plan)) = self.holder(id) {
                changes.before.add(id, plan, port.3 == Protocol::Udp);
                before.insert(id.clone(), plan.clone());
            }
        }
        let hairpins_before: BTreeSet<IpAddr> =
            hairpins.iter().filter(|ip| self.hairpins.contains_key(*ip)).copied().collect();
        for (id, new) in replaced {
            self.replace(id, new);
        }
        for id in &touched {
            self.compare(id, before.get(id), &mut changes);
        }
        for ip in hairpins {
            let element = Element::new(Key::new().ip(ip).ip(ip), Data::Member);
            let place = (ip.is_ipv6(), Table::Hairpins);
            match (hairpins_before.contains(&ip), self.hairpins.contains_key(&ip)) {
                (true, false) => changes.gone.entry(place).or_default().push(element),
                (false, true) => changes.come.entry(place).or_default().push(element),
                _ => {}
            }
        }
        changes
    }

    fn replace(&mut self, id: PortId, new: Option<(ServicePort, Fragment)>) {
        if let Some((_, old)) = self.ports.remove(&id) {
            for frontend in old.frontends.keys() {
                if let Some(claims) = self.claims.get_mut(frontend) {
                    claims.remove(&id);
                    if claims.is_empty() {
                        self.claims.remove(frontend);
                    }
                }
            }
            old.hairpins.iter().for_each(|ip| release(&mut self.hairpins, ip));
        }
        let Some(new) = new else { return };
        for frontend in new.1.frontends.keys() {
            self.claims.entry(frontend.clone()).or_default().insert(id.clone());
        }
        for ip in &new.1.hairpins {
            *self.hairpins.entry(*ip).or_default() += 1;
        }
        self.ports.insert(id, new);
    }

    /// What a frontend was, against what it is now.
    fn compare(&mut self, id: &FrontendId, before: Option<&FrontendPlan>, changes: &mut Changes) {
        let nothing = FrontendPlan::default();
        let after = self.holder(id).map(|(port, plan)| {
            changes.after.add(id, plan, port.3 == Protocol::Udp);
            plan.clone()
        });
        if let Some(others) = self.claims.get(id).filter(|claims| claims.len() > 1) {
            let names: Vec<&str> = others.iter().map(|(service, ..)| service.as_str()).collect();
            let place = after.as_ref().and_then(|plan| plan.address).map(|address| address.to_string());
            let place = place.unwrap_or_else(|| "a node port".to_owned());
            changes.conflicts.push(format!("{place} is claimed by {}", names.join(", ")));
        }
        let (before, after) = (before.unwrap_or(&nothing), after.as_ref().unwrap_or(&nothing));
        for (there, here, list) in [(before, after, &mut changes.gone), (after, before, &mut changes.come)] {
            for ((table, key), value) in &there.elements {
                if here.elements.get(&(*table, key.clone())) != Some(value) {
                    let (end, data) = value.clone();
                    let element = Element { key: key.clone(), end, data, life: None };
                    list.entry((id.ipv6, *table)).or_default().push(element);
                }
            }
        }
        for chain in after.chains.difference(&before.chains) {
            let users = self.chains.entry(chain.clone()).or_default();
            *users += 1;
            if *users == 1 {
                changes.new_chains.push(chain.clone());
            }
        }
        for chain in before.chains.difference(&after.chains) {
            release(&mut self.chains, chain);
            if !self.chains.contains_key(chain) {
                changes.gone_chains.push(chain.clone());
            }
        }
    }
}

/// One user less; the last one takes the entry away.
fn release<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

// === impl Changes ===

impl Changes {
    /// How many elements come, go, or get another value.
    pub(super) fn count(&self) -> usize {
        let nothing = Vec::new();
        let places: BTreeSet<_> = self.gone.keys().chain(self.come.keys()).collect();
        let at = |list: &BTreeMap<_, Vec<Element>>, place| list.get(place).unwrap_or(&nothing).len();
        places.into_iter().map(|place| at(&self.gone, place).max(at(&self.come, place))).sum()
    }

    /// Writes the changes to a batch. Removals come first: an element with a new value goes and comes back in one
    /// commit, and ranges must not overlap.
    pub(super) fn write(&self, batch: &mut Batch) {
        // A chain that one frontend left last and another one took up again is neither new nor gone.
        let kept: BTreeSet<&StateChain> =
            self.new_chains.iter().filter(|chain| self.gone_chains.contains(chain)).collect();
        for chain in self.new_chains.iter().filter(|chain| !kept.contains(chain)) {
            chain.create(batch);
        }
        for ((ipv6, table), elements) in &self.gone {
            batch.delete_elements(&table.name(*ipv6), elements.iter());
        }
        for ((ipv6, table), elements) in &self.come {
            batch.add_elements(&table.name(*ipv6), elements.iter());
        }
        for chain in self.gone_chains.iter().filter(|chain| !kept.contains(chain)) {
            batch.delete_chain(&chain.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proxy::{Endpoint, TrafficPolicy};

    type Held = BTreeMap<(bool, Table, Key), (Option<Key>, Data)>;

    fn port(service: &str, endpoints: u8) -> ServicePort {
        ServicePort {
            cluster_ips: vec!["10.43.0.1".parse().unwrap()],
            endpoints: (0..endpoints).map(|i| Endpoint::ready([10, 42, 0, i + 2].into(), 80).on_this_node()).collect(),
            ..ServicePort::new(service, "http", Protocol::Tcp, 80)
        }
    }

    /// The kernel's part: refuses what the kernel would refuse.
    fn apply(held: &mut Held, chains: &mut BTreeSet<StateChain>, changes: &Changes) {
        for chain in &changes.new_chains {
            assert!(chains.insert(chain.clone()) || changes.gone_chains.contains(chain));
        }
        for ((ipv6, table), elements) in &changes.gone {
            for e in elements {
                let removed = held.remove(&(*ipv6, *table, e.key.clone()));
                assert_eq!(removed, Some((e.end.clone(), e.data.clone())));
            }
        }
        for ((ipv6, table), elements) in &changes.come {
            for e in elements {
                let value = (e.end.clone(), e.data.clone());
                assert_eq!(held.insert((*ipv6, *table, e.key.clone()), value), None);
            }
        }
        for chain in changes.gone_chains.iter().filter(|chain| !changes.new_chains.contains(chain)) {
            assert!(chains.remove(chain));
        }
    }

    #[test]
    fn the_first_claimant_keeps_an_address_and_the_next_one_inherits_it() {
        let mut services = Services::default();
        let place = Place::default();
        let both = vec![port("default/zzz", 1), port("default/aaa", 2)];
        let changes = services.update(&ProxyState { ports: both.clone() }, &place);
        assert_eq!(changes.conflicts, ["10.43.0.1:80 is claimed by default/aaa, default/zzz"]);
        let changes = services.update(&ProxyState { ports: both[..1].to_vec() }, &place);
        assert!(changes.conflicts.is_empty());
        // The frontend leads to another chain; of two endpoints one stays the same, one goes, as does its hairpin.
        assert_eq!(changes.count(), 3);
    }

    #[test]
    fn the_same_state_changes_nothing() {
        let mut services = Services::default();
        let state = ProxyState { ports: vec![port("default/web", 3)] };
        services.update(&state, &Place::default());
        let changes = services.update(&state, &Place::default());
        let mut batch = Batch::new("t");
        changes.write(&mut batch);
        assert!(batch.is_empty() && changes.count() == 0);
    }

    prop_compose! {
        fn any_port()(
            service in 0..4u8, address in 0..3u8, endpoints in 0..4u8, local in 0..4u8, node_port in 0..3u16,
            sticky in any::<bool>(), outside in any::<bool>(), inside in any::<bool>(), udp in any::<bool>(),
        ) -> ServicePort {
            let policy = |local| if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
            let mut port = port(&format!("default/s{service}"), endpoints);
            port.endpoints.iter_mut().enumerate().for_each(|(i, e)| e.local = i < usize::from(local));
            port.cluster_ips = vec![[10, 43, 0, address].into()];
            port.load_balancer_ips = vec![[192, 0, 2, address].into()];
            port.load_balancer_source_ranges = vec![format!("10.{endpoints}.0.0/16").parse().unwrap()];
            port.node_port = (node_port > 0).then_some(30000 + node_port);
            port.affinity = sticky.then_some(std::time::Duration::from_secs(60));
            (port.external_policy, port.internal_policy) = (policy(outside), policy(inside));
            port.protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            port
        }
    }

    proptest! {
        #[test]
        fn changes_one_after_the_other_lead_where_a_fresh_start_leads(
            states in proptest::collection::vec(proptest::collection::vec(any_port(), 0..5), 1..6),
        ) {
            let place = Place::default();
            let (mut services, mut held, mut chains) = (Services::default(), Held::new(), BTreeSet::new());
            for ports in states {
                let state = ProxyState { ports };
                apply(&mut held, &mut chains, &services.update(&state, &place));
                let (mut fresh, mut fresh_chains) = (Held::new(), BTreeSet::new());
                apply(&mut fresh, &mut fresh_chains, &Services::default().update(&state, &place));
                prop_assert_eq!(&held, &fresh);
                prop_assert_eq!(&chains, &fresh_chains);
            }
        }
    }
}
