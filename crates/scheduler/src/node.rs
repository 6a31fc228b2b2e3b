use std::collections::{BTreeMap, HashMap};

use trireme_client::Key;

use crate::resources::BadQuantity;
use crate::{HostPort, PodInfo, Resources, view};

/// What scheduling keeps of a node, with what is used of it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// Name.
    pub name: Box<str>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Taints.
    pub taints: Vec<Taint>,
    /// Whether the node takes no new pods.
    pub unschedulable: bool,
    /// What pods may use.
    pub allocatable: Resources,
    /// What the node's pods use.
    pub requested: Resources,
    /// Ports that the node's pods use.
    pub used_ports: Vec<HostPort>,
    /// Sizes in bytes of the images on the node, by every name that they have.
    pub images: HashMap<Box<str>, i64>,
    /// The pods on the node.
    pub pods: Vec<Key>,
}

/// A taint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// Key.
    pub key: Box<str>,
    /// Value, may be empty.
    pub value: Box<str>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: Box<str>,
}

impl NodeInfo {
    /// Takes over what a node says of itself; what is used of it stays.
    pub fn update(&mut self, node: view::Node) -> Result<(), BadQuantity> {
        self.allocatable = Resources::read(&node.status.allocatable)?;
        self.name = node.metadata.name.into();
        self.labels = node.metadata.labels;
        self.unschedulable = node.spec.unschedulable;
        self.taints = node
            .spec
            .taints
            .into_iter()
            .map(|taint| Taint {
                key: taint.key.into(),
                value: taint.value.unwrap_or_default().into(),
                effect: taint.effect.into(),
            })
            .collect();
        self.images = node
            .status
            .images
            .into_iter()
            .flat_map(|image| {
                let size = image.size_bytes.unwrap_or(0);
                image.names.unwrap_or_default().into_iter().map(move |name| (name.into(), size))
            })
            .collect();
        Ok(())
    }

    /// Puts a pod on the node.
    pub fn add(&mut self, pod: &PodInfo) {
        self.requested.add(&pod.requests);
        self.used_ports.extend(pod.host_ports.iter().cloned());
        self.pods.push(pod.key.clone());
    }

    /// Takes a pod off the node.
    pub fn remove(&mut self, pod: &PodInfo) {
        let Some(at) = self.pods.iter().position(|key| *key == pod.key) else { return };
        self.pods.swap_remove(at);
        self.requested.subtract(&pod.requests);
        for port in &pod.host_ports {
            if let Some(at) = self.used_ports.iter().position(|used| used == port) {
                self.used_ports.swap_remove(at);
            }
        }
    }
}
