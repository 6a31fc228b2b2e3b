//! The log on disk.
//!
//! A data directory holds, by number:
//!
//! | file | what it is |
//! |---|---|
//! | `N.log` | a segment: changes in the order of their revisions |
//! | `N.checkpoint` | all keys as they were at the end of `N.log`; makes that and older files superfluous |
//! | `N.tmp` | a checkpoint that was not finished; removed when the store is opened |
//! | `N.torn` | what an unfinished flush left at the end of `N.log`, for who wants to look |
//! | `lock` | held by the process that has the store open |
//!
//! Both kinds of file begin with a [`MAGIC`](frame::MAGIC) of 8 bytes that names kind and version, and go on with frames:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the payload |
//! | 4 | CRC-32 of the payload |
//! | 8 | payload: the revision |
//! | 8 | payload: the first revision of the same flush |
//! | ... | payload: entries, until its end |
//!
//! An entry is: 1 byte, whether the key is removed; 4, length of the key; 4, length of the value; 8 each, the revision
//! that made the key, the one that wrote it, how many times it was written, and the second since 1970 at which it goes
//! (0: never); then key and value (of a removed key, its last). All numbers are little-endian.
//!
//! A segment is preallocated with zeros, so that a flush need not change the file's size; a length and checksum of zero
//! mark its end. A flush is acknowledged when `fdatasync` has returned, and only then the next begins. So a damaged frame
//! is an unfinished flush, and is dropped, only when no later flush follows it; otherwise the file was damaged afterwards:
//! the damage is named, and everything else is kept. A checkpoint holds one key per frame, and ends with an empty frame.

mod checkpoint;
mod frame;
mod recover;
mod segment;

pub(crate) use checkpoint::checkpoint;
pub use frame::{Entry, Frame, NoFrame, decode, encode};
pub(crate) use recover::recover;
pub(crate) use segment::{Segment, sync_dir};
