//! What pods use of the node.

use super::limits::on_disk;
use crate::config::NodeConfig;
use crate::cri::{Cri, label};
use crate::{sandbox, volumes};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use trireme_cri as cri;
use trireme_schema::Value;

/// What a container uses, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) memory: u64,
    /// What it wrote to its root file system and to its logs.
    pub(super) disk: u64,
}

/// What a pod uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) memory: u64,
    pub(super) containers: BTreeMap<String, Own>,
    /// Its volumes on the node's disk, in bytes.
    pub(super) volumes: BTreeMap<String, u64>,
    /// Files of its volumes and logs.
    pub(super) inodes: u64,
}

impl Usage {
    /// All that it has on the node's disk.
    pub(super) fn disk(&self) -> u64 {
        self.containers.values().map(|c| c.disk).chain(self.volumes.values().copied()).sum()
    }

    /// Of a resource as messages name it.
    pub(super) fn of(&self, resource: &str) -> u64 {
        match resource {
            "memory" => self.memory,
            "inodes" => self.inodes,
            "ephemeral-storage" => self.disk(),
            _ => 0,
        }
    }

    /// What a container uses of a resource; nothing where that is not known.
    pub(super) fn of_container(&self, name: &str, resource: &str) -> Option<u64> {
        let own = self.containers.get(name)?;
        match resource {
            "memory" => Some(own.memory),
            "ephemeral-storage" => Some(own.disk),
            _ => None,
        }
    }
}

/// Asks the runtime and the disk what a pod uses; nothing when the runtime does not tell.
pub(super) async fn ask(config: &NodeConfig, cri: &Cri, pod: &Value) -> Option<Usage> {
    let uid = pod.str_at(&["metadata", "uid"]).to_owned();
    let filter = cri::ContainerStatsFilter {
        label_selector: HashMap::from([(label::UID.to_owned(), uid)]),
        ..cri::ContainerStatsFilter::default()
    };
    let request = cri::ListContainerStatsRequest { filter: Some(filter) };
    let stats = cri.runtime.clone().list_container_stats(request).await.ok()?.into_inner().stats;
    let (logs, dirs) = (sandbox::log_dir(config, pod), volume_dirs(config, pod));
    let measured = tokio::task::spawn_blocking(move || measure(stats, &logs, dirs)).await;
    measured.ok()
}

fn volume_dirs(config: &NodeConfig, pod: &Value) -> Vec<(String, PathBuf)> {
    let volumes = volumes::pod_dir(config, pod.str_at(&["metadata", "uid"])).join("volumes");
    on_disk(pod).map(|(name, _)| (name.to_owned(), volumes.join("kubernetes.io~empty-dir").join(name))).collect()
}

fn measure(stats: Vec<cri::ContainerStats>, logs: &Path, dirs: Vec<(String, PathBuf)>) -> Usage {
    let mut usage = Usage::default();
    for stats in stats {
        let name = stats.attributes.and_then(|a| a.metadata).unwrap_or_default().name;
        let memory = stats.memory.and_then(|m| m.working_set_bytes).map_or(0, |v| v.value);
        let layer = stats.writable_layer.unwrap_or_default();
        usage.memory += memory;
        usage.inodes += layer.inodes_used.map_or(0, |v| v.value);
        let own = usage.containers.entry(name).or_default();
        own.memory += memory;
        own.disk += layer.used_bytes.map_or(0, |v| v.value);
    }
    for (name, own) in &mut usage.containers {
        let (bytes, inodes) = tree(&logs.join(name));
        own.disk += bytes;
        usage.inodes += inodes;
    }
    for (name, dir) in dirs {
        let (bytes, inodes) = tree(&dir);
        usage.inodes += inodes;
        usage.volumes.insert(name, bytes);
    }
    usage
}

/// Bytes and inodes of a tree. What cannot be read, or goes meanwhile, does not count; neither do other file systems.
fn tree(path: &Path) -> (u64, u64) {
    let Ok(top) = path.symlink_metadata() else { return (0, 0) };
    let (mut bytes, mut inodes) = (0, 0);
    let mut ahead = vec![path.to_owned()];
    while let Some(path) = ahead.pop() {
        let Ok(meta) = path.symlink_metadata() else { continue };
        if meta.dev() != top.dev() {
            continue;
        }
        // st_blocks counts 512 bytes whatever the block size is (stat(2)); a file of several names counts in parts.
        let names = if meta.is_dir() { 1 } else { meta.nlink().max(1) };
        bytes += meta.blocks() * 512 / names;
        inodes += 1;
        if meta.is_dir() {
            ahead.extend(path.read_dir().into_iter().flatten().flatten().map(|e| e.path()));
        }
    }
    (bytes, inodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_tree_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(tree(&dir.path().join("none")), (0, 0));
        let before = tree(dir.path());
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/file"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(dir.path().join("sub/file"), dir.path().join("again")).unwrap();
        let after = tree(dir.path());
        assert_eq!(after.1 - before.1, 3);
        assert!((1 << 20..(1 << 20) + 65536).contains(&(after.0 - before.0)), "{before:?} {after:?}");
    }
}
