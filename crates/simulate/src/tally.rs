//! What has happened so far.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many there are now.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn change(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        // Different tasks count up and down: in between it may be short.
        u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// The numbers of a simulation.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) registered: Counter,
    /// Nodes that are registered and answer.
    pub(crate) ready: Gauge,
    pub(crate) flaps: Counter,
    pub(crate) killed: Counter,
    /// Nodes with pods that wait for the node to be given addresses.
    pub(crate) without_addresses: Gauge,
    /// Pods that nodes have heard of.
    pub(crate) scheduled: Counter,
    pub(crate) started: Counter,
    pub(crate) succeeded: Counter,
    pub(crate) failed: Counter,
    /// Containers that were started again.
    pub(crate) restarted: Counter,
    pub(crate) deleted: Counter,
    /// Pods on nodes whose containers have not started.
    pub(crate) starting: Gauge,
    pub(crate) running: Gauge,
    /// Pods on nodes that are over.
    pub(crate) over: Gauge,
}
