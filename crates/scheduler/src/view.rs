//! The fields of pods and nodes that scheduling reads.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use trireme_client::{Kind, Resource};

use crate::{LabelSelector, Labels, NodeSelector, NodeTerm, Taint, Toleration};

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
    pub name: Box<str>,
    /// Namespace.
    pub namespace: Box<str>,
    /// Unique id.
    pub uid: Box<str>,
    /// Resource version.
    pub resource_version: Box<str>,
    /// Labels.
    pub labels: Labels,
    /// When the object was made, RFC 3339.
    pub creation_timestamp: Option<Box<str>>,
    /// Set while the object is being deleted.
    pub deletion_timestamp: Option<Box<str>>,
    /// Owners.
    pub owner_references: Vec<OwnerReference>,
}

/// An owner of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// Group and version.
    pub api_version: Box<str>,
    /// Kind.
    pub kind: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// Unique id.
    pub uid: Box<str>,
    /// Whether this owner manages the object.
    pub controller: bool,
}

/// `spec` of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node that the pod is bound to.
    pub node_name: Box<str>,
    /// Which scheduler is responsible.
    pub scheduler_name: Box<str>,
    /// Priority.
    pub priority: Option<i32>,
    /// `Never` keeps the pod from preempting others.
    pub preemption_policy: Option<Box<str>>,
    /// Labels that the node must have.
    pub node_selector: Labels,
    /// Affinities.
    pub affinity: Affinity,
    /// Tolerated taints.
    pub tolerations: Vec<Toleration>,
    /// Spreading over domains.
    pub topology_spread_constraints: Vec<SpreadConstraint>,
    /// What must be removed before the pod is considered.
    pub scheduling_gates: Vec<Gate>,
    /// The group with which the pod is scheduled.
    pub scheduling_group: Option<SchedulingGroup>,
    /// Containers.
    pub containers: Vec<Container>,
    /// Init containers.
    pub init_containers: Vec<Container>,
    /// What the runtime class takes on top.
    pub overhead: BTreeMap<Box<str>, Box<str>>,
    /// Resources of the pod as a whole.
    pub resources: Option<Requirements>,
    /// Whether the pod uses the node's network.
    pub host_network: bool,
    /// `false` gives the pod a user namespace of its own.
    pub host_users: Option<bool>,
}

/// `spec.affinity` of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Affinity {
    /// To nodes.
    pub node_affinity: NodeAffinity,
    /// To pods.
    pub pod_affinity: PodAffinity,
    /// Away from pods.
    pub pod_anti_affinity: PodAffinity,
}

/// Affinity to nodes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeAffinity {
    /// What the node must be.
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: Option<NodeSelector>,
    /// What is liked.
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    pub preferred: Vec<PreferredNodes>,
}

/// Nodes that are liked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct PreferredNodes {
    /// How much, 1 to 100.
    pub weight: i32,
    /// Which.
    pub preference: NodeTerm,
}

/// Affinity to pods, or away from them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodAffinity {
    /// What must be.
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: Vec<PodTerm>,
    /// What is liked.
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    pub preferred: Vec<PreferredPods>,
}

/// Pods that are liked or disliked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PreferredPods {
    /// How much, 1 to 100.
    pub weight: i32,
    /// Which.
    pub pod_affinity_term: PodTerm,
}

/// Pods by their labels and namespaces, and the domain in which they are near.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTerm {
    /// Labels; absent matches no pods.
    pub label_selector: Option<LabelSelector>,
    /// Namespaces by name.
    pub namespaces: Vec<Box<str>>,
    /// Namespaces by their labels; empty selects all.
    pub namespace_selector: Option<LabelSelector>,
    /// The node label whose values are the domains.
    pub topology_key: Box<str>,
    /// Labels whose values are those of the incoming pod.
    pub match_label_keys: Vec<Box<str>>,
    /// Labels whose values are not those of the incoming pod.
    pub mismatch_label_keys: Vec<Box<str>>,
}

/// How pods are spread over domains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SpreadConstraint {
    /// How uneven it may be.
    pub max_skew: i32,
    /// The node label whose values are the domains.
    pub topology_key: Box<str>,
    /// `DoNotSchedule` or `ScheduleAnyway`.
    pub when_unsatisfiable: Box<str>,
    /// Which pods are counted; absent counts none.
    pub label_selector: Option<LabelSelector>,
    /// With fewer domains than these the least count is taken as zero.
    pub min_domains: Option<i32>,
    /// `Honor` (also when absent) or `Ignore`.
    pub node_affinity_policy: Option<Box<str>>,
    /// `Honor` or `Ignore` (also when absent).
    pub node_taints_policy: Option<Box<str>>,
    /// Labels whose values are those of the incoming pod.
    pub match_label_keys: Vec<Box<str>>,
}

/// Something with a name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Gate {
    /// Name.
    pub name: Box<str>,
}

/// The group of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SchedulingGroup {
    /// Name of the PodGroup.
    pub pod_group_name: Box<str>,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Name.
    pub name: Box<str>,
    /// Image.
    pub image: Box<str>,
    /// `Always` makes an init container a sidecar.
    pub restart_policy: Option<Box<str>>,
    /// Resources.
    pub resources: Requirements,
    /// Ports.
    pub ports: Vec<Port>,
    /// What happens when the container ends in certain ways.
    pub restart_policy_rules: Vec<RestartRule>,
}

/// What happens when a container ends in a certain way.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RestartRule {
    /// `Restart` or `RestartAllContainers`.
    pub action: Box<str>,
}

/// Resource requirements.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Requirements {
    /// What is set aside.
    pub requests: BTreeMap<Box<str>, Box<str>>,
}

/// A container's port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// Port on the node, 0 for none.
    pub host_port: u16,
    /// Address on the node, empty for all.
    #[serde(rename = "hostIP")]
    pub host_ip: Box<str>,
    /// Protocol, empty for TCP.
    pub protocol: Box<str>,
}

/// `status` of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// Phase.
    pub phase: Box<str>,
    /// The node on which room is being made for the pod.
    pub nominated_node_name: Box<str>,
    /// When the pod was started, RFC 3339.
    pub start_time: Option<Box<str>>,
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// Containers as they run, with the resources that they have.
    pub container_statuses: Vec<ContainerStatus>,
    /// Init containers as they run.
    pub init_container_statuses: Vec<ContainerStatus>,
    /// What the pod as a whole was given.
    pub allocated_resources: BTreeMap<Box<str>, Box<str>>,
    /// What the pod as a whole has.
    pub resources: Option<Requirements>,
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Type.
    #[serde(rename = "type")]
    pub kind: Box<str>,
    /// `True`, `False` or `Unknown`.
    pub status: Box<str>,
    /// Reason.
    pub reason: Box<str>,
    /// Message.
    pub message: Box<str>,
}

/// A container as it runs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Name.
    pub name: Box<str>,
    /// What the node has set aside.
    pub allocated_resources: BTreeMap<Box<str>, Box<str>>,
    /// What is in force.
    pub resources: Option<Requirements>,
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
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// What pods may use.
    pub allocatable: BTreeMap<Box<str>, Box<str>>,
    /// Images that are on the node.
    pub images: Vec<ContainerImage>,
    /// Features that the node says it has (KEP-5328).
    pub declared_features: Vec<Box<str>>,
}

/// An image on a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerImage {
    /// Every name that it has.
    pub names: Vec<Box<str>>,
    /// Size in bytes.
    pub size_bytes: i64,
}

/// A namespace.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Namespace {
    /// Metadata.
    pub metadata: Metadata,
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

impl Kind for Namespace {
    fn resource() -> Resource {
        resource("Namespace", "namespaces", false)
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
