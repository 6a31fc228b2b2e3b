//! The status of a deployment: counts, and the conditions Available, Progressing and ReplicaFailure.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::rollout::Bounds;

/// A deadline that means "none".
const NO_DEADLINE: i32 = i32::MAX;

/// Sets a condition. It is left alone when status and reason are those that it has already.
pub(crate) fn set(
    conditions: &mut Vec<DeploymentCondition>,
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let present = conditions.iter().position(|condition| condition.type_ == kind);
    let old = present.and_then(|at| conditions.get(at));
    if old.is_some_and(|old| old.status == status && old.reason.as_deref() == Some(reason)) {
        return;
    }
    let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
    if let Some(at) = present {
        conditions.remove(at);
    }
    conditions.push(DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(since.unwrap_or(Time(now))),
    });
}

/// The deadline of a rollout in seconds, if it has one.
pub(crate) fn deadline(deployment: &Deployment) -> Option<i32> {
    let seconds = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds);
    seconds.filter(|seconds| *seconds != NO_DEADLINE)
}

fn condition<'a>(conditions: &'a [DeploymentCondition], kind: &str) -> Option<&'a DeploymentCondition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// The counts and the condition Available.
pub(crate) fn counts(
    deployment: &Deployment,
    bounds: Bounds,
    sets: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let statuses = || sets.iter().filter_map(|set| set.status.as_ref());
    let available = statuses().filter_map(|status| status.available_replicas).sum();
    let wanted: i32 = sets.iter().filter_map(|set| set.spec.as_ref()?.replicas).sum();
    let mut conditions = old.conditions.unwrap_or_default();
    let (status, reason, message) = if available >= bounds.min_available() {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut conditions, "Available", status, reason, message.to_owned(), now);
    let some = |count: i32| (count != 0).then_some(count);
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(statuses().map(|status| status.replicas).sum()),
        updated_replicas: some(new.and_then(|new| new.status.as_ref()).map_or(0, |status| status.replicas)),
        ready_replicas: some(statuses().filter_map(|status| status.ready_replicas).sum()),
        available_replicas: some(available),
        unavailable_replicas: some((wanted - available).max(0)),
        terminating_replicas: Some(statuses().filter_map(|status| status.terminating_replicas).sum()),
        collision_count: old.collision_count,
        conditions: Some(conditions),
    }
}

/// Whether a rollout is done.
pub(crate) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

/// Whether a rollout has come nearer to its end since `old`.
fn is_progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let count = |value: Option<i32>| value.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || outdated(new) < outdated(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

/// Whether nothing has moved for longer than the deadline.
fn is_timed_out(progressing: Option<&DeploymentCondition>, deadline: i32, now: Timestamp) -> bool {
    let Some(condition) = progressing else { return false };
    match condition.reason.as_deref() {
        Some("NewReplicaSetAvailable") => false,
        Some("ProgressDeadlineExceeded") => true,
        _ => condition
            .last_update_time
            .as_ref()
            .is_some_and(|since| since.0.as_second().saturating_add(i64::from(deadline)) < now.as_second()),
    }
}

/// Adds the conditions Progressing and ReplicaFailure to a status of [`counts`].
pub(crate) fn progress(
    deployment: &Deployment,
    mut status: DeploymentStatus,
    sets: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    let mut conditions = status.conditions.take().unwrap_or_default();
    let about = match new.and_then(|new| new.metadata.name.as_deref()) {
        Some(name) => format!("ReplicaSet \"{name}\""),
        None => format!("Deployment \"{}\"", deployment.metadata.name.as_deref().unwrap_or_default()),
    };
    let old_status = deployment.status.clone().unwrap_or_default();
    let present = condition(&conditions, "Progressing").cloned();
    let was_complete = status.replicas == status.updated_replicas
        && present.as_ref().is_some_and(|present| present.reason.as_deref() == Some("NewReplicaSetAvailable"));
    match deadline(deployment) {
        None => conditions.retain(|condition| condition.type_ != "Progressing"),
        Some(_) if was_complete => {}
        Some(_) if is_complete(deployment, &status) => {
            let message = format!("{about} has successfully progressed.");
            set(&mut conditions, "Progressing", "True", "NewReplicaSetAvailable", message, now);
        }
        Some(_) if is_progressing(&old_status, &status) => {
            let message = format!("{about} is progressing.");
            let since = present.filter(|present| present.status == "True").and_then(|p| p.last_transition_time);
            // Taken away first: the time of the last progress must move even when the reason stays.
            conditions.retain(|condition| condition.type_ != "Progressing");
            set(&mut conditions, "Progressing", "True", "ReplicaSetUpdated", message, now);
            if let (Some(since), Some(last)) = (since, conditions.last_mut()) {
                last.last_transition_time = Some(since);
            }
        }
        Some(deadline) if is_timed_out(present.as_ref(), deadline, now) => {
            let message = format!("{about} has timed out progressing.");
            set(&mut conditions, "Progressing", "False", "ProgressDeadlineExceeded", message, now);
        }
        Some(_) => {}
    }

    let failure = new.into_iter().chain(sets.iter().copied()).find_map(|set| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")
    });
    match failure {
        Some(failure) => {
            let reason = failure.reason.clone().unwrap_or_default();
            let message = failure.message.clone().unwrap_or_default();
            set(&mut conditions, "ReplicaFailure", "True", &reason, message, now);
        }
        None => conditions.retain(|condition| condition.type_ != "ReplicaFailure"),
    }
    status.conditions = Some(conditions);
    status
}

/// In how many seconds a rollout that does not move must be called stuck.
pub(crate) fn stuck_in(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<i64> {
    let deadline = deadline(deployment)?;
    let progressing = condition(status.conditions.as_deref().unwrap_or_default(), "Progressing")?;
    let decided = matches!(
        progressing.reason.as_deref(),
        Some("ProgressDeadlineExceeded" | "NewReplicaSetAvailable" | "DeploymentPaused")
    );
    if decided || is_complete(deployment, status) {
        return None;
    }
    let since = progressing.last_update_time.as_ref()?.0.as_second();
    Some((since.saturating_add(i64::from(deadline)) - now.as_second() + 1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(status: serde_json::Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "generation": 2},
            "spec": {"replicas": 2, "progressDeadlineSeconds": 60, "selector": {}, "template": {}},
            "status": status,
        }))
        .unwrap()
    }

    fn set_of(replicas: i32, available: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web-x"},
            "spec": {"replicas": replicas, "selector": {}},
            "status": {"replicas": replicas, "readyReplicas": available, "availableReplicas": available},
        }))
        .unwrap()
    }

    fn at(second: i64) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(second)
    }

    fn look(deployment: &Deployment, set: &ReplicaSet, now: Timestamp) -> DeploymentStatus {
        let bounds = Bounds { replicas: 2, max_surge: 1, max_unavailable: 0 };
        let counts = counts(deployment, bounds, &[set], Some(set), now);
        progress(deployment, counts, &[set], Some(set), now)
    }

    fn reason(status: &DeploymentStatus, kind: &str) -> String {
        condition(status.conditions.as_deref().unwrap(), kind).unwrap().reason.clone().unwrap()
    }

    #[test]
    fn a_rollout_progresses_completes_or_runs_out_of_time() {
        let begun = look(&deployment(json!({})), &set_of(2, 0), at(0));
        assert_eq!(reason(&begun, "Available"), "MinimumReplicasUnavailable");
        assert_eq!(reason(&begun, "Progressing"), "ReplicaSetUpdated");
        assert_eq!(begun.unavailable_replicas, Some(2));
        let status = serde_json::to_value(&begun).unwrap();
        assert_eq!(stuck_in(&deployment(status.clone()), &begun, at(10)), Some(51));

        let waiting = look(&deployment(status.clone()), &set_of(2, 0), at(60));
        assert_eq!(waiting.conditions, begun.conditions);
        let late = look(&deployment(status.clone()), &set_of(2, 0), at(61));
        assert_eq!(reason(&late, "Progressing"), "ProgressDeadlineExceeded");
        let done = look(&deployment(serde_json::to_value(&late).unwrap()), &set_of(2, 2), at(90));
        assert_eq!(reason(&done, "Progressing"), "NewReplicaSetAvailable");
        assert_eq!(reason(&done, "Available"), "MinimumReplicasAvailable");
        assert_eq!(stuck_in(&deployment(json!({})), &done, at(91)), None);
        // A pod that dies later does not make a finished rollout an unfinished one.
        let after = look(&deployment(serde_json::to_value(&done).unwrap()), &set_of(2, 1), at(900));
        assert_eq!(reason(&after, "Progressing"), "NewReplicaSetAvailable");
    }
}
