//! Removing all that an instance made on a machine.

use std::path::{Path, PathBuf};

use crate::InstanceId;
use crate::error::Result;
use crate::netns;

/// Removes the links and nftables tables of an instance, and the network namespaces kept in `netns_folder`.
///
/// Works without any state of the cluster, so that what a crash left goes too. `netns` is the node's own namespace
/// (`None`: the process's). Kernel settings such as `ip_forward` stay: others may rely on them by now.
pub async fn teardown(instance: InstanceId, netns: Option<&Path>, netns_folder: Option<&Path>) -> Result<()> {
    let (netns, folder) = (netns.map(PathBuf::from), netns_folder.map(PathBuf::from));
    netns::run(None, move || {
        // Namespaces first: pods' links go with them, and without a race against a pod that is just being made.
        let entries = folder.as_deref().and_then(|folder| std::fs::read_dir(folder).ok());
        for entry in entries.into_iter().flatten().flatten() {
            netns::remove(&entry.path())?;
        }
        crate::cni::teardown(instance, netns.as_deref())
    })
    .await
}
