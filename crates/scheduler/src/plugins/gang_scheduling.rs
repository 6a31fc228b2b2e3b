//! Pods that are placed together or not at all (KEP-4671).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;
use trireme_client::Key;

use crate::PodInfo;
use crate::framework::{
    Actions, ClusterEvent, Gang, Hint, Interest, Object, Plugin, Point, Points, Reach, Source, Status,
};

/// A pod of a gang waits until enough of its gang are there; what is decided about one of them is decided about all.
#[derive(Default)]
pub struct GangScheduling {
    groups: Mutex<HashMap<Key, Group>>,
}

/// A PodGroup, as far as it is known.
#[derive(Default)]
struct Group {
    /// Whether the object is there.
    exists: bool,
    /// How many pods must be placed together; `None` when each stands for itself.
    min_count: Option<usize>,
    pods: BTreeSet<Key>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct View {
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    scheduling_policy: Policy,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Policy {
    gang: Option<GangPolicy>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GangPolicy {
    min_count: usize,
}

fn group_of(pod: &PodInfo) -> Option<Key> {
    pod.group.as_ref().map(|group| Key::new(&pod.key.namespace, group))
}

fn min_count(object: &Object) -> Option<usize> {
    object.read::<View>()?.spec.scheduling_policy.gang.map(|gang| gang.min_count)
}

impl GangScheduling {
    fn change(&self, key: Key, change: impl FnOnce(&mut Group)) {
        let mut groups = self.groups.lock();
        let group = groups.entry(key.clone()).or_default();
        change(group);
        if !group.exists && group.pods.is_empty() {
            groups.remove(&key);
        }
    }
}

impl Plugin for GangScheduling {
    fn name(&self) -> &'static str {
        "GangScheduling"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreEnqueue])
    }

    fn reach(&self, _pod: &PodInfo) -> Reach {
        Reach::Node
    }

    fn observe(&self, event: &ClusterEvent) {
        match event.source {
            Source::AssignedPod | Source::UnscheduledPod => {
                let pods = event.old_pod().into_iter().chain(event.pod());
                let Some((pod, key)) = pods.last().and_then(|pod| Some((pod, group_of(pod)?))) else { return };
                let gone = event.pod().is_none();
                self.change(key, |group| {
                    if gone {
                        group.pods.remove(&pod.key)
                    } else {
                        group.pods.insert(pod.key.clone())
                    };
                });
            }
            Source::PodGroup => {
                let Some(object) = event.object().or(event.old_object()) else { return };
                let there = event.object().is_some();
                self.change(object.key.clone(), |group| {
                    group.exists = there;
                    group.min_count = if there { min_count(object) } else { None };
                });
            }
            _ => {}
        }
    }

    fn pre_enqueue(&self, pod: &Arc<PodInfo>) -> Result<(), Status> {
        let Some(key) = group_of(pod) else { return Ok(()) };
        let groups = self.groups.lock();
        let Some(group) = groups.get(&key).filter(|group| group.exists) else {
            let why = format!("waiting for pod's pod group {:?} to appear in scheduling queue", &*key.name);
            return Err(Status::unresolvable(why));
        };
        if group.min_count.is_some_and(|min_count| group.pods.len() < min_count) {
            return Err(Status::unresolvable("waiting for minCount pods from a gang to appear in scheduling queue"));
        }
        Ok(())
    }

    fn gang(&self, pod: &PodInfo) -> Option<Gang> {
        let key = group_of(pod)?;
        let groups = self.groups.lock();
        let group = groups.get(&key)?;
        Some(Gang { min_count: group.min_count?, pods: group.pods.iter().cloned().collect(), key })
    }

    fn interests(&self) -> Vec<Interest> {
        vec![
            Interest::of(Source::UnscheduledPod, Actions::ADD),
            Interest::of(Source::AssignedPod, Actions::ADD),
            Interest::of(Source::PodGroup, Actions::ADD.and(Actions::UPDATE)),
        ]
    }

    fn hint(&self, pod: &Arc<PodInfo>, event: &ClusterEvent) -> Hint {
        let Some(own) = group_of(pod) else { return Hint::Skip };
        let helps = match event.source {
            Source::PodGroup => event.object().is_some_and(|new| {
                let fewer = |old: &Object| match (min_count(old), min_count(new)) {
                    (Some(old), Some(new)) => new < old,
                    _ => false,
                };
                new.key == own && event.old_object().is_none_or(fewer)
            }),
            _ => event.pod().and_then(|added| group_of(added)).is_some_and(|group| group == own),
        };
        if helps { Hint::Queue } else { Hint::Skip }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Core, Decision};
    use crate::plugins::{self, Sources};
    use crate::queue::Backoff;
    use crate::testing::node;
    use crate::{Profiles, view};
    use bytes::Bytes;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use serde_json::json;
    use tokio::time::Instant;

    fn core(nodes: usize) -> Core {
        let profiles = Profiles::new([plugins::usual(&Sources::none())]);
        let mut core = Core::new(Arc::new(profiles), Backoff::default(), SmallRng::seed_from_u64(3));
        for number in 0..nodes {
            let spec = node(json!({}), json!({}), json!({"cpu": "1", "pods": "10"}));
            core.set_node(&format!("n{number}"), Some(spec), Instant::now());
        }
        core
    }

    fn add(core: &mut Core, name: &str, group: Option<&str>) {
        let mut spec = json!({"schedulerName": "default-scheduler",
            "containers": [{"resources": {"requests": {"cpu": "1"}}}]});
        if let Some(group) = group {
            spec["schedulingGroup"] = json!({"podGroupName": group});
        }
        let pod = json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "spec": spec});
        let pod: view::Pod = serde_json::from_value(pod).unwrap();
        core.pod_changed(&Key::new("n", name), Some(pod), Instant::now()).unwrap();
    }

    fn group(core: &mut Core, min_count: usize) {
        let object = json!({"metadata": {"name": "g", "namespace": "n"},
            "spec": {"schedulingPolicy": {"gang": {"minCount": min_count}}}});
        let object = Object { key: Key::new("n", "g"), bytes: Bytes::from(object.to_string()) };
        core.object_changed(Source::PodGroup, None, Some(object), Instant::now());
    }

    /// What comes of the next attempt: names of placed pods, and messages of the others.
    fn next(core: &mut Core) -> (Vec<String>, Vec<String>) {
        let Some(attempt) = core.next(Instant::now()) else { return (Vec::new(), Vec::new()) };
        let (mut placed, mut failed) = (Vec::new(), Vec::new());
        for decision in core.decide_together(attempt, Instant::now()) {
            match decision {
                Decision::Placed(done) => placed.push(done.attempt.pod.key.name.to_string()),
                Decision::Failed(failure) => failed.push(failure.message),
            }
        }
        placed.sort();
        (placed, failed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_gang_waits_for_its_group_and_for_enough_pods_and_is_placed_at_once() {
        let mut core = core(3);
        for name in ["a", "b"] {
            add(&mut core, name, Some("g"));
        }
        assert!(core.next(Instant::now()).is_none(), "there is no group yet");
        group(&mut core, 3);
        assert!(core.next(Instant::now()).is_none(), "one is missing");
        add(&mut core, "c", Some("g"));
        assert_eq!(next(&mut core), (vec!["a".into(), "b".into(), "c".into()], Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_gang_that_does_not_fit_takes_nothing() {
        let mut core = core(2);
        group(&mut core, 3);
        for name in ["a", "b", "c"] {
            add(&mut core, name, Some("g"));
        }
        let (placed, failed) = next(&mut core);
        assert_eq!((placed.len(), failed.len()), (0, 3));
        assert!(failed.iter().any(|why| why.contains("minCount (3) cannot be satisfied: 2 scheduled, 0 remaining")));
        add(&mut core, "alone", None);
        assert_eq!(next(&mut core).0, ["alone"], "their room was given back");
        let spec = node(json!({}), json!({}), json!({"cpu": "4", "pods": "10"}));
        core.set_node("large", Some(spec), Instant::now());
        assert_eq!(next(&mut core).0, ["a", "b", "c"], "a node that came helps");
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_must_be_placed_may_fail() {
        let mut core = core(2);
        group(&mut core, 2);
        for name in ["a", "b", "c"] {
            add(&mut core, name, Some("g"));
        }
        let (placed, failed) = next(&mut core);
        assert_eq!((placed.len(), failed.len()), (2, 1));
    }
}
