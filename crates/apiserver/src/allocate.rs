//! Cluster IPs and node ports of services.
//!
//! What is taken is read from the services themselves, under a lock that spans choice and commit: there is no second
//! ledger that could disagree with them. Ranges are split as KEP-3070 and KEP-3668 say: what is chosen for a service
//! comes from the upper part, so that the lower stays free for those who ask for an address of their own.

use crate::registry::Target;
use crate::server::ApiServer;
use rand::Rng;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use trireme_schema::field::{Error, Path};
use trireme_schema::{Status, Value};

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The network's address.
    pub network: IpAddr,
    /// The length of its prefix.
    pub prefix: u8,
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl std::str::FromStr for Range {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text} is no CIDR");
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix > longest {
            return Err(bad());
        }
        let range = Self { network: address, prefix };
        Ok(Self { network: range.address(0), prefix })
    }
}

impl Range {
    fn bits(self) -> u32 {
        let width = if self.network.is_ipv4() { 32 } else { 128 };
        width - u32::from(self.prefix)
    }

    /// How many addresses there are; large ranges count as 2^20.
    pub fn size(self) -> u32 {
        1 << self.bits().min(20)
    }

    /// The address at an offset.
    pub fn address(self, offset: u32) -> IpAddr {
        match self.network {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(self.bits()).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from((u32::from(a) & mask).wrapping_add(offset)))
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(self.bits()).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from((u128::from(a) & mask).wrapping_add(offset.into())))
            }
        }
    }

    /// Whether an address is in the range.
    pub fn contains(self, address: IpAddr) -> bool {
        let same = |a: IpAddr| Self { network: a, prefix: self.prefix }.address(0);
        self.network.is_ipv4() == address.is_ipv4() && same(address) == same(self.network)
    }

    fn family(self) -> &'static str {
        if self.network.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    /// A free address, from the upper part while there is one.
    fn free(self, taken: &HashSet<IpAddr>) -> Option<IpAddr> {
        let size = self.size();
        let reserved = if size <= 16 { 0 } else { (size / 16).clamp(16, 256) };
        let last = size.saturating_sub(1);
        let pick = |from: u32, to: u32| {
            let span = to.saturating_sub(from);
            if span == 0 {
                return None;
            }
            let start = rand::rng().random_range(0..span);
            (0..span).map(|i| self.address(from + (start + i) % span)).find(|a| !taken.contains(a))
        };
        pick(reserved.max(1), last).or_else(|| pick(1, reserved.max(1)))
    }
}

/// Node ports.
pub const NODE_PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;

struct Taken {
    addresses: HashSet<IpAddr>,
    ports: HashSet<(i64, String)>,
}

fn taken(server: &ApiServer, but: &str) -> Taken {
    let mut out = Taken { addresses: HashSet::new(), ports: HashSet::new() };
    for service in server.read_all("", "services", "") {
        if service.str_at(&["metadata", "uid"]) == but {
            continue;
        }
        out.addresses
            .extend(service.list_at(&["spec", "clusterIPs"]).iter().filter_map(|a| a.as_str()?.parse::<IpAddr>().ok()));
        for port in service.list_at(&["spec", "ports"]) {
            if let Some(number) = port.int_at(&["nodePort"]) {
                out.ports.insert((number, port.str_at(&["protocol"]).to_owned()));
            }
        }
        if let Some(number) = service.int_at(&["spec", "healthCheckNodePort"]) {
            out.ports.insert((number, "TCP".to_owned()));
        }
    }
    out
}

/// Fills in a service's addresses and ports.
pub(crate) fn service(
    server: &ApiServer,
    target: &Target,
    service: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<(), Status> {
    let name = service.str_at(&["metadata", "name"]).to_owned();
    let invalid = |errors: &[Error]| Err(Status::invalid(target.served.group(), "Service", &name, errors));
    let kind = service.str_at(&["spec", "type"]).to_owned();
    if kind == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            service.remove_at(&["spec", field]);
        }
        return Ok(());
    }
    if let Some(old) = old {
        // Who changes only the one of the two fields that say the same means both.
        let (one, all) = (["spec", "clusterIP"], ["spec", "clusterIPs"]);
        if let Some(ip) = service.at(&one).cloned()
            && old.at(&one) != Some(&ip)
            && service.at(&all).is_none_or(|ips| old.at(&all) == Some(ips))
        {
            service.set_at(&all, vec![ip]);
        }
        // What is not said again stays.
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"] {
            if let (None, Some(value)) = (service.at(&["spec", field]), old.at(&["spec", field])) {
                service.set_at(&["spec", field], value.clone());
            }
        }
        keep_node_ports(service, old, &kind);
        twice(service, &kind)?;
    }
    let spec = Path::new("spec");
    let mut taken = taken(server, service.str_at(&["metadata", "uid"]));
    let asked = service.str_at(&["spec", "clusterIP"]).to_owned();
    let headless = asked == "None";
    let ranges = &server.config.service_ranges;
    let families = wanted_families(service, ranges);
    if headless {
        service.set_at(&["spec", "clusterIPs"], vec!["None"]);
    } else {
        let mut addresses: Vec<String> =
            service.list_at(&["spec", "clusterIPs"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if addresses.is_empty() && !asked.is_empty() {
            addresses.push(asked);
        }
        // What the service has stays; that it was changed is told by validation.
        let had = old.filter(|old| {
            old.str_at(&["spec", "type"]) != "ExternalName" && old.str_at(&["spec", "clusterIP"]) != "None"
        });
        let kept = had.map_or(0, |old| old.list_at(&["spec", "clusterIPs"]).len());
        for (i, text) in addresses.iter().enumerate().skip(kept) {
            let path = spec.child("clusterIPs").index(i);
            let Ok(address) = text.parse::<IpAddr>() else {
                return invalid(&[Error::invalid(
                    &path,
                    text.as_str(),
                    "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                )]);
            };
            if !ranges.iter().any(|r| r.contains(address)) {
                let listed = ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                let why = format!(
                    "failed to allocate IP {address}: the provided network does not match the current range: {listed}"
                );
                return invalid(&[Error::invalid(&path, text.as_str(), why)]);
            }
            if taken.addresses.contains(&address) {
                let why = format!("failed to allocate IP {address}: provided IP is already allocated");
                return invalid(&[Error::invalid(&path, text.as_str(), why)]);
            }
        }
        for family in &families {
            let has = addresses.iter().any(|a| a.parse().map_or(true, |a: IpAddr| a.is_ipv4() == (*family == "IPv4")));
            let Some(range) = ranges.iter().find(|r| r.family() == *family).filter(|_| !has) else { continue };
            // A dry run takes nothing, and shows the range's first address for what it would be.
            let free = if dry_run { Some(range.address(0)) } else { range.free(&taken.addresses) };
            let Some(address) = free else {
                return Err(Status::internal("failed to allocate a serviceIP: range is full"));
            };
            taken.addresses.insert(address);
            addresses.push(address.to_string());
        }
        if let Some(first) = addresses.first() {
            service.set_at(&["spec", "clusterIP"], first.as_str());
        }
        service.set_at(&["spec", "clusterIPs"], addresses);
    }
    if service.list_at(&["spec", "ipFamilies"]).is_empty() {
        service.set_at(&["spec", "ipFamilies"], families.clone());
    }
    if service.at(&["spec", "ipFamilyPolicy"]).is_none() {
        let policy = if families.len() > 1 { "RequireDualStack" } else { "SingleStack" };
        service.set_at(&["spec", "ipFamilyPolicy"], policy);
    }
    node_ports(service, &kind, &mut taken, dry_run).or_else(|errors| invalid(&errors))
}

fn wanted_families(service: &Value, ranges: &[Range]) -> Vec<&'static str> {
    let given: Vec<&str> = service.list_at(&["spec", "ipFamilies"]).iter().filter_map(Value::as_str).collect();
    let mut families: Vec<&'static str> =
        given.iter().filter_map(|f| ["IPv4", "IPv6"].into_iter().find(|known| known == f)).collect();
    let policy = service.str_at(&["spec", "ipFamilyPolicy"]);
    for range in ranges {
        let wants = families.is_empty() || matches!(policy, "PreferDualStack" | "RequireDualStack");
        if wants && !families.contains(&range.family()) {
            families.push(range.family());
        }
    }
    families
}

/// A node port stays with its port, or with its name, while the service has node ports at all.
fn keep_node_ports(service: &mut Value, old: &Value, kind: &str) {
    let has = matches!(kind, "NodePort" | "LoadBalancer");
    let before = old.list_at(&["spec", "ports"]).to_vec();
    let Some(ports) = service.at_mut(&["spec", "ports"]).and_then(Value::as_array_mut) else { return };
    for port in ports {
        let same = |b: &&Value| b.get("port") == port.get("port") && b.get("protocol") == port.get("protocol");
        let earlier = before.iter().find(same).and_then(|b| b.get("nodePort")).cloned();
        match (has, port.get("nodePort").is_some(), earlier) {
            (true, false, Some(number)) => port.set_at(&["nodePort"], number),
            (false, true, Some(number)) if port.get("nodePort") == Some(&number) => drop(port.remove_at(&["nodePort"])),
            _ => {}
        }
    }
}

/// A node port that two ports want is found while ports are allocated, before validation, and told as upstream does.
fn twice(service: &Value, kind: &str) -> Result<(), Status> {
    let ports = service.list_at(&["spec", "ports"]);
    let of = |port: &Value| (port.int_at(&["nodePort"]).unwrap_or_default(), port.str_at(&["protocol"]).to_owned());
    let all: Vec<(i64, String)> = ports.iter().map(of).collect();
    let again = |i: usize| all[i].0 != 0 && all[..i].contains(&all[i]);
    match (0..all.len()).find(|i| again(*i)).filter(|_| matches!(kind, "NodePort" | "LoadBalancer")) {
        Some(i) => Err(Status::failure(500, "", format!("duplicate nodePort: {{{} {}}}", all[i].1, all[i].0))),
        None => Ok(()),
    }
}

fn node_ports(service: &mut Value, kind: &str, taken: &mut Taken, dry_run: bool) -> Result<(), Vec<Error>> {
    let local = service.str_at(&["spec", "externalTrafficPolicy"]) == "Local";
    let automatic = service.at(&["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool).unwrap_or(true);
    let wants = kind == "NodePort" || (kind == "LoadBalancer" && automatic);
    let path = Path::new("spec").child("ports");
    let mut own = Vec::new();
    let next = |taken: &Taken, own: &[(i64, String)]| {
        // A dry run takes nothing, and shows numbers beyond the range.
        let beyond = own.iter().map(|(n, _)| *n).max().unwrap_or(NODE_PORTS.end() + 1) + 1;
        if dry_run { Some(beyond) } else { free_port(taken, own) }
    };
    let asked = service.list_at(&["spec", "ports"]).to_vec();
    if let Some(ports) = service.at_mut(&["spec", "ports"]).and_then(Value::as_array_mut) {
        // Protocols of one port share its node port: the one given to the first, or asked for by another.
        let mut of_port: HashMap<i64, i64> = HashMap::new();
        for (i, port) in ports.iter_mut().enumerate() {
            let protocol = port.str_at(&["protocol"]).to_owned();
            let number = port.int_at(&["port"]).unwrap_or_default();
            let at = path.index(i).child("nodePort");
            let given = |port: &Value| port.int_at(&["nodePort"]).filter(|n| *n != 0);
            let same = || asked[i..].iter().filter(|p| p.int_at(&["port"]) == Some(number)).find_map(given);
            let chosen = given(port).or_else(|| if wants { of_port.get(&number).copied().or_else(same) } else { None });
            let node_port = match chosen {
                // Those who have none are told so by validation.
                Some(_) if !wants => continue,
                Some(node_port) => {
                    if given(port).is_some() && !NODE_PORTS.contains(&node_port) {
                        let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                        return Err(vec![Error::invalid(&at, node_port, why)]);
                    }
                    if taken.ports.contains(&(node_port, protocol.clone())) {
                        return Err(vec![Error::invalid(&at, node_port, "provided port is already allocated")]);
                    }
                    node_port
                }
                None if !wants => continue,
                None => match next(taken, &own) {
                    Some(node_port) => node_port,
                    None => return Err(vec![Error::internal(&at, "failed to allocate a nodePort: range is full")]),
                },
            };
            port.set_at(&["nodePort"], node_port);
            of_port.entry(number).or_insert(node_port);
            own.push((node_port, protocol));
        }
    }
    if kind == "LoadBalancer"
        && local
        && service.at(&["spec", "healthCheckNodePort"]).is_none()
        && let Some(number) = next(taken, &own)
    {
        service.set_at(&["spec", "healthCheckNodePort"], number);
    }
    Ok(())
}

fn free_port(taken: &Taken, own: &[(i64, String)]) -> Option<i64> {
    let used = |n: i64| taken.ports.iter().chain(own).any(|(p, _)| *p == n);
    let span = NODE_PORTS.end() - NODE_PORTS.start() + 1;
    let start = rand::rng().random_range(0..span);
    (0..span).map(|i| NODE_PORTS.start() + (start + i) % span).find(|&n| !used(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_know_their_addresses() {
        let range: Range = "10.43.7.1/16".parse().unwrap();
        assert_eq!(range.to_string(), "10.43.0.0/16");
        assert_eq!(range.address(10).to_string(), "10.43.0.10");
        assert!(range.contains("10.43.255.1".parse().unwrap()));
        assert!(!range.contains("10.44.0.1".parse().unwrap()));
        assert!("10.43.0.0/33".parse::<Range>().is_err());
    }

    #[test]
    fn a_full_range_gives_nothing() {
        let range: Range = "10.0.0.0/30".parse().unwrap();
        let all = (0..4).map(|i| range.address(i)).collect();
        assert_eq!(range.free(&all), None);
        assert!(range.free(&HashSet::new()).is_some());
    }
}
