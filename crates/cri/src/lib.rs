//! The Container Runtime Interface, version 1: what a node says to a container runtime.
//!
//! Messages and services are made at build time from `api/runtime.v1.cri`, names and numbers of upstream's interface.
//! What each means, upstream's documentation of CRI says.

#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used)] // made by tonic-prost-build
mod generated {
    tonic::include_proto!("runtime.v1");
}

pub use generated::*;
