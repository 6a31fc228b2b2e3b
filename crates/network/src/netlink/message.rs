//! Building and reading netlink messages (RFC 3549; `linux/netlink.h`).

/// Flag of a request.
pub(crate) const REQUEST: u16 = 0x1;
/// Asks for an acknowledgement.
pub(crate) const ACK: u16 = 0x4;
/// Asks for all objects.
pub(crate) const DUMP: u16 = 0x300;
/// Creates the object when it is missing.
pub(crate) const CREATE: u16 = 0x400;
/// Fails when the object is there.
pub(crate) const EXCL: u16 = 0x200;
/// Replaces the object when it is there.
pub(crate) const REPLACE: u16 = 0x100;

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// One netlink message under construction.
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of type `kind` with the family's fixed header.
    pub(crate) fn new(kind: u16, flags: u16, family_header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(family_header);
        let mut message = Self { bytes };
        message.pad();
        message
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    /// Appends an attribute.
    pub(crate) fn put(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let length = (payload.len() + 4) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.pad();
        self
    }

    /// Appends a string attribute with its final zero.
    pub(crate) fn put_str(&mut self, kind: u16, text: &str) -> &mut Self {
        let mut payload = text.as_bytes().to_vec();
        payload.push(0);
        self.put(kind, &payload)
    }

    /// Appends an integer of the host's byte order.
    pub(crate) fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Appends an integer of network byte order.
    pub(crate) fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends an attribute that holds the attributes which `fill` writes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Appends raw bytes: a fixed structure inside of an attribute.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds flags to the header.
    pub(crate) fn add_flags(&mut self, flags: u16) {
        let old = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]);
        self.bytes[6..8].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    /// The finished message with its sequence number.
    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// The attributes in a stretch of bytes. Bytes that are no whole attribute end the walk.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes([*self.0.first()?, *self.0.get(1)?]));
        let kind = u16::from_ne_bytes([*self.0.get(2)?, *self.0.get(3)?]) & TYPE_MASK;
        let payload = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    }
}

impl<'a> Attributes<'a> {
    /// The payload of the first attribute of this kind.
    pub(crate) fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        Iterator::find(&mut self, |(k, _)| *k == kind).map(|(_, payload)| payload)
    }

    /// The attributes inside of the first attribute of this kind.
    pub(crate) fn nested(self, kind: u16) -> Attributes<'a> {
        Attributes(self.find(kind).unwrap_or_default())
    }

    /// An integer of the host's byte order.
    pub(crate) fn u32(self, kind: u16) -> Option<u32> {
        self.find(kind)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
    }

    /// A string without its final zero.
    pub(crate) fn text(self, kind: u16) -> Option<String> {
        let bytes = self.find(kind)?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        bytes.get(..end).map(|b| String::from_utf8_lossy(b).into_owned())
    }
}

/// The address in an attribute of four or sixteen bytes.
pub(crate) fn ip_of(bytes: &[u8]) -> Option<std::net::IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|b| std::net::IpAddr::from(*b)),
        16 => bytes.first_chunk::<16>().map(|b| std::net::IpAddr::from(*b)),
        _ => None,
    }
}

/// The bytes of an address in network order.
pub(crate) fn octets(ip: std::net::IpAddr) -> Vec<u8> {
    match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// AF_INET or AF_INET6.
pub(crate) fn family(ip: std::net::IpAddr) -> u8 {
    if ip.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn walking_arbitrary_bytes_ends_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let attributes = Attributes(&bytes);
            prop_assert!(attributes.count() <= bytes.len() / 4 + 1);
        }

        #[test]
        fn what_was_put_is_found(kind in 1u16..100, payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut message = Message::new(1, 0, &[]);
            message.put(kind + 100, b"other").nest(kind, |m| { m.put(7, &payload); });
            let bytes = message.finish(1);
            let found = Attributes(&bytes[HEADER..]).nested(kind).find(7);
            prop_assert_eq!(found, Some(payload.as_slice()));
        }
    }
}
