use super::*;
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn spec(more: Value) -> JobSpec {
    let mut spec = json!({"template": {"spec": {"containers": [], "restartPolicy": "Never"}},
        "parallelism": 1, "completions": 1, "backoffLimit": 6});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn pod(name: &str, phase: &str, more: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "uid": name, "finalizers": [FINALIZER]},
        "status": {"phase": phase, "conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    });
    for (key, value) in more.as_object().unwrap() {
        pod["metadata"][key] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

fn indexed(name: &str, phase: &str, index: u32) -> Pod {
    pod(name, phase, json!({"annotations": {INDEX: index.to_string()}}))
}

fn reasons(status: &JobStatus) -> Vec<(String, String)> {
    let conditions = status.conditions.iter().flatten();
    conditions.map(|c| (c.type_.clone(), c.reason.clone().unwrap())).collect()
}

fn has(status: &JobStatus, kind: &str, reason: &str) -> bool {
    reasons(status).contains(&(kind.to_owned(), reason.to_owned()))
}

#[test]
fn as_many_pods_are_created_as_are_needed() {
    let none = JobStatus::default();
    let running = [pod("r", "Running", json!({}))];
    for (more, status, pods, created, deleted) in [
        (json!({}), &none, &[][..], 1, 0),
        (json!({"parallelism": 3, "completions": 5}), &none, &[], 3, 0),
        (json!({"parallelism": 9, "completions": 5}), &none, &running, 4, 0),
        (json!({"parallelism": 0}), &none, &running, 0, 1),
        (json!({"parallelism": 2, "completions": null}), &none, &running, 1, 0),
        (
            json!({"parallelism": 2, "completions": null}),
            &JobStatus { succeeded: Some(1), ..none.clone() },
            &running,
            0,
            0,
        ),
        (
            json!({"parallelism": 4, "completions": 5}),
            &JobStatus { succeeded: Some(3), ..none.clone() },
            &running,
            1,
            0,
        ),
        (json!({"suspend": true}), &none, &running, 0, 1),
    ] {
        let decision = decide(&spec(more.clone()), status, pods, now());
        assert_eq!((decision.create.len(), decision.delete.len()), (created, deleted), "{more}");
    }
}

#[test]
fn an_ended_pod_is_written_down_released_and_then_a_number() {
    let spec = spec(json!({}));
    let done = pod("p", "Succeeded", json!({}));
    let first = decide(&spec, &JobStatus::default(), std::slice::from_ref(&done), now());
    let uncounted = first.status.uncounted_terminated_pods.clone().unwrap();
    assert_eq!(uncounted.succeeded, Some(vec!["p".to_owned()]));
    assert_eq!((first.status.succeeded, first.release.len(), first.ended), (None, 1, None));
    assert!(has(&first.status, "SuccessCriteriaMet", "CompletionsReached"));

    // The same picture again changes nothing: the write was there, the finalizer not yet gone.
    let again = decide(&spec, &first.status, std::slice::from_ref(&done), now());
    assert_eq!(again.status, first.status);

    let released = Pod { metadata: crate::view::Metadata { finalizers: Vec::new(), ..done.metadata.clone() }, ..done };
    let last = decide(&spec, &first.status, &[released], now());
    assert_eq!((last.status.succeeded, last.ended.is_some()), (Some(1), true));
    assert!(is_finished(&last.status) && last.status.completion_time.is_some());
    assert_eq!(last.status.uncounted_terminated_pods, Some(UncountedTerminatedPods::default()));
}

#[test]
fn jobs_fail_for_the_reason_that_comes_first() {
    let failed = |count: i32| JobStatus { failed: Some(count), start_time: Some(Time(now())), ..JobStatus::default() };
    for (more, status, reason) in [
        (json!({}), failed(7), Some("BackoffLimitExceeded")),
        (json!({}), failed(6), None),
        (json!({"backoffLimit": 0}), failed(1), Some("BackoffLimitExceeded")),
        (
            json!({"activeDeadlineSeconds": 60}),
            JobStatus { start_time: Some(Time("2026-01-01T00:59:00Z".parse().unwrap())), ..JobStatus::default() },
            Some("DeadlineExceeded"),
        ),
        (json!({"activeDeadlineSeconds": 60}), failed(0), None),
    ] {
        let decision = decide(&spec(more.clone()), &status, &[pod("r", "Running", json!({}))], now());
        let found = reasons(&decision.status).into_iter().find(|(kind, _)| kind == "FailureTarget").map(|(_, r)| r);
        assert_eq!(found.as_deref(), reason, "{more}");
        assert_eq!(decision.delete.len(), usize::from(reason.is_some()));
    }
    let decision = decide(&spec(json!({"activeDeadlineSeconds": 60})), &failed(0), &[], now());
    assert_eq!(decision.again, Some(60));
}

#[test]
fn after_a_failure_the_next_pod_waits_ever_longer() {
    let at = |name: &str, minute: u32, second: u32, phase: &str| -> Pod {
        let mut pod = pod(name, phase, json!({"finalizers": []}));
        let time = format!("2026-01-01T00:{minute:02}:{second:02}Z").parse().unwrap();
        pod.status.conditions[0].last_transition_time = Some(Time(time));
        pod
    };
    for (pods, waits) in [
        (vec![at("a", 59, 55, "Failed")], Some(5)),
        (vec![at("a", 59, 0, "Failed")], None),
        (vec![at("a", 59, 30, "Failed"), at("b", 59, 50, "Failed")], Some(10)),
        (vec![at("a", 59, 30, "Failed"), at("b", 59, 40, "Succeeded"), at("c", 59, 52, "Failed")], Some(2)),
    ] {
        let decision = decide(&spec(json!({"completions": 5})), &JobStatus::default(), &pods, now());
        assert_eq!((decision.again, decision.create.is_empty()), (waits, waits.is_some()));
    }
}

#[test]
fn every_index_runs_once() {
    let spec_of = |more: Value| {
        let mut fields = json!({"completionMode": "Indexed", "parallelism": 3, "completions": 5});
        for (key, value) in more.as_object().unwrap() {
            fields[key] = value.clone();
        }
        spec(fields)
    };
    let status = JobStatus { completed_indexes: Some("0,3".into()), ..JobStatus::default() };
    let pods = [indexed("a", "Running", 1), indexed("twice", "Running", 1), indexed("done", "Running", 3)];
    let decision = decide(&spec_of(json!({})), &status, &pods, now());
    let created: Vec<_> = decision.create.iter().map(|pod| pod.index.unwrap()).collect();
    assert_eq!(created, [2, 4]);
    let deleted: Vec<_> = decision.delete.iter().map(|pod| pod.metadata.name.as_str()).collect();
    assert_eq!(deleted, ["twice", "done"]);

    let pods = [indexed("a", "Succeeded", 1), indexed("b", "Succeeded", 2), indexed("c", "Succeeded", 4)];
    let decision = decide(&spec_of(json!({})), &status, &pods, now());
    assert_eq!((decision.status.completed_indexes.as_deref(), decision.status.succeeded), (Some("0-4"), Some(5)));
    assert!(has(&decision.status, "SuccessCriteriaMet", "CompletionsReached"));

    // KEP-3850: an index that has failed too often does not run again, the others do.
    let per_index = spec_of(json!({"backoffLimitPerIndex": 1, "backoffLimit": null}));
    let mut again = indexed("again", "Failed", 2);
    again.metadata.annotations.insert(INDEX_FAILURES.into(), "1".into());
    let decision = decide(&per_index, &status, &[indexed("first", "Failed", 1), again], now());
    assert_eq!(decision.status.failed_indexes.as_deref(), Some("2"));
    let expected = [(Some(1), Some(1)), (Some(4), Some(0))];
    assert_eq!(decision.create.iter().map(|pod| (pod.index, pod.failures)).collect::<Vec<_>>(), expected);

    let policy = spec_of(json!({"successPolicy": {"rules": [{"succeededIndexes": "0,3", "succeededCount": 2}]}}));
    let decision = decide(&policy, &status, &[indexed("x", "Running", 1)], now());
    assert!(has(&decision.status, "SuccessCriteriaMet", "SuccessPolicy") && decision.delete.len() == 1);
}

#[test]
fn suspending_stops_the_pods_and_the_clock() {
    let running = [pod("r", "Running", json!({}))];
    let begun = JobStatus { start_time: Some(Time(now())), ..JobStatus::default() };
    let stopped = decide(&spec(json!({"suspend": true})), &begun, &running, now());
    assert!(stopped.status.start_time.is_none() && stopped.suspended == Some(true));
    assert!(has(&stopped.status, "Suspended", "JobSuspended"));
    let resumed = decide(&spec(json!({})), &stopped.status, &[], now());
    assert!(has(&resumed.status, "Suspended", "JobResumed"));
    assert!(resumed.status.start_time.is_some() && resumed.create.len() == 1);
}

#[test]
fn the_replacement_policy_says_whether_a_leaving_pod_is_replaced_at_once() {
    let mut leaving = pod("l", "Running", json!({}));
    leaving.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".parse().unwrap());
    for (policy, created, failed) in [("TerminatingOrFailed", 1, 1), ("Failed", 0, 0)] {
        let spec = spec(json!({"podReplacementPolicy": policy}));
        let decision = decide(&spec, &JobStatus::default(), std::slice::from_ref(&leaving), now());
        assert_eq!((decision.create.len(), decision.release.len()), (created, failed), "{policy}");
        assert_eq!(decision.status.terminating, Some(1));
    }
}
