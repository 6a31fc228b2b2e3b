use std::collections::HashMap;
use std::sync::Arc;

use crate::PodInfo;

/// Pods for which room is being made, by node. Their room is not given to others of lower priority.
#[derive(Default)]
pub struct Nominator {
    by_node: HashMap<Box<str>, Vec<Arc<PodInfo>>>,
    nodes: HashMap<Box<str>, Box<str>>,
}

impl Nominator {
    /// The pods that are to come to a node.
    pub fn on(&self, node: &str) -> &[Arc<PodInfo>] {
        if self.by_node.is_empty() {
            return &[];
        }
        self.by_node.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// The node to which a pod is to come, by the pod's uid.
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.nodes.get(uid).map(|node| &**node)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Sets where a pod is to come; gives the node where it was to come before, if that is another.
    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) -> Option<Box<str>> {
        let before = self.remove(&pod.uid).filter(|before| **before != *node);
        self.nodes.insert(pod.uid.clone(), node.into());
        self.by_node.entry(node.into()).or_default().push(pod);
        before
    }

    /// Forgets a pod; gives the node where it was to come.
    pub fn remove(&mut self, uid: &str) -> Option<Box<str>> {
        let node = self.nodes.remove(uid)?;
        if let Some(pods) = self.by_node.get_mut(&node) {
            pods.retain(|pod| *pod.uid != *uid);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
        Some(node)
    }
}
