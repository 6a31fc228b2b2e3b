//! What the machine is and has.

mod capacity;
mod info;
mod left;

use std::fs;

pub(crate) use capacity::{allocatable, capacity, memory};
pub use info::arch;
pub(crate) use info::node_info;
pub(crate) use left::{disk, memory_left, pids_left};

fn number_after(text: &str, key: &str) -> Option<i64> {
    text.lines().find_map(|l| l.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or_default().trim().to_owned()
}
