//! What can stand behind a store.

use crate::error::{CommitError, ReadError};
use crate::record::Record;
use crate::topic::Event;
use crate::txn::{Committed, Txn};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::sync::Arc;

/// A durable key space with the semantics of etcd's: one revision that every transaction raises by one, compare and swap,
/// reads at a revision, events after a revision, compaction.
///
/// [`Embedded`](crate::Embedded) is the log on local disk. An etcd cluster can be another; what differs there:
///
/// - A value's revision is known only afterwards: what is stored is the [`Template`](crate::Template), and the revision
///   goes into its hole whenever it is read.
/// - A key that goes by itself (`expires`) hangs on a lease; keys with the same instant can share one.
/// - `last` of a deletion cannot be said: watchers see the last value.
pub trait Engine: Send + Sync {
    /// Does a transaction; returns when it is durable.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>>;

    /// Reads keys with a prefix, in order.
    fn range(&self, range: Range) -> BoxFuture<'_, Result<Page, ReadError>>;

    /// All events after a revision, of all keys.
    fn watch(&self, after: i64) -> BoxStream<'static, Result<Batch, ReadError>>;

    /// Lets go of the states before a revision.
    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), ReadError>>;
}

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// What keys begin with; empty for all.
    pub prefix: String,
    /// Only keys after this one.
    pub after: Option<String>,
    /// At most so many; 0 for all.
    pub limit: usize,
    /// As they were at this revision; 0 for the newest.
    pub revision: i64,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Page {
    /// Sorted by key.
    pub records: Vec<Arc<Record>>,
    /// The revision at which they were so.
    pub revision: i64,
    /// There are more.
    pub more: bool,
}

/// Events of whole revisions, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What happened.
    pub events: Vec<Arc<Event>>,
    /// Everything up to here has now been said.
    pub revision: i64,
}
