use std::sync::Arc;

use crate::framework::{
    Actions, ClusterEvent, Context, CycleState, Hint, Interest, Plugin, Point, Points, PreFilter, Source, Status,
};
use crate::{NodeInfo, PodInfo};

/// A port of a node is used by one pod at a time.
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter])
    }

    fn pre_filter(&self, cx: Context<'_>, _state: &mut CycleState) -> Result<PreFilter, Status> {
        Ok(if cx.pod.host_ports.is_empty() { PreFilter::Skip } else { PreFilter::Proceed })
    }

    fn filter(&self, cx: Context<'_>, _state: &CycleState, node: &NodeInfo) -> Result<(), Status> {
        let taken = cx.pod.host_ports.iter().any(|port| node.used_ports.iter().any(|used| used.conflicts(port)));
        if taken {
            return Err(Status::unschedulable("node(s) didn't have free ports for the requested pod ports"));
        }
        Ok(())
    }

    fn interests(&self) -> Vec<Interest> {
        vec![Interest::of(Source::AssignedPod, Actions::DELETE), Interest::of(Source::Node, Actions::ADD)]
    }

    fn hint(&self, pod: &Arc<PodInfo>, event: &ClusterEvent) -> Hint {
        let Some(gone) = event.old_pod() else { return Hint::Queue };
        let freed = gone.host_ports.iter().any(|port| pod.host_ports.iter().any(|wanted| wanted.conflicts(port)));
        if freed { Hint::Queue } else { Hint::Skip }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{holding, pod, verdict_on};
    use serde_json::json;

    #[test]
    fn a_port_is_used_once_for_an_address_and_a_protocol() {
        let with = |ip: &str, protocol: &str| {
            pod("p", json!({"containers": [{"ports": [{"hostPort": 80, "hostIP": ip, "protocol": protocol}]}]}))
        };
        let node = holding(&[with("10.0.0.1", "TCP")]);
        for (ip, protocol, expected) in [
            ("10.0.0.1", "TCP", false),
            ("10.0.0.2", "TCP", true),
            ("10.0.0.1", "UDP", true),
            ("", "TCP", false),
            ("0.0.0.0", "TCP", false),
        ] {
            assert_eq!(verdict_on(&NodePorts, &with(ip, protocol), &node).is_ok(), expected, "{ip} {protocol}");
        }
    }
}
