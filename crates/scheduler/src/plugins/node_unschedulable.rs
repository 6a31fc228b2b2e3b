use std::sync::Arc;

use crate::framework::{
    Actions, ClusterEvent, Context, CycleState, Hint, Interest, Plugin, Point, Points, Source, Status,
};
use crate::{NodeInfo, PodInfo, Taint};

/// Cordoned nodes take only pods that tolerate it.
pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::Filter])
    }

    fn filter(&self, cx: Context<'_>, _state: &CycleState, node: &NodeInfo) -> Result<(), Status> {
        if !node.spec.unschedulable || cx.pod.tolerates(&Taint::unschedulable()) {
            return Ok(());
        }
        Err(Status::unresolvable("node(s) were unschedulable"))
    }

    fn interests(&self) -> Vec<Interest> {
        vec![
            Interest::of(Source::Node, Actions::ADD.and(Actions::NODE_TAINT)),
            Interest::of(Source::TargetPod, Actions::POD_TOLERATIONS),
        ]
    }

    fn hint(&self, pod: &Arc<PodInfo>, event: &ClusterEvent) -> Hint {
        match event.node() {
            Some((_, node)) if node.unschedulable && !pod.tolerates(&Taint::unschedulable()) => Hint::Skip,
            _ => Hint::Queue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod, verdict};
    use serde_json::json;

    #[test]
    fn a_cordoned_node_takes_only_pods_that_tolerate_it() {
        let cordoned = node(json!({}), json!({"unschedulable": true}), json!({}));
        let none = verdict(&NodeUnschedulable, &pod("a", json!({})), &cordoned);
        assert_eq!(none.unwrap_err().to_string(), "node(s) were unschedulable");
        let tolerating = pod("a", json!({"tolerations": [{"operator": "Exists"}]}));
        assert!(verdict(&NodeUnschedulable, &tolerating, &cordoned).is_ok());
    }
}
