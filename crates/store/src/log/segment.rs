//! The segment that is written to.

use super::frame::MAGIC;
use crate::error::OpenError;
use rustix::fs::FallocateFlags;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How much of a segment is preallocated at a time.
const PREALLOCATED: u64 = 16 << 20;

/// A segment, open at its end.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    file: File,
    end: u64,
    allocated: u64,
    /// A failed write may have left bytes after the end.
    dirty: bool,
}

impl Segment {
    /// Opens a segment whose frames end at `end`; makes it when it is not there.
    pub(crate) fn open(dir: &Path, number: u64, end: u64) -> Result<Self, OpenError> {
        let path = dir.join(format!("{number:08}.log"));
        let io = |source| OpenError::Io { path: path.clone(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        let head = MAGIC.len() as u64;
        // Zeros after the end, whatever a torn write left there.
        file.set_len(end).map_err(io)?;
        if end < head {
            file.write_all_at(&MAGIC, 0).map_err(io)?;
        }
        file.sync_all().map_err(io)?;
        sync_dir(dir)?;
        let end = end.max(head);
        Ok(Self { number, path, file, end, allocated: end, dirty: false })
    }

    /// Appends and flushes. After an error nothing was appended.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.dirty {
            // What was written in part must not be read as frames after a later success.
            self.file.set_len(self.end)?;
            (self.allocated, self.dirty) = (self.end, false);
        }
        let end = self.end + bytes.len() as u64;
        if end + 8 > self.allocated {
            self.preallocate(end + PREALLOCATED)?;
        }
        self.dirty = true;
        self.file.write_all_at(bytes, self.end)?;
        self.file.sync_data()?;
        self.dirty = false;
        self.end = end;
        Ok(())
    }

    fn preallocate(&mut self, size: u64) -> std::io::Result<()> {
        let more = size - self.allocated;
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), self.allocated, more) {
            Ok(()) => self.allocated = size,
            // There may be room for the bytes themselves: leave it to them.
            Err(rustix::io::Errno::NOSPC) => self.file.set_len(self.allocated.max(self.end))?,
            // Not all file systems can; appending grows the file then.
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Gives back what a failed write took of the disk.
    pub(crate) fn retreat(&mut self) {
        if self.dirty && self.file.set_len(self.end).is_ok() {
            (self.allocated, self.dirty) = (self.end, false);
        }
    }
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|source| OpenError::Io { path: dir.to_owned(), source })
}
