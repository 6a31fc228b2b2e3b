//! Transactions: compare, then write.

use crate::record::{Record, Template};
use std::sync::Arc;

/// A key must have been last written at a revision; 0 means that it must not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Arc<str>,
    /// The revision that wrote it last.
    pub mod_revision: i64,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put {
        /// The key.
        key: Arc<str>,
        /// The value.
        value: Template,
        /// When it goes by itself, in seconds since 1970.
        expires: Option<u64>,
    },
    /// Removes a key; nothing happens when it is absent.
    Delete {
        /// The key.
        key: Arc<str>,
        /// What watchers see as its last state; otherwise its last value.
        last: Option<Template>,
    },
}

impl Op {
    /// The key that changes.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Op::Put { key, .. } | Op::Delete { key, .. } => key,
        }
    }
}

/// If all comparisons hold, all changes happen, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold.
    pub compare: Vec<Compare>,
    /// What then happens. A key may appear once.
    pub ops: Vec<Op>,
}

impl Txn {
    /// Sets a key that must not exist.
    pub fn create(key: impl Into<Arc<str>>, value: Template) -> Self {
        Self::update(key, 0, value)
    }

    /// Sets a key that must have been last written at `mod_revision`.
    pub fn update(key: impl Into<Arc<str>>, mod_revision: i64, value: Template) -> Self {
        let key = key.into();
        let compare = vec![Compare { key: key.clone(), mod_revision }];
        Self { compare, ops: vec![Op::Put { key, value, expires: None }] }
    }

    /// Removes a key that must have been last written at `mod_revision`.
    pub fn delete(key: impl Into<Arc<str>>, mod_revision: i64, last: Option<Template>) -> Self {
        let key = key.into();
        let compare = vec![Compare { key: key.clone(), mod_revision }];
        Self { compare, ops: vec![Op::Delete { key, last }] }
    }

    /// Lets what is set go by itself at a time, in seconds since 1970.
    #[must_use]
    pub fn expiring(mut self, at: u64) -> Self {
        for op in &mut self.ops {
            if let Op::Put { expires, .. } = op {
                *expires = Some(at);
            }
        }
        self
    }
}

/// A transaction that is on disk.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its revision.
    pub revision: i64,
    /// For each change, what the key holds now, or held last when it was removed; `None` for what was not there.
    pub records: Vec<Option<Arc<Record>>>,
}
