use crate::{Cluster, NodeInfo, Plugin, PodInfo, Rejection};

/// A pod that names its node is already bound, and never comes here: the plugin stands for upstream's of this name, so
/// that configurations that list it are understood.
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn concerns(&self, _pod: &PodInfo, _cluster: &Cluster) -> bool {
        false
    }

    fn filter(&self, _pod: &PodInfo, _node: &NodeInfo, _cluster: &Cluster) -> Result<(), Rejection> {
        Ok(())
    }
}
