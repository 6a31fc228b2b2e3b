//! Frames: the unit of the log that is whole or damaged.

/// The first bytes of a segment; the last of them is the version.
pub const MAGIC: [u8; 8] = *b"TRLOG\0\0\x01";

/// A change as it is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a str,
    /// The value; for a removed key, its last state.
    pub value: &'a [u8],
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

/// Changes of one revision; of a checkpoint, one of its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The revision.
    pub revision: i64,
    /// The first revision of the flush that wrote it.
    pub flush: i64,
    /// The changes.
    pub entries: Vec<Entry<'a>>,
}

const HEAD: usize = 8;
/// No frame is larger: requests are bounded far below.
const LARGEST: usize = 64 << 20;

/// Appends a frame's bytes.
pub fn encode(frame: &Frame<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.extend_from_slice(&frame.revision.to_le_bytes());
    out.extend_from_slice(&frame.flush.to_le_bytes());
    for entry in &frame.entries {
        out.push(u8::from(entry.deleted));
        out.extend_from_slice(&(entry.key.len() as u32).to_le_bytes());
        out.extend_from_slice(&(entry.value.len() as u32).to_le_bytes());
        for n in [entry.create_revision, entry.mod_revision, entry.version] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&entry.expires.to_le_bytes());
        out.extend_from_slice(entry.key.as_bytes());
        out.extend_from_slice(entry.value);
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
pub fn decode(bytes: &[u8]) -> Result<(Frame<'_>, usize), NoFrame> {
    let Some(head) = bytes.first_chunk::<HEAD>() else {
        return Err(if bytes.iter().all(|&b| b == 0) { NoFrame::End } else { NoFrame::Damaged("cut short") });
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
        return Err(NoFrame::Damaged("wrong checksum"));
    }
    let frame = parse(payload).ok_or(NoFrame::Damaged("malformed payload"))?;
    Ok((frame, HEAD + length))
}

/// Finds the next whole frame, whose revision is in `revisions`; gives its place.
///
/// Every byte is tried, but the checksum only where a revision stands that can be.
pub(super) fn resume(bytes: &[u8], from: usize, revisions: std::ops::Range<i64>) -> Option<usize> {
    const REVISION: usize = HEAD + 8;
    (from..bytes.len().saturating_sub(REVISION)).find(|&at| {
        let Some(revision) = bytes.get(at + HEAD..).and_then(|b| b.first_chunk::<8>()) else { return false };
        revisions.contains(&i64::from_le_bytes(*revision)) && decode(&bytes[at..]).is_ok()
    })
}

fn parse(mut rest: &[u8]) -> Option<Frame<'_>> {
    fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
        let (head, tail) = rest.split_first_chunk::<N>()?;
        *rest = tail;
        Some(*head)
    }
    let revision = i64::from_le_bytes(take(&mut rest)?);
    let flush = i64::from_le_bytes(take(&mut rest)?);
    let mut frame = Frame { revision, flush, entries: Vec::new() };
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
        let key = std::str::from_utf8(key).ok()?;
        let deleted = deleted != 0;
        frame.entries.push(Entry { key, value, deleted, create_revision, mod_revision, version, expires });
    }
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (String, Vec<u8>, bool, (i64, i64, i64, u64));

    fn owned() -> impl Strategy<Value = Owned> {
        ("[a-z/]{0,20}", proptest::collection::vec(any::<u8>(), 0..50), any::<bool>(), any::<(i64, i64, i64, u64)>())
    }

    fn frame(revision: i64, entries: &[Owned]) -> Frame<'_> {
        let entries = entries.iter().map(|(key, value, deleted, (create, modified, version, expires))| Entry {
            key,
            value,
            deleted: *deleted,
            create_revision: *create,
            mod_revision: *modified,
            version: *version,
            expires: *expires,
        });
        Frame { revision, flush: revision, entries: entries.collect() }
    }

    proptest! {
        #[test]
        fn frames_round_trip(revision in 1_i64.., entries in proptest::collection::vec(owned(), 0..5)) {
            let frame = frame(revision, &entries);
            let mut bytes = Vec::new();
            encode(&frame, &mut bytes);
            prop_assert_eq!(decode(&bytes), Ok((frame, bytes.len())));
        }

        #[test]
        fn a_cut_or_flipped_frame_is_noticed(entries in proptest::collection::vec(owned(), 1..3), cut in any::<u16>(), flip in any::<u8>()) {
            let mut bytes = Vec::new();
            encode(&frame(7, &entries), &mut bytes);
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
            let _ = resume(&bytes, 0, 0..i64::MAX);
        }
    }
}
