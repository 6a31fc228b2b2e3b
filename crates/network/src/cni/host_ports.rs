//! The network's table: masquerading of what leaves the cluster, host ports, refusal of unused service addresses.
//!
//! Network policies get their place here later: a chain of the filter type on the forward hook, before this table's
//! `refuse-services`, entered by a verdict map on the pod's address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::NetworkConfig;
use super::attachment::Attachment;
use crate::nft::{Batch, Cmp, Data, Element, Expr, Field, Hook, Key, Reg, Reject, SetKind, SetSpec, Verdict};
use crate::proxy::layout::{destination, is_local, is_translated, of_family, source, within};

/// The maps of host ports, and the pods that reach themselves through one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Map {
    /// Port of any address of the host.
    AnyAddress,
    /// Port of one address of the host.
    OneAddress,
    /// Pods with host ports, twice.
    Hairpins,
}

const MAPS: [Map; 3] = [Map::AnyAddress, Map::OneAddress, Map::Hairpins];

/// Elements by family and map.
pub(super) type Elements = BTreeMap<(bool, Map), Vec<Element>>;

impl Map {
    fn name(self, ipv6: bool) -> String {
        let digit = if ipv6 { 6 } else { 4 };
        match self {
            Self::AnyAddress => format!("host-ports-{digit}"),
            Self::OneAddress => format!("host-ports-address-{digit}"),
            Self::Hairpins => format!("hairpins-{digit}"),
        }
    }

    fn create(self, ipv6: bool, batch: &mut Batch) {
        let ip = Field::ip(ipv6);
        let (value_type, value_length) = Field::concatenation(&[ip, Field::PORT]);
        let map = SetKind::Map { value_type, value_length };
        let (fields, kind) = match self {
            Self::AnyAddress => (vec![Field::PROTOCOL, Field::PORT], map),
            Self::OneAddress => (vec![ip, Field::PROTOCOL, Field::PORT], map),
            Self::Hairpins => (vec![ip, ip], SetKind::Set),
        };
        batch.add_set(&SetSpec { name: &self.name(ipv6), fields: &fields, kind });
    }
}

/// The elements of one pod.
pub(super) fn elements(attachment: &Attachment) -> Elements {
    let mut elements = Elements::new();
    for port in &attachment.pod.host_ports {
        for ip in &attachment.ips {
            let ipv6 = ip.is_ipv6();
            let host_ip = port.host_ip.filter(|host_ip| !host_ip.is_unspecified());
            if host_ip.is_some_and(|host_ip| host_ip.is_ipv6() != ipv6) {
                continue;
            }
            let (map, key) = match host_ip {
                Some(host_ip) => (Map::OneAddress, Key::new().ip(host_ip)),
                None => (Map::AnyAddress, Key::new()),
            };
            let key = key.protocol(port.protocol).port(port.host_port);
            let data = Data::Value(Key::new().ip(*ip).port(port.container_port));
            elements.entry((ipv6, map)).or_default().push(Element::new(key, data));
            let twice = Element::new(Key::new().ip(*ip).ip(*ip), Data::Member);
            let hairpins = elements.entry((ipv6, Map::Hairpins)).or_default();
            if !hairpins.contains(&twice) {
                hairpins.push(twice);
            }
        }
    }
    elements
}

/// Whether two pods want the same port of the same address.
pub(super) fn conflict(one: &Attachment, protocol: crate::Protocol, port: u16, host_ip: Option<IpAddr>) -> bool {
    let any = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip.is_unspecified());
    one.pod.host_ports.iter().any(|held| {
        held.protocol == protocol
            && held.host_port == port
            && (any(held.host_ip) || any(host_ip) || held.host_ip == host_ip)
    })
}

/// Adds a pod's elements.
pub(super) fn add(batch: &mut Batch, elements: &Elements) {
    for ((ipv6, map), list) in elements {
        batch.add_elements(&map.name(*ipv6), list.iter());
    }
}

/// Removes a pod's elements.
pub(super) fn remove(batch: &mut Batch, elements: &Elements) {
    for ((ipv6, map), list) in elements {
        batch.delete_elements(&map.name(*ipv6), list.iter());
    }
}

fn then(mut rule: Vec<Expr>, verdict: Verdict) -> Vec<Expr> {
    rule.push(Expr::Verdict(verdict));
    rule
}

fn translate(map: Map, ipv6: bool) -> Vec<Expr> {
    let (address, port) = (Reg(1), if ipv6 { Reg(5) } else { Reg(2) });
    let mut rule = of_family(ipv6);
    rule.extend(is_local(false));
    let key = Reg(8);
    let protocol = match map {
        Map::OneAddress => {
            rule.push(destination(key, ipv6));
            if ipv6 { Reg(12) } else { Reg(9) }
        }
        _ => key,
    };
    rule.push(Expr::L4Protocol(protocol));
    rule.push(Expr::Transport { to: Reg(protocol.0 + 1), offset: 2, length: 2 });
    rule.push(Expr::Map { map: map.name(ipv6), key, to: address });
    rule.push(Expr::Dnat { ipv6, address, port });
    rule
}

/// Writes the whole table anew, with the host ports of the pods that are attached.
pub(super) fn create(batch: &mut Batch, config: &NetworkConfig, pods: &[Attachment]) {
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    for ipv6 in [false, true] {
        for map in MAPS {
            map.create(ipv6, batch);
        }
    }
    batch.add_chain("host-ports");
    for ipv6 in [false, true] {
        for map in [Map::OneAddress, Map::AnyAddress] {
            batch.add_rule("host-ports", &translate(map, ipv6));
        }
    }
    for (name, hook) in [("prerouting-host-ports", Hook::Prerouting), ("output-host-ports", Hook::Output)] {
        batch.add_base_chain(name, true, hook, -100);
        batch.add_rule(name, &[Expr::Verdict(Verdict::Jump("host-ports".into()))]);
    }
    masquerade(batch, config);
    refuse_services(batch, config);
    let mut present = Elements::new();
    for pod in pods {
        for (place, list) in elements(pod) {
            present.entry(place).or_default().extend(list);
        }
    }
    add(batch, &present);
}

fn masquerade(batch: &mut Batch, config: &NetworkConfig) {
    batch.add_chain("leaving");
    let mut staying = config.cluster_cidrs.clone();
    for multicast in ["224.0.0.0/4", "ff00::/8"] {
        staying.extend(multicast.parse::<ipnet::IpNet>());
    }
    for net in &staying {
        batch.add_rule("leaving", &then(within(net, destination), Verdict::Return));
    }
    batch.add_rule("leaving", &[Expr::Masquerade]);
    batch.add_base_chain("postrouting-network", true, Hook::Postrouting, 100);
    for ipv6 in [false, true] {
        let mut rule = is_translated();
        rule.extend(of_family(ipv6));
        rule.push(source(Reg(0), ipv6));
        rule.push(destination(Reg(if ipv6 { 4 } else { 1 }), ipv6));
        rule.push(Expr::InSet { set: Map::Hairpins.name(ipv6), key: Reg(0), inverted: false });
        rule.push(Expr::Masquerade);
        batch.add_rule("postrouting-network", &rule);
    }
    if let Ok(loopback) = "127.0.0.0/8".parse() {
        let mut rule = is_translated();
        rule.extend(within(&loopback, source));
        rule.push(Expr::Masquerade);
        batch.add_rule("postrouting-network", &rule);
    }
    for net in &config.pod_cidrs {
        batch.add_rule("postrouting-network", &then(within(net, source), Verdict::Jump("leaving".into())));
    }
}

/// What is still addressed to a service after translation is a service that does not exist.
fn refuse_services(batch: &mut Batch, config: &NetworkConfig) {
    batch.add_chain("refuse");
    let tcp = vec![Expr::L4Protocol(Reg(0)), Expr::Compare(Reg(0), Cmp::Equal, vec![6])];
    batch.add_rule("refuse", &[tcp, vec![Expr::Reject(Reject::TcpReset)]].concat());
    batch.add_rule("refuse", &[Expr::Reject(Reject::PortUnreachable)]);
    for (name, hook) in [("forward-refuse-services", Hook::Forward), ("output-refuse-services", Hook::Output)] {
        batch.add_base_chain(name, false, hook, 0);
        for net in &config.service_cidrs {
            batch.add_rule(name, &then(within(net, destination), Verdict::Goto("refuse".into())));
        }
    }
}
