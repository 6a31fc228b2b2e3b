//! Workloads in a container runtime that is not Trireme's own: found and stopped when Trireme does not run.

use crate::instance::Instance;
use crate::{Failure, cni_conf};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use trireme_cri::{ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest};
use trireme_node::Cri;

/// Where the runtime's socket is kept in mind, below the data directory.
const ENDPOINT: &str = "run/container-runtime-endpoint";
/// The label by which a runtime knows a sandbox's pod.
const UID: &str = "io.kubernetes.pod.uid";
/// How long a runtime may take to stop and remove one sandbox.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps the runtime's socket in mind.
///
/// # Errors
/// When it cannot be written.
pub fn remember(instance: &Instance, socket: &Path) -> std::io::Result<()> {
    let path = instance.path(ENDPOINT);
    if let Some(above) = path.parent() {
        std::fs::create_dir_all(above)?;
    }
    std::fs::write(path, socket.as_os_str().as_encoded_bytes())
}

/// Stops and removes the sandboxes of the node's pods, and no others: who else uses the runtime keeps theirs.
///
/// # Errors
/// What cannot be stopped. A runtime that is gone is told, and no error: it may have been removed before Trireme.
pub async fn stop(instance: &Instance, cgroup: &str) -> Result<(), Failure> {
    let socket = match std::fs::read_to_string(instance.path(ENDPOINT)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => PathBuf::from(other?),
    };
    match Cri::connect(&socket).await {
        Ok(cri) => remove_sandboxes(cri, &instance.path("node/pods")).await?,
        Err(_) => {
            let socket = socket.display();
            let _ = writeln!(
                std::io::stderr(),
                "the container runtime at {socket} does not answer: its pods are as they were"
            );
        }
    }
    remove_cgroups(Path::new("/sys/fs/cgroup"), cgroup);
    Ok(cni_conf::remove(instance)?)
}

async fn remove_sandboxes(mut cri: Cri, pods: &Path) -> Result<(), Failure> {
    let list = cri.runtime.list_pod_sandbox(ListPodSandboxRequest::default());
    let sandboxes = tokio::time::timeout(PATIENCE, list).await??.into_inner().items;
    let ours = sandboxes.into_iter().filter(|s| s.labels.get(UID).is_some_and(|uid| is_pod(pods, uid)));
    for sandbox in ours {
        let id = sandbox.id;
        let stop = cri.runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.clone() });
        tokio::time::timeout(PATIENCE, stop).await??;
        let remove = cri.runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id });
        tokio::time::timeout(PATIENCE, remove).await??;
    }
    Ok(())
}

/// Whether a pod is of this node, which has a directory for each of its pods.
fn is_pod(pods: &Path, uid: &str) -> bool {
    !uid.is_empty() && !uid.contains(['/', '.']) && pods.join(uid).is_dir()
}

/// The runtime made them in every hierarchy that it knows, also in those that Trireme's own does not use.
fn remove_cgroups(root: &Path, group: &str) {
    remove_groups(&root.join(group));
    for hierarchy in subdirectories(root) {
        remove_groups(&hierarchy.join(group));
    }
}

fn remove_groups(dir: &Path) {
    for below in subdirectories(dir) {
        remove_groups(&below);
    }
    // One with processes stays; the kernel sees to that.
    let _ = std::fs::remove_dir(dir);
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_others_in_the_same_runtime_are_not_ours() {
        let pods = tempfile::tempdir().unwrap();
        std::fs::create_dir(pods.path().join("0e458004-3473")).unwrap();
        for (uid, ours) in
            [("0e458004-3473", true), ("89afbfad-0072", false), ("", false), ("..", false), ("a/b", false)]
        {
            assert_eq!(is_pod(pods.path(), uid), ours, "{uid:?}");
        }
    }

    #[test]
    fn groups_are_removed_in_every_hierarchy_and_neighbours_stay() {
        let root = tempfile::tempdir().unwrap();
        for dir in ["memory/ours/besteffort/pod1", "systemd/ours/pod2", "memory/other/pod3"] {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        remove_cgroups(root.path(), "ours");
        let left: Vec<_> = ["memory/ours", "systemd/ours", "memory/other/pod3"]
            .into_iter()
            .filter(|dir| root.path().join(dir).exists())
            .collect();
        assert_eq!(left, ["memory/other/pod3"]);
    }
}
