//! A pod's status, out of what the runtime says.

use std::collections::BTreeMap;
use trireme_cri::{ContainerState, ContainerStatus};
use trireme_schema::{Map, Value, time};

/// What a worker knows of a container besides the runtime's word.
#[derive(Clone, Debug, Default)]
pub(crate) struct Note {
    /// The newest container and the one before it.
    pub(crate) current: Option<ContainerStatus>,
    /// The one before.
    pub(crate) last: Option<ContainerStatus>,
    /// Why it waits: reason and message.
    pub(crate) waiting: Option<(String, String)>,
    /// Its last words, where it ended.
    pub(crate) message: String,
    /// What its readiness probe says; without one, that it runs.
    pub(crate) ready: bool,
    /// What its startup probe says.
    pub(crate) started: bool,
}

/// Nanoseconds since 1970 as a time.
pub(crate) fn at(nanos: i64) -> Value {
    match jiff::Timestamp::from_nanosecond(nanos.into()) {
        Ok(at) if nanos != 0 => time::seconds(at).into(),
        _ => Value::Null,
    }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().filter(|(_, v)| !v.is_null()).collect())
}

fn terminated(status: &ContainerStatus, message: &str, runtime: &str) -> Value {
    let message = if message.is_empty() { status.message.as_str() } else { message };
    let reason = match status.reason.as_str() {
        "" if status.exit_code == 0 => "Completed",
        "" => "Error",
        reason => reason,
    };
    object([
        ("exitCode", i64::from(status.exit_code).into()),
        ("reason", reason.into()),
        ("message", if message.is_empty() { Value::Null } else { message.into() }),
        ("startedAt", at(status.started_at)),
        ("finishedAt", at(status.finished_at)),
        ("containerID", format!("{runtime}://{}", status.id).into()),
    ])
}

/// The state of one container.
pub(crate) fn container(spec: &Value, note: &Note, runtime: &str, init: bool) -> Value {
    let name = spec.str_at(&["name"]);
    let mut map = Map::new();
    map.insert("name", name);
    let mut state = Map::new();
    let running = note.current.as_ref().filter(|c| c.state() == ContainerState::ContainerRunning);
    let ended = note.current.as_ref().filter(|c| c.state() == ContainerState::ContainerExited);
    if let Some(status) = running {
        state.insert("running", object([("startedAt", at(status.started_at))]));
    } else if let Some((reason, message)) = &note.waiting {
        let message = if message.is_empty() { Value::Null } else { message.as_str().into() };
        state.insert("waiting", object([("reason", reason.as_str().into()), ("message", message)]));
    } else if let Some(status) = ended {
        state.insert("terminated", terminated(status, &note.message, runtime));
    } else {
        let reason = if init { "PodInitializing" } else { "ContainerCreating" };
        state.insert("waiting", object([("reason", reason.into())]));
    }
    // While it waits to be started again, what ended is its last state.
    let last = if state.get("waiting").is_some() { ended.or(note.last.as_ref()) } else { note.last.as_ref() };
    let mut last_state = Map::new();
    if let Some(status) = last {
        last_state.insert("terminated", terminated(status, if ended.is_some() { &note.message } else { "" }, runtime));
    }
    let exited_well = ended.is_some_and(|s| s.exit_code == 0);
    let is_init = spec.get("restartPolicy").is_none() && init;
    map.insert("ready", if is_init { exited_well } else { running.is_some() && note.ready });
    map.insert("started", running.is_some() && note.started);
    map.insert("state", state);
    map.insert("lastState", last_state);
    let attempt = note.current.as_ref().and_then(|c| c.metadata.as_ref()).map_or(0, |m| m.attempt);
    map.insert("restartCount", i64::from(attempt));
    map.insert("image", spec.str_at(&["image"]));
    map.insert("imageID", note.current.as_ref().map_or("", |c| c.image_ref.as_str()));
    if let Some(current) = &note.current {
        map.insert("containerID", format!("{runtime}://{}", current.id));
    }
    if let Some(resources) = spec.get("resources").filter(|r| r.as_object().is_some_and(|m| !m.is_empty())) {
        map.insert("resources", resources.clone());
        if let Some(requests) = resources.get("requests") {
            map.insert("allocatedResources", requests.clone());
        }
    }
    Value::Object(map)
}

/// What a pod's phase is.
pub(crate) fn phase(pod: &Value, notes: &BTreeMap<String, Note>, finished: bool) -> &'static str {
    let policy = pod.str_at(&["spec", "restartPolicy"]);
    let main = pod.list_at(&["spec", "containers"]);
    let (mut running, mut failed, mut succeeded, mut waiting) = (0, 0, 0, 0);
    for spec in main {
        let note = notes.get(spec.str_at(&["name"]));
        match note.and_then(|n| n.current.as_ref()).map(|c| (c.state(), c.exit_code)) {
            Some((ContainerState::ContainerRunning, _)) => running += 1,
            Some((ContainerState::ContainerExited, 0)) => succeeded += 1,
            Some((ContainerState::ContainerExited, _)) => failed += 1,
            _ => waiting += 1,
        }
    }
    let init_failed = pod.list_at(&["spec", "initContainers"]).iter().any(|spec| {
        let current = notes.get(spec.str_at(&["name"])).and_then(|n| n.current.as_ref());
        current.is_some_and(|c| c.state() == ContainerState::ContainerExited && c.exit_code != 0)
            && spec.str_at(&["restartPolicy"]) != "Always"
    });
    if init_failed && policy == "Never" {
        return "Failed";
    }
    if waiting > 0 && !finished {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    match policy {
        "Always" if !finished => "Running",
        _ if failed == 0 && succeeded > 0 => "Succeeded",
        "OnFailure" if !finished => "Running",
        _ => "Failed",
    }
}

/// What is known of a pod as a whole.
pub(crate) struct Whole<'a> {
    pub(crate) notes: &'a BTreeMap<String, Note>,
    pub(crate) ips: &'a [String],
    pub(crate) host_ip: &'a str,
    pub(crate) sandbox: bool,
    pub(crate) finished: bool,
    pub(crate) started_at: &'a str,
    pub(crate) runtime: &'a str,
}

/// The status of a pod.
pub(crate) fn pod(pod: &Value, whole: &Whole<'_>) -> Value {
    let phase = phase(pod, whole.notes, whole.finished);
    let empty = Note::default();
    let over = matches!(phase, "Succeeded" | "Failed");
    let list = |field: &str, init: bool| -> Vec<Value> {
        let initialized = !pod.list_at(&["spec", "initContainers"]).is_empty();
        let of = |spec: &Value| {
            let note = whole.notes.get(spec.str_at(&["name"])).unwrap_or(&empty);
            container(spec, note, whole.runtime, init || initialized)
        };
        pod.list_at(&["spec", field]).iter().map(of).collect()
    };
    let (init, main, ephemeral) =
        (list("initContainers", true), list("containers", false), list("ephemeralContainers", false));
    let initialized = init.iter().zip(pod.list_at(&["spec", "initContainers"])).all(|(s, spec)| {
        match spec.str_at(&["restartPolicy"]) {
            "Always" => s.bool_at(&["started"]),
            _ => s.bool_at(&["ready"]),
        }
    }) || main.iter().any(|s| s.get("containerID").is_some());
    let unready: Vec<&str> = main.iter().filter(|s| !s.bool_at(&["ready"])).map(|s| s.str_at(&["name"])).collect();
    let containers_ready = unready.is_empty() && !over;
    let gates = pod.list_at(&["spec", "readinessGates"]).iter().all(|g| {
        pod.list_at(&["status", "conditions"])
            .iter()
            .any(|c| c.str_at(&["type"]) == g.str_at(&["conditionType"]) && c.str_at(&["status"]) == "True")
    });
    let not_ready = || -> (&str, String) {
        match phase {
            "Succeeded" => ("PodCompleted", String::new()),
            "Failed" => ("PodFailed", String::new()),
            _ => ("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))),
        }
    };
    let mut conditions: Vec<Value> = Vec::new();
    let before = pod.list_at(&["status", "conditions"]);
    let generation = pod.at(&["metadata", "generation"]).cloned().unwrap_or_default();
    let mut condition = |kind: &str, holds: bool, why: (&str, String)| {
        let status = if holds { "True" } else { "False" };
        let old = before.iter().find(|c| c.str_at(&["type"]) == kind && c.str_at(&["status"]) == status);
        let since = old.and_then(|c| c.get("lastTransitionTime").cloned()).unwrap_or_else(|| time::now().into());
        let text = |t: &str| if holds || t.is_empty() { Value::Null } else { t.into() };
        conditions.push(object([
            ("type", kind.into()),
            ("status", status.into()),
            ("lastTransitionTime", since),
            ("observedGeneration", generation.clone()),
            ("reason", text(why.0)),
            ("message", text(&why.1)),
        ]));
    };
    condition("PodReadyToStartContainers", whole.sandbox && !over, ("", String::new()));
    let completed = over && phase == "Succeeded";
    let uninitialized: Vec<&str> =
        init.iter().filter(|s| !s.bool_at(&["ready"])).map(|s| s.str_at(&["name"])).collect();
    let incomplete = format!("containers with incomplete status: [{}]", uninitialized.join(" "));
    condition("Initialized", initialized || completed, ("ContainersNotInitialized", incomplete));
    condition(
        "Ready",
        containers_ready && gates,
        if containers_ready { ("ReadinessGatesNotReady", String::new()) } else { not_ready() },
    );
    condition("ContainersReady", containers_ready, not_ready());
    condition("PodScheduled", true, ("", String::new()));
    let own = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    conditions.extend(before.iter().filter(|c| !own.contains(&c.str_at(&["type"]))).cloned());

    let mut map = Map::new();
    map.insert("phase", phase);
    map.insert("conditions", Value::Array(conditions));
    map.insert("hostIP", whole.host_ip);
    map.insert("hostIPs", vec![object([("ip", whole.host_ip.into())])]);
    if let Some(first) = whole.ips.first() {
        map.insert("podIP", first.as_str());
        map.insert("podIPs", Value::Array(whole.ips.iter().map(|ip| object([("ip", ip.as_str().into())])).collect()));
    }
    map.insert("startTime", whole.started_at);
    map.insert("qosClass", pod.str_at(&["status", "qosClass"]));
    if let Some(generation) = pod.at(&["metadata", "generation"]) {
        map.insert("observedGeneration", generation.clone());
    }
    for (field, list) in
        [("initContainerStatuses", init), ("containerStatuses", main), ("ephemeralContainerStatuses", ephemeral)]
    {
        if !list.is_empty() {
            map.insert(field, Value::Array(list));
        }
    }
    Value::Object(map)
}
