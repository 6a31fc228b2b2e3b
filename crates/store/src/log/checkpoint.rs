//! Checkpoints: all keys, in place of the segments that led to them.

use super::frame::{Entry, Frame, MAGIC, encode};
use super::sync_dir;
use crate::error::OpenError;
use crate::record::Record;
use crate::seal::Seal;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

/// Writes the state at the end of segment `number`, then removes what it makes superfluous.
pub(crate) fn checkpoint<'a>(
    dir: &Path,
    number: u64,
    revision: i64,
    records: impl Iterator<Item = &'a Arc<Record>>,
    seal: &dyn Seal,
) -> Result<(), OpenError> {
    let temporary = dir.join(format!("{number:08}.tmp"));
    let path = dir.join(format!("{number:08}.checkpoint"));
    let io = |source| OpenError::Io { path: temporary.clone(), source };
    if let Err(source) = write(&temporary, revision, records, seal) {
        // Half of it is worth nothing, and the disk may be full.
        let _ = std::fs::remove_file(&temporary);
        return Err(OpenError::Io { path: temporary, source });
    }
    std::fs::rename(&temporary, &path).map_err(io)?;
    sync_dir(dir)?;
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let n = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<u64>().ok());
        let stale = match (path.extension().and_then(|e| e.to_str()), n) {
            (Some("log"), Some(n)) => n <= number,
            (Some("checkpoint"), Some(n)) => n < number,
            _ => false,
        };
        if stale {
            std::fs::remove_file(&path).map_err(|source| OpenError::Io { path, source })?;
        }
    }
    Ok(())
}

fn write<'a>(
    path: &Path,
    revision: i64,
    records: impl Iterator<Item = &'a Arc<Record>>,
    seal: &dyn Seal,
) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(256 << 10, File::create(path)?);
    out.write_all(&MAGIC)?;
    let mut bytes = Vec::new();
    let mut put = |entries: Vec<Entry<'_>>| {
        bytes.clear();
        encode(&Frame { revision, flush: revision, entries }, &mut bytes);
        out.write_all(&bytes)
    };
    for record in records {
        let value = seal.seal(&record.key, &record.value).map_err(std::io::Error::other)?;
        put(vec![record.entry(&value, false)])?;
    }
    put(Vec::new())?;
    out.flush()?;
    out.get_ref().sync_all()
}
