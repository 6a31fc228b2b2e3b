//! The status of one container.

use super::{at, object};
use crate::spec;
use trireme_cri::{ContainerState, ContainerStatus};
use trireme_schema::{Map, Value};

/// What a worker knows of a container besides the runtime's word.
#[derive(Clone, Debug, Default)]
pub struct Note {
    /// The newest container.
    pub current: Option<ContainerStatus>,
    /// The one before.
    pub last: Option<ContainerStatus>,
    /// Why it waits: reason and message.
    pub waiting: Option<(String, String)>,
    /// The last words of the newest.
    pub message: String,
    /// The last words of the one before.
    pub last_message: String,
    /// What its readiness probe says; without one, that it runs.
    pub ready: bool,
    /// What its startup probe says.
    pub started: bool,
}

impl Note {
    /// The newest container, if it runs.
    pub(crate) fn running(&self) -> Option<&ContainerStatus> {
        self.current.as_ref().filter(|c| c.state() == ContainerState::ContainerRunning)
    }

    /// The newest container, if it has ended.
    pub(crate) fn ended(&self) -> Option<&ContainerStatus> {
        self.current.as_ref().filter(|c| c.state() == ContainerState::ContainerExited)
    }
}

fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
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
        ("message", text(message)),
        ("startedAt", at(status.started_at)),
        ("finishedAt", at(status.finished_at)),
        ("containerID", format!("{runtime}://{}", status.id).into()),
    ])
}

/// The state of one container. `init` says which list it is of; `has_init`, that others run before it.
pub(super) fn container(pod: &Value, spec: &Value, note: &Note, runtime: &str, init: bool, resources: &Value) -> Value {
    let name = spec.str_at(&["name"]);
    let before = spec::status(pod, name);
    let mut map = Map::new();
    map.insert("name", name);
    let mut state = Map::new();
    let (running, ended) = (note.running(), note.ended());
    let mut waits = false;
    if let Some(status) = running {
        state.insert("running", object([("startedAt", at(status.started_at))]));
    } else if let Some((reason, message)) = &note.waiting {
        waits = true;
        state.insert("waiting", object([("reason", reason.as_str().into()), ("message", text(message))]));
    } else if let Some(status) = ended {
        state.insert("terminated", terminated(status, &note.message, runtime));
    } else {
        let has_init = !pod.list_at(&["spec", "initContainers"]).is_empty();
        let reason = if init || has_init { "PodInitializing" } else { "ContainerCreating" };
        state.insert("waiting", object([("reason", reason.into())]));
    }
    let mut last_state = Map::new();
    // While it waits to be started again, what ended is its last state.
    match (ended.filter(|_| waits), &note.last) {
        (Some(status), _) => drop(last_state.insert("terminated", terminated(status, &note.message, runtime))),
        (None, Some(status)) => drop(last_state.insert("terminated", terminated(status, &note.last_message, runtime))),
        (None, None) => {}
    }
    let ends = init && !spec::is_sidecar(pod, name);
    let exited_well = !waits && ended.is_some_and(|s| s.exit_code == 0);
    map.insert("ready", if ends { exited_well } else { running.is_some() && note.ready });
    map.insert("started", running.is_some() && note.started);
    map.insert("state", state);
    map.insert("lastState", last_state);
    let attempt = note.current.as_ref().and_then(|c| c.metadata.as_ref()).map(|m| i64::from(m.attempt));
    map.insert("restartCount", attempt.or_else(|| before?.int_at(&["restartCount"])).unwrap_or(0));
    map.insert("image", spec.str_at(&["image"]));
    map.insert("imageID", note.current.as_ref().map_or("", |c| c.image_ref.as_str()));
    if let Some(current) = &note.current {
        map.insert("containerID", format!("{runtime}://{}", current.id));
    }
    if let Some(allocated) = resources.get("requests").filter(|r| r.as_object().is_some_and(|m| !m.is_empty())) {
        map.insert("allocatedResources", allocated.clone());
    }
    if note.current.is_some() {
        map.insert("resources", resources.clone());
    }
    let mounts: Vec<Value> = spec.list_at(&["volumeMounts"]).iter().map(mount).collect();
    if !mounts.is_empty() {
        map.insert("volumeMounts", Value::Array(mounts));
    }
    if let Some(user) = running.and_then(|c| c.user.as_ref()).and_then(|u| u.linux.as_ref()) {
        let groups: Vec<Value> = user.supplemental_groups.iter().map(|g| (*g).into()).collect();
        let linux = [("uid", user.uid.into()), ("gid", user.gid.into()), ("supplementalGroups", Value::Array(groups))];
        map.insert("user", object([("linux", object(linux))]));
    }
    Value::Object(map)
}

fn mount(mount: &Value) -> Value {
    let read_only = mount.bool_at(&["readOnly"]);
    let recursive = match mount.str_at(&["recursiveReadOnly"]) {
        _ if !read_only => Value::Null,
        "Enabled" | "IfPossible" => "Enabled".into(),
        _ => "Disabled".into(),
    };
    object([
        ("name", mount.str_at(&["name"]).into()),
        ("mountPath", mount.str_at(&["mountPath"]).into()),
        ("readOnly", if read_only { true.into() } else { Value::Null }),
        ("recursiveReadOnly", recursive),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    fn ended(code: i32, attempt: u32) -> ContainerStatus {
        ContainerStatus {
            id: format!("id{attempt}"),
            state: ContainerState::ContainerExited as i32,
            exit_code: code,
            metadata: Some(trireme_cri::ContainerMetadata { name: "c".into(), attempt }),
            ..ContainerStatus::default()
        }
    }

    #[test]
    fn what_ended_becomes_the_last_state_while_it_waits() {
        let pod = json::parse(br#"{"spec":{"containers":[{"name":"c","image":"i"}]}}"#).unwrap();
        let spec = spec::container(&pod, "c").unwrap();
        let mut note = Note { current: Some(ended(3, 4)), message: "words".into(), ..Note::default() };
        let status = container(&pod, spec, &note, "rt", false, &Value::object());
        assert_eq!(status.int_at(&["state", "terminated", "exitCode"]), Some(3));
        assert_eq!(status.str_at(&["state", "terminated", "message"]), "words");
        assert_eq!(status.int_at(&["restartCount"]), Some(4));
        note.waiting = Some(("CrashLoopBackOff".into(), String::new()));
        let status = container(&pod, spec, &note, "rt", false, &Value::object());
        assert_eq!(status.str_at(&["state", "waiting", "reason"]), "CrashLoopBackOff");
        assert_eq!(status.str_at(&["lastState", "terminated", "containerID"]), "rt://id4");
        assert_eq!(status.str_at(&["lastState", "terminated", "message"]), "words");
    }
}
