//! From a name and a type to records: pure, over an index of the cluster's names.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::IpNet;

use super::records::{DnsEndpoint, DnsPort, DnsRecords, DnsService, DnsTarget};

/// What CoreDNS gives; short, since services come and go.
const TTL: u32 = 5;
/// The specification that `dns-version` announces.
const VERSION: &str = "1.1.0";

/// The cluster's names, indexed.
#[derive(Debug)]
pub(super) struct Zone {
    domain: Name,
    labels: Vec<String>,
    namespaces: HashSet<String>,
    services: HashMap<(String, String), DnsService>,
    reverse: HashMap<IpAddr, BTreeSet<Name>>,
    networks: Vec<IpNet>,
    cluster_ips: Vec<IpAddr>,
}

/// What a lookup found.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    /// Records, and records that help with them.
    Records(Vec<Record>, Vec<Record>),
    /// Another name, which is to be looked up in turn.
    Alias(Record, Name),
    /// The name exists, without records of this type; the authority's record.
    Nothing(Record),
    /// The name does not exist; the authority's record.
    Missing(Record),
    /// The name is not the cluster's.
    Elsewhere,
}

// === impl Zone ===

impl Zone {
    /// Indexes records. An error says why the domain is none.
    pub(super) fn new(
        domain: &str,
        networks: &[IpNet],
        cluster_ips: &[IpAddr],
        records: &DnsRecords,
    ) -> Result<Self, String> {
        let mut name = Name::from_ascii(domain).map_err(|error| format!("{domain:?}: {error}"))?;
        name.set_fqdn(true);
        let labels = labels_of(&name).filter(|labels| !labels.is_empty());
        let labels = labels.ok_or_else(|| format!("{domain:?} is no domain"))?;
        let mut zone = Self {
            domain: name.to_lowercase(),
            labels,
            namespaces: records.namespaces.iter().map(|n| n.to_ascii_lowercase()).collect(),
            services: HashMap::new(),
            reverse: HashMap::new(),
            networks: networks.to_vec(),
            cluster_ips: cluster_ips.to_vec(),
        };
        for service in &records.services {
            zone.add(service.clone());
        }
        Ok(zone)
    }

    fn add(&mut self, service: DnsService) {
        let (namespace, name) = (service.namespace.to_ascii_lowercase(), service.name.to_ascii_lowercase());
        self.namespaces.insert(namespace.clone());
        if let DnsTarget::ClusterIps(ips) = &service.target
            && let Some(name) = self.below(&[&name, &namespace, "svc"])
        {
            for ip in ips {
                self.reverse.entry(*ip).or_default().insert(name.clone());
            }
        }
        for endpoint in &service.endpoints {
            if let Some(name) = self.below(&[&endpoint.label(), &name, &namespace, "svc"]) {
                self.reverse.entry(endpoint.ip).or_default().insert(name);
            }
        }
        self.services.insert((namespace, name), service);
    }

    fn below(&self, labels: &[&str]) -> Option<Name> {
        Name::from_labels(labels.iter().map(|label| label.as_bytes())).ok()?.append_domain(&self.domain).ok()
    }

    /// The record that says who answers for a zone and how long absence may be remembered.
    fn authority(&self, zone: &Name) -> Record {
        let root = Name::root();
        let below = |labels: &[&str]| self.below(labels).unwrap_or_else(|| root.clone());
        let soa = SOA::new(below(&["ns", "dns"]), below(&["hostmaster"]), 1, 7200, 1800, 86400, TTL);
        Record::from_rdata(zone.clone(), TTL, RData::SOA(soa))
    }

    /// Looks a name up.
    pub(super) fn lookup(&self, name: &Name, kind: RecordType) -> Found {
        if let Some(found) = self.lookup_reverse(name, kind) {
            return found;
        }
        if !self.domain.zone_of(name) {
            return Found::Elsewhere;
        }
        let Some(labels) = labels_of(name) else { return Found::Missing(self.authority(&self.domain)) };
        let inside = labels.len().saturating_sub(self.labels.len());
        let rest: Vec<&str> = labels.iter().take(inside).map(String::as_str).collect();
        match self.find(name, &rest, kind) {
            Some(Found::Records(records, _)) if records.is_empty() => Found::Nothing(self.authority(&self.domain)),
            Some(found) => found,
            None => Found::Missing(self.authority(&self.domain)),
        }
    }

    /// Looks up what stands before the domain. `None` is a name that does not exist; no records are no such type.
    fn find(&self, name: &Name, rest: &[&str], kind: RecordType) -> Option<Found> {
        let nothing = || Some(Found::Records(Vec::new(), Vec::new()));
        match rest {
            [] => Some(self.apex(name, kind)),
            ["dns-version"] => {
                let text = Record::from_rdata(name.clone(), TTL, RData::TXT(TXT::new(vec![VERSION.into()])));
                Some(only(kind == RecordType::TXT, text))
            }
            ["dns"] | ["svc"] | ["pod"] => nothing(),
            ["ns", "dns"] => Some(Found::Records(addresses(name, &self.cluster_ips, kind), Vec::new())),
            [namespace, "svc" | "pod"] => self.namespaces.contains(*namespace).then(nothing)?,
            [ip, namespace, "pod"] => {
                let ip = self.namespaces.contains(*namespace).then(|| dashed(ip))??;
                Some(Found::Records(addresses(name, &[ip], kind), Vec::new()))
            }
            [service, namespace, "svc"] => self.service(name, self.service_at(service, namespace)?, None, kind),
            [endpoint, service, namespace, "svc"] => {
                self.endpoint(name, self.service_at(service, namespace)?, endpoint, kind)
            }
            [port, protocol, service, namespace, "svc"] => {
                let wanted = (port.strip_prefix('_')?, protocol.strip_prefix('_')?);
                self.service(name, self.service_at(service, namespace)?, Some(wanted), kind)
            }
            _ => None,
        }
    }

    fn service_at(&self, service: &str, namespace: &str) -> Option<&DnsService> {
        self.services.get(&(namespace.to_owned(), service.to_owned()))
    }

    fn apex(&self, name: &Name, kind: RecordType) -> Found {
        let Some(server) = self.below(&["ns", "dns"]) else { return Found::Records(Vec::new(), Vec::new()) };
        match kind {
            RecordType::SOA => Found::Records(vec![self.authority(&self.domain)], Vec::new()),
            RecordType::NS => {
                let mut helping = addresses(&server, &self.cluster_ips, RecordType::A);
                helping.extend(addresses(&server, &self.cluster_ips, RecordType::AAAA));
                let record = Record::from_rdata(name.clone(), TTL, RData::NS(NS(server)));
                Found::Records(vec![record], helping)
            }
            _ => Found::Records(Vec::new(), Vec::new()),
        }
    }

    /// A service by its name, or one of its ports by name and protocol.
    fn service(
        &self,
        name: &Name,
        service: &DnsService,
        port: Option<(&str, &str)>,
        kind: RecordType,
    ) -> Option<Found> {
        let matches = |p: &&DnsPort| match port {
            Some((wanted, protocol)) => {
                p.name.eq_ignore_ascii_case(wanted) && p.protocol.to_string().eq_ignore_ascii_case(protocol)
            }
            None => true,
        };
        match &service.target {
            DnsTarget::External(target) => {
                let mut target = Name::from_utf8(target).ok()?;
                target.set_fqdn(true);
                let record = Record::from_rdata(name.clone(), TTL, RData::CNAME(CNAME(target.clone())));
                match kind {
                    RecordType::A | RecordType::AAAA => Some(Found::Alias(record, target)),
                    _ => Some(only(kind == RecordType::CNAME, record)),
                }
            }
            DnsTarget::ClusterIps(ips) => {
                let ports: Vec<&DnsPort> = service.ports.iter().filter(matches).collect();
                if port.is_some() && ports.is_empty() {
                    return None;
                }
                if kind != RecordType::SRV {
                    return Some(Found::Records(addresses(name, ips, kind), Vec::new()));
                }
                let target = self.below(&[&service.name, &service.namespace, "svc"])?;
                let records = ports.iter().map(|p| server_record(name, 100, p.port, &target)).collect();
                Some(Found::Records(records, all_addresses(&target, ips)))
            }
            DnsTarget::Headless => {
                let has = |e: &&DnsEndpoint| port.is_none() || e.ports.iter().any(|p| matches(&p));
                let endpoints: Vec<&DnsEndpoint> = service.endpoints.iter().filter(has).collect();
                if endpoints.is_empty() {
                    return None;
                }
                if kind != RecordType::SRV {
                    let ips: Vec<IpAddr> = endpoints.iter().map(|e| e.ip).collect();
                    return Some(Found::Records(addresses(name, &ips, kind), Vec::new()));
                }
                self.endpoint_servers(name, service, &endpoints, &matches)
            }
        }
    }

    fn endpoint_servers(
        &self,
        name: &Name,
        service: &DnsService,
        endpoints: &[&DnsEndpoint],
        matches: &dyn Fn(&&DnsPort) -> bool,
    ) -> Option<Found> {
        let mut targets: BTreeMap<String, (Vec<IpAddr>, BTreeSet<u16>)> = BTreeMap::new();
        for endpoint in endpoints {
            let (ips, ports) = targets.entry(endpoint.label()).or_default();
            ips.push(endpoint.ip);
            ports.extend(endpoint.ports.iter().filter(matches).map(|p| p.port));
        }
        let count: usize = targets.values().map(|(_, ports)| ports.len()).sum();
        let weight = u16::try_from(100 / count.max(1)).unwrap_or(0).max(1);
        let (mut records, mut helping) = (Vec::new(), Vec::new());
        for (label, (ips, ports)) in &targets {
            let target = self.below(&[label, &service.name, &service.namespace, "svc"])?;
            records.extend(ports.iter().map(|port| server_record(name, weight, *port, &target)));
            helping.extend(all_addresses(&target, ips));
        }
        Some(Found::Records(records, helping))
    }

    fn endpoint(&self, name: &Name, service: &DnsService, label: &str, kind: RecordType) -> Option<Found> {
        if matches!(service.target, DnsTarget::External(_)) {
            return None;
        }
        let endpoints: Vec<&DnsEndpoint> = service.endpoints.iter().filter(|e| e.label() == label).collect();
        if endpoints.is_empty() {
            return None;
        }
        if kind == RecordType::SRV {
            return self.endpoint_servers(name, service, &endpoints, &|_| true);
        }
        let ips: Vec<IpAddr> = endpoints.iter().map(|e| e.ip).collect();
        Some(Found::Records(addresses(name, &ips, kind), Vec::new()))
    }

    fn lookup_reverse(&self, name: &Name, kind: RecordType) -> Option<Found> {
        let ip = reversed(name)?;
        let zone = || if ip.is_ipv4() { "in-addr.arpa." } else { "ip6.arpa." };
        let authority = || self.authority(&Name::from_ascii(zone()).unwrap_or_else(|_| Name::root()));
        let Some(names) = self.reverse.get(&ip) else {
            return self.networks.iter().any(|net| net.contains(&ip)).then(|| Found::Missing(authority()));
        };
        if kind != RecordType::PTR {
            return Some(Found::Nothing(authority()));
        }
        let record = |target: &Name| Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(target.clone())));
        Some(Found::Records(names.iter().map(record).collect(), Vec::new()))
    }
}

fn only(wanted: bool, record: Record) -> Found {
    Found::Records(if wanted { vec![record] } else { Vec::new() }, Vec::new())
}

/// The labels in lower case; `None` when one is no text.
fn labels_of(name: &Name) -> Option<Vec<String>> {
    name.iter().map(|label| std::str::from_utf8(label).ok().map(str::to_ascii_lowercase)).collect()
}

fn address_record(name: &Name, ip: IpAddr) -> Record {
    let data = match ip {
        IpAddr::V4(ip) => RData::A(ip.into()),
        IpAddr::V6(ip) => RData::AAAA(ip.into()),
    };
    Record::from_rdata(name.clone(), TTL, data)
}

fn addresses(name: &Name, ips: &[IpAddr], kind: RecordType) -> Vec<Record> {
    let wanted = |ip: &&IpAddr| kind == if ip.is_ipv4() { RecordType::A } else { RecordType::AAAA };
    let unique: BTreeSet<IpAddr> = ips.iter().filter(wanted).copied().collect();
    unique.into_iter().map(|ip| address_record(name, ip)).collect()
}

fn all_addresses(name: &Name, ips: &[IpAddr]) -> Vec<Record> {
    let unique: BTreeSet<IpAddr> = ips.iter().copied().collect();
    unique.into_iter().map(|ip| address_record(name, ip)).collect()
}

fn server_record(name: &Name, weight: u16, port: u16, target: &Name) -> Record {
    Record::from_rdata(name.clone(), TTL, RData::SRV(SRV::new(0, weight, port, target.clone())))
}

/// The address in a pod's name: dashes in place of dots or colons.
fn dashed(label: &str) -> Option<IpAddr> {
    let v4 = || label.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    let v6 = || label.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    v4().or_else(v6)
}

/// The address that a name below in-addr.arpa or ip6.arpa stands for, when it is a whole one (RFC 1035 3.5, RFC 3596).
fn reversed(name: &Name) -> Option<IpAddr> {
    let labels = labels_of(name)?;
    let (top, rest) = labels.split_last()?;
    let (kind, digits) = rest.split_last()?;
    match (top.as_str(), kind.as_str(), digits.len()) {
        ("arpa", "in-addr", 4) => {
            let mut octets = [0u8; 4];
            for (octet, label) in octets.iter_mut().zip(digits.iter().rev()) {
                *octet = label.parse().ok()?;
            }
            Some(octets.into())
        }
        ("arpa", "ip6", 32) => {
            let mut bits = 0u128;
            for label in digits.iter().rev() {
                let digit = u8::from_str_radix(label, 16).ok().filter(|_| label.len() == 1)?;
                bits = bits << 4 | u128::from(digit);
            }
            Some(Ipv6Addr::from_bits(bits).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Protocol;

    fn port(name: &str, port: u16) -> DnsPort {
        DnsPort { name: name.into(), protocol: Protocol::Tcp, port }
    }

    fn endpoint(ip: &str, hostname: Option<&str>) -> DnsEndpoint {
        let hostname = hostname.map(str::to_owned);
        DnsEndpoint { ip: ip.parse().unwrap(), hostname, ports: vec![port("db", 5432)] }
    }

    fn service(name: &str, target: DnsTarget, ports: Vec<DnsPort>, endpoints: Vec<DnsEndpoint>) -> DnsService {
        DnsService { namespace: "shop".into(), name: name.into(), target, ports, endpoints }
    }

    fn zone() -> Zone {
        let ips = vec!["10.43.0.7".parse().unwrap()];
        let records = DnsRecords {
            namespaces: ["empty".to_owned()].into(),
            services: vec![
                service("web", DnsTarget::ClusterIps(ips), vec![port("http", 80)], vec![endpoint("10.42.0.9", None)]),
                service(
                    "db",
                    DnsTarget::Headless,
                    vec![port("db", 5432)],
                    vec![endpoint("10.42.0.5", Some("db-0")), endpoint("10.42.0.6", Some("db-1"))],
                ),
                service("nobody", DnsTarget::Headless, Vec::new(), Vec::new()),
                service("away", DnsTarget::External("example.org".into()), Vec::new(), Vec::new()),
            ],
        };
        let networks = ["10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap()];
        Zone::new("cluster.local", &networks, &["10.43.0.10".parse().unwrap()], &records).unwrap()
    }

    fn ask(name: &str, kind: RecordType) -> String {
        let show = |records: &[Record]| records.iter().map(|r| r.data.to_string()).collect::<Vec<_>>().join(", ");
        match zone().lookup(&Name::from_ascii(name).unwrap(), kind) {
            Found::Records(records, _) => show(&records),
            Found::Alias(_, target) => format!("alias {target}"),
            Found::Nothing(_) => "nothing".into(),
            Found::Missing(_) => "missing".into(),
            Found::Elsewhere => "elsewhere".into(),
        }
    }

    #[test]
    fn names_answer_as_the_specification_says() {
        use RecordType::{A, AAAA, CNAME, MX, NS, PTR, SOA, SRV, TXT};
        let table = [
            ("web.shop.svc.cluster.local.", A, "10.43.0.7"),
            ("WEB.Shop.SVC.Cluster.Local.", A, "10.43.0.7"),
            ("web.shop.svc.cluster.local.", AAAA, "nothing"),
            ("web.shop.svc.cluster.local.", MX, "nothing"),
            ("web.shop.svc.cluster.local.", SRV, "0 100 80 web.shop.svc.cluster.local."),
            ("_http._tcp.web.shop.svc.cluster.local.", SRV, "0 100 80 web.shop.svc.cluster.local."),
            ("_http._udp.web.shop.svc.cluster.local.", SRV, "missing"),
            ("_none._tcp.web.shop.svc.cluster.local.", SRV, "missing"),
            ("10-42-0-9.web.shop.svc.cluster.local.", A, "10.42.0.9"),
            ("db.shop.svc.cluster.local.", A, "10.42.0.5, 10.42.0.6"),
            ("db.shop.svc.cluster.local.", AAAA, "nothing"),
            ("db-1.db.shop.svc.cluster.local.", A, "10.42.0.6"),
            ("db-2.db.shop.svc.cluster.local.", A, "missing"),
            (
                "_db._tcp.db.shop.svc.cluster.local.",
                SRV,
                "0 50 5432 db-0.db.shop.svc.cluster.local., 0 50 5432 db-1.db.shop.svc.cluster.local.",
            ),
            ("nobody.shop.svc.cluster.local.", A, "missing"),
            ("away.shop.svc.cluster.local.", A, "alias example.org."),
            ("away.shop.svc.cluster.local.", CNAME, "example.org."),
            ("other.shop.svc.cluster.local.", A, "missing"),
            ("shop.svc.cluster.local.", A, "nothing"),
            ("empty.svc.cluster.local.", A, "nothing"),
            ("gone.svc.cluster.local.", A, "missing"),
            ("svc.cluster.local.", A, "nothing"),
            ("cluster.local.", A, "nothing"),
            ("cluster.local.", NS, "ns.dns.cluster.local."),
            ("ns.dns.cluster.local.", A, "10.43.0.10"),
            ("dns-version.cluster.local.", TXT, "1.1.0"),
            ("1-2-3-4.shop.pod.cluster.local.", A, "1.2.3.4"),
            ("fd00--1.shop.pod.cluster.local.", AAAA, "fd00::1"),
            ("1-2-3-4.gone.pod.cluster.local.", A, "missing"),
            ("no-ip.shop.pod.cluster.local.", A, "missing"),
            ("7.0.43.10.in-addr.arpa.", PTR, "web.shop.svc.cluster.local."),
            ("6.0.42.10.in-addr.arpa.", PTR, "db-1.db.shop.svc.cluster.local."),
            ("99.0.42.10.in-addr.arpa.", PTR, "missing"),
            ("1.1.168.192.in-addr.arpa.", PTR, "elsewhere"),
            ("example.org.", A, "elsewhere"),
            ("web.shop.svc.cluster.local.shop.svc.cluster.local.", A, "missing"),
            ("web.", A, "elsewhere"),
        ];
        for (name, kind, answer) in table {
            assert_eq!(ask(name, kind), answer, "{name} {kind}");
        }
        assert!(ask("cluster.local.", SOA).starts_with("ns.dns.cluster.local. hostmaster.cluster.local."));
    }

    proptest! {
        #[test]
        fn any_name_is_looked_up_without_panic(
            labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..8),
            inside in any::<bool>(),
            kind in any::<u16>(),
        ) {
            let Ok(name) = Name::from_labels(labels.iter().map(Vec::as_slice)) else { return Ok(()) };
            let zone = zone();
            let domain = Name::from_ascii("svc.cluster.local.").unwrap();
            let name = if inside { name.append_domain(&domain).unwrap_or(domain) } else { name };
            let found = zone.lookup(&name, RecordType::from(kind));
            prop_assert!(!inside || found != Found::Elsewhere);
        }

        #[test]
        fn a_reverse_name_reads_back(ip in any::<std::net::IpAddr>()) {
            let ip: std::net::IpAddr = ip;
            prop_assert_eq!(reversed(&Name::from(ip)), Some(ip));
        }
    }
}
