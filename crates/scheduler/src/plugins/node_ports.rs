use crate::{Cluster, Hint, NodeInfo, Plugin, PodInfo, Rejection};

/// A port of a node is used by one pod at a time.
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn concerns(&self, pod: &PodInfo, _cluster: &Cluster) -> bool {
        !pod.host_ports.is_empty()
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, _cluster: &Cluster) -> Result<(), Rejection> {
        let taken = pod.host_ports.iter().any(|port| node.used_ports.iter().any(|used| used.conflicts(port)));
        if taken {
            let reason = "node(s) didn't have free ports for the requested pod ports";
            return Err(Rejection::preemptable(vec![reason.into()]));
        }
        Ok(())
    }

    fn helped_by(&self, _pod: &PodInfo, hint: Hint) -> bool {
        matches!(hint, Hint::Node | Hint::PodGone)
    }
}
