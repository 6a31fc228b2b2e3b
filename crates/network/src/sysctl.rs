//! Kernel settings under /proc/sys/net of the calling thread's network namespace.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// Sets a value unless it is set already: a read-only /proc/sys with the right value is no error.
pub(crate) fn set(key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys/net").join(key);
    if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|source| Error::File { action: "set kernel setting", path, source })
}

/// Sets a value that improves things but is not needed; says so once when it fails.
pub(crate) fn try_set(key: &str, value: &str) {
    if let Err(error) = set(key, value) {
        tracing::debug!(%error, key, value, "kernel setting left as it is");
    }
}
