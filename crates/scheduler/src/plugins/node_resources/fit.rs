use std::borrow::Cow;
use std::sync::Arc;

use super::Strategy;
use crate::config::FitArgs;
use crate::framework::{
    Actions, ClusterEvent, Code, Context, CycleState, Hint, Interest, Plugin, Point, Points, Source, Status,
};
use crate::{NodeInfo, NodeSpec, PodInfo, Resources};

/// A node must have what the pod asks for; which of those that have it is liked says the strategy.
#[derive(Default)]
pub struct NodeResourcesFit {
    /// Which nodes are liked.
    pub strategy: Strategy,
    /// Extended resources that are not looked at.
    pub ignored: Vec<Box<str>>,
    /// Groups of extended resources (the part before the slash) that are not looked at.
    pub ignored_groups: Vec<Box<str>>,
}

impl NodeResourcesFit {
    /// As a configuration says.
    pub fn new(args: &FitArgs) -> Self {
        let names = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
        Self {
            strategy: Strategy::of(args),
            ignored: names(&args.ignored_resources),
            ignored_groups: names(&args.ignored_resource_groups),
        }
    }

    fn ignores(&self, resource: &str) -> bool {
        let group = resource.split_once('/').map(|(group, _)| group);
        self.ignored.iter().any(|ignored| **ignored == *resource)
            || group.is_some_and(|group| self.ignored_groups.iter().any(|ignored| **ignored == *group))
    }

    /// What is missing, and whether it is missing of an empty node too.
    fn missing(
        &self,
        asked: &Resources,
        used: &Resources,
        pods: usize,
        all: &Resources,
    ) -> (Vec<Cow<'static, str>>, bool) {
        let mut missing: Vec<Cow<'static, str>> = Vec::new();
        let mut for_ever = false;
        if i64::try_from(pods).unwrap_or(i64::MAX).saturating_add(1) > all.pods {
            missing.push("Too many pods".into());
        }
        let mut check = |reason: Cow<'static, str>, asked: i64, used: i64, all: i64| {
            if asked > 0 && asked > all.saturating_sub(used) {
                missing.push(reason);
                for_ever |= asked > all;
            }
        };
        check("Insufficient cpu".into(), asked.milli_cpu, used.milli_cpu, all.milli_cpu);
        check("Insufficient memory".into(), asked.memory, used.memory, all.memory);
        let (storage, used_storage) = (asked.ephemeral_storage, used.ephemeral_storage);
        check("Insufficient ephemeral-storage".into(), storage, used_storage, all.ephemeral_storage);
        for (name, amount) in asked.extended.iter().filter(|(name, _)| !self.ignores(name)) {
            let (used, all) = (used.extended(name), all.extended(name));
            if *amount > all.saturating_sub(used) {
                check(format!("Insufficient {name}").into(), *amount, used, all);
            }
        }
        (missing, for_ever)
    }

    fn fits_empty(&self, pod: &PodInfo, node: &NodeSpec) -> bool {
        self.missing(&pod.requests.total, &Resources::default(), 0, &node.allocatable).0.is_empty()
    }
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::Filter, Point::Score])
    }

    fn filter(&self, cx: Context<'_>, _state: &CycleState, node: &NodeInfo) -> Result<(), Status> {
        let asked = &cx.pod.requests.total;
        let (missing, for_ever) = self.missing(asked, &node.requested, node.pods.len(), &node.spec.allocatable);
        if missing.is_empty() {
            return Ok(());
        }
        Err(Status::several(if for_ever { Code::Unresolvable } else { Code::Unschedulable }, missing))
    }

    fn score(&self, cx: Context<'_>, _state: &CycleState, node: &NodeInfo) -> i64 {
        self.strategy.score(cx.pod, node)
    }

    fn interests(&self) -> Vec<Interest> {
        vec![
            Interest::of(Source::AssignedPod, Actions::DELETE.and(Actions::POD_SCALE_DOWN)),
            Interest::of(Source::TargetPod, Actions::POD_SCALE_DOWN),
            Interest::of(Source::Node, Actions::ADD.and(Actions::NODE_ALLOCATABLE)),
        ]
    }

    fn hint(&self, pod: &Arc<PodInfo>, event: &ClusterEvent) -> Hint {
        let helps = match (event.source, event.node()) {
            (Source::Node, Some((_, node))) => {
                let more = event.old_node().is_none_or(|old| more_of(pod, &old.allocatable, &node.allocatable));
                more && self.fits_empty(pod, node)
            }
            (Source::AssignedPod, _) => event.old_pod().is_none_or(|old| {
                let new = event.pod().map(|new| &new.requests.total);
                frees(&pod.requests.total, &old.requests.total, new)
            }),
            _ => true,
        };
        if helps { Hint::Queue } else { Hint::Skip }
    }
}

/// Whether something that is asked for became more.
fn more_of(pod: &PodInfo, old: &Resources, new: &Resources) -> bool {
    let asked = &pod.requests.total;
    new.pods > old.pods
        || asked.milli_cpu > 0 && new.milli_cpu > old.milli_cpu
        || asked.memory > 0 && new.memory > old.memory
        || asked.ephemeral_storage > 0 && new.ephemeral_storage > old.ephemeral_storage
        || asked.extended.iter().any(|(name, _)| new.extended(name) > old.extended(name))
}

/// Whether a pod that goes (`new` is absent) or shrinks frees something that is asked for. A pod that goes frees its
/// place among the node's pods in any case.
fn frees(asked: &Resources, old: &Resources, new: Option<&Resources>) -> bool {
    let Some(new) = new else { return true };
    asked.milli_cpu > 0 && new.milli_cpu < old.milli_cpu
        || asked.memory > 0 && new.memory < old.memory
        || asked.ephemeral_storage > 0 && new.ephemeral_storage < old.ephemeral_storage
        || asked.extended.iter().any(|(name, _)| new.extended(name) < old.extended(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod, verdict_on};
    use serde_json::json;

    fn asking(cpu: &str, memory: &str) -> Arc<PodInfo> {
        pod("a", json!({"containers": [{"resources": {"requests": {"cpu": cpu, "memory": memory}}}]}))
    }

    fn half_full() -> NodeInfo {
        let spec = node(json!({}), json!({}), json!({"cpu": "1", "memory": "1Gi", "pods": "2"}));
        let mut node = NodeInfo { spec, ..NodeInfo::default() };
        node.add(pod("b", json!({"containers": [{"resources": {"requests": {"cpu": "500m"}}}]})));
        node
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        let fit = |pod: &Arc<PodInfo>| verdict_on(&NodeResourcesFit::default(), pod, &half_full());
        assert!(fit(&asking("500m", "0")).is_ok());
        let rejected = fit(&asking("501m", "2Gi")).unwrap_err();
        assert_eq!(rejected.reasons, ["Insufficient cpu", "Insufficient memory"]);
        assert_eq!(rejected.code, Code::Unresolvable, "an empty node would not do either");
        assert_eq!(fit(&asking("501m", "0")).unwrap_err().code, Code::Unschedulable);
        let mut full = half_full();
        full.add(pod("c", json!({})));
        let rejected = verdict_on(&NodeResourcesFit::default(), &asking("0", "0"), &full).unwrap_err();
        assert_eq!((rejected.code, rejected.to_string().as_str()), (Code::Unschedulable, "Too many pods"));
    }

    #[test]
    fn extended_resources_can_be_left_to_an_extender() {
        let gpu = pod("a", json!({"containers": [{"resources": {"requests": {"x.io/gpu": "1"}}}]}));
        let refused = verdict_on(&NodeResourcesFit::default(), &gpu, &half_full()).unwrap_err();
        assert_eq!(refused.to_string(), "Insufficient x.io/gpu");
        for (ignored, ignored_groups) in [(vec!["x.io/gpu".into()], vec![]), (vec![], vec!["x.io".into()])] {
            let plugin = NodeResourcesFit { ignored, ignored_groups, ..NodeResourcesFit::default() };
            assert!(verdict_on(&plugin, &gpu, &half_full()).is_ok());
        }
    }

    #[test]
    fn what_is_freed_must_be_what_is_asked_for() {
        let amounts = |milli_cpu: i64, memory: i64| Resources { milli_cpu, memory, ..Resources::default() };
        let asked = amounts(100, 0);
        assert!(frees(&asked, &amounts(0, 0), None), "a place among the pods");
        assert!(frees(&asked, &amounts(200, 100), Some(&amounts(100, 100))));
        assert!(!frees(&asked, &amounts(200, 100), Some(&amounts(200, 50))));
    }
}
