//! Node selectors and node affinity.

use std::sync::Arc;

use crate::framework::{
    Actions, ClusterEvent, Context, CycleState, Hint, Interest, Plugin, Point, Points, PreFilter, Source, Status,
};
use crate::view::NodeAffinity as Added;
use crate::{Labels, NodeInfo, PodInfo};

/// A pod goes where its node selector and its required affinity allow, and rather where its preferences lie.
#[derive(Default)]
pub struct NodeAffinity {
    /// What the profile asks of nodes, beside what its pods ask (`addedAffinity`).
    pub added: Added,
}

impl NodeAffinity {
    fn selects(&self, pod: &PodInfo, name: &str, labels: &Labels) -> bool {
        pod.selects(name, labels) && self.added.required.as_ref().is_none_or(|required| required.matches(name, labels))
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter, Point::Score])
    }

    fn pre_filter(&self, cx: Context<'_>, _state: &mut CycleState) -> Result<PreFilter, Status> {
        let pod = cx.pod;
        if pod.required_nodes.is_none() && pod.node_selector.is_empty() && self.added.required.is_none() {
            return Ok(PreFilter::Skip);
        }
        let names = pod.required_nodes.as_ref().and_then(|required| required.names());
        Ok(names.map_or(PreFilter::Proceed, |names| PreFilter::Only(names.into_iter().map(Into::into).collect())))
    }

    fn filter(&self, cx: Context<'_>, _state: &CycleState, node: &NodeInfo) -> Result<(), Status> {
        let added = &self.added.required;
        if added.as_ref().is_some_and(|required| !required.matches(&node.name, &node.spec.labels)) {
            return Err(Status::unresolvable("node(s) didn't match scheduler-enforced node affinity"));
        }
        if cx.pod.selects_node(node) {
            return Ok(());
        }
        Err(Status::unresolvable("node(s) didn't match Pod's node affinity/selector"))
    }

    fn score(&self, cx: Context<'_>, _state: &CycleState, node: &NodeInfo) -> i64 {
        let preferences = cx.pod.preferred_nodes.iter().chain(&self.added.preferred);
        let matching = preferences.filter(|liked| liked.preference.matches(&node.name, &node.spec.labels));
        matching.map(|liked| i64::from(liked.weight)).sum()
    }

    fn normalizes(&self) -> bool {
        true
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        super::normalize(scores, false);
    }

    fn interests(&self) -> Vec<Interest> {
        vec![Interest::of(Source::Node, Actions::ADD.and(Actions::NODE_LABEL))]
    }

    fn hint(&self, pod: &Arc<PodInfo>, event: &ClusterEvent) -> Hint {
        let Some((name, node)) = event.node() else { return Hint::Queue };
        let before = event.old_node().is_some_and(|old| self.selects(pod, name, &old.labels));
        if !before && self.selects(pod, name, &node.labels) { Hint::Queue } else { Hint::Skip }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{pod, roomy, scores, verdict};
    use serde_json::json;

    #[test]
    fn selector_and_affinity_and_what_the_profile_adds_must_all_hold() {
        let zone_a = roomy(json!({"zone": "a"}));
        let by_selector = |zone: &str| pod("p", json!({"nodeSelector": {"zone": zone}}));
        assert!(verdict(&NodeAffinity::default(), &by_selector("a"), &zone_a).is_ok());
        let refused = verdict(&NodeAffinity::default(), &by_selector("b"), &zone_a).unwrap_err();
        assert_eq!(refused.to_string(), "node(s) didn't match Pod's node affinity/selector");
        let added = json!({"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["c"]}]}]}});
        let plugin = NodeAffinity { added: serde_json::from_value(added).unwrap() };
        let refused = verdict(&plugin, &by_selector("a"), &zone_a).unwrap_err();
        assert_eq!(refused.to_string(), "node(s) didn't match scheduler-enforced node affinity");
    }

    #[test]
    fn weights_of_preferences_add_up_and_the_largest_sum_is_a_hundred() {
        let prefer = |weight: i32, zone: &str| {
            json!({"weight": weight, "preference":
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}})
        };
        let affinity = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [prefer(10, "a"), prefer(30, "b"), prefer(10, "b")]}});
        let nodes = ["a", "b", "c"].map(|zone| roomy(json!({"zone": zone})));
        assert_eq!(scores(&NodeAffinity::default(), &pod("p", json!({"affinity": affinity})), &nodes), [25, 100, 0]);
    }
}
