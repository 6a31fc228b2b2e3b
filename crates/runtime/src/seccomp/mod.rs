//! Seccomp profiles of an operator's own (`seccompProfile.type: Localhost`): read, and made into the kernel's programs.
//!
//! The profile RuntimeDefault is in `shim/filter.rs`.

mod compile;
mod profile;

pub(crate) use compile::compile;
pub(crate) use profile::Profile;
