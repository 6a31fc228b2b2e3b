use crate::{Cluster, Hint, NodeInfo, Plugin, PodInfo, Rejection, Taint};

/// Cordoned nodes take only pods that tolerate it.
pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, _cluster: &Cluster) -> Result<(), Rejection> {
        if !node.unschedulable {
            return Ok(());
        }
        let taint =
            Taint { key: "node.kubernetes.io/unschedulable".into(), value: "".into(), effect: "NoSchedule".into() };
        if pod.tolerates(&taint) { Ok(()) } else { Err(Rejection::of("node(s) were unschedulable")) }
    }

    fn helped_by(&self, _pod: &PodInfo, hint: Hint) -> bool {
        hint == Hint::Node
    }
}
