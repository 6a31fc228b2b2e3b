//! What a stateful set decides: which of its pods come, go, or are replaced, and in which order.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSetSpec;

use crate::percent::scaled;
use crate::view::Pod;

/// A pod with its ordinal.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) ordinal: i32,
    pub(crate) pod: Pod,
}

/// One action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Create the pod with this ordinal, of the update revision or of the current one.
    Create { ordinal: i32, updated: bool },
    /// Delete a pod that has ended; it is made again afterwards.
    Recreate(i32),
    /// Delete a pod because the set shrinks.
    Shrink(i32),
    /// Delete a pod because its revision is old.
    Update(i32),
}

/// What the plan needs to know of the set.
#[derive(Clone, Debug)]
pub(crate) struct Shape<'a> {
    pub(crate) start: i32,
    pub(crate) replicas: i32,
    pub(crate) ordered: bool,
    pub(crate) rolling: bool,
    pub(crate) partition: i32,
    pub(crate) max_unavailable: i32,
    pub(crate) min_ready: i32,
    /// Names of the two revisions.
    pub(crate) current: &'a str,
    pub(crate) update: &'a str,
}

impl<'a> Shape<'a> {
    pub(crate) fn of(spec: &StatefulSetSpec, current: &'a str, update: &'a str) -> Self {
        let replicas = spec.replicas.unwrap_or(1).max(0);
        let strategy = spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let most = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        Self {
            start: spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0),
            replicas,
            ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
            rolling: strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete"),
            partition: rolling.and_then(|rolling| rolling.partition).unwrap_or(0).max(0),
            max_unavailable: most.and_then(|most| scaled(most, replicas, false)).unwrap_or(1).max(1),
            min_ready: spec.min_ready_seconds.unwrap_or(0),
            current,
            update,
        }
    }

    fn end(&self) -> i32 {
        self.start.saturating_add(self.replicas)
    }

    fn is_member(&self, ordinal: i32) -> bool {
        (self.start..self.end()).contains(&ordinal)
    }

    /// Whether a new pod with this ordinal is of the update revision.
    fn is_updated(&self, ordinal: i32) -> bool {
        !self.rolling || ordinal >= self.start.saturating_add(self.partition)
    }

    fn is_healthy(&self, pod: &Pod, now: Timestamp) -> bool {
        pod.status.phase == "Running"
            && pod.metadata.deletion_timestamp.is_none()
            && pod.is_available(self.min_ready, now)
    }
}

/// The revision that a pod is of.
pub(crate) fn revision(pod: &Pod) -> &str {
    pod.metadata.labels.get(crate::revisions::HASH_LABEL).map_or("", String::as_str)
}

/// The actions of this step. In order, one at a time, unless the set's pods are managed in parallel.
pub(crate) fn plan(shape: &Shape<'_>, members: &[Member], now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    let find = |ordinal: i32| members.iter().find(|member| member.ordinal == ordinal).map(|member| &member.pod);
    let is_leaving = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    let mut whole = true;
    for ordinal in shape.start..shape.end() {
        let healthy = match find(ordinal) {
            None => {
                actions.push(Action::Create { ordinal, updated: shape.is_updated(ordinal) });
                false
            }
            Some(pod) if pod.is_terminal() && !is_leaving(pod) => {
                actions.push(Action::Recreate(ordinal));
                false
            }
            Some(pod) => shape.is_healthy(pod, now),
        };
        whole &= healthy;
        if shape.ordered && !healthy {
            break;
        }
    }

    // The highest goes first, and only when everything below it is well, so that at most one is away.
    let mut condemned: Vec<&Member> = members.iter().filter(|member| !shape.is_member(member.ordinal)).collect();
    condemned.sort_by_key(|member| std::cmp::Reverse(member.ordinal));
    if !shape.ordered {
        let stay = condemned.iter().filter(|member| !is_leaving(&member.pod));
        actions.extend(stay.map(|member| Action::Shrink(member.ordinal)));
    } else if actions.is_empty() && !condemned.is_empty() {
        let leaving = condemned.iter().any(|member| is_leaving(&member.pod));
        // A condemned pod that is not well may go although others are not well either, if it is the lowest such.
        let lowest_unwell =
            members.iter().filter(|member| !shape.is_healthy(&member.pod, now)).map(|member| member.ordinal).min();
        if let Some(first) = condemned.first().filter(|_| !leaving) {
            let unwell = !shape.is_healthy(&first.pod, now);
            if whole && (!unwell || lowest_unwell == Some(first.ordinal)) {
                actions.push(Action::Shrink(first.ordinal));
            }
        }
    }
    let settled = actions.is_empty() && condemned.is_empty();
    if shape.rolling && (settled || !shape.ordered && actions.is_empty()) {
        actions.extend(updates(shape, members, now));
    }
    actions
}

/// The pods to replace by the update revision, from the highest ordinal down to the partition.
fn updates(shape: &Shape<'_>, members: &[Member], now: Timestamp) -> Vec<Action> {
    let mut of_set: Vec<&Member> = members.iter().filter(|member| shape.is_member(member.ordinal)).collect();
    of_set.sort_by_key(|member| std::cmp::Reverse(member.ordinal));
    let unwell = of_set.iter().filter(|member| !shape.is_healthy(&member.pod, now)).count();
    let mut free = usize::try_from(shape.max_unavailable).unwrap_or(1).saturating_sub(unwell);
    let mut actions = Vec::new();
    for member in of_set {
        if member.ordinal < shape.start.saturating_add(shape.partition) {
            break;
        }
        if revision(&member.pod) == shape.update || member.pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        // One that is not well costs nothing: it may be the very one that the update is to repair.
        if shape.is_healthy(&member.pod, now) {
            if free == 0 {
                break;
            }
            free -= 1;
        }
        actions.push(Action::Update(member.ordinal));
        if actions.len() >= usize::try_from(shape.max_unavailable).unwrap_or(1) {
            break;
        }
    }
    actions
}

/// The counts of a status.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) replicas: i32,
    pub(crate) ready: i32,
    pub(crate) available: i32,
    pub(crate) current: i32,
    pub(crate) updated: i32,
    /// In how many seconds the next ready pod becomes available.
    pub(crate) next_available: Option<i64>,
}

/// Counts pods.
pub(crate) fn count(shape: &Shape<'_>, members: &[Member], now: Timestamp) -> Counts {
    let mut counts = Counts::default();
    for Member { pod, .. } in members.iter().filter(|member| !member.pod.is_terminal()) {
        counts.replicas += 1;
        if pod.status.phase == "Running" && pod.is_ready() {
            counts.ready += 1;
            if pod.is_available(shape.min_ready, now) {
                counts.available += 1;
            } else if let Some(wait) = pod.available_in(shape.min_ready, now) {
                counts.next_available = Some(counts.next_available.map_or(wait, |known| known.min(wait)));
            }
        }
        if pod.metadata.deletion_timestamp.is_none() {
            counts.current += i32::from(revision(pod) == shape.current);
            counts.updated += i32::from(revision(pod) == shape.update);
        }
    }
    counts
}

/// Whether an update has reached all pods, so that its revision becomes the current one.
pub(crate) fn is_complete(shape: &Shape<'_>, counts: &Counts) -> bool {
    shape.rolling
        && counts.updated == counts.replicas
        && counts.ready == counts.replicas
        && counts.replicas == shape.replicas
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    fn member(ordinal: i32, state: &str, revision: &str) -> Member {
        let phase = match state {
            "failed" => "Failed",
            "pending" => "Pending",
            _ => "Running",
        };
        let ready = if matches!(state, "ready" | "leaving") { "True" } else { "False" };
        let pod = serde_json::from_value(json!({
            "metadata": {"name": format!("s-{ordinal}"), "labels": {"controller-revision-hash": revision},
                "deletionTimestamp": (state == "leaving").then_some("2026-01-01T00:00:00Z")},
            "status": {"phase": phase, "conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        }))
        .unwrap();
        Member { ordinal, pod }
    }

    fn shape(replicas: i32, ordered: bool) -> Shape<'static> {
        Shape {
            start: 0,
            replicas,
            ordered,
            rolling: true,
            partition: 0,
            max_unavailable: 1,
            min_ready: 0,
            current: "a",
            update: "b",
        }
    }

    fn members(states: &[(&str, &str)]) -> Vec<Member> {
        states.iter().enumerate().map(|(at, (state, rev))| member(i32::try_from(at).unwrap(), state, rev)).collect()
    }

    #[test]
    fn pods_come_in_order_or_all_at_once() {
        let create = |ordinal| Action::Create { ordinal, updated: true };
        assert_eq!(plan(&shape(3, true), &[], now()), [create(0)]);
        assert_eq!(plan(&shape(3, false), &[], now()), [create(0), create(1), create(2)]);
        assert_eq!(plan(&shape(3, true), &members(&[("pending", "b")]), now()), []);
        assert_eq!(plan(&shape(3, true), &members(&[("ready", "b")]), now()), [create(1)]);
        assert_eq!(plan(&shape(3, true), &members(&[("leaving", "b")]), now()), []);
        assert_eq!(plan(&shape(2, true), &members(&[("ready", "b"), ("failed", "b")]), now()), [Action::Recreate(1)]);
        let started = Shape { start: 5, ..shape(2, false) };
        assert_eq!(plan(&started, &[], now()), [create(5), create(6)]);
        let held = Shape { partition: 1, ..shape(2, false) };
        let expected = [Action::Create { ordinal: 0, updated: false }, create(1)];
        assert_eq!(plan(&held, &[], now()), expected);
    }

    #[test]
    fn a_set_shrinks_from_the_top_while_all_is_well() {
        let three = |states: [&str; 3]| members(&states.map(|state| (state, "b")));
        let shrink = Action::Shrink;
        assert_eq!(plan(&shape(1, true), &three(["ready", "ready", "ready"]), now()), [shrink(2)]);
        assert_eq!(plan(&shape(1, true), &three(["ready", "ready", "leaving"]), now()), []);
        assert_eq!(plan(&shape(1, true), &three(["pending", "ready", "ready"]), now()), []);
        assert_eq!(plan(&shape(1, true), &three(["ready", "pending", "ready"]), now()), [shrink(2)]);
        assert_eq!(plan(&shape(1, true), &three(["ready", "pending", "pending"]), now()), []);
        assert_eq!(plan(&shape(1, false), &three(["ready", "ready", "ready"]), now()), [shrink(2), shrink(1)]);
    }

    #[test]
    fn an_update_goes_down_from_the_highest_ordinal_to_the_partition() {
        let three = |states: [(&str, &str); 3]| members(&states);
        let all_old = || three([("ready", "a"), ("ready", "a"), ("ready", "a")]);
        let update = Action::Update;
        assert_eq!(plan(&shape(3, true), &all_old(), now()), [update(2)]);
        assert_eq!(plan(&shape(3, true), &three([("ready", "a"), ("ready", "a"), ("ready", "b")]), now()), [update(1)]);
        assert_eq!(plan(&shape(3, true), &three([("ready", "a"), ("ready", "a"), ("pending", "b")]), now()), []);
        let held = Shape { partition: 2, ..shape(3, true) };
        assert_eq!(plan(&held, &three([("ready", "a"), ("ready", "a"), ("ready", "b")]), now()), []);
        let two = Shape { max_unavailable: 2, ..shape(3, false) };
        assert_eq!(plan(&two, &all_old(), now()), [update(2), update(1)]);
        let never = Shape { rolling: false, ..shape(3, true) };
        assert_eq!(plan(&never, &all_old(), now()), []);
    }

    #[test]
    fn an_update_is_complete_when_all_pods_are_of_it_and_ready() {
        let pods = members(&[("ready", "b"), ("ready", "b")]);
        let counts = count(&shape(2, true), &pods, now());
        let expected = Counts { replicas: 2, ready: 2, available: 2, current: 0, updated: 2, next_available: None };
        assert_eq!(counts, expected);
        assert!(is_complete(&shape(2, true), &counts));
        let pods = members(&[("ready", "a"), ("ready", "b")]);
        assert!(!is_complete(&shape(2, true), &count(&shape(2, true), &pods, now())));
    }
}
