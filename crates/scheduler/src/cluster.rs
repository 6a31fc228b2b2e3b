use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use trireme_client::Key;

use crate::index::{Index, NamespaceLabels};
use crate::{Labels, NodeInfo, NodeSpec, PodInfo};

/// The scheduler's picture of the cluster.
#[derive(Default)]
pub struct Cluster {
    /// Nodes by slot. A slot stays with its node, and is used again when the node is gone.
    nodes: Vec<Option<NodeInfo>>,
    by_name: HashMap<Box<str>, usize>,
    free: Vec<usize>,
    placed: HashMap<Key, Placed>,
    /// How many of them are assumed.
    assumed: usize,
    /// Pods whose node has not been seen yet.
    homeless: HashMap<Box<str>, Vec<Arc<PodInfo>>>,
    namespaces: NamespaceLabels,
    images: HashMap<Box<str>, ImageSpread>,
    /// How often an image came to a node or left it.
    image_changes: u64,
    changes: Changes,
    /// Counts for affinity and spreading. Behind a lock, for what is counted is decided by the pods that ask.
    index: Mutex<Index>,
}

/// A pod that is on a node, or will be.
struct Placed {
    pod: Arc<PodInfo>,
    node: Box<str>,
    /// We have decided this, and have not yet seen it in the API.
    assumed: bool,
}

/// On how many nodes an image is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageSpread {
    /// Nodes.
    pub nodes: usize,
    /// Changes with the number.
    pub version: u64,
}

/// Which slots changed, in order: who keeps something by node knows what to look at again.
#[derive(Default)]
struct Changes {
    slots: VecDeque<usize>,
    /// The number of the change after the last.
    next: u64,
}

impl Changes {
    /// How many are remembered; who is further behind looks at everything.
    const KEPT: usize = 16_384;

    fn push(&mut self, slot: usize) -> u64 {
        if self.slots.len() == Self::KEPT {
            self.slots.pop_front();
        }
        self.slots.push_back(slot);
        self.next += 1;
        self.next
    }
}

impl Cluster {
    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.iter().flatten()
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many slots there are; a few may be empty.
    pub fn slots(&self) -> usize {
        self.nodes.len()
    }

    /// The node of a slot.
    pub fn at(&self, slot: usize) -> Option<&NodeInfo> {
        self.nodes.get(slot)?.as_ref()
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name.get(name).and_then(|slot| self.at(*slot))
    }

    /// A pod that is on a node.
    pub fn pod(&self, key: &Key) -> Option<&Arc<PodInfo>> {
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

    /// How many pods are placed by a decision that is not yet seen in the API.
    pub fn assumed(&self) -> usize {
        self.assumed
    }

    /// How many pods are placed.
    pub fn pods(&self) -> usize {
        self.placed.len()
    }

    /// The labels of a namespace.
    pub fn namespace(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(name)
    }

    /// On how many nodes an image is.
    pub fn image(&self, name: &str) -> ImageSpread {
        self.images.get(name).copied().unwrap_or_default()
    }

    /// The number of the next change.
    pub fn now(&self) -> u64 {
        self.changes.next
    }

    /// The slots that changed since; `None` when that is too long ago to know. A slot may come more than once.
    pub fn changed_since(&self, then: u64) -> Option<impl Iterator<Item = usize>> {
        let behind = usize::try_from(self.changes.next.checked_sub(then)?).ok()?;
        let skip = self.changes.slots.len().checked_sub(behind)?;
        Some(self.changes.slots.iter().skip(skip).copied())
    }

    /// Works with the counts, and with the labels of namespaces.
    pub fn with_index<T>(&self, work: impl FnOnce(&mut Index, &NamespaceLabels) -> T) -> T {
        work(&mut self.index.lock(), &self.namespaces)
    }

    /// Sets the labels of a namespace; `None` when it is gone.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        let same = self.namespaces.get(name) == labels.as_ref();
        match labels {
            Some(labels) => self.namespaces.insert(name.into(), labels),
            None => self.namespaces.remove(name),
        };
        if !same {
            self.index.get_mut().namespaces_changed(&self.namespaces);
        }
    }

    /// Adds a node, or takes over its new state; gives the old one. Nodes keep their pods.
    pub fn set_node(&mut self, name: &str, spec: Arc<NodeSpec>) -> Option<Arc<NodeSpec>> {
        let slot = match self.by_name.get(name) {
            Some(slot) => *slot,
            None => self.new_node(name),
        };
        let node = self.nodes.get_mut(slot)?.as_mut()?;
        let old = std::mem::replace(&mut node.spec, Arc::clone(&spec));
        node.generation = self.changes.push(slot);
        count_images(&mut self.images, &mut self.image_changes, &old, &spec);
        self.index.get_mut().set_node(slot, name, Some(&spec));
        Some(old)
    }

    /// Removes a node. Its pods are remembered, should it come back.
    pub fn remove_node(&mut self, name: &str) -> Option<Arc<NodeSpec>> {
        let slot = self.by_name.remove(name)?;
        let node = self.nodes.get_mut(slot)?.take()?;
        self.free.push(slot);
        self.changes.push(slot);
        count_images(&mut self.images, &mut self.image_changes, &node.spec, &NodeSpec::default());
        let index = self.index.get_mut();
        for pod in &node.pods {
            index.remove_pod(pod, slot);
        }
        index.set_node(slot, name, None);
        if !node.pods.is_empty() {
            self.homeless.insert(name.into(), node.pods);
        }
        Some(node.spec)
    }

    /// Something about a node changed that is not kept here.
    pub fn touch(&mut self, name: &str) {
        let Some(slot) = self.by_name.get(name) else { return };
        if let Some(Some(node)) = self.nodes.get_mut(*slot) {
            node.generation = self.changes.push(*slot);
        }
    }

    /// Puts a pod on a node because the API says so.
    pub fn place(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.put(pod, node, false);
    }

    /// Puts a pod on a node because we have decided so.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.put(pod, node, true);
    }

    /// Takes a pod off its node.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<PodInfo>> {
        let placed = self.placed.remove(key)?;
        self.assumed -= usize::from(placed.assumed);
        if let Some(slot) = self.by_name.get(&placed.node) {
            if let Some(Some(node)) = self.nodes.get_mut(*slot)
                && let Some(pod) = node.remove(&placed.pod.uid)
            {
                node.generation = self.changes.push(*slot);
                self.index.get_mut().remove_pod(&pod, *slot);
            }
        } else if let Some(pods) = self.homeless.get_mut(&placed.node) {
            pods.retain(|other| other.key != *key);
            if pods.is_empty() {
                self.homeless.remove(&placed.node);
            }
        }
        Some(placed.pod)
    }

    fn put(&mut self, pod: Arc<PodInfo>, node: &str, assumed: bool) {
        // What we decided and then see in the API is the same to every count.
        if let Some(known) = self.placed.get_mut(&pod.key)
            && *known.node == *node
            && known.pod.uid == pod.uid
            && known.pod.terminating == pod.terminating
            && Arc::ptr_eq(&known.pod.shape, &pod.shape)
        {
            self.assumed = self.assumed + usize::from(assumed) - usize::from(known.assumed);
            known.assumed = assumed;
            let slot = self.by_name.get(node);
            let pods = match slot.and_then(|slot| self.nodes.get_mut(*slot)) {
                Some(Some(node)) => Some(&mut node.pods),
                _ => self.homeless.get_mut(node),
            };
            if let Some(same) = pods.and_then(|pods| pods.iter_mut().find(|other| other.uid == pod.uid)) {
                *same = Arc::clone(&pod);
            }
            known.pod = pod;
            return;
        }
        self.remove(&pod.key);
        let slot = self.by_name.get(node);
        match slot.and_then(|slot| self.nodes.get_mut(*slot)) {
            Some(Some(node)) => {
                node.add(Arc::clone(&pod));
                node.generation = self.changes.push(node.slot);
                self.index.get_mut().add_pod(&pod, node.slot, &self.namespaces);
            }
            _ => self.homeless.entry(node.into()).or_default().push(Arc::clone(&pod)),
        }
        self.assumed += usize::from(assumed);
        self.placed.insert(pod.key.clone(), Placed { pod, node: node.into(), assumed });
    }

    fn new_node(&mut self, name: &str) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            self.nodes.len() - 1
        });
        let mut node = NodeInfo { name: name.into(), slot, ..NodeInfo::default() };
        let index = self.index.get_mut();
        index.set_node(slot, name, Some(&node.spec));
        for pod in self.homeless.remove(name).unwrap_or_default() {
            index.add_pod(&pod, slot, &self.namespaces);
            node.add(pod);
        }
        if let Some(place) = self.nodes.get_mut(slot) {
            *place = Some(node);
        }
        self.by_name.insert(name.into(), slot);
        slot
    }
}

fn count_images(images: &mut HashMap<Box<str>, ImageSpread>, changes: &mut u64, old: &NodeSpec, new: &NodeSpec) {
    if old.images == new.images {
        return;
    }
    *changes += 1;
    for name in old.images.keys().filter(|name| !new.images.contains_key(*name)) {
        if let Some(spread) = images.get_mut(name) {
            spread.nodes -= 1;
            spread.version = *changes;
            if spread.nodes == 0 {
                images.remove(name);
            }
        }
    }
    for name in new.images.keys().filter(|name| !old.images.contains_key(*name)) {
        let spread = images.entry(name.clone()).or_default();
        spread.nodes += 1;
        spread.version = *changes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resources;
    use crate::testing::pod;
    use serde_json::json;

    fn busy(name: &str) -> Arc<PodInfo> {
        let container = json!({"resources": {"requests": {"cpu": "100m"}}, "ports": [{"hostPort": 80}]});
        pod(name, json!({"containers": [container]}))
    }

    fn spec() -> Arc<NodeSpec> {
        Arc::default()
    }

    #[test]
    fn a_pod_that_is_seen_before_its_node_counts_once_the_node_is_there() {
        let mut cluster = Cluster::default();
        cluster.place(busy("a"), "n1");
        cluster.set_node("n1", spec());
        assert_eq!(cluster.node("n1").unwrap().requested.milli_cpu, 100);
        cluster.remove_node("n1");
        cluster.set_node("n1", spec());
        assert_eq!(cluster.node("n1").unwrap().requested.milli_cpu, 100);
        cluster.remove(&Key::new("n", "a"));
        let node = cluster.node("n1").unwrap();
        assert_eq!((&node.requested, node.used_ports.len()), (&Resources::default(), 0));
    }

    #[test]
    fn an_assumed_pod_that_turns_out_elsewhere_moves() {
        let mut cluster = Cluster::default();
        for name in ["n1", "n2", "n3"] {
            cluster.set_node(name, spec());
        }
        cluster.assume(busy("a"), "n1");
        assert!(cluster.is_assumed(&Key::new("n", "a")));
        let then = cluster.now();
        cluster.place(busy("a"), "n2");
        assert_eq!(cluster.changed_since(then).unwrap().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(cluster.node("n1").unwrap().pods.len(), 0);
        assert_eq!(cluster.node("n2").unwrap().pods.len(), 1);
        cluster.remove_node("n1");
        assert_eq!(cluster.node("n3").map(|node| &*node.name), Some("n3"));
        cluster.set_node("n4", spec());
        assert_eq!(cluster.node("n4").unwrap().slot, 0, "the slot of n1 is used again");
    }

    #[test]
    fn images_are_counted_by_node() {
        let mut cluster = Cluster::default();
        let with = |names: &[&str]| {
            let images = names.iter().map(|name| ((*name).into(), 1)).collect();
            Arc::new(NodeSpec { images, ..NodeSpec::default() })
        };
        cluster.set_node("n1", with(&["a", "b"]));
        cluster.set_node("n2", with(&["a"]));
        assert_eq!((cluster.image("a").nodes, cluster.image("b").nodes), (2, 1));
        cluster.set_node("n1", with(&["b"]));
        cluster.remove_node("n2");
        assert_eq!((cluster.image("a").nodes, cluster.image("b").nodes), (0, 1));
    }
}
