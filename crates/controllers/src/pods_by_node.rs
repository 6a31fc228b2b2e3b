use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;
use serde::Deserialize;
use trireme_client::{Change, Entry, Key};

/// Which pods are on which node, so that an event about a node finds its pods.
#[derive(Clone, Default)]
pub(crate) struct PodsByNode(Arc<RwLock<HashMap<String, BTreeSet<Key>>>>);

#[derive(Deserialize)]
struct Placed {
    spec: Placement,
}

#[derive(Deserialize)]
struct Placement {
    #[serde(rename = "nodeName", default)]
    node_name: String,
}

/// The node of a pod, if it has one.
pub(crate) fn node_of(entry: &Entry<Pod>) -> Option<String> {
    entry.decode_as::<Placed>().ok().map(|pod| pod.spec.node_name).filter(|node| !node.is_empty())
}

impl PodsByNode {
    /// Follows a change of a pod.
    pub(crate) fn observe(&self, change: &Change<Pod>) {
        let (old, new) = (change.old.as_deref().and_then(node_of), change.new.as_deref().and_then(node_of));
        let Some(latest) = change.latest() else { return };
        let mut nodes = self.0.write();
        if let Some(old) = old.filter(|old| Some(old) != new.as_ref())
            && let Some(pods) = nodes.get_mut(&old)
        {
            pods.remove(&latest.meta.key);
            if pods.is_empty() {
                nodes.remove(&old);
            }
        }
        if let Some(new) = new {
            nodes.entry(new).or_default().insert(latest.meta.key.clone());
        }
    }

    /// The pods of a node.
    pub(crate) fn of(&self, node: &str) -> Vec<Key> {
        self.0.read().get(node).into_iter().flatten().cloned().collect()
    }
}
