//! Assigns pods to nodes.
//!
//! One task owns all state, so there are no locks on the way of a decision:
//!
//! - [`view`] decodes the few fields of pods and nodes that matter; [`PodInfo`] and [`NodeInfo`] are what is kept of them.
//!   All that placement asks of a pod is its [`PodShape`], held once for all pods that are alike.
//! - [`Cluster`] is the scheduler's picture: nodes with what is used of them, by bound pods and by pods that are assumed
//!   to be bound soon; with counts for affinity and spreading that follow every change.
//! - [`queue`] holds the pods that wait: ready ones by priority and age, failed ones until something has changed that may
//!   help and their back-off ends.
//! - [`framework`] says how plugins take part (KEP-624), [`plugins`] are those that there are.
//! - [`cycle`] is one decision, a function of pod and picture; it remembers what was found for pods of the same shape.
//! - [`Core`] is all of this without the API, [`Scheduler`] feeds it from informers ([`Intake`]) and turns decisions into
//!   bindings, events and conditions.
//!
//! # A plugin
//!
//! Implement [`framework::Plugin`], name it in [`plugins::DEFAULTS`] and [`plugins::make`]; what it knows of the world
//! is one of [`plugins::Sources`], which follow further objects with [`Intake::follow`].

mod approvals;
mod binding;
mod cluster;
pub mod config;
mod core;
pub mod cycle;
mod diagnosis;
mod events;
pub mod framework;
mod handle;
pub mod index;
mod intake;
mod metrics;
mod node;
mod nominator;
pub mod plugins;
mod pod;
mod profiles;
pub mod queue;
mod report;
mod requests;
mod resources;
mod scheduler;
mod selector;
mod shape;
mod taint;
#[cfg(test)]
mod testing;
pub mod view;

pub use approvals::{Approvals, Wait};
pub use cluster::{Cluster, ImageSpread};
pub use core::{Core, Decision, Failure, Placed};
pub use diagnosis::Diagnosis;
pub use handle::Handle;
pub use intake::{Changed, Dirty, Intake};
pub use metrics::{Ended, Metrics};
pub use node::{NodeInfo, NodeSpec};
pub use nominator::Nominator;
pub use pod::PodInfo;
pub use profiles::Profiles;
pub use report::{Nominated, Report};
pub use requests::Requests;
pub use resources::{BadQuantity, ResourceList, ResourceName, Resources};
pub use scheduler::Scheduler;
pub use selector::{LabelSelector, Labels, NodeSelector, NodeTerm, Operator, Requirement};
pub use shape::{HostPort, Namespaces, PodSelector, PodShape, Shapes, Spread, Term};
pub use taint::{Taint, Toleration};
