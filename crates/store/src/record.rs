//! What a key holds.

use crate::log::Entry;
use bytes::Bytes;
use std::any::Any;
use std::sync::{Arc, OnceLock};

/// A value with an optional hole for the revision at which it is written.
///
/// An object shows its revision (`metadata.resourceVersion`), and is to be kept once, in the form in which it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    bytes: Bytes,
    hole: Option<usize>,
}

impl Template {
    /// A value without a hole.
    pub fn plain(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), hole: None }
    }

    /// A value into which the revision's decimal digits go at `hole` (clamped to the end).
    pub fn with_hole(bytes: impl Into<Bytes>, hole: usize) -> Self {
        let bytes = bytes.into();
        let hole = hole.min(bytes.len());
        Self { bytes, hole: Some(hole) }
    }

    /// The value around its hole; the second part is empty when there is none.
    pub fn parts(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(self.hole.unwrap_or(self.bytes.len()))
    }

    /// Whether the revision goes between the parts.
    pub fn has_hole(&self) -> bool {
        self.hole.is_some()
    }

    /// The value as written at a revision.
    pub fn fill(&self, revision: i64) -> Bytes {
        let Some(hole) = self.hole else { return self.bytes.clone() };
        let digits = revision.to_string();
        let mut out = Vec::with_capacity(self.bytes.len() + digits.len());
        out.extend_from_slice(&self.bytes[..hole]);
        out.extend_from_slice(digits.as_bytes());
        out.extend_from_slice(&self.bytes[hole..]);
        out.into()
    }
}

/// A key's value and history in numbers.
pub struct Record {
    /// The key.
    pub key: Arc<str>,
    /// The value.
    pub value: Bytes,
    /// When the key came to be.
    pub create_revision: i64,
    /// When it was last written.
    pub mod_revision: i64,
    /// How many times it was written since it came to be.
    pub version: i64,
    /// When it goes by itself, in seconds since 1970.
    pub expires: Option<u64>,
    memo: OnceLock<Box<dyn Any + Send + Sync>>,
    encoded: OnceLock<Bytes>,
}

impl Record {
    /// What an engine found under a key.
    pub fn new(key: Arc<str>, value: Bytes, create_revision: i64, mod_revision: i64, version: i64) -> Self {
        Self {
            key,
            value,
            create_revision,
            mod_revision,
            version,
            expires: None,
            memo: OnceLock::new(),
            encoded: OnceLock::new(),
        }
    }

    /// Sets when it goes by itself.
    #[must_use]
    pub fn expiring(mut self, expires: Option<u64>) -> Self {
        self.expires = expires;
        self
    }

    /// As it is written to the log, with its value sealed.
    pub(crate) fn entry<'a>(&'a self, value: &'a [u8], deleted: bool) -> Entry<'a> {
        Entry {
            key: &self.key,
            value,
            deleted,
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            expires: self.expires.unwrap_or_default(),
        }
    }

    /// About how much of a log it takes.
    pub(crate) fn size(&self) -> u64 {
        (self.key.len() + self.value.len()) as u64 + 64
    }

    /// What a reader derives from the value (its labels, say), worked out once for all readers.
    ///
    /// All readers of a topic must ask for the same type: one that asks for another computes anew, unshared.
    pub fn memo<T: Clone + Send + Sync + 'static>(&self, derive: impl Fn(&Bytes) -> T) -> T {
        let memo = self.memo.get_or_init(|| Box::new(derive(&self.value)));
        memo.downcast_ref::<T>().cloned().unwrap_or_else(|| derive(&self.value))
    }

    /// The value in a second encoding, made once for all readers that want it.
    pub fn encoded(&self, encode: impl FnOnce(&Bytes) -> Bytes) -> Bytes {
        self.encoded.get_or_init(|| encode(&self.value)).clone()
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({} @{}, {} bytes)", self.key, self.mod_revision, self.value.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_goes_into_the_hole() {
        assert_eq!(Template::with_hole("{\"v\":\"\"}", 6).fill(42), "{\"v\":\"42\"}");
        assert_eq!(Template::plain("x").fill(42), "x");
        assert_eq!(Template::with_hole("x", 9).fill(1), "x1");
    }
}
