//! Containers and sandboxes by the names of their pods.

use crate::cri::{Cri, label};
use http::StatusCode;
use std::collections::HashMap;
use trireme_cri as cri;

fn labels(labels: &[(&str, &str)]) -> HashMap<String, String> {
    labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// The containers of a name in a pod, the newest first.
pub(super) async fn containers(
    cri: &Cri,
    place: &super::Place,
) -> Result<Vec<cri::ContainerStatus>, (StatusCode, String)> {
    let failed = |s: tonic::Status| (StatusCode::INTERNAL_SERVER_ERROR, s.message().to_owned());
    let label_selector =
        labels(&[(label::NAMESPACE, &place.namespace), (label::POD, &place.pod), (label::CONTAINER, &place.container)]);
    let filter = cri::ContainerFilter { label_selector, ..cri::ContainerFilter::default() };
    let mut runtime = cri.runtime.clone();
    let list = runtime.list_containers(cri::ListContainersRequest { filter: Some(filter) }).await.map_err(failed)?;
    let mut all = list.into_inner().containers;
    all.sort_by_key(|c| std::cmp::Reverse(c.created_at));
    let mut out = Vec::new();
    for container in all {
        let request = cri::ContainerStatusRequest { container_id: container.id, verbose: false };
        out.extend(runtime.container_status(request).await.map_err(failed)?.into_inner().status);
    }
    Ok(out)
}

/// The sandbox in which a pod runs.
pub(super) async fn sandbox(cri: &Cri, namespace: &str, pod: &str) -> Result<Option<String>, tonic::Status> {
    let filter = cri::PodSandboxFilter {
        state: Some(cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady.into() }),
        label_selector: labels(&[(label::NAMESPACE, namespace), (label::POD, pod)]),
        ..cri::PodSandboxFilter::default()
    };
    let request = cri::ListPodSandboxRequest { filter: Some(filter) };
    let all = cri.runtime.clone().list_pod_sandbox(request).await?.into_inner().items;
    Ok(all.into_iter().max_by_key(|s| s.created_at).map(|s| s.id))
}
