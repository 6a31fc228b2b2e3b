//! The row of a pod.

use super::{NONE, or_none};
use crate::human;
use trireme_schema::Value;

pub(super) fn cell(column: &str, o: &Value) -> Value {
    match column {
        "Ready" => {
            let statuses = o.list_at(&["status", "containerStatuses"]);
            let sidecar = |name: &str| {
                o.list_at(&["spec", "initContainers"])
                    .iter()
                    .any(|c| c.str_at(&["name"]) == name && c.str_at(&["restartPolicy"]) == "Always")
            };
            let side: Vec<&Value> = o
                .list_at(&["status", "initContainerStatuses"])
                .iter()
                .filter(|s| sidecar(s.str_at(&["name"])))
                .collect();
            let sides = o
                .list_at(&["spec", "initContainers"])
                .iter()
                .filter(|c| c.str_at(&["restartPolicy"]) == "Always")
                .count();
            let ready =
                statuses.iter().filter(|s| s.bool_at(&["ready"]) && s.at(&["state", "running"]).is_some()).count()
                    + side.iter().filter(|s| s.bool_at(&["ready"])).count();
            format!("{ready}/{}", o.list_at(&["spec", "containers"]).len() + sides).into()
        }
        "Status" => pod_reason(o).into(),
        "Restarts" => {
            let all = || {
                o.list_at(&["status", "containerStatuses"])
                    .iter()
                    .chain(o.list_at(&["status", "initContainerStatuses"]))
            };
            let restarts: i64 = all().filter_map(|s| s.int_at(&["restartCount"])).sum();
            let last = all().map(|s| s.str_at(&["lastState", "terminated", "finishedAt"])).max().unwrap_or_default();
            if restarts > 0 && !last.is_empty() {
                format!("{restarts} ({} ago)", human::age(last)).into()
            } else {
                restarts.to_string().into()
            }
        }
        "IP" => or_none(o.str_at(&["status", "podIP"])),
        "Node" => or_none(o.str_at(&["spec", "nodeName"])),
        "Nominated Node" => or_none(o.str_at(&["status", "nominatedNodeName"])),
        "Readiness Gates" => {
            let gates = o.list_at(&["spec", "readinessGates"]);
            if gates.is_empty() {
                return NONE.into();
            }
            let holds = |g: &&Value| {
                o.list_at(&["status", "conditions"])
                    .iter()
                    .any(|c| c.str_at(&["type"]) == g.str_at(&["conditionType"]) && c.str_at(&["status"]) == "True")
            };
            format!("{}/{}", gates.iter().filter(holds).count(), gates.len()).into()
        }
        _ => Value::from(""),
    }
}

/// One word for the state of a pod.
fn pod_reason(o: &Value) -> String {
    let phase = o.str_at(&["status", "phase"]);
    let mut reason = match o.str_at(&["status", "reason"]) {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    if o.list_at(&["status", "conditions"])
        .iter()
        .any(|c| c.str_at(&["type"]) == "PodScheduled" && c.str_at(&["reason"]) == "SchedulingGated")
    {
        reason = "SchedulingGated".into();
    }
    let ended = |t: &Value| match (t.str_at(&["reason"]), t.int_at(&["signal"]).unwrap_or_default()) {
        ("", 0) => format!("ExitCode:{}", t.int_at(&["exitCode"]).unwrap_or_default()),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    };
    let inits = o.list_at(&["spec", "initContainers"]);
    let mut initializing = false;
    for (i, status) in o.list_at(&["status", "initContainerStatuses"]).iter().enumerate() {
        let state = status.get("state");
        let spec = inits.iter().find(|c| c.str_at(&["name"]) == status.str_at(&["name"]));
        let sidecar = spec.is_some_and(|c| c.str_at(&["restartPolicy"]) == "Always");
        if let Some(t) = state.and_then(|s| s.get("terminated")) {
            if t.int_at(&["exitCode"]).unwrap_or_default() == 0 {
                continue;
            }
            reason = format!("Init:{}", ended(t));
        } else if sidecar && status.bool_at(&["started"]) {
            continue;
        } else if let Some(w) = state
            .and_then(|s| s.get("waiting"))
            .map(|w| w.str_at(&["reason"]))
            .filter(|w| !w.is_empty() && *w != "PodInitializing")
        {
            reason = format!("Init:{w}");
        } else {
            reason = format!("Init:{i}/{}", inits.len());
        }
        initializing = true;
        break;
    }
    if !initializing {
        let mut running = false;
        for status in o.list_at(&["status", "containerStatuses"]).iter().rev() {
            let waiting = status.str_at(&["state", "waiting", "reason"]);
            if !waiting.is_empty() {
                reason = waiting.to_owned();
            } else if let Some(t) = status.at(&["state", "terminated"]) {
                reason = ended(t);
            } else if status.bool_at(&["ready"]) && status.at(&["state", "running"]).is_some() {
                running = true;
            }
        }
        if reason == "Completed" && running {
            let ready = o
                .list_at(&["status", "conditions"])
                .iter()
                .any(|c| c.str_at(&["type"]) == "Ready" && c.str_at(&["status"]) == "True");
            reason = if ready { "Running" } else { "NotReady" }.into();
        }
    }
    if o.at(&["metadata", "deletionTimestamp"]).is_some() {
        if o.str_at(&["status", "reason"]) == "NodeLost" {
            return "Unknown".into();
        }
        if !matches!(phase, "Failed" | "Succeeded") {
            return "Terminating".into();
        }
    }
    reason
}
