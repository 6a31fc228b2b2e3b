//! The shim: one small process a pod, which holds its namespaces, starts its containers, keeps their logs and their
//! exit codes, and outlives Trireme.
//!
//! It has one thread, so that it may fork, and waits in `poll`. [`run`] is its main function; the binary calls it for a
//! hidden subcommand. Trireme speaks to it over a socket, with the words of `spec`; descriptors travel along.

mod client;
mod container;
mod exits;
mod filter;
mod log;
mod output;
mod process;
mod serve;
mod spawn;
mod spec;
pub(crate) mod sys;

pub use serve::run;
pub use spec::{ContainerSpec, Exit, FilterStep, Limits, MountSpec, ProcessSpec, Reply, Request, SandboxSpec};

/// The socket in the shim's directory.
pub const SOCKET: &str = "shim.sock";
/// The sandbox's description in the shim's directory.
pub const SPEC: &str = "sandbox.json";

/// Sets the size of a terminal that an exec or attach was given.
///
/// # Errors
/// When the descriptor is no terminal.
pub fn resize(fd: std::os::fd::BorrowedFd<'_>, rows: u16, columns: u16) -> std::io::Result<()> {
    sys::resize(fd, rows, columns)
}
