//! One decision: a function of a pod and of the picture of the cluster.

mod choose;
mod classes;
mod sample;

pub use choose::{Active, Chooser, Chosen, Feasible, Unfit};
