//! What the machine has, and what of it pods can have.

use super::number_after;
use crate::config::NodeConfig;
use crate::eviction::Signal;
use std::fs;
use trireme_schema::{Map, Value};

/// The machine's memory in bytes.
pub(crate) fn memory() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    number_after(&text, "MemTotal:").unwrap_or_default() * 1024
}

fn disk(config: &NodeConfig) -> u64 {
    super::disk(&config.root).map_or(0, |d| d.bytes.1)
}

/// Large pages by their resource's name, in bytes.
fn hugepages() -> Vec<(String, u64)> {
    let sizes = [("hugepages-1Gi", 1_u64 << 20), ("hugepages-2Mi", 2 << 10)];
    let bytes = |kib: u64| {
        let path = format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages");
        super::first_line(&path).parse::<u64>().unwrap_or_default() * kib * 1024
    };
    sizes.into_iter().map(|(name, kib)| (name.to_owned(), bytes(kib))).collect()
}

fn all(config: &NodeConfig, memory: i64, disk: String) -> Value {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pages = hugepages();
    let in_pages: u64 = pages.iter().map(|(_, bytes)| bytes).sum();
    let mut map = Map::from_iter([
        ("cpu", cores.to_string()),
        ("ephemeral-storage", disk),
        ("memory", format!("{}Ki", memory.saturating_sub_unsigned(in_pages) / 1024)),
        ("pods", config.max_pods.to_string()),
    ]);
    for (name, bytes) in pages {
        map.insert(name, if bytes == 0 { "0".to_owned() } else { format!("{}Mi", bytes >> 20) });
    }
    Value::Object(map)
}

/// What the machine has.
pub(crate) fn capacity(config: &NodeConfig) -> Value {
    let mut all = all(config, memory(), format!("{}Ki", disk(config) / 1024));
    all.set_at(&["memory"], format!("{}Ki", memory() / 1024));
    all
}

/// What pods can have.
pub(crate) fn allocatable(config: &NodeConfig) -> Value {
    let left = |signal, capacity: u64| capacity.saturating_sub(config.eviction.kept_back(signal, capacity));
    let memory = left(Signal::Memory, u64::try_from(memory()).unwrap_or_default());
    let disk = left(Signal::Nodefs, disk(config));
    all(config, i64::try_from(memory).unwrap_or(i64::MAX), disk.to_string())
}
