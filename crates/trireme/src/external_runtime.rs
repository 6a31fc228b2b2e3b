//! Which container runtime an instance uses; workloads in one that is not Trireme's own: found and stopped when Trireme
//! does not run.

use crate::instance::Instance;
use crate::{Failure, cni_conf};
use std::ffi::OsStr;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use trireme_cri::{ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest};
use trireme_node::Cri;

/// Where the runtimes' sockets are kept in mind, below the data directory: a line for each that was used since the last
/// `down`, in their order; Trireme's own has an empty one.
const ENDPOINTS: &str = "run/container-runtime-endpoints";
/// The label by which a runtime knows a sandbox's pod.
const UID: &str = "io.kubernetes.pod.uid";
/// How long a runtime may take to stop and remove one sandbox.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps in mind which runtime is used from now on: that of a socket, or Trireme's own.
///
/// # Errors
/// When it cannot be written.
pub fn remember(instance: &Instance, socket: Option<&Path>) -> std::io::Result<()> {
    let mut all = used(instance)?;
    all.retain(|known| known.as_deref() != socket);
    all.push(socket.map(Path::to_owned));
    let path = instance.path(ENDPOINTS);
    if let Some(above) = path.parent() {
        std::fs::create_dir_all(above)?;
    }
    let mut text = Vec::new();
    for socket in &all {
        text.extend_from_slice(socket.as_deref().unwrap_or(Path::new("")).as_os_str().as_bytes());
        text.push(b'\n');
    }
    let half = path.with_extension("half");
    std::fs::write(&half, text)?;
    std::fs::rename(&half, &path)
}

/// The socket of the runtime that is used, if it is not Trireme's own.
///
/// # Errors
/// When what was kept in mind cannot be read.
pub fn current(instance: &Instance) -> std::io::Result<Option<PathBuf>> {
    Ok(used(instance)?.pop().flatten())
}

fn used(instance: &Instance) -> std::io::Result<Vec<Option<PathBuf>>> {
    let text = match std::fs::read(instance.path(ENDPOINTS)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let lines = text.strip_suffix(b"\n").unwrap_or(&text).split(|b| *b == b'\n');
    Ok(lines.map(|line| (!line.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(line)))).collect())
}

/// Stops and removes the sandboxes of the node's pods, and no others: who else uses the runtime keeps theirs.
///
/// # Errors
/// What cannot be stopped. A runtime that is gone is told, and no error: it may have been removed before Trireme.
pub async fn stop(instance: &Instance, cgroup: &str) -> Result<(), Failure> {
    let sockets: Vec<PathBuf> = used(instance)?.into_iter().flatten().collect();
    for socket in &sockets {
        match Cri::connect(socket).await {
            Ok(cri) => remove_sandboxes(cri, &instance.path("node/pods")).await?,
            Err(_) => {
                let socket = socket.display();
                let _ = writeln!(
                    std::io::stderr(),
                    "the container runtime at {socket} does not answer: its pods are as they were"
                );
            }
        }
    }
    if !sockets.is_empty() {
        remove_cgroups(Path::new("/sys/fs/cgroup"), cgroup);
    }
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
    fn the_last_runtime_is_the_current_one_and_none_is_forgotten() {
        let data = tempfile::tempdir().unwrap();
        let instance = Instance::open(data.path()).unwrap();
        assert_eq!(current(&instance).unwrap(), None);
        let (a, b) = (Path::new("/run/a.sock"), Path::new("/run/b.sock"));
        for (socket, all) in [
            (Some(a), vec![Some(a)]),
            (None, vec![Some(a), None]),
            (Some(b), vec![Some(a), None, Some(b)]),
            (Some(a), vec![None, Some(b), Some(a)]),
            (Some(a), vec![None, Some(b), Some(a)]),
        ] {
            remember(&instance, socket).unwrap();
            assert_eq!(current(&instance).unwrap().as_deref(), socket);
            let known = used(&instance).unwrap();
            assert_eq!(known.iter().map(Option::as_deref).collect::<Vec<_>>(), all);
        }
    }

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
