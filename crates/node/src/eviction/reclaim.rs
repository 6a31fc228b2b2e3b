//! What a node can do without when its disk is short: what is left of pods that are over, and images that nobody uses.

use crate::cri::label;
use crate::image_collection;
use crate::worker::Shared;
use std::collections::BTreeSet;
use trireme_cri as cri;

/// Removes it.
///
/// # Errors
/// What the runtime says.
pub(super) async fn disk(shared: &Shared) -> Result<(), String> {
    ended_containers(shared).await.map_err(|s| s.message().to_owned())?;
    image_collection::remove_unused(shared).await
}

/// Containers that have ended, of pods that start none again.
async fn ended_containers(shared: &Shared) -> Result<(), tonic::Status> {
    let state = cri::ContainerStateValue { state: cri::ContainerState::ContainerExited as i32 };
    let filter = cri::ContainerFilter { state: Some(state), ..cri::ContainerFilter::default() };
    let mut runtime = shared.cri.runtime.clone();
    let ended = runtime.list_containers(cri::ListContainersRequest { filter: Some(filter) }).await?.into_inner();
    let pods = shared.pods.all();
    let active: BTreeSet<&str> = pods.iter().map(|pod| pod.str_at(&["metadata", "uid"])).collect();
    for container in ended.containers {
        let uid = container.labels.get(label::UID).map(String::as_str).unwrap_or_default();
        // One that is no pod's is not ours to remove.
        if !uid.is_empty() && !active.contains(uid) {
            runtime.remove_container(cri::RemoveContainerRequest { container_id: container.id }).await?;
        }
    }
    Ok(())
}
