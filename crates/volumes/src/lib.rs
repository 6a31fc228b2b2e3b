//! Volumes as the host sees them: directories that are made, filled, and removed.
//!
//! What a pod asks for, and where its content comes from, the node agent knows; here are paths, bytes and mounts.
//!
//! - [`empty_dir`] makes directories that live as long as their pod, on disk or in memory;
//! - [`host_path`] checks paths of the host;
//! - [`atomic`] replaces a volume's files at once ([`Files`]), for everything that shows objects of the API;
//! - [`sub_path`] mounts a part of a volume, whatever its containers do to it meanwhile;
//! - [`remove`] takes all of it away.

pub mod atomic;
pub mod empty_dir;
pub mod host_path;
pub mod sub_path;
mod teardown;

pub use atomic::{File, Files};
pub use teardown::remove;
