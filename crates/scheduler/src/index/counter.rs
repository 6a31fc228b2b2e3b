use super::domains::{Domain, Domains, KeyId};
use crate::{Labels, NodeSelector, NodeSpec, PodShape, Toleration};

/// Which nodes are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Nodes {
    /// What the node's labels must be.
    pub selector: Labels,
    /// What the node must be.
    pub required: Option<NodeSelector>,
    /// The node's taints must be tolerated by these, if any are given.
    pub tolerations: Option<Vec<Toleration>>,
    /// Labels that the node must have, sorted.
    pub keys: Vec<Box<str>>,
}

/// Pods by domain, of some nodes.
pub struct Counter {
    /// Which pods, a number of the index.
    pub query: usize,
    /// Which nodes.
    pub nodes: Nodes,
    /// Which domains.
    pub key: KeyId,
    /// When it was used last, in uses of the index.
    pub used: u64,
    /// By slot, whether the node is counted.
    counted: Vec<bool>,
    /// By domain, how many pods there are.
    pub pods: Vec<u32>,
    /// By domain, how many nodes are counted.
    pub sizes: Vec<u32>,
}

impl Nodes {
    /// Nodes that have these labels, and that a pod's node affinity and tolerations accept where they are to be honoured.
    pub fn of(shape: &PodShape, mut keys: Vec<Box<str>>, affinity: bool, taints: bool) -> Self {
        keys.sort();
        keys.dedup();
        Self {
            selector: if affinity { shape.node_selector.clone() } else { Labels::default() },
            required: if affinity { shape.required_nodes.clone() } else { None },
            tolerations: taints.then(|| shape.tolerations.clone()),
            keys,
        }
    }

    /// Whether a node is counted.
    pub fn include(&self, name: &str, node: &NodeSpec) -> bool {
        let labels = &node.labels;
        self.keys.iter().all(|key| labels.get(key).is_some())
            && self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.required.as_ref().is_none_or(|required| required.matches(name, labels))
            && self.tolerations.as_ref().is_none_or(|tolerations| {
                let tolerated = |taint| tolerations.iter().any(|toleration: &Toleration| toleration.tolerates(taint));
                node.taints.iter().all(|taint| !taint.repels() || tolerated(taint))
            })
    }
}

impl Counter {
    /// Counts nothing yet.
    pub fn new(query: usize, nodes: Nodes, key: KeyId) -> Self {
        Self { query, nodes, key, used: 0, counted: Vec::new(), pods: Vec::new(), sizes: Vec::new() }
    }

    /// Counts a node from now on, if it is one of those that are counted.
    pub fn enter(&mut self, slot: usize, name: &str, node: &NodeSpec, domains: &Domains) {
        let domain = domains.at(self.key, slot);
        if domain == Domains::NONE || !self.nodes.include(name, node) {
            return;
        }
        if self.counted.len() <= slot {
            self.counted.resize(slot + 1, false);
        }
        if let Some(counted) = self.counted.get_mut(slot) {
            *counted = true;
        }
        grow(&mut self.pods, domain);
        *grow(&mut self.sizes, domain) += 1;
    }

    /// Counts a node no longer; its pods have been taken off before.
    pub fn leave(&mut self, slot: usize, domains: &Domains) {
        let domain = domains.at(self.key, slot);
        if let Some(counted) = self.counted.get_mut(slot)
            && std::mem::take(counted)
            && let Some(size) = self.sizes.get_mut(domain as usize)
        {
            *size -= 1;
        }
    }

    /// Whether a node is counted.
    pub fn counts(&self, slot: usize) -> bool {
        self.counted.get(slot) == Some(&true)
    }

    /// Pods came to a node that is counted, or went.
    pub fn change(&mut self, slot: usize, pods: u32, came: bool, domains: &Domains) {
        if self.counts(slot) {
            change(&mut self.pods, domains.at(self.key, slot), pods, came);
        }
    }
}

/// Changes the count of a domain.
pub fn change(counts: &mut Vec<u32>, domain: Domain, by: u32, up: bool) {
    if domain != Domains::NONE {
        let count = grow(counts, domain);
        *count = if up { count.saturating_add(by) } else { count.saturating_sub(by) };
    }
}

fn grow(counts: &mut Vec<u32>, domain: Domain) -> &mut u32 {
    let at = domain as usize;
    if counts.len() <= at {
        counts.resize(at + 1, 0);
    }
    &mut counts[at]
}
