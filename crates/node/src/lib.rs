//! The node agent: what upstream calls the kubelet.
//!
//! [`Node`] registers itself and keeps its lease; every pod that is bound to it gets a worker, a task that compares what
//! the pod asks for with what the container runtime (over CRI, whichever it is) says, makes one step, and waits for the
//! next event. What a step is, `plan` decides; `container` and `sandbox` translate pods into CRI's words, `status`
//! translates back. [`api`] is what the API server calls for logs and streams.

mod admit;
pub mod api;
mod backoff;
mod calls;
mod config;
mod container;
mod cri;
mod environment;
mod eviction;
mod image_collection;
mod lease;
mod log_rotation;
mod machine;
mod node;
mod node_status;
mod plan;
mod pod_cidrs;
mod pods;
mod probe;
mod pull_secrets;
mod register;
mod runtime_events;
mod runtime_state;
mod sandbox;
mod sources;
mod spec;
pub mod status;
mod volumes;
mod watch;
mod worker;

pub use backoff::Backoff;
pub use config::NodeConfig;
pub use cri::Cri;
pub use eviction::{InvalidThreshold, Signal, Thresholds};
pub use machine::arch;
pub use node::{Error, Node};
pub use runtime_events::RuntimeEvents;
pub use spec::{is_sidecar, restarts};
pub use volumes::tear_down_all;
