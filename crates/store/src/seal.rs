//! Values on their way to the disk and back.

use bytes::Bytes;

/// Changes values on their way to the disk, and back: encryption at rest. In memory they are as they were written.
pub trait Seal: Send + Sync {
    /// The value of a key as it goes to the disk.
    ///
    /// # Errors
    /// Why it cannot: the write is refused.
    fn seal(&self, key: &str, value: &Bytes) -> Result<Bytes, String>;

    /// The value of a key as it came from the disk.
    ///
    /// # Errors
    /// Why it cannot: the store is not opened, unless the key was written again later.
    fn open(&self, key: &str, stored: &[u8]) -> Result<Bytes, String>;
}

/// Values go to the disk as they are.
pub(crate) struct Plain;

impl Seal for Plain {
    fn seal(&self, _: &str, value: &Bytes) -> Result<Bytes, String> {
        Ok(value.clone())
    }

    fn open(&self, _: &str, stored: &[u8]) -> Result<Bytes, String> {
        Ok(Bytes::copy_from_slice(stored))
    }
}
