use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The first address.
    pub network: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

impl Cidr {
    /// The `n`th address of the block, counted from its first, which is number 0; `None` past its end.
    pub fn nth(&self, n: u64) -> Option<IpAddr> {
        let host_bits = self.bits() - u32::from(self.prefix);
        if host_bits < 64 && n >> host_bits != 0 {
            return None;
        }
        Some(match self.network {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4).checked_add(u32::try_from(n).ok()?)?)),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6).checked_add(u128::from(n))?)),
        })
    }

    /// Whether an address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        let host_bits = self.bits() - u32::from(self.prefix.min(other.prefix));
        let differ = bits(self.network) ^ bits(other.network);
        self.bits() == other.bits() && differ.checked_shr(host_bits).unwrap_or(0) == 0
    }

    fn bits(&self) -> u32 {
        if self.network.is_ipv4() { 32 } else { 128 }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a block of addresses such as 10.42.0.0/16");
        let (network, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let cidr =
            Self { network: network.parse().map_err(|_| wrong())?, prefix: prefix.parse().map_err(|_| wrong())? };
        if u32::from(cidr.prefix) > cidr.bits() {
            return Err(wrong());
        }
        let host_bits = cidr.bits() - u32::from(cidr.prefix);
        let address = match cidr.network {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        let host = if host_bits == 128 { address } else { address & ((1u128 << host_bits) - 1) };
        if host != 0 {
            return Err(format!("{text:?} has address bits beyond its prefix"));
        }
        Ok(cidr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_overlap_when_one_holds_the_other() {
        let overlap = |a: &str, b: &str| a.parse::<Cidr>().unwrap().overlaps(&b.parse().unwrap());
        for (a, b, both) in [
            ("10.42.0.0/16", "10.43.0.0/16", false),
            ("10.42.0.0/16", "10.42.7.0/24", true),
            ("10.42.7.0/24", "10.42.0.0/16", true),
            ("0.0.0.0/0", "10.0.0.0/8", true),
            ("::/0", "10.0.0.0/8", false),
            ("fd00::/64", "fd00:0:0:1::/64", false),
        ] {
            assert_eq!(overlap(a, b), both, "{a} {b}");
        }
    }

    #[test]
    fn blocks_are_read_and_counted() {
        let cidr: Cidr = "10.43.0.0/16".parse().unwrap();
        assert_eq!(cidr.nth(10).unwrap().to_string(), "10.43.0.10");
        assert_eq!(cidr.nth(65_536), None);
        assert!("fd00::/108".parse::<Cidr>().unwrap().nth(1).is_some());
        for bad in ["10.43.0.1/16", "10.43.0.0", "10.43.0.0/33", "x/8", ""] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
