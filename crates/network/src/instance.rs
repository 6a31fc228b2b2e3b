//! The names of everything that one cluster makes on a machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Identity of one cluster on one machine: eight lower-case hexadecimal digits.
///
/// Every link, nftables table and mount of the cluster carries it, so that several clusters share a machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(u32);

/// An instance id that is not eight hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("instance id {0:?} is not eight hexadecimal digits")]
pub struct InvalidInstanceId(String);

/// What the names of bridges begin with.
const BRIDGE: &str = "tbr";

// === impl InstanceId ===

impl InstanceId {
    /// The instance with this number.
    pub fn new(id: u32) -> Self {
        Self(id)
    }

    /// Name of the bridge that the node's pods hang on.
    pub fn bridge(&self) -> String {
        format!("{BRIDGE}{self}")
    }

    /// Whether a link is the bridge of some instance.
    pub(crate) fn is_bridge(link: &str) -> bool {
        link.strip_prefix(BRIDGE).is_some_and(|id| id.parse::<Self>().is_ok())
    }

    /// Name of the VXLAN link between nodes.
    pub fn vxlan(&self) -> String {
        format!("tvx{self}")
    }

    /// Name of the host's end of a pod's veth pair; `slot` is the pod's place in the node's pod CIDR.
    ///
    /// IFNAMSIZ leaves fifteen characters: two of prefix, eight of id, five of slot. A slot is unique among the node's
    /// pods, so the name is too.
    pub fn veth(&self, slot: u32) -> String {
        format!("{}{slot:05x}", self.veth_prefix())
    }

    /// What the names of all veth links of this instance begin with.
    pub fn veth_prefix(&self) -> String {
        format!("tv{self}")
    }

    /// nftables table of the pod network: masquerading, host ports, and later network policies.
    pub fn network_table(&self) -> String {
        format!("trireme-{self}-net")
    }

    /// nftables table of the service proxy.
    pub fn proxy_table(&self) -> String {
        format!("trireme-{self}-proxy")
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({self})")
    }
}

impl FromStr for InstanceId {
    type Err = InvalidInstanceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match u32::from_str_radix(text, 16) {
            Ok(id) if plain => Ok(Self(id)),
            _ => Err(InvalidInstanceId(text.to_owned())),
        }
    }
}

impl TryFrom<String> for InstanceId {
    type Error = InvalidInstanceId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_an_interface_name() {
        let id: InstanceId = "0a1b2c3d".parse().unwrap();
        for name in [id.bridge(), id.vxlan(), id.veth(0xfffff)] {
            assert!(name.len() <= 15, "{name}");
            assert!(name.contains("0a1b2c3d"));
        }
    }

    #[test]
    fn bridges_of_all_instances_are_known() {
        let id: InstanceId = "0a1b2c3d".parse().unwrap();
        assert!(InstanceId::is_bridge(&id.bridge()));
        for other in [&id.vxlan(), "tbr", "tbr0", "cni0", "veth0a1b2c3d"] {
            assert!(!InstanceId::is_bridge(other), "{other}");
        }
    }

    #[test]
    fn only_eight_lower_case_hex_digits_are_an_id() {
        for bad in ["", "1234567", "123456789", "ABCDEF01", "+1234567", "g2345678"] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad}");
        }
    }
}
