//! The pods that wait for a node.

mod in_flight;
mod waiting;

pub use waiting::{Attempt, Backoff, Outcome, Queue, Rules};
