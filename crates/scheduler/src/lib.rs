//! Assigns pods to nodes.
//!
//! One task owns all state, so there are no locks on the way of a decision:
//!
//! - [`view`] decodes the few fields of pods and nodes that matter; [`PodInfo`] and [`NodeInfo`] are what is kept of them.
//! - [`Cluster`] is the scheduler's picture: nodes with what is used of them, by bound pods and by pods that are assumed
//!   to be bound soon.
//! - [`Queue`] holds the pods that wait: ready ones by priority and age, failed ones until their back-off ends and
//!   something has changed that may help.
//! - [`Plugin`]s filter and score nodes; [`Framework::choose`] is one decision, a function of pod and picture.
//! - [`Scheduler`] feeds the picture from informers, and turns decisions into bindings, events and conditions.

mod cluster;
mod diagnosis;
mod framework;
mod node;
mod plugins;
mod pod;
mod queue;
mod resources;
mod scheduler;
pub mod view;

pub use cluster::Cluster;
pub use diagnosis::Diagnosis;
pub use framework::{Framework, Plugin, Rejection, Scores};
pub use node::{NodeInfo, Taint};
pub use plugins::defaults;
pub use pod::{HostPort, PodInfo};
pub use queue::{Hint, Queue};
pub use resources::{ResourceName, Resources};
pub use scheduler::{Scheduler, SchedulerConfig};
