//! What a change of an object means to waiting pods.

use std::sync::Arc;

use crate::framework::{Actions, Change, ClusterEvent, Source};
use crate::{NodeSpec, PodInfo, Resources};

/// A node came, changed or went. `None` when nothing changed that scheduling looks at.
pub fn of_node(name: &str, old: Option<Arc<NodeSpec>>, new: Option<Arc<NodeSpec>>) -> Option<ClusterEvent> {
    let actions = match (&old, &new) {
        (None, Some(_)) => Actions::ADD,
        (Some(_), None) => Actions::DELETE,
        (None, None) => return None,
        (Some(old), Some(new)) => Actions::default()
            .also(Actions::NODE_ALLOCATABLE, old.allocatable != new.allocatable)
            .also(Actions::NODE_LABEL, old.labels != new.labels)
            .also(Actions::NODE_TAINT, old.taints != new.taints || old.unschedulable != new.unschedulable)
            .also(Actions::NODE_FEATURES, old.features != new.features),
    };
    let change = Change::Node { name: name.into(), old, new };
    (!actions.is_empty()).then_some(ClusterEvent { source: Source::Node, actions, change })
}

/// A pod on a node came, changed or went. `None` when nothing changed that scheduling looks at.
pub fn of_assigned(old: Option<Arc<PodInfo>>, new: Option<Arc<PodInfo>>) -> Option<ClusterEvent> {
    let actions = match (&old, &new) {
        (None, Some(_)) => Actions::ADD,
        (Some(_), None) => Actions::DELETE,
        (None, None) => return None,
        (Some(old), Some(new)) => of_change(old, new),
    };
    let change = Change::Pod { old, new };
    (!actions.is_empty()).then_some(ClusterEvent { source: Source::AssignedPod, actions, change })
}

/// A waiting pod changed, seen by itself.
pub fn of_target(old: Arc<PodInfo>, new: Arc<PodInfo>) -> ClusterEvent {
    let mut actions = of_change(&old, &new);
    if actions.is_empty() && old.shape != new.shape {
        actions = Actions::OTHER;
    }
    ClusterEvent { source: Source::TargetPod, actions, change: Change::Pod { old: Some(old), new: Some(new) } }
}

/// A waiting pod came, seen by others.
pub fn of_unscheduled(new: Arc<PodInfo>) -> ClusterEvent {
    let change = Change::Pod { old: None, new: Some(new) };
    ClusterEvent { source: Source::UnscheduledPod, actions: Actions::ADD, change }
}

/// A waiting pod went, seen by others.
pub fn of_unscheduled_gone(old: Arc<PodInfo>) -> ClusterEvent {
    let change = Change::Pod { old: Some(old), new: None };
    ClusterEvent { source: Source::UnscheduledPod, actions: Actions::DELETE, change }
}

fn of_change(old: &Arc<PodInfo>, new: &Arc<PodInfo>) -> Actions {
    if Arc::ptr_eq(&old.shape, &new.shape) {
        return Actions::default();
    }
    Actions::default()
        .also(Actions::POD_LABEL, old.labels != new.labels)
        .also(Actions::POD_SCALE_DOWN, smaller(&new.requests.total, &old.requests.total))
        .also(Actions::POD_GATES_GONE, !old.gates.is_empty() && new.gates.is_empty())
        .also(Actions::POD_TOLERATIONS, old.tolerations != new.tolerations)
}

fn smaller(new: &Resources, old: &Resources) -> bool {
    new.milli_cpu < old.milli_cpu
        || new.memory < old.memory
        || new.ephemeral_storage < old.ephemeral_storage
        || old.extended.iter().any(|(name, amount)| new.extended(name) < *amount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{labelled, node, pod};
    use serde_json::json;

    #[test]
    fn only_what_scheduling_looks_at_is_an_event() {
        let of = |labels, spec, cpu: &str| node(labels, spec, json!({"cpu": cpu}));
        let plain = || of(json!({}), json!({}), "1");
        let actions = |new| of_node("n1", Some(plain()), Some(new)).map(|event| event.actions);
        assert_eq!(actions(plain()), None);
        assert_eq!(actions(of(json!({"a": "b"}), json!({}), "1")), Some(Actions::NODE_LABEL));
        assert_eq!(actions(of(json!({}), json!({"unschedulable": true}), "1")), Some(Actions::NODE_TAINT));
        assert_eq!(actions(of(json!({}), json!({}), "2")), Some(Actions::NODE_ALLOCATABLE));
        let asking = |cpu: &str| pod("p", json!({"containers": [{"resources": {"requests": {"cpu": cpu}}}]}));
        let of_pod = |old, new| of_assigned(Some(old), Some(new)).map(|event| event.actions);
        assert_eq!(of_pod(asking("2"), asking("1")), Some(Actions::POD_SCALE_DOWN));
        assert_eq!(of_pod(asking("1"), asking("2")), None);
        assert_eq!(of_pod(pod("p", json!({})), labelled("p", json!({"a": "b"}), json!({}))), Some(Actions::POD_LABEL));
    }
}
