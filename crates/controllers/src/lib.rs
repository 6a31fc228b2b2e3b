//! The reconcilers that turn desired state into objects, a file each.

mod clock;
mod context;
mod controller;
mod controllers;
mod daemon_set;
mod deployment;
mod discovery;
mod endpoint_slice;
mod endpoints;
mod error;
mod expectations;
#[cfg(test)]
mod fake_api;
mod garbage_collector;
mod hash;
mod job;
mod merge_patch;
mod namespace;
mod node_affinity;
mod node_ipam;
mod node_lifecycle;
mod options;
mod owner;
mod percent;
mod pod_control;
mod pod_gc;
mod pod_template;
mod pods_by_node;
mod replica_set;
mod replicas;
mod revisions;
mod root_ca;
mod selector;
mod service_account;
mod service_pods;
mod service_selectors;
mod slow_start;
mod taint_eviction;
mod taints;
mod ttl_after_finished;
mod view;

pub use clock::Clock;
pub use controller::Requeue;
pub use controllers::Controllers;
pub use error::Error;
pub use options::{CidrRange, Options};
