//! Pods spread over domains.

mod filter;
mod score;
mod workloads;

use std::sync::Arc;

pub use workloads::{Informed, Nobody, Workloads};

use crate::config::SpreadArgs;
use crate::framework::{
    Actions, ClusterEvent, Context, CycleState, Hint, Interest, Plugin, Point, Points, PreFilter, PreScore, Reach,
    Source, Status,
};
use crate::shape::{Namespaces, PodSelector, Spread};
use crate::{Cluster, LabelSelector, Labels, NodeInfo, PodInfo};
use filter::Required;
use score::Liked;

/// The node label that names the node.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// The node label that names the zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Pods are spread as they ask, or else as the profile asks.
pub struct PodTopologySpread {
    defaults: Defaults,
    workloads: Arc<dyn Workloads>,
}

/// How pods are spread that do not say.
#[derive(Clone, Debug)]
enum Defaults {
    /// Over nodes and zones, where that is possible (`defaultingType: System`).
    System,
    /// As these say, whose pods are left open (`defaultingType: List`).
    List(Vec<Spread>),
}

impl PodTopologySpread {
    /// Spreads pods that do not say over the domains of the defaults; `workloads` knows with which others they belong.
    pub fn new(args: &SpreadArgs, workloads: Arc<dyn Workloads>) -> Self {
        let list = || args.default_constraints.iter().map(|c| Spread::read(c, "", &Labels::default())).collect();
        let defaults = if args.defaulting_type == "List" { Defaults::List(list()) } else { Defaults::System };
        Self { defaults, workloads }
    }

    /// The constraints of a pod, its own or else those of the profile.
    fn constraints(&self, pod: &Arc<PodInfo>, required: bool) -> Vec<Spread> {
        let wanted = |spread: &&Spread| spread.required == required;
        if !pod.spread.is_empty() {
            return pod.spread.iter().filter(wanted).cloned().collect();
        }
        let system = [(HOSTNAME, 3), (ZONE, 5)];
        let of = |selector: &LabelSelector, defaults: &[Spread]| {
            let with =
                |spread: &Spread| Spread { pods: PodSelector::among(&pod.namespace, selector), ..spread.clone() };
            defaults.iter().filter(wanted).map(with).collect()
        };
        match &self.defaults {
            Defaults::System if required => Vec::new(),
            Defaults::System => match self.workloads.selector(pod) {
                Some(selector) => {
                    let pods = PodSelector::among(&pod.namespace, &selector);
                    system.map(|(key, skew)| Spread::preferred(key, skew, pods.clone())).into()
                }
                None => Vec::new(),
            },
            Defaults::List(defaults) if !defaults.iter().any(|spread| spread.required == required) => Vec::new(),
            Defaults::List(defaults) => {
                self.workloads.selector(pod).map(|selector| of(&selector, defaults)).unwrap_or_default()
            }
        }
    }

    /// Whether only nodes are counted that have the labels of all constraints. The system's own defaults count the nodes
    /// of clusters without zones, too.
    fn counts_all_keys(&self, pod: &PodInfo) -> bool {
        !pod.spread.is_empty() || !matches!(self.defaults, Defaults::System)
    }
}

impl PodSelector {
    fn among(namespace: &str, selector: &LabelSelector) -> Self {
        Self { namespaces: Namespaces::Named(vec![namespace.into()]), labels: Some(selector.clone()) }
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score])
    }

    fn reach(&self, _pod: &PodInfo) -> Reach {
        Reach::Cluster
    }

    fn indifferent(&self, pod: &Arc<PodInfo>, _cluster: &Cluster) -> bool {
        self.constraints(pod, false).is_empty()
    }

    fn pre_filter(&self, cx: Context<'_>, state: &mut CycleState) -> Result<PreFilter, Status> {
        let constraints = self.constraints(cx.pod, true);
        if constraints.is_empty() {
            return Ok(PreFilter::Skip);
        }
        state.set(Required::of(cx, constraints));
        Ok(PreFilter::Proceed)
    }

    fn add_pod(&self, cx: Context<'_>, state: &mut CycleState, added: &Arc<PodInfo>, node: &NodeInfo) {
        if let Some(required) = state.get_mut::<Required>() {
            required.suppose(cx, added, node, true);
        }
    }

    fn remove_pod(&self, cx: Context<'_>, state: &mut CycleState, removed: &Arc<PodInfo>, node: &NodeInfo) {
        if let Some(required) = state.get_mut::<Required>() {
            required.suppose(cx, removed, node, false);
        }
    }

    fn filter(&self, _cx: Context<'_>, state: &CycleState, node: &NodeInfo) -> Result<(), Status> {
        state.get::<Required>().map_or(Ok(()), |required| required.verdict(node.slot))
    }

    fn pre_score(&self, cx: Context<'_>, state: &mut CycleState, nodes: &[&NodeInfo]) -> Result<PreScore, Status> {
        let constraints = self.constraints(cx.pod, false);
        if constraints.is_empty() || nodes.is_empty() {
            return Ok(PreScore::Skip);
        }
        state.set(Liked::of(cx, constraints, self.counts_all_keys(cx.pod), nodes));
        Ok(PreScore::Proceed)
    }

    fn score(&self, _cx: Context<'_>, state: &CycleState, node: &NodeInfo) -> i64 {
        state.get::<Liked>().map_or(0, |liked| liked.score(node.slot))
    }

    fn normalizes(&self) -> bool {
        true
    }

    fn normalize(&self, state: &CycleState, nodes: &[&NodeInfo], scores: &mut [i64]) {
        if let Some(liked) = state.get::<Liked>() {
            liked.normalize(nodes, scores);
        }
    }

    fn interests(&self) -> Vec<Interest> {
        vec![
            Interest::of(Source::AssignedPod, Actions::ADD.and(Actions::DELETE).and(Actions::POD_LABEL)),
            Interest::of(
                Source::Node,
                Actions::ADD.and(Actions::DELETE).and(Actions::NODE_LABEL).and(Actions::NODE_TAINT),
            ),
            Interest::of(Source::TargetPod, Actions::POD_LABEL),
        ]
    }

    fn hint(&self, pod: &Arc<PodInfo>, event: &ClusterEvent) -> Hint {
        let constraints = self.constraints(pod, true);
        let counted = |other: &PodInfo| {
            constraints.iter().any(|spread| spread.pods.matches(&other.namespace, &other.labels, |_| None))
        };
        let helps = match event.source {
            Source::AssignedPod => match (event.old_pod(), event.pod()) {
                (Some(old), Some(new)) => counted(old) != counted(new),
                (old, new) => old.or(new).is_none_or(|other| counted(other)),
            },
            Source::Node => {
                let has_keys =
                    |node: &crate::NodeSpec| constraints.iter().all(|spread| node.labels.get(&spread.key).is_some());
                let new = event.node().map(|(_, node)| node);
                match (event.old_node(), new) {
                    (Some(old), Some(new)) => {
                        let moved = |spread: &Spread| old.labels.get(&spread.key) != new.labels.get(&spread.key);
                        let taints = constraints.iter().any(|spread| spread.honor_taints) && old.taints != new.taints;
                        (has_keys(old) || has_keys(new)) && (constraints.iter().any(moved) || taints)
                    }
                    (old, new) => old.or(new).is_none_or(has_keys),
                }
            }
            _ => true,
        };
        if helps { Hint::Queue } else { Hint::Skip }
    }
}

#[cfg(test)]
mod tests;
