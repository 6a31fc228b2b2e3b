//! Keys and values of sets and maps: fields one after the other, each filled up to four bytes.

use std::net::IpAddr;

use super::Verdict;

/// Bytes of a key or of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(crate) Vec<u8>);

/// What an element of a map stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// Nothing: the element is a member of a set.
    Member,
    /// A value.
    Value(Key),
    /// Where the packet goes on.
    Verdict(Verdict),
}

/// An element of a set or map; `end` closes an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) key: Key,
    pub(crate) end: Option<Key>,
    pub(crate) data: Data,
    /// How long it lives, and how much of that is left, in milliseconds.
    pub(crate) life: Option<(u64, u64)>,
}

// === impl Element ===

impl Element {
    /// An element for one key that stays until it is removed.
    pub(crate) fn new(key: Key, data: Data) -> Self {
        Self { key, end: None, data, life: None }
    }
}

// === impl Key ===

impl Key {
    /// An empty key.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn field(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
        self
    }

    /// Adds an address.
    pub(crate) fn ip(self, ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => self.field(&ip.octets()),
            IpAddr::V6(ip) => self.field(&ip.octets()),
        }
    }

    /// Adds a transport protocol.
    pub(crate) fn protocol(self, protocol: crate::Protocol) -> Self {
        self.field(&[protocol.number()])
    }

    /// Adds a port.
    pub(crate) fn port(self, port: u16) -> Self {
        self.field(&port.to_be_bytes())
    }

    /// Adds a number that only the rules themselves see; registers hold numbers in the host's byte order.
    pub(crate) fn number(self, number: u32) -> Self {
        self.field(&number.to_ne_bytes())
    }
}
