use crate::framework::MAX_SCORE;
use crate::{Cluster, NodeInfo, Plugin, PodInfo, Scores};

/// Nodes on which CPU and memory would be used to a like share are liked, so that neither is stranded.
pub struct NodeResourcesBalanced;

impl Plugin for NodeResourcesBalanced {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn concerns(&self, pod: &PodInfo, _cluster: &Cluster) -> bool {
        pod.requests.milli_cpu > 0 || pod.requests.memory > 0
    }

    fn score(&self, pod: &PodInfo, nodes: &[&NodeInfo], _cluster: &Cluster) -> Option<Scores> {
        Some(nodes.iter().map(|node| balance(pod, node)).collect())
    }
}

/// 100 less half the difference of the two shares in percent: of two values that is their standard deviation.
fn balance(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let share = |asked: i64, used: i64, all: i64| {
        if all <= 0 { 0 } else { (used.saturating_add(asked)).min(all).saturating_mul(MAX_SCORE) / all }
    };
    let cpu = share(pod.requests.milli_cpu, node.requested.milli_cpu, node.allocatable.milli_cpu);
    // In MiB, so that the multiplication cannot overflow on any machine.
    let memory = share(pod.requests.memory >> 20, node.requested.memory >> 20, node.allocatable.memory >> 20);
    MAX_SCORE - (cpu - memory).abs() / 2
}
