//! CEL rules of schemas (`x-kubernetes-validations`).

mod compile;
mod run;
mod schema;
#[cfg(test)]
mod tests;

pub(crate) use compile::{Compiled, compile};
pub use run::check;

/// What one expression may cost.
pub(crate) const PER_CALL: u64 = 1_000_000;
/// What all rules may cost for one object.
pub(crate) const PER_OBJECT: u64 = 10_000_000;
/// The largest request, in bytes.
pub(crate) const LARGEST_REQUEST: u64 = 3 * 1024 * 1024;
