//! The reconcilers that turn desired state into objects, a file each.
//!
//! All are of one shape. A struct holds informers and a client; `watch` says which objects it follows and which keys an
//! event about one touches; `reconcile` reads the state around one key and makes one idempotent step. What the step is,
//! a pure function beside it decides. `controller.rs` runs any of them: queue, workers, back-off, timers, shutdown;
//! `controllers.rs` is the table of all.
//!
//! - Workloads: `deployment`, `replica_set`, `replication_controller`, `stateful_set`, `daemon_set`, `job`, `cron_job`,
//!   `ttl_after_finished`, `disruption`. They share `pod_control` (creating, deleting and claiming pods),
//!   `expectations` (what was asked for and is not seen yet), `replicas` and `revisions`.
//! - Autoscaling: `horizontal_pod_autoscaler`.
//! - Services: `endpoint_slice`, `endpoints`, `endpoint_slice_mirroring`, `service_cidr`.
//! - Nodes: `node_lifecycle`, `taint_eviction`, `node_ipam`, `node_ttl`, `pod_gc`.
//! - Life and death of objects: `namespace`, `garbage_collector`, `resource_quota`.
//! - Volumes: `volume_binder`, `attach_detach`, `volume_expand`, `pv_protection`, `pvc_protection`,
//!   `volume_attributes_class_protection`, `ephemeral_volume`.
//! - Devices: `resource_claim`, `device_taint_eviction`.
//! - Identity: `service_account`, `service_account_tokens`, `root_ca`, `certificates`, `bootstrap_tokens`, `legacy_tokens`,
//!   `cluster_role_aggregation`.
//! - Admission: `validating_policy_status`.
//!
//! ```no_run
//! use std::sync::Arc;
//! use tokio_util::sync::CancellationToken;
//! use trireme_client::{Client, Informers};
//! use trireme_controllers::{Clock, Controllers, Options};
//!
//! fn start(client: Client, root_ca: String, shutdown: CancellationToken) {
//!     let informers = Arc::new(Informers::new(client.clone(), shutdown.clone()));
//!     let options = Options { root_ca, ..Options::default() };
//!     // Here all act as one; a cluster gives each its own service account.
//!     Controllers::start(options, Arc::new(move |_| client.clone()), informers, Clock::system(), shutdown);
//! }
//! ```

mod attach_detach;
mod bootstrap_tokens;
mod certificates;
mod clock;
mod cluster_role_aggregation;
mod context;
mod controller;
mod controllers;
mod cron_job;
mod daemon_set;
mod deployment;
mod device_claims;
mod device_taint_eviction;
mod discovery;
mod disrupt;
mod disruption;
mod endpoint_slice;
mod endpoint_slice_mirroring;
mod endpoints;
mod ephemeral_volume;
mod error;
mod expectations;
#[cfg(test)]
mod fake_api;
mod garbage_collector;
mod hash;
mod horizontal_pod_autoscaler;
mod job;
mod legacy_tokens;
mod merge_patch;
mod namespace;
mod node_affinity;
mod node_ipam;
mod node_lifecycle;
mod node_ttl;
mod options;
mod owner;
mod percent;
mod pod_control;
mod pod_gc;
mod pod_template;
mod pods_by_node;
mod pv_protection;
mod pvc_protection;
mod replica_set;
mod replicas;
mod replication_controller;
mod resource_claim;
mod resource_quota;
mod revisions;
mod root_ca;
mod selector;
mod service_account;
mod service_account_tokens;
mod service_cidr;
mod service_pods;
mod service_selectors;
mod slow_start;
mod stateful_set;
mod taint_eviction;
mod taints;
mod ttl_after_finished;
mod validating_policy_status;
mod view;
mod volume_attributes_class_protection;
mod volume_binder;
mod volume_expand;

pub use clock::Clock;
pub use context::Clients;
pub use controller::Requeue;
pub use controllers::Controllers;
pub use error::Error;
pub use options::{Autoscaling, CidrRange, Options};
