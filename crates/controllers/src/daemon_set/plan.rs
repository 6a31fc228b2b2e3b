//! What a daemon set decides: which nodes run its pod, and which pods come and go.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{Node, PodSpec, Taint, Toleration};

use crate::percent::scaled;
use crate::taints::{self, NO_EXECUTE, NO_SCHEDULE, tolerates};
use crate::view::Pod;
use crate::{node_affinity, revisions};

/// What a daemon set has to do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    /// A pod should be started there.
    pub(crate) run: bool,
    /// A pod that is there may stay.
    pub(crate) stay: bool,
}

/// The pods to create (by node) and to delete.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) create: Vec<String>,
    pub(crate) delete: Vec<Pod>,
    /// Pods that have failed (true) or ended, and are replaced.
    pub(crate) ended: Vec<(Pod, bool)>,
}

/// The tolerations that every daemon pod has: daemons run where others must not (apps/v1 DaemonSet).
pub(crate) fn tolerations(host_network: bool) -> Vec<Toleration> {
    let toleration = |key: &str, effect: &str| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    };
    let mut all = vec![
        toleration(taints::NOT_READY, NO_EXECUTE),
        toleration(taints::UNREACHABLE, NO_EXECUTE),
        toleration(taints::DISK_PRESSURE, NO_SCHEDULE),
        toleration(taints::MEMORY_PRESSURE, NO_SCHEDULE),
        toleration(taints::PID_PRESSURE, NO_SCHEDULE),
        toleration(taints::UNSCHEDULABLE, NO_SCHEDULE),
    ];
    if host_network {
        all.push(toleration(taints::NETWORK_UNAVAILABLE, NO_SCHEDULE));
    }
    all
}

/// Whether a pod of this spec belongs on a node.
pub(crate) fn fit(spec: &PodSpec, node: &Node) -> Fit {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let elsewhere = spec.node_name.as_deref().is_some_and(|wanted| !wanted.is_empty() && wanted != name);
    if elsewhere || !node_affinity::accepts(spec, node) {
        return Fit { run: false, stay: false };
    }
    let own = spec.tolerations.clone().unwrap_or_default();
    let added = tolerations(spec.host_network == Some(true));
    let refused = |taint: &&Taint| !own.iter().chain(&added).any(|toleration| tolerates(toleration, taint));
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let mut refused =
        taints.into_iter().flatten().filter(refused).filter(|t| t.effect != "PreferNoSchedule").peekable();
    let run = refused.peek().is_none();
    Fit { run, stay: !refused.any(|taint| taint.effect == NO_EXECUTE) }
}

/// The node that a pod is on or is bound for.
pub(crate) fn target(pod: &Pod, affinity: Option<&str>) -> Option<String> {
    if pod.spec.node_name.is_empty() { affinity.map(str::to_owned) } else { Some(pod.spec.node_name.clone()) }
}

/// (maxSurge, maxUnavailable) in pods.
pub(crate) fn bounds(spec: &DaemonSetSpec, desired: i32) -> (i32, i32) {
    let rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let of = |value: Option<&_>| value.and_then(|value| scaled(value, desired, true)).map(|count| count.max(0));
    let surge = of(rolling.and_then(|rolling| rolling.max_surge.as_ref())).unwrap_or(0);
    let unavailable = of(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()));
    let unavailable = unavailable.unwrap_or(if surge > 0 { 0 } else { 1 });
    (surge, if surge == 0 && unavailable == 0 { 1 } else { unavailable })
}

fn hash(pod: &Pod) -> &str {
    pod.metadata.labels.get(revisions::HASH_LABEL).map_or("", String::as_str)
}

fn age(pod: &Pod) -> (Option<Timestamp>, &str) {
    (pod.metadata.creation_timestamp, &pod.metadata.name)
}

/// Brings one pod to every node that should have one, and takes away what should not be.
pub(crate) fn manage(
    fits: &BTreeMap<String, Fit>,
    by_node: &BTreeMap<String, Vec<Pod>>,
    newest: &str,
    surge: bool,
) -> Plan {
    let mut plan = Plan::default();
    let none = Vec::new();
    for (node, fit) in fits {
        let pods = by_node.get(node).unwrap_or(&none);
        if !fit.stay {
            plan.delete.extend(pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).cloned());
            continue;
        }
        let mut running: Vec<&Pod> = Vec::new();
        for pod in pods.iter() {
            if pod.metadata.deletion_timestamp.is_some() {
                running.push(pod);
            } else if pod.is_terminal() {
                plan.ended.push((pod.clone(), pod.status.phase == "Failed"));
            } else {
                running.push(pod);
            }
        }
        let leaving = |pod: &&Pod| pod.metadata.deletion_timestamp.is_some();
        // A pod that is leaving still holds its node; only then comes the next.
        if running.is_empty() && pods.is_empty() && fit.run {
            plan.create.push(node.clone());
        }
        running.retain(|pod| !leaving(pod));
        running.sort_by(|a, b| age(a).cmp(&age(b)));
        let mut keep_per_kind: Vec<bool> = Vec::new();
        for pod in running {
            // With surge, one pod of the present template may stand beside an older one.
            let kind = surge && hash(pod) == newest;
            if keep_per_kind.contains(&kind) {
                plan.delete.push(pod.clone());
            } else {
                keep_per_kind.push(kind);
            }
        }
    }
    for (node, pods) in by_node {
        if !fits.contains_key(node) {
            plan.delete.extend(pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).cloned());
        }
    }
    plan
}

/// The next step of a rolling update.
pub(crate) fn roll(
    set: &DaemonSet,
    fits: &BTreeMap<String, Fit>,
    by_node: &BTreeMap<String, Vec<Pod>>,
    newest: &str,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = &set.spec else { return plan };
    let wanted: Vec<&String> = fits.iter().filter(|(_, fit)| fit.run).map(|(node, _)| node).collect();
    let (surge, unavailable) = bounds(spec, i32::try_from(wanted.len()).unwrap_or(i32::MAX));
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let is_available = |pod: &Pod| pod.is_available(min_ready, now) && pod.metadata.deletion_timestamp.is_none();
    let (mut down, mut surging) = (0, 0);
    let (mut replace, mut candidates): (Vec<Pod>, Vec<Pod>) = (Vec::new(), Vec::new());
    let (mut start, mut may_start): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for node in wanted {
        let pods = by_node.get(node).map(Vec::as_slice).unwrap_or_default();
        let present = || pods.iter().filter(|pod| !pod.is_terminal() && pod.metadata.deletion_timestamp.is_none());
        let new = present().find(|pod| hash(pod) == newest);
        let old = present().find(|pod| hash(pod) != newest);
        match (new, old) {
            (None, None) => down += 1,
            (Some(new), None) => down += i32::from(!is_available(new)),
            (Some(new), Some(old)) if surge > 0 => {
                if is_available(new) || !is_available(old) {
                    plan.delete.push(old.clone());
                }
                surging += i32::from(!is_available(new));
            }
            (Some(_), Some(old)) => {
                down += 1;
                replace.push(old.clone());
            }
            (None, Some(old)) if surge > 0 => {
                if is_available(old) {
                    may_start.push(node.clone());
                } else {
                    start.push(node.clone());
                }
            }
            // A pod that serves nobody can be replaced at once, and is one of those that may be away.
            (None, Some(old)) if !is_available(old) => {
                down += 1;
                replace.push(old.clone());
            }
            (None, Some(old)) => candidates.push(old.clone()),
        }
    }
    if surge > 0 {
        let free = usize::try_from(surge - surging).unwrap_or(0);
        plan.create = start.into_iter().chain(may_start.into_iter().take(free)).collect();
    } else {
        let free = usize::try_from(unavailable - down).unwrap_or(0);
        plan.delete.extend(replace.into_iter().chain(candidates.into_iter().take(free)));
    }
    plan
}

/// The counts of a status.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) desired: i32,
    pub(crate) current: i32,
    pub(crate) misscheduled: i32,
    pub(crate) ready: i32,
    pub(crate) available: i32,
    pub(crate) updated: i32,
    /// In how many seconds the next ready pod becomes available.
    pub(crate) next_available: Option<i64>,
}

/// Counts nodes: on each the best of its pods counts.
pub(crate) fn count(
    fits: &BTreeMap<String, Fit>,
    by_node: &BTreeMap<String, Vec<Pod>>,
    newest: &str,
    min_ready: i32,
    now: Timestamp,
) -> Counts {
    let mut counts = Counts::default();
    for (node, fit) in fits {
        let pods = by_node.get(node).map(Vec::as_slice).unwrap_or_default();
        if !fit.run {
            counts.misscheduled += i32::from(!pods.is_empty());
            continue;
        }
        counts.desired += 1;
        let Some(oldest) = pods.iter().min_by_key(|pod| (!pod.is_ready(), age(pod))) else { continue };
        counts.current += 1;
        if oldest.is_ready() {
            counts.ready += 1;
            if oldest.is_available(min_ready, now) {
                counts.available += 1;
            } else if let Some(wait) = oldest.available_in(min_ready, now) {
                counts.next_available = Some(counts.next_available.map_or(wait, |known| known.min(wait)));
            }
        }
        counts.updated += i32::from(pods.iter().any(|pod| hash(pod) == newest));
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    fn pod(name: &str, hash: &str, ready: bool) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "labels": {"controller-revision-hash": hash}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready",
                "status": if ready { "True" } else { "False" }, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        }))
        .unwrap()
    }

    fn fits(nodes: &[(&str, bool, bool)]) -> BTreeMap<String, Fit> {
        nodes.iter().map(|(node, run, stay)| ((*node).to_owned(), Fit { run: *run, stay: *stay })).collect()
    }

    fn placed(pods: Vec<(&str, Vec<Pod>)>) -> BTreeMap<String, Vec<Pod>> {
        pods.into_iter().map(|(node, pods)| (node.to_owned(), pods)).collect()
    }

    fn names(pods: &[Pod]) -> Vec<&str> {
        pods.iter().map(|pod| pod.metadata.name.as_str()).collect()
    }

    #[test]
    fn taints_decide_who_may_start_and_who_may_stay() {
        let node = |taints: serde_json::Value| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "n1"}, "spec": {"taints": taints}})).unwrap()
        };
        let taint = |key: &str, effect: &str| json!([{"key": key, "effect": effect}]);
        for (taints, spec, run, stay) in [
            (json!([]), json!({"containers": []}), true, true),
            (taint("x", "NoSchedule"), json!({"containers": []}), false, true),
            (taint("x", "NoExecute"), json!({"containers": []}), false, false),
            (taint("x", "PreferNoSchedule"), json!({"containers": []}), true, true),
            (taint(taints::UNSCHEDULABLE, "NoSchedule"), json!({"containers": []}), true, true),
            (taint(taints::UNREACHABLE, "NoExecute"), json!({"containers": []}), true, true),
            (taint(taints::NETWORK_UNAVAILABLE, "NoSchedule"), json!({"containers": []}), false, true),
            (
                taint(taints::NETWORK_UNAVAILABLE, "NoSchedule"),
                json!({"containers": [], "hostNetwork": true}),
                true,
                true,
            ),
            (json!([]), json!({"containers": [], "nodeSelector": {"a": "b"}}), false, false),
        ] {
            let parsed: PodSpec = serde_json::from_value(spec).unwrap();
            assert_eq!(fit(&parsed, &node(taints.clone())), Fit { run, stay }, "{taints}");
        }
    }

    #[test]
    fn every_fitting_node_gets_one_pod() {
        let mut failed = pod("failed", "a", false);
        failed.status.phase = "Failed".into();
        let mut leaving = pod("leaving", "a", true);
        leaving.metadata.deletion_timestamp = Some(now());
        let fits = fits(&[
            ("empty", true, true),
            ("full", true, true),
            ("twice", true, true),
            ("failed", true, true),
            ("leaving", true, true),
            ("refused", false, false),
            ("no-new", false, true),
        ]);
        let by_node = placed(vec![
            ("full", vec![pod("ok", "a", true)]),
            ("twice", vec![pod("t1", "a", true), pod("t2", "a", true)]),
            ("failed", vec![failed]),
            ("leaving", vec![leaving]),
            ("refused", vec![pod("r", "a", true)]),
            ("no-new", vec![pod("n", "a", true)]),
            ("gone", vec![pod("g", "a", true)]),
        ]);
        let plan = manage(&fits, &by_node, "a", false);
        assert_eq!(plan.create, ["empty"]);
        assert_eq!(names(&plan.delete), ["r", "t2", "g"]);
        assert_eq!(plan.ended.iter().map(|(pod, _)| pod.metadata.name.as_str()).collect::<Vec<_>>(), ["failed"]);
    }

    #[test]
    fn a_rolling_update_keeps_to_its_bounds() {
        let set = |rolling: serde_json::Value| -> DaemonSet {
            serde_json::from_value(json!({"metadata": {}, "spec": {"selector": {}, "template": {},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}}))
            .unwrap()
        };
        let fits = fits(&[("a", true, true), ("b", true, true), ("c", true, true)]);
        let all_old = || {
            placed(vec![
                ("a", vec![pod("a1", "old", true)]),
                ("b", vec![pod("b1", "old", true)]),
                ("c", vec![pod("c1", "old", false)]),
            ])
        };
        let plan = roll(&set(json!({"maxUnavailable": 1})), &fits, &all_old(), "new", now());
        assert_eq!(names(&plan.delete), ["c1"]);
        let plan = roll(&set(json!({"maxUnavailable": 2})), &fits, &all_old(), "new", now());
        assert_eq!(names(&plan.delete), ["c1", "a1"]);
        let mut waiting = all_old();
        waiting.insert("c".into(), vec![pod("c2", "new", false)]);
        assert!(roll(&set(json!({"maxUnavailable": 1})), &fits, &waiting, "new", now()).delete.is_empty());

        let surge = set(json!({"maxSurge": 1, "maxUnavailable": 0}));
        let plan = roll(&surge, &fits, &all_old(), "new", now());
        assert_eq!((plan.create, plan.delete.len()), (vec!["c".to_owned(), "a".to_owned()], 0));
        let beside = |ready| {
            placed(vec![
                ("a", vec![pod("a1", "old", true), pod("a2", "new", ready)]),
                ("b", vec![pod("b1", "old", true)]),
                ("c", vec![pod("c2", "new", true)]),
            ])
        };
        let plan = roll(&surge, &fits, &beside(false), "new", now());
        assert!(plan.create.is_empty() && plan.delete.is_empty());
        let plan = roll(&surge, &fits, &beside(true), "new", now());
        assert_eq!((plan.create.as_slice(), names(&plan.delete)), (["b".to_owned()].as_slice(), vec!["a1"]));
    }

    #[test]
    fn nodes_are_counted_by_their_best_pod() {
        let fits = fits(&[("a", true, true), ("b", true, true), ("c", false, true)]);
        let by_node = placed(vec![("a", vec![pod("a1", "new", true)]), ("c", vec![pod("c1", "old", true)])]);
        let counts = count(&fits, &by_node, "new", 0, now());
        let expected = Counts {
            desired: 2,
            current: 1,
            misscheduled: 1,
            ready: 1,
            available: 1,
            updated: 1,
            next_available: None,
        };
        assert_eq!(counts, expected);
    }
}
