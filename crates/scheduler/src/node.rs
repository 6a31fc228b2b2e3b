use std::collections::HashMap;
use std::sync::Arc;

use crate::resources::BadQuantity;
use crate::{HostPort, Labels, PodInfo, Resources, Taint, view};

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSpec {
    /// Labels.
    pub labels: Labels,
    /// Taints.
    pub taints: Vec<Taint>,
    /// Whether the node takes no new pods.
    pub unschedulable: bool,
    /// What pods may use.
    pub allocatable: Resources,
    /// Sizes in bytes of the images on the node, by every name that they have.
    pub images: HashMap<Box<str>, i64>,
    /// Features that the node says it has, sorted.
    pub features: Vec<Box<str>>,
}

/// A node, with what is used of it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// Name.
    pub name: Box<str>,
    /// The place of the node in [`crate::Cluster::nodes`]; it stays while the node is there.
    pub slot: usize,
    /// Grows with every change of the node or of its pods.
    pub generation: u64,
    /// What the node says of itself.
    pub spec: Arc<NodeSpec>,
    /// What the node's pods set aside.
    pub requested: Resources,
    /// Thousandths of a core that the node's pods are taken to use, with a default for those that do not say.
    pub non_zero_milli_cpu: i64,
    /// Bytes that the node's pods are taken to use, with a default for those that do not say.
    pub non_zero_memory: i64,
    /// Ports that the node's pods use.
    pub used_ports: Vec<HostPort>,
    /// The pods on the node.
    pub pods: Vec<Arc<PodInfo>>,
}

impl NodeSpec {
    /// Reads a node.
    ///
    /// # Errors
    /// A quantity that is none.
    pub fn read(node: view::Node) -> Result<Self, BadQuantity> {
        let mut features = node.status.declared_features;
        features.sort();
        Ok(Self {
            allocatable: Resources::read(&node.status.allocatable)?,
            labels: node.metadata.labels,
            unschedulable: node.spec.unschedulable,
            taints: node.spec.taints,
            images: node
                .status
                .images
                .into_iter()
                .flat_map(|image| image.names.into_iter().map(move |name| (name, image.size_bytes)))
                .collect(),
            features,
        })
    }
}

impl NodeInfo {
    /// Puts a pod on the node.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests.total);
        self.non_zero_milli_cpu += pod.requests.non_zero_milli_cpu;
        self.non_zero_memory += pod.requests.non_zero_memory;
        self.used_ports.extend(pod.host_ports.iter().cloned());
        self.pods.push(pod);
    }

    /// Takes a pod off the node, and gives it back if it was there.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let at = self.pods.iter().position(|pod| *pod.uid == *uid)?;
        let pod = self.pods.swap_remove(at);
        self.requested.subtract(&pod.requests.total);
        self.non_zero_milli_cpu -= pod.requests.non_zero_milli_cpu;
        self.non_zero_memory -= pod.requests.non_zero_memory;
        for port in &pod.host_ports {
            if let Some(at) = self.used_ports.iter().position(|used| used == port) {
                self.used_ports.swap_remove(at);
            }
        }
        Some(pod)
    }
}
