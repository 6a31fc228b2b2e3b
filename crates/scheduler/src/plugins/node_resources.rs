//! What nodes have to offer.

mod balanced;
mod fit;
mod strategy;

pub use balanced::NodeResourcesBalancedAllocation;
pub use fit::NodeResourcesFit;
pub use strategy::{Strategy, Weighed};
