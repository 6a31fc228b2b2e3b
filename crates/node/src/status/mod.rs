//! A pod's status, out of what the runtime says: [`pod`] makes it, [`patch`] is how it is written.

mod conditions;
mod container;
mod patch;
mod phase;

use conditions::Facts;
use std::collections::BTreeMap;
use trireme_schema::{Map, Value, time};

pub use conditions::Condition;
pub use container::Note;
pub use patch::patch;

/// Nanoseconds since 1970 as a time.
pub(crate) fn at(nanos: i64) -> Value {
    match jiff::Timestamp::from_nanosecond(nanos.into()) {
        Ok(at) if nanos != 0 => time::seconds(at).into(),
        _ => Value::Null,
    }
}

/// An object of those fields that are there.
pub(crate) fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().filter(|(_, v)| !v.is_null()).collect())
}

/// Why a pod ends though its containers would go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// One word.
    pub reason: String,
    /// In words.
    pub message: String,
    /// The node did not take the pod: of its containers there is nothing to tell.
    pub rejected: bool,
    /// Seconds that its programs have, if not as many as the pod says.
    pub grace: Option<i64>,
    /// Whether it is a disruption, as the pod's condition tells (KEP-3329).
    pub disruption: bool,
}

impl End {
    pub(crate) fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), ..Self::default() }
    }

    /// The condition that tells of a disruption.
    pub(crate) fn condition(&self) -> Option<Condition> {
        let told = || Condition::new("DisruptionTarget", true, "TerminationByKubelet", self.message.clone());
        self.disruption.then(told)
    }
}

/// What is known of a pod as a whole.
pub struct Whole<'a> {
    /// What is known of its containers, by name.
    pub notes: &'a BTreeMap<String, Note>,
    /// Its addresses; none before it has a sandbox.
    pub ips: &'a [String],
    /// The node's address.
    pub host_ip: &'a str,
    /// Whether it has a sandbox.
    pub sandbox: bool,
    /// Nothing will be started any more, and nothing runs.
    pub finished: bool,
    /// Why it ends though its containers would go on.
    pub end: Option<&'a End>,
    /// When the node took it.
    pub started_at: &'a str,
    /// The runtime's name, which containers' ids begin with.
    pub runtime: &'a str,
    /// What each container has, by name; those absent have what the specification says.
    pub resources: &'a BTreeMap<String, Value>,
    /// Further conditions.
    pub more: Vec<Condition>,
}

/// The status of a pod. `pod` is the object with the conditions that were written last.
pub fn pod(pod: &Value, whole: Whole<'_>) -> Value {
    if let Some(end) = whole.end.filter(|end| end.rejected) {
        return rejection(pod, end, whole.started_at);
    }
    let empty = Note::default();
    let list = |field: &str, init: bool| -> Vec<Value> {
        let of = |spec: &Value| {
            let name = spec.str_at(&["name"]);
            let note = whole.notes.get(name).unwrap_or(&empty);
            let own = spec.get("resources").cloned().unwrap_or_else(Value::object);
            let resources = whole.resources.get(name).unwrap_or(&own);
            container::container(pod, spec, note, whole.runtime, init, resources)
        };
        pod.list_at(&["spec", field]).iter().map(of).collect()
    };
    let (init, main, ephemeral) =
        (list("initContainers", true), list("containers", false), list("ephemeralContainers", false));
    let running = whole.notes.values().any(|n| n.running().is_some());
    let phase = match whole.end {
        Some(_) => "Failed",
        None => phase::phase(pod, &init, &main, whole.finished),
    };
    // While something runs, such as a sidecar, the pod is not over.
    let phase = match pod.str_at(&["status", "phase"]) {
        before if running && matches!(phase, "Succeeded" | "Failed") => before,
        _ => phase,
    };
    let facts = Facts { phase, init: &init, main: &main, sandbox: whole.sandbox };
    let conditions = conditions::conditions(pod, &facts, whole.more);
    let mut map = Map::new();
    map.insert("phase", phase);
    map.insert("conditions", Value::Array(conditions));
    if let Some(end) = whole.end {
        map.insert("reason", end.reason.as_str());
        map.insert("message", end.message.as_str());
    }
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

/// The status of a pod that the node did not take.
fn rejection(pod: &Value, end: &End, started_at: &str) -> Value {
    object([
        ("phase", "Failed".into()),
        ("reason", end.reason.as_str().into()),
        ("message", end.message.as_str().into()),
        ("startTime", started_at.into()),
        ("qosClass", pod.str_at(&["status", "qosClass"]).into()),
        ("observedGeneration", pod.at(&["metadata", "generation"]).cloned().unwrap_or_default()),
    ])
}
