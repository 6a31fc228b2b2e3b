//! Addresses of a node's pods, given as CNI's host-local plugin gives them: in turn, out of the node's own ranges.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The first two addresses are the network's and the gateway's.
const FIRST: u32 = 2;
/// So many of a larger range are used.
const MOST: u32 = 1 << 16;

/// The addresses of one node's pods. With ranges of both families a pod has the same place in both.
#[derive(Debug)]
pub(crate) struct Addresses {
    networks: Vec<IpAddr>,
    taken: BTreeSet<u32>,
    next: u32,
    /// The first place that is none.
    end: u32,
}

/// A range that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of addresses for pods")]
pub(crate) struct BadRange(String);

impl Addresses {
    pub(crate) fn new(ranges: &[&str]) -> Result<Self, BadRange> {
        let mut end = MOST;
        let mut networks = Vec::with_capacity(ranges.len());
        for range in ranges {
            let (network, size) = read(range).ok_or_else(|| BadRange((*range).to_owned()))?;
            networks.push(network);
            end = end.min(size);
        }
        if networks.is_empty() {
            return Err(BadRange(String::new()));
        }
        Ok(Self { networks, taken: BTreeSet::new(), next: FIRST, end })
    }

    /// The next free place.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let place = (self.next..self.end).chain(FIRST..self.next.min(self.end)).find(|p| !self.taken.contains(p))?;
        self.taken.insert(place);
        self.next = place + 1;
        Some(place)
    }

    /// Takes the place of an address that a pod has already.
    pub(crate) fn reserve(&mut self, address: IpAddr) -> Option<u32> {
        let place = self.networks.iter().find_map(|network| offset(*network, address))?;
        (place < self.end && self.taken.insert(place)).then_some(place)
    }

    pub(crate) fn free(&mut self, place: u32) {
        self.taken.remove(&place);
    }

    /// The addresses at a place, in the order of the ranges.
    pub(crate) fn at(&self, place: u32) -> Vec<String> {
        self.networks.iter().map(|network| add(*network, place).to_string()).collect()
    }
}

/// A range's first address, and the first place after its last usable one.
fn read(range: &str) -> Option<(IpAddr, u32)> {
    let (network, prefix) = range.split_once('/')?;
    let (network, prefix): (IpAddr, u32) = (network.parse().ok()?, prefix.parse().ok()?);
    let width = if network.is_ipv4() { 32_u32 } else { 128 };
    let bits = width.checked_sub(prefix)?;
    let size = if bits >= 16 { MOST } else { 1 << bits };
    // The last of an IPv4 range is for broadcasts.
    let end = if network.is_ipv4() && bits < 16 { size.saturating_sub(1) } else { size };
    (end > FIRST).then_some((network, end))
}

fn add(network: IpAddr, place: u32) -> IpAddr {
    match network {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().wrapping_add(place)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().wrapping_add(place.into())).into(),
    }
}

fn offset(network: IpAddr, address: IpAddr) -> Option<u32> {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => address.to_bits().checked_sub(network.to_bits()),
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            address.to_bits().checked_sub(network.to_bits()).and_then(|offset| offset.try_into().ok())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_in_turn_and_come_back() {
        let mut all = Addresses::new(&["10.42.3.0/29"]).unwrap();
        let places: Vec<u32> = (0..5).filter_map(|_| all.take()).collect();
        let first: Vec<String> = places.into_iter().flat_map(|place| all.at(place)).collect();
        assert_eq!(first, ["10.42.3.2", "10.42.3.3", "10.42.3.4", "10.42.3.5", "10.42.3.6"]);
        assert_eq!(all.take(), None, "all are given");
        all.free(3);
        assert_eq!(all.take(), Some(3));
        all.free(2);
        all.free(5);
        assert_eq!(all.take(), Some(5), "what was given back just now comes last");
    }

    #[test]
    fn what_pods_have_already_is_not_given_again() {
        let mut all = Addresses::new(&["10.0.0.0/24", "fd00::/64"]).unwrap();
        assert_eq!(all.reserve("10.0.0.2".parse().unwrap()), Some(2));
        assert_eq!(all.reserve("10.0.0.2".parse().unwrap()), None, "taken");
        assert_eq!(all.reserve("10.0.9.2".parse().unwrap()), None, "of another node");
        let place = all.take().unwrap();
        assert_eq!(all.at(place), ["10.0.0.3", "fd00::3"]);
    }

    #[test]
    fn ranges_that_hold_no_pod_are_refused() {
        for range in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/31", "10.0.0.0/30x", "x/24"] {
            assert_eq!(Addresses::new(&[range]).err(), Some(BadRange(range.into())), "{range}");
        }
        assert!(Addresses::new(&[]).is_err());
    }
}
