use std::collections::HashMap;

use trireme_client::Key;

use crate::{NodeInfo, PodInfo};

/// The scheduler's picture of the cluster.
#[derive(Default)]
pub struct Cluster {
    nodes: Vec<NodeInfo>,
    by_name: HashMap<Box<str>, usize>,
    placed: HashMap<Key, Placed>,
    /// Pods whose node has not been seen yet.
    homeless: HashMap<Box<str>, Vec<Key>>,
}

/// A pod that is on a node, or will be.
struct Placed {
    pod: PodInfo,
    node: Box<str>,
    /// We have decided this, and have not yet seen it in the API.
    assumed: bool,
}

impl Cluster {
    /// All nodes.
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name.get(name).and_then(|at| self.nodes.get(*at))
    }

    /// A pod that is on a node.
    pub fn pod(&self, key: &Key) -> Option<&PodInfo> {
        self.placed.get(key).map(|placed| &placed.pod)
    }

    /// The node that a pod is on, or will be.
    pub fn node_of(&self, key: &Key) -> Option<&str> {
        self.placed.get(key).map(|placed| &*placed.node)
    }

    /// Whether a pod's placement is our own decision, not yet seen in the API.
    pub fn is_assumed(&self, key: &Key) -> bool {
        self.placed.get(key).is_some_and(|placed| placed.assumed)
    }

    /// Adds a node, or takes over its new state. Nodes keep their pods.
    pub fn set_node(&mut self, name: &str, update: impl FnOnce(&mut NodeInfo)) {
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => {
                let mut node = NodeInfo { name: name.into(), ..NodeInfo::default() };
                for key in self.homeless.remove(name).unwrap_or_default() {
                    if let Some(placed) = self.placed.get(&key) {
                        node.add(&placed.pod);
                    }
                }
                self.nodes.push(node);
                self.by_name.insert(name.into(), self.nodes.len() - 1);
                self.nodes.len() - 1
            }
        };
        if let Some(node) = self.nodes.get_mut(at) {
            update(node);
        }
    }

    /// Removes a node. Its pods are remembered, should it come back.
    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.by_name.remove(name) else { return };
        let node = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.by_name.insert(moved.name.clone(), at);
        }
        if !node.pods.is_empty() {
            self.homeless.insert(name.into(), node.pods);
        }
    }

    /// Puts a pod on a node because the API says so.
    pub fn place(&mut self, pod: PodInfo, node: &str) {
        self.put(pod, node, false);
    }

    /// Puts a pod on a node because we have decided so.
    pub fn assume(&mut self, pod: PodInfo, node: &str) {
        self.put(pod, node, true);
    }

    /// Takes a pod off its node.
    pub fn remove(&mut self, key: &Key) -> Option<PodInfo> {
        let placed = self.placed.remove(key)?;
        if let Some(at) = self.by_name.get(&placed.node) {
            if let Some(node) = self.nodes.get_mut(*at) {
                node.remove(&placed.pod);
            }
        } else if let Some(keys) = self.homeless.get_mut(&placed.node) {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.homeless.remove(&placed.node);
            }
        }
        Some(placed.pod)
    }

    fn put(&mut self, pod: PodInfo, node: &str, assumed: bool) {
        self.remove(&pod.key);
        match self.by_name.get(node).and_then(|at| self.nodes.get_mut(*at)) {
            Some(node) => node.add(&pod),
            None => self.homeless.entry(node.into()).or_default().push(pod.key.clone()),
        }
        self.placed.insert(pod.key.clone(), Placed { pod, node: node.into(), assumed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resources;

    fn pod(name: &str) -> PodInfo {
        let view = serde_json::json!({"metadata": {"name": name, "namespace": "n"},
            "spec": {"containers": [{"resources": {"requests": {"cpu": "100m"}}, "ports": [{"hostPort": 80}]}]}});
        PodInfo::read(serde_json::from_value(view).unwrap()).unwrap()
    }

    #[test]
    fn a_pod_that_is_seen_before_its_node_counts_once_the_node_is_there() {
        let mut cluster = Cluster::default();
        cluster.place(pod("a"), "n1");
        cluster.set_node("n1", |_| {});
        assert_eq!(cluster.node("n1").unwrap().requested.milli_cpu, 100);
        cluster.remove_node("n1");
        cluster.set_node("n1", |_| {});
        assert_eq!(cluster.node("n1").unwrap().requested.milli_cpu, 100);
        cluster.remove(&Key::new("n", "a"));
        let node = cluster.node("n1").unwrap();
        assert_eq!((&node.requested, node.used_ports.len()), (&Resources::default(), 0));
    }

    #[test]
    fn an_assumed_pod_that_turns_out_elsewhere_moves() {
        let mut cluster = Cluster::default();
        for name in ["n1", "n2", "n3"] {
            cluster.set_node(name, |_| {});
        }
        cluster.assume(pod("a"), "n1");
        assert!(cluster.is_assumed(&Key::new("n", "a")));
        cluster.place(pod("a"), "n2");
        assert_eq!(cluster.node("n1").unwrap().pods.len(), 0);
        assert_eq!(cluster.node("n2").unwrap().pods.len(), 1);
        cluster.remove_node("n1");
        assert_eq!(cluster.node("n3").map(|node| &*node.name), Some("n3"));
    }
}
