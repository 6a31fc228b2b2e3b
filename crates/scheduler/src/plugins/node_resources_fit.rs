use std::borrow::Cow;

use crate::framework::MAX_SCORE;
use crate::{Cluster, Hint, NodeInfo, Plugin, PodInfo, Rejection, Scores};

/// What a container without a request is taken to use when nodes are compared (upstream's non-zero defaults).
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

/// A node must have what the pod asks for; the emptier node is liked (LeastAllocated).
pub struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, _cluster: &Cluster) -> Result<(), Rejection> {
        let (asked, used, all) = (&pod.requests, &node.requested, &node.allocatable);
        let mut missing: Vec<Cow<'static, str>> = Vec::new();
        // Whether the node would do if it were empty.
        let mut fits_empty = true;
        let mut check = |reason: Cow<'static, str>, asked: i64, used: i64, all: i64| {
            if asked > 0 && asked > all.saturating_sub(used) {
                missing.push(reason);
                fits_empty &= asked <= all;
            }
        };
        check("Too many pods".into(), 1, i64::try_from(node.pods.len()).unwrap_or(i64::MAX), all.pods);
        check("Insufficient cpu".into(), asked.milli_cpu, used.milli_cpu, all.milli_cpu);
        check("Insufficient memory".into(), asked.memory, used.memory, all.memory);
        check(
            "Insufficient ephemeral-storage".into(),
            asked.ephemeral_storage,
            used.ephemeral_storage,
            all.ephemeral_storage,
        );
        for (name, amount) in &asked.extended {
            check(format!("Insufficient {name}").into(), *amount, used.extended(name), all.extended(name));
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(Rejection { reasons: missing, preemptable: fits_empty })
    }

    fn score(&self, pod: &PodInfo, nodes: &[&NodeInfo], _cluster: &Cluster) -> Option<Scores> {
        Some(nodes.iter().map(|node| least_allocated(pod, node)).collect())
    }

    fn helped_by(&self, _pod: &PodInfo, hint: Hint) -> bool {
        matches!(hint, Hint::Node | Hint::PodGone)
    }
}

/// The shares of CPU and memory that stay free with the pod on the node, averaged, 0 to 100.
fn least_allocated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let pods = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
    let free = |asked: i64, default: i64, used: i64, all: i64| {
        let asked = if asked == 0 { default } else { asked };
        // Pods without requests count with the default, so that they spread too.
        let used = used.max(pods.saturating_mul(default).min(all)).saturating_add(asked);
        if all == 0 || used > all { 0 } else { (all - used) * MAX_SCORE / all }
    };
    let cpu = free(pod.requests.milli_cpu, DEFAULT_MILLI_CPU, node.requested.milli_cpu, node.allocatable.milli_cpu);
    let memory = free(pod.requests.memory, DEFAULT_MEMORY, node.requested.memory, node.allocatable.memory);
    (cpu + memory) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resources;

    fn pod(milli_cpu: i64, memory: i64) -> PodInfo {
        let view = serde_json::json!({"metadata": {"name": "a", "namespace": "n"}});
        let mut pod = PodInfo::read(serde_json::from_value(view).unwrap()).unwrap();
        pod.requests = Resources { milli_cpu, memory, pods: 1, ..Resources::default() };
        pod
    }

    fn node(used_cpu: i64) -> NodeInfo {
        NodeInfo {
            allocatable: Resources { milli_cpu: 1_000, memory: 1 << 30, pods: 10, ..Resources::default() },
            requested: Resources { milli_cpu: used_cpu, ..Resources::default() },
            ..NodeInfo::default()
        }
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        let fit = |pod: &PodInfo, node: &NodeInfo| NodeResourcesFit.filter(pod, node, &Cluster::default());
        assert!(fit(&pod(500, 0), &node(500)).is_ok());
        let rejection = fit(&pod(501, 2 << 30), &node(500)).unwrap_err();
        assert_eq!(rejection.reasons, ["Insufficient cpu", "Insufficient memory"]);
        assert!(!rejection.preemptable, "an empty node would not do either");
        assert!(fit(&pod(501, 0), &node(500)).unwrap_err().preemptable);
    }

    #[test]
    fn the_emptier_node_is_liked() {
        let (empty, full) = (node(0), node(800));
        let scores = NodeResourcesFit.score(&pod(100, 0), &[&empty, &full], &Cluster::default()).unwrap();
        assert!(scores[0] > scores[1], "{scores:?}");
    }
}
