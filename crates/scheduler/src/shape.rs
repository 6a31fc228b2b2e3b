use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use crate::requests::{Requests, is_sidecar};
use crate::resources::BadQuantity;
use crate::selector::Requirement;
use crate::view::{self, OwnerReference, PodTerm, PreferredNodes, SpreadConstraint};
use crate::{LabelSelector, Labels, NodeInfo, NodeSelector, Taint, Toleration};

/// All that placement asks of a pod, without its name. Pods of one owner mostly have the same shape: it is held once,
/// and what was found out for one of them holds for the next (KEP-5598).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodShape {
    /// Namespace.
    pub namespace: Box<str>,
    /// Labels, for the affinity and spreading of other pods.
    pub labels: Labels,
    /// The object that manages the pod.
    pub owner: Option<OwnerReference>,
    /// Which scheduler, that is which profile, is responsible.
    pub scheduler: Box<str>,
    /// Priority.
    pub priority: i32,
    /// Whether the pod may take the place of others.
    pub may_preempt: bool,
    /// What the pod takes of a node.
    pub requests: Requests,
    /// Ports that the pod takes of a node.
    pub host_ports: Vec<HostPort>,
    /// Labels that the node must have.
    pub node_selector: Labels,
    /// What the node must be.
    pub required_nodes: Option<NodeSelector>,
    /// Nodes that are liked.
    pub preferred_nodes: Vec<PreferredNodes>,
    /// Pods that must be near.
    pub affinity: Vec<Term>,
    /// Pods that must not be near.
    pub anti_affinity: Vec<Term>,
    /// Pods that are liked near, or with a negative weight disliked.
    pub preferred_pods: Vec<(i64, Term)>,
    /// Spreading over domains.
    pub spread: Vec<Spread>,
    /// Tolerated taints.
    pub tolerations: Vec<Toleration>,
    /// Images that the pod runs.
    pub images: Vec<Box<str>>,
    /// Names of the scheduling gates that hold the pod back.
    pub gates: Vec<Box<str>>,
    /// The PodGroup with which the pod is scheduled.
    pub group: Option<Box<str>>,
    /// Features that the node must say it has (KEP-5328).
    pub needed_features: Vec<&'static str>,
}

/// A port on a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Address, empty for all addresses.
    pub ip: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// Port.
    pub port: u16,
}

/// The namespaces that a term looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Namespaces {
    /// These.
    Named(Vec<Box<str>>),
    /// These, and those whose labels match.
    Selected(Vec<Box<str>>, LabelSelector),
    /// All.
    All,
}

/// Pods by their labels and namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodSelector {
    /// Where the pods are.
    pub namespaces: Namespaces,
    /// Their labels; absent matches none.
    pub labels: Option<LabelSelector>,
}

/// Pods, and the domain in which they are near.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// Which pods.
    pub pods: PodSelector,
    /// The node label whose values are the domains.
    pub key: Box<str>,
}

/// How pods are spread over the values of a node label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spread {
    /// The node label.
    pub key: Box<str>,
    /// How uneven it may be.
    pub max_skew: i64,
    /// Whether a node that makes it worse is refused (`DoNotSchedule`) or only disliked.
    pub required: bool,
    /// Which pods of the same namespace are counted.
    pub pods: PodSelector,
    /// With fewer domains than these the least count is taken as zero.
    pub min_domains: i64,
    /// Whether only nodes that the pod's node affinity accepts are counted.
    pub honor_affinity: bool,
    /// Whether only nodes whose taints the pod tolerates are counted.
    pub honor_taints: bool,
}

/// Holds every shape once.
#[derive(Default)]
pub struct Shapes {
    by_hash: HashMap<u64, Vec<Weak<PodShape>>>,
    /// How many are held before those that nobody uses any more are dropped.
    sweep_at: usize,
}

// === impl HostPort ===

impl HostPort {
    /// Whether both cannot be had at once: same protocol and port, and the same address or one of all addresses.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

// === impl PodSelector ===

impl PodSelector {
    /// Whether a pod of this namespace and with these labels is meant. `namespaces` gives the labels of a namespace.
    pub fn matches<'a>(
        &self,
        namespace: &str,
        labels: &Labels,
        namespaces: impl FnOnce(&str) -> Option<&'a Labels>,
    ) -> bool {
        let Some(selector) = &self.labels else { return false };
        let named = |names: &[Box<str>]| names.iter().any(|name| **name == *namespace);
        let there = match &self.namespaces {
            Namespaces::All => true,
            Namespaces::Named(names) => named(names),
            Namespaces::Selected(names, selector) => {
                named(names) || namespaces(namespace).is_some_and(|labels| selector.matches(labels))
            }
        };
        there && selector.matches(labels)
    }

    /// Whether namespaces are chosen by their labels.
    pub fn by_namespace_labels(&self) -> bool {
        matches!(self.namespaces, Namespaces::Selected(..))
    }

    fn of_term(term: &PodTerm, namespace: &str, labels: &Labels) -> Self {
        let names = || term.namespaces.clone();
        let namespaces = match &term.namespace_selector {
            None if term.namespaces.is_empty() => Namespaces::Named(vec![namespace.into()]),
            None => Namespaces::Named(names()),
            Some(selector) if selector.0.is_empty() => Namespaces::All,
            Some(selector) => Namespaces::Selected(names(), selector.clone()),
        };
        Self {
            namespaces,
            labels: merged(term.label_selector.as_ref(), &term.match_label_keys, &term.mismatch_label_keys, labels),
        }
    }
}

/// A selector with the values that the pod's own labels bring (KEP-3633, KEP-3243). The API server writes them into the
/// pod; pods of older clients do not have them yet.
fn merged(
    selector: Option<&LabelSelector>,
    same: &[Box<str>],
    different: &[Box<str>],
    labels: &Labels,
) -> Option<LabelSelector> {
    let mut merged = selector?.clone();
    for (keys, equal) in [(same, true), (different, false)] {
        for key in keys {
            let Some(value) = labels.get(key) else { continue };
            let mut requirement = Requirement::equals(key, value);
            if !equal {
                requirement.operator = crate::selector::Operator::NotIn([value.into()].into());
            }
            if !merged.0.contains(&requirement) {
                merged.0.push(requirement);
            }
        }
    }
    Some(merged)
}

// === impl PodShape ===

impl PodShape {
    /// Reads a pod.
    ///
    /// # Errors
    /// A quantity that is none.
    pub fn read(pod: &view::Pod) -> Result<Self, BadQuantity> {
        let (meta, spec) = (&pod.metadata, &pod.spec);
        let (namespace, labels) = (&meta.namespace, &meta.labels);
        let term = |term: &PodTerm| Term {
            pods: PodSelector::of_term(term, namespace, labels),
            key: term.topology_key.clone(),
        };
        let terms = |list: &[PodTerm]| list.iter().map(term).collect();
        let affinity = &spec.affinity;
        let liked = affinity.pod_affinity.preferred.iter().map(|p| (i64::from(p.weight), &p.pod_affinity_term));
        let disliked =
            affinity.pod_anti_affinity.preferred.iter().map(|p| (-i64::from(p.weight), &p.pod_affinity_term));
        let mut images: Vec<Box<str>> =
            spec.init_containers.iter().chain(&spec.containers).map(|c| c.image.clone()).collect();
        images.sort();
        Ok(Self {
            namespace: namespace.clone(),
            labels: labels.clone(),
            owner: meta.owner_references.iter().find(|owner| owner.controller).cloned(),
            scheduler: spec.scheduler_name.clone(),
            priority: spec.priority.unwrap_or(0),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
            requests: Requests::read(pod)?,
            host_ports: host_ports(spec),
            node_selector: spec.node_selector.clone(),
            required_nodes: affinity.node_affinity.required.clone(),
            preferred_nodes: affinity.node_affinity.preferred.clone(),
            affinity: terms(&affinity.pod_affinity.required),
            anti_affinity: terms(&affinity.pod_anti_affinity.required),
            preferred_pods: liked.chain(disliked).map(|(weight, liked)| (weight, term(liked))).collect(),
            spread: spec.topology_spread_constraints.iter().map(|c| Spread::read(c, namespace, labels)).collect(),
            tolerations: spec.tolerations.clone(),
            images,
            gates: spec.scheduling_gates.iter().map(|gate| gate.name.clone()).collect(),
            group: spec.scheduling_group.as_ref().map(|group| group.pod_group_name.clone()),
            needed_features: needed_features(spec),
        })
    }

    /// Whether the pod tolerates a taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }

    /// Whether the pod's node selector and required node affinity accept a node.
    pub fn selects(&self, name: &str, labels: &Labels) -> bool {
        self.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.required_nodes.as_ref().is_none_or(|required| required.matches(name, labels))
    }

    /// Whether the pod's node selector and required node affinity accept a node.
    pub fn selects_node(&self, node: &NodeInfo) -> bool {
        self.selects(&node.name, &node.spec.labels)
    }
}

/// Features without which a node would run the pod in another way than it asks (KEP-5328).
fn needed_features(spec: &view::PodSpec) -> Vec<&'static str> {
    let mut needed = Vec::new();
    let mut rules = spec.init_containers.iter().chain(&spec.containers).flat_map(|c| &c.restart_policy_rules);
    if rules.any(|rule| &*rule.action == "RestartAllContainers") {
        needed.push("RestartAllContainersOnContainerExits");
    }
    if spec.host_network && spec.host_users == Some(false) {
        needed.push("UserNamespacesHostNetworkSupport");
    }
    needed
}

fn host_ports(spec: &view::PodSpec) -> Vec<HostPort> {
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().filter(|container| is_sidecar(container)))
        .flat_map(|container| &container.ports)
        .filter(|port| port.host_port != 0)
        .map(|port| HostPort {
            ip: port.host_ip.clone(),
            protocol: if port.protocol.is_empty() { "TCP".into() } else { port.protocol.clone() },
            port: port.host_port,
        })
        .collect()
}

// === impl Spread ===

impl Spread {
    /// A constraint that nodes may break, of these pods.
    pub fn preferred(key: &str, max_skew: i64, pods: PodSelector) -> Self {
        Self {
            key: key.into(),
            max_skew,
            required: false,
            pods,
            min_domains: 1,
            honor_affinity: true,
            honor_taints: false,
        }
    }

    /// Reads a constraint of a pod of this namespace and with these labels.
    pub fn read(constraint: &SpreadConstraint, namespace: &str, labels: &Labels) -> Self {
        Self {
            key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew),
            required: &*constraint.when_unsatisfiable != "ScheduleAnyway",
            pods: PodSelector {
                namespaces: Namespaces::Named(vec![namespace.into()]),
                labels: merged(constraint.label_selector.as_ref(), &constraint.match_label_keys, &[], labels),
            },
            min_domains: constraint.min_domains.map_or(1, i64::from),
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}

// === impl Shapes ===

impl Shapes {
    /// The one copy of a shape.
    pub fn intern(&mut self, shape: PodShape) -> Arc<PodShape> {
        let mut hasher = DefaultHasher::new();
        shape.hash(&mut hasher);
        let hash = hasher.finish();
        if self.by_hash.len() > self.sweep_at.max(1_024) {
            self.by_hash.retain(|_, shapes| shapes.iter().any(|shape| shape.strong_count() > 0));
            self.sweep_at = self.by_hash.len() * 2;
        }
        let same = self.by_hash.entry(hash).or_default();
        if let Some(known) = same.iter().filter_map(Weak::upgrade).find(|known| **known == shape) {
            return known;
        }
        same.retain(|shape| shape.strong_count() > 0);
        let shape = Arc::new(shape);
        same.push(Arc::downgrade(&shape));
        shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shape(labels: Value, spec: Value) -> PodShape {
        let pod = json!({"metadata": {"name": "a", "namespace": "n", "labels": labels}, "spec": spec});
        PodShape::read(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    #[test]
    fn host_ports_conflict_on_the_same_or_on_all_addresses() {
        let port = |ip: &str, protocol: &str| HostPort { ip: ip.into(), protocol: protocol.into(), port: 80 };
        assert!(port("", "TCP").conflicts(&port("10.0.0.1", "TCP")));
        assert!(port("::", "TCP").conflicts(&port("10.0.0.1", "TCP")));
        assert!(!port("10.0.0.2", "TCP").conflicts(&port("10.0.0.1", "TCP")));
        assert!(!port("", "UDP").conflicts(&port("", "TCP")));
    }

    #[test]
    fn equal_shapes_are_held_once_while_somebody_uses_them() {
        let mut shapes = Shapes::default();
        let a = shapes.intern(shape(json!({"app": "a"}), json!({})));
        let b = shapes.intern(shape(json!({"app": "a"}), json!({})));
        let c = shapes.intern(shape(json!({"app": "c"}), json!({})));
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c));
    }

    #[test]
    fn keys_take_the_pods_own_values() {
        let term = json!({"labelSelector": {}, "topologyKey": "zone",
            "matchLabelKeys": ["version", "absent"], "mismatchLabelKeys": ["tenant"]});
        let labels = json!({"version": "2", "tenant": "t"});
        let affinity = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        let shape = shape(labels, json!({"affinity": affinity}));
        let term = &shape.affinity[0];
        let matches = |namespace: &str, labels: &[(&str, &str)]| {
            term.pods.matches(namespace, &labels.iter().copied().collect(), |_| None)
        };
        assert!(matches("n", &[("version", "2")]));
        assert!(!matches("m", &[("version", "2")]));
        assert!(!matches("n", &[("version", "1")]));
        assert!(!matches("n", &[("version", "2"), ("tenant", "t")]));
    }

    #[test]
    fn namespaces_are_taken_by_name_and_by_label() {
        let matches = |term: Value, namespace: &str| {
            let affinity = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
            let shape = shape(json!({}), json!({"affinity": affinity}));
            let labelled: Labels = [("team", "x")].into_iter().collect();
            shape.affinity[0].pods.matches(namespace, &Labels::default(), |name| (name == "x").then_some(&labelled))
        };
        let selector = json!({"matchLabels": {"team": "x"}});
        assert!(matches(json!({"labelSelector": {}, "namespaceSelector": selector}), "x"));
        assert!(!matches(json!({"labelSelector": {}, "namespaceSelector": selector}), "n"));
        assert!(matches(json!({"labelSelector": {}, "namespaceSelector": selector, "namespaces": ["n"]}), "n"));
        assert!(matches(json!({"labelSelector": {}, "namespaceSelector": {}}), "anything"));
        assert!(!matches(json!({"topologyKey": "zone"}), "n"));
    }
}
