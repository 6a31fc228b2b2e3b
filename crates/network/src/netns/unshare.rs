//! Leaving the thread's network namespace for a new one.
#![allow(unsafe_code)]

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves the calling thread, and only it, into a new network namespace.
pub(super) fn network() -> io::Result<()> {
    // SAFETY: the flag moves the network namespace; no descriptor table is unshared, so descriptors stay valid.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(Into::into)
}
