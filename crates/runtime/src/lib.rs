//! The container runtime behind CRI: images, snapshots, sandboxes, containers.
//!
//! [`images`] keeps root file systems; [`shim`] is the small process that holds a pod and outlives this one;
//! [`cgroup`] bounds it; [`Runtime`] holds the state, and [`Services`] shows all of that as the two services of CRI.
//!
//! The containers' first steps are our own rather than libcontainer's: its seccomp needs a C library, and it must not
//! be called from a process with threads, so the shim that re-executes this program would be needed all the same.

mod capabilities;
pub mod cgroup;
mod cri;
pub mod images;
mod link;
mod network;
mod record;
mod runtime;
mod seccomp;
pub mod shim;
mod users;

pub use cri::Services;
pub use link::ShimCommand;
pub use network::{SandboxAttach, SandboxLink, SandboxNetwork};
pub use runtime::{Config, Error, Event, Runtime, Session};
