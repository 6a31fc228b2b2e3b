//! Tells the runtime which addresses the node's pods have, as soon as the node has them (CRI `UpdateRuntimeConfig`): one
//! that makes its CNI configuration of a template waits for that.

use crate::cri::Cri;
use k8s_openapi::api::core::v1::Node;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use trireme_client::Informer;
use trireme_cri::{NetworkConfig, RuntimeConfig, UpdateRuntimeConfigRequest};
use trireme_schema::json;

/// A runtime that refuses them is told again after this, and after twice as long each time that follows.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Tells it of each change, until `stop`.
pub(crate) async fn tell(node: Informer<Node>, name: String, cri: Cri, stop: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    node.subscribe(move |_| wake.notify_one());
    let mut told = String::new();
    let mut pause = AGAIN;
    loop {
        let cidrs = of(&node, &name);
        let mut again = None;
        if cidrs != told {
            let network = NetworkConfig { pod_cidr: cidrs.clone() };
            let request =
                UpdateRuntimeConfigRequest { runtime_config: Some(RuntimeConfig { network_config: Some(network) }) };
            match cri.runtime.clone().update_runtime_config(request).await {
                Ok(_) => (told, pause) = (cidrs, AGAIN),
                Err(status) => {
                    tracing::warn!(why = status.message(), "the container runtime does not take the pods' addresses");
                    again = Some(pause);
                    pause = (pause * 2).min(LONGEST);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed.notified() => {}
            () = tokio::time::sleep(again.unwrap_or_default()), if again.is_some() => {}
        }
    }
}

/// The node's pod addresses as upstream writes them: separated by commas.
fn of(node: &Informer<Node>, name: &str) -> String {
    let node = node.get("", name).and_then(|e| json::parse(&e.bytes).ok()).unwrap_or_default();
    let cidrs: Vec<&str> = node.list_at(&["spec", "podCIDRs"]).iter().filter_map(|c| c.as_str()).collect();
    cidrs.join(",")
}
