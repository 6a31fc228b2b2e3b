//! The fields of pods and nodes that scheduling reads.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, ContainerImage, PodSchedulingGate, Taint, Toleration, TopologySpreadConstraint,
};
use serde::Deserialize;
use trireme_client::{Kind, Resource};

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Pod {
    /// Metadata.
    pub metadata: Metadata,
    /// Specification.
    #[serde(default)]
    pub spec: PodSpec,
    /// Status.
    #[serde(default)]
    pub status: PodStatus,
}

/// A node.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Node {
    /// Metadata.
    pub metadata: Metadata,
    /// Specification.
    #[serde(default)]
    pub spec: NodeSpec,
    /// Status.
    #[serde(default)]
    pub status: NodeStatus,
}

/// Object metadata.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Unique id.
    pub uid: String,
    /// Resource version.
    pub resource_version: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Set while the object is being deleted.
    pub deletion_timestamp: Option<String>,
}

/// `spec` of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node that the pod is bound to.
    pub node_name: String,
    /// Which scheduler is responsible.
    pub scheduler_name: String,
    /// Priority.
    pub priority: Option<i32>,
    /// Labels that the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Affinities.
    pub affinity: Option<Affinity>,
    /// Tolerated taints.
    pub tolerations: Vec<Toleration>,
    /// Spreading over domains.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// What must be removed before the pod is considered.
    pub scheduling_gates: Vec<PodSchedulingGate>,
    /// Containers.
    pub containers: Vec<Container>,
    /// Init containers.
    pub init_containers: Vec<Container>,
    /// What the runtime class takes on top.
    pub overhead: BTreeMap<String, String>,
    /// Resources of the pod as a whole.
    pub resources: Option<Requirements>,
    /// Whether the pod uses the node's network.
    pub host_network: bool,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Image.
    pub image: String,
    /// `Always` makes an init container a sidecar.
    pub restart_policy: Option<String>,
    /// Resources.
    pub resources: Requirements,
    /// Ports.
    pub ports: Vec<Port>,
}

/// Resource requirements.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Requirements {
    /// What is set aside.
    pub requests: BTreeMap<String, String>,
}

/// A container's port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// Port on the node, 0 for none.
    pub host_port: u16,
    /// Address on the node, empty for all.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    /// Protocol, empty for TCP.
    pub protocol: String,
}

/// `status` of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// Phase.
    pub phase: String,
}

/// `spec` of a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Whether the node takes no new pods.
    pub unschedulable: bool,
    /// Taints.
    pub taints: Vec<Taint>,
}

/// `status` of a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// What pods may use.
    pub allocatable: BTreeMap<String, String>,
    /// Images that are on the node.
    pub images: Vec<ContainerImage>,
}

impl Kind for Pod {
    fn resource() -> Resource {
        resource("Pod", "pods", true)
    }
}

impl Kind for Node {
    fn resource() -> Resource {
        resource("Node", "nodes", false)
    }
}

fn resource(kind: &'static str, plural: &'static str, namespaced: bool) -> Resource {
    let borrowed = Cow::Borrowed;
    Resource {
        group: borrowed(""),
        version: borrowed("v1"),
        kind: borrowed(kind),
        plural: borrowed(plural),
        namespaced,
    }
}
