//! What evaluations cost, in cel-go's units: one for reading a variable or a field, more for what grows with its input.

mod calls;
mod estimate;
mod kubernetes;
pub mod limits;
mod lists;
mod price;
mod range;

pub(crate) use estimate::estimate;
pub use estimate::{NoHints, SizeHints};
pub(crate) use price::Price;
pub use range::Range;

/// Making a list.
pub(crate) const LIST: u64 = 10;
/// Making a map.
pub(crate) const MAP: u64 = 30;
/// Making an object.
pub(crate) const STRUCT: u64 = 40;
/// Going over a character of a string once.
const CHARACTER: f64 = 0.1;
/// A character of a pattern, for every unit of the text.
const PATTERN_CHARACTER: f64 = 0.25;

/// Rounded up.
fn up(cost: f64) -> u64 {
    cost.ceil() as u64
}
