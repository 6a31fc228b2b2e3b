//! The append-only log: segments of frames, each with its checksum, and a checkpoint that replaces old segments.
//!
//! `N.log` holds frames in the order of their revisions; `N.checkpoint` holds all keys as they were at the end of
//! `N.log`, and makes it and older files superfluous. A segment is preallocated, so that a flush needs not change the
//! file's size; zeros mark its unwritten rest. A frame is `length u32, crc32 u32, payload`, little-endian.

use crate::error::OpenError;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A change as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value; for a removed key, its last state.
    pub value: Vec<u8>,
    /// The key is removed.
    pub deleted: bool,
    /// When the key came to be.
    pub create_revision: i64,
    /// When it was written: in a log the frame's revision, in a checkpoint any before.
    pub mod_revision: i64,
    /// How many times it was written.
    pub version: i64,
    /// Seconds since 1970; 0 for never.
    pub expires: u64,
}

/// Changes of one revision; of a checkpoint, some of its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The revision.
    pub revision: i64,
    /// The changes.
    pub entries: Vec<Entry>,
}

const HEAD: usize = 8;
/// No frame is larger: requests are bounded far below.
const LARGEST: usize = 64 << 20;

/// Appends a frame's bytes.
pub fn encode(frame: &Frame, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.extend_from_slice(&frame.revision.to_le_bytes());
    for entry in &frame.entries {
        out.push(u8::from(entry.deleted));
        out.extend_from_slice(&(entry.key.len() as u32).to_le_bytes());
        out.extend_from_slice(&(entry.value.len() as u32).to_le_bytes());
        for n in [entry.create_revision, entry.mod_revision, entry.version] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&entry.expires.to_le_bytes());
        out.extend_from_slice(entry.key.as_bytes());
        out.extend_from_slice(&entry.value);
    }
    let length = (out.len() - start - HEAD) as u32;
    let crc = crc32fast::hash(&out[start + HEAD..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Why there is no frame at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFrame {
    /// Nothing was written here.
    End,
    /// Written in part, or damaged.
    Damaged(&'static str),
}

/// Reads the frame at the start of `bytes`, and its length in bytes.
///
/// # Errors
/// When there is none, or a damaged one.
pub fn decode(bytes: &[u8]) -> Result<(Frame, usize), NoFrame> {
    let Some(head) = bytes.first_chunk::<HEAD>() else {
        return if bytes.iter().all(|&b| b == 0) { Err(NoFrame::End) } else { Err(NoFrame::Damaged("short head")) };
    };
    let [l0, l1, l2, l3, c0, c1, c2, c3] = *head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let crc = u32::from_le_bytes([c0, c1, c2, c3]);
    if length == 0 && crc == 0 {
        return Err(NoFrame::End);
    }
    if length > LARGEST {
        return Err(NoFrame::Damaged("impossible length"));
    }
    let payload = bytes.get(HEAD..HEAD + length).ok_or(NoFrame::Damaged("cut short"))?;
    if crc32fast::hash(payload) != crc {
        return Err(NoFrame::Damaged("checksum"));
    }
    let frame = parse(payload).ok_or(NoFrame::Damaged("malformed payload"))?;
    Ok((frame, HEAD + length))
}

fn parse(mut rest: &[u8]) -> Option<Frame> {
    fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
        let (head, tail) = rest.split_first_chunk::<N>()?;
        *rest = tail;
        Some(*head)
    }
    let mut frame = Frame { revision: i64::from_le_bytes(take(&mut rest)?), entries: Vec::new() };
    while !rest.is_empty() {
        let [deleted] = take::<1>(&mut rest)?;
        let key = u32::from_le_bytes(take(&mut rest)?) as usize;
        let value = u32::from_le_bytes(take(&mut rest)?) as usize;
        let create_revision = i64::from_le_bytes(take(&mut rest)?);
        let mod_revision = i64::from_le_bytes(take(&mut rest)?);
        let version = i64::from_le_bytes(take(&mut rest)?);
        let expires = u64::from_le_bytes(take(&mut rest)?);
        let (key, tail) = rest.split_at_checked(key)?;
        let (value, tail) = tail.split_at_checked(value)?;
        rest = tail;
        frame.entries.push(Entry {
            key: std::str::from_utf8(key).ok()?.to_owned(),
            value: value.to_vec(),
            deleted: deleted != 0,
            create_revision,
            mod_revision,
            version,
            expires,
        });
    }
    Some(frame)
}

/// How much of a segment is preallocated at a time.
const PREALLOCATED: u64 = 16 << 20;

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    file: File,
    end: u64,
    allocated: u64,
}

impl Segment {
    /// Opens a segment whose frames end at `end`; makes it when it is not there.
    pub(crate) fn open(dir: &Path, number: u64, end: u64) -> Result<Self, OpenError> {
        let path = dir.join(format!("{number:08}.log"));
        let io = |source| OpenError::Io { path: path.clone(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        // Zeros after the end, whatever a torn write left there.
        if length > end {
            file.set_len(end).map_err(io)?;
        }
        file.sync_all().map_err(io)?;
        sync_dir(dir)?;
        Ok(Self { number, path, file, end, allocated: end })
    }

    /// Appends and flushes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let end = self.end + bytes.len() as u64;
        if end + HEAD as u64 > self.allocated {
            let size = end + PREALLOCATED;
            // Not all file systems can; appending grows the file then.
            match rustix::fs::fallocate(
                &self.file,
                rustix::fs::FallocateFlags::empty(),
                self.allocated,
                size - self.allocated,
            ) {
                Ok(()) => self.allocated = size,
                Err(rustix::io::Errno::NOSPC) => {}
                Err(rustix::io::Errno::OPNOTSUPP) => self.allocated = end,
                Err(error) => return Err(error.into()),
            }
        }
        let written = self.file.write_all_at(bytes, self.end).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What was written in part must not be read as frames after a later success.
            let _ = self.file.set_len(self.end);
            self.allocated = self.end;
            return Err(error);
        }
        self.end = end;
        Ok(())
    }

    pub(crate) fn size(&self) -> u64 {
        self.end
    }
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|source| OpenError::Io { path: dir.to_owned(), source })
}

/// What a directory holds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The segment to go on with, and where its frames end.
    pub(crate) segment: u64,
    pub(crate) end: u64,
    /// Bytes of log that a checkpoint would free.
    pub(crate) bytes: u64,
    /// Files that a checkpoint has made superfluous.
    pub(crate) stale: Vec<PathBuf>,
}

/// Reads a directory; `each` gets all frames in order, with whether they are of a checkpoint.
pub(crate) fn recover(dir: &Path, mut each: impl FnMut(Frame, bool)) -> Result<Found, OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let (mut logs, mut checkpoints) = (Vec::new(), Vec::new());
    let mut found = Found::default();
    for entry in std::fs::read_dir(dir).map_err(io(dir))? {
        let path = entry.map_err(io(dir))?.path();
        let number = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<u64>().ok());
        match (path.extension().and_then(|e| e.to_str()), number) {
            (Some("log"), Some(number)) => logs.push((number, path)),
            (Some("checkpoint"), Some(number)) => checkpoints.push((number, path)),
            (Some("tmp"), _) => found.stale.push(path),
            _ => {}
        }
    }
    logs.sort();
    checkpoints.sort();
    let base = checkpoints.pop();
    found.stale.extend(checkpoints.into_iter().map(|(_, path)| path));
    let first = base.as_ref().map_or(0, |(number, _)| number + 1);
    if let Some((_, path)) = &base {
        let bytes = read(path)?;
        let mut at = 0;
        loop {
            match decode(&bytes[at..]) {
                Ok((frame, length)) => {
                    each(frame, true);
                    at += length;
                }
                Err(NoFrame::End) => break,
                // A checkpoint is renamed into place when it is whole.
                Err(NoFrame::Damaged(what)) => {
                    return Err(OpenError::Corrupt { path: path.clone(), offset: at as u64, what });
                }
            }
        }
    }
    found.segment = first.max(1);
    let last = logs.last().map(|(number, _)| *number);
    for (number, path) in logs {
        if number < first {
            found.stale.push(path);
            continue;
        }
        let bytes = read(&path)?;
        let mut at = 0;
        loop {
            match decode(&bytes[at..]) {
                Ok((frame, length)) => {
                    each(frame, false);
                    at += length;
                }
                Err(NoFrame::End) => break,
                Err(NoFrame::Damaged(_)) if Some(number) == last => {
                    // The last flush was never acknowledged; what it left is kept aside for who wants to look.
                    tracing::warn!(file = %path.display(), offset = at, "the last write was cut short and is dropped");
                    let rest = bytes[at..].iter().rposition(|&b| b != 0).map_or(at, |last| at + last + 1);
                    let aside = path.with_extension("torn");
                    std::fs::write(&aside, &bytes[at..rest]).map_err(io(&aside))?;
                    break;
                }
                Err(NoFrame::Damaged(what)) => return Err(OpenError::Corrupt { path, offset: at as u64, what }),
            }
        }
        found.bytes += at as u64;
        (found.segment, found.end) = (number, at as u64);
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// Writes a checkpoint that replaces segments up to `number`, then removes them.
pub(crate) fn checkpoint(dir: &Path, number: u64, frames: impl Iterator<Item = Frame>) -> Result<(), OpenError> {
    use std::io::Write;
    let temporary = dir.join(format!("{number:08}.tmp"));
    let path = dir.join(format!("{number:08}.checkpoint"));
    let io = |source| OpenError::Io { path: temporary.clone(), source };
    let mut out = std::io::BufWriter::with_capacity(1 << 20, File::create(&temporary).map_err(io)?);
    let mut bytes = Vec::new();
    for frame in frames {
        bytes.clear();
        encode(&frame, &mut bytes);
        out.write_all(&bytes).map_err(io)?;
    }
    out.flush().map_err(io)?;
    out.get_ref().sync_all().map_err(io)?;
    std::fs::rename(&temporary, &path).map_err(io)?;
    sync_dir(dir)?;
    let mut old = Found::default();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let n = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<u64>().ok());
        let stale = match (path.extension().and_then(|e| e.to_str()), n) {
            (Some("log"), Some(n)) => n <= number,
            (Some("checkpoint"), Some(n)) => n < number,
            _ => false,
        };
        if stale {
            old.stale.push(path);
        }
    }
    for path in old.stale {
        std::fs::remove_file(&path).map_err(|source| OpenError::Io { path, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = Entry> {
        ("[a-z/]{0,20}", proptest::collection::vec(any::<u8>(), 0..50), any::<bool>(), any::<(i64, i64, i64, u64)>())
            .prop_map(|(key, value, deleted, (create_revision, mod_revision, version, expires))| Entry {
                key,
                value,
                deleted,
                create_revision,
                mod_revision,
                version,
                expires,
            })
    }

    proptest! {
        #[test]
        fn frames_round_trip(revision in 1_i64.., entries in proptest::collection::vec(entry(), 0..5)) {
            let frame = Frame { revision, entries };
            let mut bytes = Vec::new();
            encode(&frame, &mut bytes);
            prop_assert_eq!(decode(&bytes), Ok((frame, bytes.len())));
        }

        #[test]
        fn a_cut_or_flipped_frame_is_noticed(entries in proptest::collection::vec(entry(), 1..3), cut in any::<u16>(), flip in any::<u8>()) {
            let mut bytes = Vec::new();
            encode(&Frame { revision: 7, entries }, &mut bytes);
            let at = usize::from(cut) % bytes.len();
            prop_assert!(decode(&bytes[..at]).is_err());
            if flip != 0 {
                bytes[at] ^= flip;
                prop_assert!(decode(&bytes).is_err());
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }
}
