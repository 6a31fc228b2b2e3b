//! What replica sets and replication controllers decide: how many pods to add or remove, and which to remove.

use std::cmp::Ordering;
use std::collections::HashMap;

use jiff::Timestamp;

use crate::view::Pod;

/// At most so many pods are created or deleted in one step.
pub(crate) const BURST: usize = 500;
/// Annotation (KEP-2255): pods with lower costs are removed first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What to do about the number of pods.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Keep,
    /// Create so many.
    Create(usize),
    /// Delete so many.
    Delete(usize),
}

/// The step from `present` pods to `desired`.
pub(crate) fn step(present: usize, desired: i32) -> Step {
    let desired = usize::try_from(desired).unwrap_or(0);
    match present.cmp(&desired) {
        Ordering::Equal => Step::Keep,
        Ordering::Less => Step::Create((desired - present).min(BURST)),
        Ordering::Greater => Step::Delete((present - desired).min(BURST)),
    }
}

/// The counts of a status.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) replicas: i32,
    pub(crate) fully_labeled: i32,
    pub(crate) ready: i32,
    pub(crate) available: i32,
    /// In how many seconds the next ready pod becomes available.
    pub(crate) next_available: Option<i64>,
}

/// Counts active pods.
pub(crate) fn count(
    pods: &[Pod],
    template_labels: &std::collections::BTreeMap<String, String>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Counts {
    let mut counts = Counts::default();
    for pod in pods {
        counts.replicas += 1;
        counts.fully_labeled += i32::from(crate::selector::map_matches(template_labels, &pod.metadata.labels));
        if pod.is_ready() {
            counts.ready += 1;
            if pod.is_available(min_ready_seconds, now) {
                counts.available += 1;
            } else if let Some(wait) = pod.available_in(min_ready_seconds, now) {
                counts.next_available = Some(counts.next_available.map_or(wait, |known| known.min(wait)));
            }
        }
    }
    counts
}

/// Chooses `count` pods to delete: those whose loss costs the least. `related` are the active pods of all sets of the
/// same owner; a node that has many of them can spare one.
pub(crate) fn to_delete(mut pods: Vec<Pod>, related: &[Pod], count: usize, now: Timestamp) -> Vec<Pod> {
    if count < pods.len() {
        let mut per_node: HashMap<&str, usize> = HashMap::new();
        for pod in related.iter().filter(|pod| !pod.spec.node_name.is_empty()) {
            *per_node.entry(&pod.spec.node_name).or_default() += 1;
        }
        let rank = |pod: &Pod| per_node.get(pod.spec.node_name.as_str()).copied().unwrap_or(0);
        pods.sort_by(|a, b| worth(a, b, (rank(a), rank(b)), now));
    }
    pods.truncate(count);
    pods
}

/// Compares two pods by what their loss costs; the cheaper comes first.
fn worth(a: &Pod, b: &Pod, crowd: (usize, usize), now: Timestamp) -> Ordering {
    let phase = |pod: &Pod| match pod.status.phase.as_str() {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    // Ages on a logarithmic scale (KEP-2185): pods of about the same age are told apart by their uid, which is random,
    // so that scaling down does not always take the newest.
    let age = |time: Option<Timestamp>| time.map(|time| (now.as_second() - time.as_second()).max(0));
    let bucket = |age: Option<i64>| age.map_or(-1, |age| age.checked_ilog2().map_or(0, i64::from));
    let ready_age = |pod: &Pod| bucket(age(pod.ready_since()));
    let created_age = |pod: &Pod| bucket(age(pod.metadata.creation_timestamp));
    let assigned = |pod: &Pod| !pod.spec.node_name.is_empty();
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| a.is_ready().cmp(&b.is_ready()))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| crowd.1.cmp(&crowd.0))
        .then_with(|| if a.is_ready() && b.is_ready() { ready_age(a).cmp(&ready_age(b)) } else { Ordering::Equal })
        .then_with(|| b.restarts().cmp(&a.restarts()))
        .then_with(|| created_age(a).cmp(&created_age(b)))
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

fn cost(pod: &Pod) -> i32 {
    pod.metadata.annotations.get(DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    fn pod(name: &str, more: serde_json::Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n1"},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"}]},
        });
        merge(&mut pod, &more);
        serde_json::from_value(pod).unwrap()
    }

    fn merge(into: &mut serde_json::Value, from: &serde_json::Value) {
        match (into, from) {
            (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key.clone()).or_insert(serde_json::Value::Null), value);
                }
            }
            (into, from) => *into = from.clone(),
        }
    }

    #[test]
    fn steps_lead_to_the_desired_number() {
        for (present, desired, expected) in [
            (3, 3, Step::Keep),
            (1, 3, Step::Create(2)),
            (3, 1, Step::Delete(2)),
            (0, 10_000, Step::Create(BURST)),
            (2, -1, Step::Delete(2)),
        ] {
            assert_eq!(step(present, desired), expected);
        }
    }

    #[test]
    fn the_cheapest_pod_is_deleted_first() {
        let usual = || pod("usual", json!({}));
        for (name, cheaper) in [
            ("unassigned", json!({"spec": {"nodeName": ""}})),
            ("pending", json!({"status": {"phase": "Pending"}})),
            ("not ready", json!({"status": {"conditions": []}})),
            ("low cost", json!({"metadata": {"annotations": {DELETION_COST: "-5"}}})),
            ("crowded node", json!({"spec": {"nodeName": "n2"}})),
            ("young", json!({"metadata": {"creationTimestamp": "2026-01-01T00:59:00Z"}})),
            (
                "restarted",
                json!({"status": {"containerStatuses": [
                {"name": "c", "image": "i", "imageID": "i", "ready": true, "restartCount": 4}]}}),
            ),
        ] {
            let cheap = pod(name, cheaper);
            let related = [usual(), cheap.clone(), pod("other", json!({"spec": {"nodeName": "n2"}}))];
            let chosen = to_delete(vec![usual(), cheap], &related, 1, now());
            assert_eq!(chosen[0].metadata.name, name);
        }
    }

    #[test]
    fn counts_tell_when_to_look_again() {
        let young = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:59:55Z"}]}});
        let pods = [pod("a", json!({})), pod("b", young), pod("c", json!({"status": {"conditions": []}}))];
        let counts = count(&pods, &[("l".to_owned(), "v".to_owned())].into(), 10, now());
        let expected = Counts { replicas: 3, fully_labeled: 0, ready: 2, available: 1, next_available: Some(5) };
        assert_eq!(counts, expected);
    }
}
