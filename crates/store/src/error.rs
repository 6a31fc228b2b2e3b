//! What can go wrong.

use crate::record::Record;
use std::path::PathBuf;
use std::sync::Arc;

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A value is sealed, and cannot be opened.
    #[error("the value of {key} (and of {others} other keys) cannot be opened: {why}")]
    Sealed {
        /// The first such key.
        key: String,
        /// How many others there are.
        others: usize,
        /// Why.
        why: String,
    },
    /// A file is not ours, or of another version.
    #[error("{path} is no log of this version of Trireme: {why}; move it away or use the version that wrote it")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What speaks against it.
        why: &'static str,
    },
}

/// A place in a file that holds something else than what was written there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {length} bytes at byte {offset} are damaged: {what}")]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where it begins.
    pub offset: u64,
    /// How much.
    pub length: u64,
    /// What is wrong.
    pub what: &'static str,
}

/// A transaction was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// A comparison failed; nothing was changed.
    #[error("the key {key} has changed")]
    Conflict {
        /// The key that differs.
        key: String,
        /// What it holds now; `None` when it does not exist.
        current: Option<Arc<Record>>,
    },
    /// The disk refused; nothing was changed, and the store goes on.
    #[error("cannot write to {path}: {why}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// In words.
        why: String,
        /// No space is left.
        full: bool,
    },
    /// The value cannot be sealed; nothing was changed.
    #[error("the value of {key} cannot be encrypted: {why}")]
    Sealed {
        /// The key.
        key: String,
        /// Why.
        why: String,
    },
    /// An engine on other machines does not answer; whether the change happened is not known.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// Too many writes wait for the disk.
    #[error("too many writes are waiting for the disk")]
    Busy,
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
}

/// Events from this revision on are no longer kept.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("revision {asked} is too old, events are kept from {oldest}")]
pub struct TooOld {
    /// The revision asked for.
    pub asked: i64,
    /// The oldest that can be had.
    pub oldest: i64,
}

/// A state or its events cannot be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadError {
    /// They are no longer kept.
    #[error(transparent)]
    TooOld(#[from] TooOld),
    /// An engine on other machines does not answer.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
}
