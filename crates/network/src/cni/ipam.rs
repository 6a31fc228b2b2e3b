//! Host-local addresses: which address of the node's pod CIDR is free.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A slot is five hexadecimal digits of a link's name.
const MAX_SLOTS: u32 = 1 << 20;

/// The slots of the node's pod CIDRs. A pod takes the same slot in each family; slot 1 is the gateway's.
#[derive(Debug)]
pub(super) struct Slots {
    cidrs: Vec<IpNet>,
    used: BTreeSet<u32>,
    last: u32,
    /// Where the search went on after the last allocation: a freed address rests before it is used again.
    next: u32,
}

const FIRST: u32 = 2;

impl Slots {
    /// The slots of these CIDRs; nothing when a CIDR has no room for a pod.
    pub(super) fn new(cidrs: Vec<IpNet>) -> Option<Self> {
        let sizes = cidrs.iter().map(|cidr| {
            let bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len());
            let size = 1u32.checked_shl(bits.min(31)).unwrap_or(MAX_SLOTS).min(MAX_SLOTS);
            // The last address of an IPv4 network is its broadcast address.
            if cidr.addr().is_ipv4() && size < MAX_SLOTS { size - 1 } else { size }
        });
        let last = sizes.min()?.checked_sub(1).filter(|last| *last >= FIRST)?;
        Some(Self { cidrs, used: BTreeSet::new(), last, next: FIRST })
    }

    /// The addresses of a slot.
    pub(super) fn ips(&self, slot: u32) -> Vec<IpAddr> {
        self.cidrs.iter().map(|cidr| address(cidr, slot)).collect()
    }

    /// The slot of an address, if it is in a pod CIDR.
    pub(super) fn slot_of(&self, ip: IpAddr) -> Option<u32> {
        let cidr = self.cidrs.iter().find(|cidr| cidr.contains(&ip))?;
        let offset = match (ip, cidr.network()) {
            (IpAddr::V4(ip), IpAddr::V4(net)) => u128::from(ip.to_bits() - net.to_bits()),
            (IpAddr::V6(ip), IpAddr::V6(net)) => ip.to_bits() - net.to_bits(),
            _ => return None,
        };
        u32::try_from(offset).ok().filter(|slot| (FIRST..=self.last).contains(slot))
    }

    /// Marks a slot as used.
    pub(super) fn take(&mut self, slot: u32) {
        self.used.insert(slot);
        self.next = self.next.max(slot.saturating_add(1));
    }

    /// The next free slot.
    pub(super) fn allocate(&mut self) -> Option<u32> {
        let from = if self.next > self.last { FIRST } else { self.next };
        let slot = (from..=self.last).chain(FIRST..from).find(|slot| !self.used.contains(slot))?;
        self.used.insert(slot);
        self.next = slot + 1;
        Some(slot)
    }

    /// Frees a slot.
    pub(super) fn release(&mut self, slot: u32) {
        self.used.remove(&slot);
    }
}

/// The address at a place in a network.
pub(crate) fn address(cidr: &IpNet, slot: u32) -> IpAddr {
    match cidr.network() {
        IpAddr::V4(net) => Ipv4Addr::from_bits(net.to_bits().wrapping_add(slot)).into(),
        IpAddr::V6(net) => Ipv6Addr::from_bits(net.to_bits().wrapping_add(u128::from(slot))).into(),
    }
}

/// The node's own address in its pod CIDR.
pub(crate) fn gateway(cidr: &IpNet) -> IpAddr {
    address(cidr, 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slots(cidrs: &[&str]) -> Option<Slots> {
        Slots::new(cidrs.iter().map(|c| c.parse().unwrap()).collect())
    }

    #[test]
    fn a_network_without_room_is_refused() {
        for cidr in ["10.42.0.0/32", "10.42.0.0/31", "fd00::/128", "fd00::/127"] {
            assert!(slots(&[cidr]).is_none(), "{cidr}");
        }
        assert!(slots(&[]).is_none());
    }

    #[test]
    fn the_gateway_and_the_broadcast_address_are_never_given_out() {
        let mut slots = slots(&["10.42.0.0/29"]).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| slots.allocate()).map(slots_ip).collect();
        assert_eq!(all, ["10.42.0.2", "10.42.0.3", "10.42.0.4", "10.42.0.5", "10.42.0.6"]);
        fn slots_ip(slot: u32) -> String {
            address(&"10.42.0.0/29".parse().unwrap(), slot).to_string()
        }
    }

    #[test]
    fn a_freed_address_rests() {
        let mut slots = slots(&["10.42.0.0/24", "fd00::/64"]).unwrap();
        let first = slots.allocate().unwrap();
        assert_eq!(slots.ips(first), ["10.42.0.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()]);
        slots.release(first);
        assert_ne!(slots.allocate(), Some(first));
    }

    proptest! {
        #[test]
        fn no_address_is_given_out_twice(
            prefix in 20u8..=29,
            steps in proptest::collection::vec((any::<bool>(), any::<proptest::sample::Index>()), 0..200),
        ) {
            let cidr: IpNet = format!("10.42.0.0/{prefix}").parse().unwrap();
            let mut slots = Slots::new(vec![cidr]).unwrap();
            let mut held: Vec<u32> = Vec::new();
            for (give, which) in steps {
                if give || held.is_empty() {
                    let Some(slot) = slots.allocate() else { continue };
                    prop_assert!(!held.contains(&slot));
                    let ip = address(&cidr, slot);
                    prop_assert!(cidr.contains(&ip) && ip != gateway(&cidr) && ip != cidr.broadcast());
                    prop_assert_eq!(slots.slot_of(ip), Some(slot));
                    held.push(slot);
                } else {
                    let slot = held.swap_remove(which.index(held.len()));
                    slots.release(slot);
                }
            }
        }
    }
}
