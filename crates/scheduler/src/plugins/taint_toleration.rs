use std::sync::Arc;

use crate::framework::{
    Actions, ClusterEvent, Context, CycleState, Hint, Interest, Plugin, Point, Points, Source, Status,
};
use crate::{NodeInfo, NodeSpec, PodInfo};

/// Tainted nodes take only pods that tolerate the taint; taints of preference are avoided.
pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::Filter, Point::Score])
    }

    fn filter(&self, cx: Context<'_>, _state: &CycleState, node: &NodeInfo) -> Result<(), Status> {
        if repelled(cx.pod, &node.spec) {
            return Err(Status::unresolvable("node(s) had untolerated taint(s)"));
        }
        Ok(())
    }

    fn score(&self, cx: Context<'_>, _state: &CycleState, node: &NodeInfo) -> i64 {
        let disliked = node.spec.taints.iter().filter(|t| &*t.effect == "PreferNoSchedule" && !preferred(cx.pod, t));
        i64::try_from(disliked.count()).unwrap_or(i64::MAX)
    }

    fn normalizes(&self) -> bool {
        true
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        super::normalize(scores, true);
    }

    fn interests(&self) -> Vec<Interest> {
        vec![
            Interest::of(Source::Node, Actions::ADD.and(Actions::NODE_TAINT)),
            Interest::of(Source::TargetPod, Actions::POD_TOLERATIONS),
        ]
    }

    fn hint(&self, pod: &Arc<PodInfo>, event: &ClusterEvent) -> Hint {
        let Some((_, node)) = event.node() else { return Hint::Queue };
        let before = event.old_node().is_none_or(|old| repelled(pod, old));
        if before && !repelled(pod, node) { Hint::Queue } else { Hint::Skip }
    }
}

fn repelled(pod: &PodInfo, node: &NodeSpec) -> bool {
    node.taints.iter().any(|taint| taint.repels() && !pod.tolerates(taint))
}

/// Only tolerations without an effect and those of this effect speak of preferences.
fn preferred(pod: &PodInfo, taint: &crate::Taint) -> bool {
    pod.tolerations
        .iter()
        .filter(|toleration| toleration.effect.is_empty() || &*toleration.effect == "PreferNoSchedule")
        .any(|toleration| toleration.tolerates(taint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod, scores, verdict};
    use serde_json::{Value, json};

    fn tainted(taints: &[(&str, &str)]) -> Arc<NodeSpec> {
        let taints: Vec<Value> = taints.iter().map(|(key, effect)| json!({"key": key, "effect": effect})).collect();
        node(json!({}), json!({"taints": taints}), json!({}))
    }

    #[test]
    fn taints_keep_pods_away_unless_tolerated() {
        let plain = pod("a", json!({}));
        let tolerating = pod("a", json!({"tolerations": [{"key": "k", "operator": "Exists"}]}));
        for (taints, expected) in [(&[("k", "NoSchedule")][..], false), (&[("k", "PreferNoSchedule")], true)] {
            assert_eq!(verdict(&TaintToleration, &plain, &tainted(taints)).is_ok(), expected);
            assert!(verdict(&TaintToleration, &tolerating, &tainted(taints)).is_ok());
        }
    }

    #[test]
    fn the_node_with_the_fewest_disliked_taints_is_liked_most() {
        let nodes = [
            tainted(&[]),
            tainted(&[("a", "PreferNoSchedule")]),
            tainted(&[("a", "PreferNoSchedule"), ("b", "PreferNoSchedule")]),
        ];
        assert_eq!(scores(&TaintToleration, &pod("a", json!({})), &nodes), [100, 50, 0]);
        assert_eq!(scores(&TaintToleration, &pod("a", json!({})), &nodes[..1]), [100]);
    }

    #[test]
    fn a_taint_that_goes_away_helps() {
        use crate::framework::Change;
        let event = |old: Option<Arc<NodeSpec>>, new: Arc<NodeSpec>| ClusterEvent {
            source: Source::Node,
            actions: Actions::NODE_TAINT,
            change: Change::Node { name: "n1".into(), old, new: Some(new) },
        };
        let pod = pod("a", json!({}));
        let (tainted, free) = (tainted(&[("k", "NoSchedule")]), tainted(&[]));
        assert_eq!(TaintToleration.hint(&pod, &event(Some(tainted.clone()), free.clone())), Hint::Queue);
        assert_eq!(TaintToleration.hint(&pod, &event(None, free.clone())), Hint::Queue);
        assert_eq!(TaintToleration.hint(&pod, &event(Some(free), tainted)), Hint::Skip);
    }
}
