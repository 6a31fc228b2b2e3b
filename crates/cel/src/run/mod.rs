//! From a checked expression to its value.

mod attribute;
mod budget;
mod constant;
mod eval;
mod plan;

pub use budget::{Activation, Budget};
pub(crate) use eval::evaluate;
pub(crate) use plan::{Plan, plan};
