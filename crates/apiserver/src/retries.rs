//! Who lost a race for an object waits in line with the others that did, so that each wins in the end.

use std::hash::{BuildHasher, RandomState};
use tokio::sync::{Mutex, MutexGuard};

/// Objects that share a line by chance only wait a little longer.
const LINES: usize = 64;

/// Lines of writers, by the key of what they want to change.
pub struct Retries {
    lines: [Mutex<()>; LINES],
    hasher: RandomState,
}

impl Default for Retries {
    fn default() -> Self {
        Self { lines: std::array::from_fn(|_| Mutex::new(())), hasher: RandomState::new() }
    }
}

impl Retries {
    /// The turn of one writer; the first come is the first served.
    pub async fn turn(&self, key: &str) -> MutexGuard<'_, ()> {
        let line = self.hasher.hash_one(key) % LINES as u64;
        self.lines[usize::try_from(line).unwrap_or_default()].lock().await
    }
}
