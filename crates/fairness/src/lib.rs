//! Seats for requests: priority levels that lend to each other, queues that are fair to flows (KEP-1040).
//!
//! A [`Control`] shares a server's seats among levels. [`Level::enter`] gives a [`Permit`] at once while the level has
//! seats; otherwise the request waits in one of the queues that its flow is dealt, so that a flow of many requests
//! fills a few queues and the others pass. A level that is short of seats borrows from levels that do not use theirs.
//!
//! On the way of a request that need not wait there is one short lock, of its level alone.

mod allocation;
mod control;
mod level;
mod queues;

pub use allocation::{Bounds, Shares, bounds};
pub use control::Control;
pub use level::{Level, Numbers, Permit, Refused};
pub use queues::Queuing;

/// What a level is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spec {
    /// All pass at once.
    Exempt,
    /// So many pass at a time.
    Limited {
        /// Its part of the seats.
        shares: Shares,
        /// How requests wait; without it they are refused.
        queuing: Option<Queuing>,
    },
}
