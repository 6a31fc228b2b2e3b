//! A pod's conditions.

use super::object;
use crate::spec::is_sidecar;
use trireme_schema::{Value, time};

/// A condition before it is compared with the one that was.
pub struct Condition {
    /// Its type.
    pub kind: &'static str,
    /// Whether its status is `True`.
    pub holds: bool,
    /// One word; may be empty.
    pub reason: String,
    /// In words; may be empty.
    pub message: String,
}

impl Condition {
    pub(crate) fn new(kind: &'static str, holds: bool, reason: &str, message: impl Into<String>) -> Self {
        Self { kind, holds, reason: reason.to_owned(), message: message.into() }
    }

    /// As the API has it; the time stays while the status does.
    fn value(self, before: &[Value], generation: &Value) -> Value {
        let status = if self.holds { "True" } else { "False" };
        let old = before.iter().find(|c| c.str_at(&["type"]) == self.kind && c.str_at(&["status"]) == status);
        let since = old.and_then(|c| c.get("lastTransitionTime").cloned()).unwrap_or_else(|| time::now().into());
        let text = |t: String| if t.is_empty() { Value::Null } else { t.into() };
        object([
            ("type", self.kind.into()),
            ("status", status.into()),
            ("lastTransitionTime", since),
            ("observedGeneration", generation.clone()),
            ("reason", text(self.reason)),
            ("message", text(self.message)),
        ])
    }
}

/// What the conditions are made of.
pub(super) struct Facts<'a> {
    pub(super) phase: &'a str,
    pub(super) init: &'a [Value],
    pub(super) main: &'a [Value],
    pub(super) sandbox: bool,
}

/// The conditions that a node writes, and those that others wrote, as they were.
pub(super) fn conditions(pod: &Value, facts: &Facts<'_>, more: Vec<Condition>) -> Vec<Value> {
    let before = pod.list_at(&["status", "conditions"]);
    let generation = pod.at(&["metadata", "generation"]).cloned().unwrap_or_default();
    let over = matches!(facts.phase, "Succeeded" | "Failed");
    let mut all = vec![Condition::new("PodReadyToStartContainers", facts.sandbox && !over, "", "")];
    all.push(initialized(pod, facts));
    let containers = containers_ready(facts);
    let gates: Vec<String> = pod
        .list_at(&["spec", "readinessGates"])
        .iter()
        .filter_map(|g| gate(g.str_at(&["conditionType"]), before))
        .collect();
    all.push(match (containers.holds, gates.is_empty()) {
        (true, true) => Condition::new("Ready", true, "", ""),
        (true, false) => Condition::new("Ready", false, "ReadinessGatesNotReady", gates.join(", ")),
        (false, _) => Condition {
            kind: "Ready",
            reason: containers.reason.clone(),
            message: containers.message.clone(),
            holds: false,
        },
    });
    all.push(containers);
    all.push(Condition::new("PodScheduled", true, "", ""));
    all.extend(more);
    all.into_iter().map(|c| c.value(before, &generation)).collect()
}

fn names(list: &[&Value]) -> String {
    list.iter().map(|s| s.str_at(&["name"])).collect::<Vec<_>>().join(" ")
}

fn initialized(pod: &Value, facts: &Facts<'_>) -> Condition {
    if facts.phase == "Succeeded" {
        return Condition::new("Initialized", true, "PodCompleted", "");
    }
    // Once a main container has run, the init containers are done with, whatever became of their records.
    if facts.main.iter().any(|s| s.get("containerID").is_some()) {
        return Condition::new("Initialized", true, "", "");
    }
    let done = |s: &&Value| match is_sidecar(pod, s.str_at(&["name"])) {
        true => s.bool_at(&["started"]),
        false => s.bool_at(&["ready"]),
    };
    let open: Vec<&Value> = facts.init.iter().filter(|s| !done(s)).collect();
    if open.is_empty() {
        return Condition::new("Initialized", true, "", "");
    }
    let message = format!("containers with incomplete status: [{}]", names(&open));
    Condition::new("Initialized", false, "ContainersNotInitialized", message)
}

fn containers_ready(facts: &Facts<'_>) -> Condition {
    let unready: Vec<&Value> = facts.main.iter().filter(|s| !s.bool_at(&["ready"])).collect();
    match facts.phase {
        "Succeeded" => Condition::new("ContainersReady", false, "PodCompleted", ""),
        "Failed" => Condition::new("ContainersReady", false, "PodFailed", ""),
        _ if unready.is_empty() => Condition::new("ContainersReady", true, "", ""),
        _ => {
            let message = format!("containers with unready status: [{}]", names(&unready));
            Condition::new("ContainersReady", false, "ContainersNotReady", message)
        }
    }
}

/// Why a readiness gate is shut; none when it is open.
fn gate(kind: &str, conditions: &[Value]) -> Option<String> {
    match conditions.iter().find(|c| c.str_at(&["type"]) == kind).map(|c| c.str_at(&["status"])) {
        None => Some(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
        Some("True") => None,
        Some(status) => Some(format!("the status of pod readiness gate {kind:?} is not \"True\", but {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    fn all(pod: &str, phase: &str, main: &str) -> Vec<(String, String, String, String)> {
        let (pod, main) = (json::parse(pod.as_bytes()).unwrap(), json::parse(main.as_bytes()).unwrap());
        let facts = Facts { phase, init: &[], main: main.as_array().unwrap(), sandbox: true };
        let text = |c: &Value, f: &str| c.str_at(&[f]).to_owned();
        conditions(&pod, &facts, Vec::new())
            .iter()
            .map(|c| (text(c, "type"), text(c, "status"), text(c, "reason"), text(c, "message")))
            .collect()
    }

    #[test]
    fn readiness_needs_the_containers_and_the_gates() {
        let ready = r#"[{"name":"c","ready":true}]"#;
        let find = |all: Vec<(String, String, String, String)>| all.into_iter().find(|c| c.0 == "Ready").unwrap();
        let gated = r#"{"spec":{"readinessGates":[{"conditionType":"x/y"}]}}"#;
        let is = |c: (String, String, String, String), status: &str, reason: &str, message: &str| {
            assert_eq!((c.1.as_str(), c.2.as_str(), c.3.as_str()), (status, reason, message));
        };
        is(find(all("{}", "Running", ready)), "True", "", "");
        let why = "corresponding condition of pod readiness gate \"x/y\" does not exist.";
        is(find(all(gated, "Running", ready)), "False", "ReadinessGatesNotReady", why);
        let why = "containers with unready status: [c]";
        is(find(all(gated, "Running", r#"[{"name":"c","ready":false}]"#)), "False", "ContainersNotReady", why);
        is(find(all("{}", "Succeeded", ready)), "False", "PodCompleted", "");
    }
}
