//! What stands behind a store.

use crate::error::CommitError;
use crate::txn::{Committed, Txn};
use futures::future::BoxFuture;

/// Orders transactions and makes them durable. The embedded log is one; an etcd client can be another, whose watch then
/// feeds the topics.
pub trait Engine: Send + Sync {
    /// Does a transaction; returns when it is durable and visible.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>>;
}
