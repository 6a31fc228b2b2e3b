//! The status of a simulated pod: what a node agent would write, were its runtime to say what the simulation says.

use crate::pod::{Container, End, Pod, Stage, State};
use jiff::Timestamp;
use std::collections::BTreeMap;
use trireme_cri as cri;
use trireme_node::status::{Note, Whole};
use trireme_node::{is_sidecar, status};
use trireme_schema::{Value, time};

/// The runtime's name, in ids of containers and in the nodes' system information.
pub(crate) const RUNTIME: &str = "simulated";

/// Where a pod is.
pub(crate) struct Place<'a> {
    pub(crate) host: &'a str,
    pub(crate) ips: &'a [String],
}

/// The status of a pod, of whose object `slim` is kept.
pub(crate) fn of(slim: &Value, pod: &Pod, place: &Place<'_>) -> Value {
    let mut notes = BTreeMap::new();
    for spec in slim.list_at(&["spec", "initContainers"]) {
        notes.insert(spec.str_at(&["name"]).to_owned(), init(slim, spec, pod));
    }
    for (spec, container) in slim.list_at(&["spec", "containers"]).iter().zip(&pod.containers) {
        notes.insert(spec.str_at(&["name"]).to_owned(), main(slim, spec, container));
    }
    let started = pod.started.is_some();
    let whole = Whole {
        notes: &notes,
        ips: if started { place.ips } else { &[] },
        host_ip: place.host,
        sandbox: matches!(pod.stage, Stage::Running | Stage::Stopping { .. }),
        finished: matches!(pod.stage, Stage::Over { .. } | Stage::Stopped { .. }),
        end: None,
        started_at: &time::seconds(pod.taken),
        runtime: RUNTIME,
        resources: &BTreeMap::new(),
        more: Vec::new(),
    };
    status::pod(slim, whole)
}

/// A container as a runtime would tell of it. Its id says whose it is, since nothing else is behind it.
fn told(slim: &Value, spec: &Value, attempt: u32) -> cri::ContainerStatus {
    let (uid, name) = (slim.str_at(&["metadata", "uid"]), spec.str_at(&["name"]));
    cri::ContainerStatus {
        id: format!("{uid}-{name}-{attempt}"),
        metadata: Some(cri::ContainerMetadata { name: name.to_owned(), attempt }),
        image_ref: spec.str_at(&["image"]).to_owned(),
        ..cri::ContainerStatus::default()
    }
}

fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or_default()
}

fn running(told: cri::ContainerStatus, since: Timestamp) -> cri::ContainerStatus {
    let state = cri::ContainerState::ContainerRunning as i32;
    cri::ContainerStatus { state, created_at: nanos(since), started_at: nanos(since), ..told }
}

fn ended(told: cri::ContainerStatus, end: End) -> cri::ContainerStatus {
    cri::ContainerStatus {
        state: cri::ContainerState::ContainerExited as i32,
        created_at: nanos(end.started),
        started_at: nanos(end.started),
        finished_at: nanos(end.finished),
        exit_code: end.code,
        ..told
    }
}

/// An init container has ended well when the main ones have started; a sidecar runs as long as the pod does.
fn init(slim: &Value, spec: &Value, pod: &Pod) -> Note {
    let Some(started) = pod.started else { return Note::default() };
    let told = told(slim, spec, 0);
    if !is_sidecar(slim, spec.str_at(&["name"])) {
        let end = End { started: pod.taken, finished: started, code: 0 };
        return Note { current: Some(ended(told, end)), ..Note::default() };
    }
    let current = match pod.stage {
        Stage::Over { at } | Stage::Stopped { at } => ended(told, End { started, finished: at, code: 0 }),
        Stage::Starting { .. } | Stage::Running | Stage::Stopping { .. } => running(told, started),
    };
    Note { current: Some(current), started: true, ready: true, ..Note::default() }
}

fn main(slim: &Value, spec: &Value, container: &Container) -> Note {
    let told = |attempt| told(slim, spec, attempt);
    let last = container.last.map(|end| ended(told(container.attempt.saturating_sub(1)), end));
    let now = told(container.attempt);
    let note = Note { last, ..Note::default() };
    match container.state {
        State::Waiting => note,
        State::Running { since, started, ready, .. } => {
            Note { current: Some(running(now, since)), started, ready, ..note }
        }
        State::Ended(end) => Note { current: Some(ended(now, end)), ..note },
        State::Paused { end, .. } => {
            let meta = |field| slim.str_at(&["metadata", field]);
            let pause = i64::try_from(container.backoff.length().as_nanos()).unwrap_or(i64::MAX);
            let message = format!(
                "back-off {} restarting failed container={} pod={}_{}({})",
                time::duration(pause),
                spec.str_at(&["name"]),
                meta("name"),
                meta("namespace"),
                meta("uid")
            );
            Note { current: Some(ended(now, end)), waiting: Some(("CrashLoopBackOff".into(), message)), ..note }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{Outside, Probes};
    use crate::script::Script;
    use std::time::Duration;
    use trireme_schema::json;

    const POD: &str = r#"{"metadata":{"name":"p","namespace":"n","uid":"u","generation":3},
        "spec":{"restartPolicy":"POLICY","initContainers":[{"name":"i","image":"x"},{"name":"s","image":"y","restartPolicy":"Always"}],
            "containers":[{"name":"c","image":"z"}]},
        "status":{"phase":"Pending","qosClass":"BestEffort"}}"#;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn lives(policy: &str, run: Option<u64>, exit: i32, until: i64) -> Value {
        let mut slim = json::parse(POD.replace("POLICY", policy).as_bytes()).unwrap();
        let second = Duration::from_secs(1);
        let script = Script { start: second, run: run.map(Duration::from_secs), exit, fail_after: None, stop: second };
        let mut pod = Pod::new(script, &[Probes::default()], Duration::ZERO, at(0));
        let place = Place { host: "198.18.0.1", ips: &["10.42.0.2".to_owned()] };
        let mut status = of(&slim, &pod, &place);
        while let Some(now) = pod.next().filter(|now| *now <= at(until)) {
            let mut outside = Outside {
                restarts: &|_, code| policy == "Always" || code != 0 && policy == "OnFailure",
                chance: &mut || None,
            };
            pod.advance(now, &mut outside);
            status = of(&slim, &pod, &place);
            slim.set_at(&["status"], status.clone());
        }
        status
    }

    fn condition(status: &Value, kind: &str) -> String {
        let found = status.list_at(&["conditions"]).iter().find(|c| c.str_at(&["type"]) == kind).unwrap();
        assert_eq!(found.int_at(&["observedGeneration"]), Some(3));
        format!("{} {}", found.str_at(&["status"]), found.str_at(&["reason"]))
    }

    #[test]
    fn a_pod_is_written_as_pending_and_then_as_running() {
        let status = lives("Always", None, 0, 0);
        assert_eq!((status.str_at(&["phase"]), status.str_at(&["podIP"])), ("Pending", ""));
        assert_eq!(condition(&status, "PodScheduled"), "True ");
        assert_eq!(condition(&status, "Initialized"), "False ContainersNotInitialized");
        assert_eq!(condition(&status, "Ready"), "False ContainersNotReady");
        let status = lives("Always", None, 0, 5);
        assert_eq!((status.str_at(&["phase"]), status.str_at(&["podIP"])), ("Running", "10.42.0.2"));
        for kind in ["Initialized", "ContainersReady", "Ready", "PodReadyToStartContainers"] {
            assert_eq!(condition(&status, kind), "True ", "{kind}");
        }
        let [init, sidecar] = status.list_at(&["initContainerStatuses"]) else { panic!() };
        assert_eq!(init.str_at(&["state", "terminated", "reason"]), "Completed");
        assert!(sidecar.at(&["state", "running"]).is_some() && sidecar.bool_at(&["started"]));
        assert_eq!(status.list_at(&["containerStatuses"])[0].str_at(&["containerID"]), "simulated://u-c-0");
        assert_eq!(status.str_at(&["qosClass"]), "BestEffort");
    }

    #[test]
    fn a_pod_that_ended_tells_how() {
        for (policy, exit, phase, ready) in [
            ("Never", 0, "Succeeded", "False PodCompleted"),
            ("Never", 3, "Failed", "False PodFailed"),
            ("OnFailure", 0, "Succeeded", "False PodCompleted"),
        ] {
            let status = lives(policy, Some(10), exit, 100);
            assert_eq!((status.str_at(&["phase"]), condition(&status, "Ready").as_str()), (phase, ready), "{policy}");
            let ended = &status.list_at(&["containerStatuses"])[0];
            assert_eq!(ended.int_at(&["state", "terminated", "exitCode"]), Some(exit.into()));
            let sidecar = &status.list_at(&["initContainerStatuses"])[1];
            assert_eq!(sidecar.int_at(&["state", "terminated", "exitCode"]), Some(0));
        }
    }

    #[test]
    fn a_pod_that_fails_again_and_again_waits_and_says_for_how_long() {
        let status = lives("Always", Some(1), 1, 5);
        let container = &status.list_at(&["containerStatuses"])[0];
        let waiting = container.at(&["state", "waiting"]).unwrap();
        assert_eq!(waiting.str_at(&["reason"]), "CrashLoopBackOff");
        assert_eq!(waiting.str_at(&["message"]), "back-off 10s restarting failed container=c pod=p_n(u)");
        assert_eq!(container.int_at(&["restartCount"]), Some(1));
        assert_eq!(container.str_at(&["lastState", "terminated", "reason"]), "Error");
        assert_eq!(
            (status.str_at(&["phase"]), condition(&status, "Ready").as_str()),
            ("Running", "False ContainersNotReady")
        );
    }
}
