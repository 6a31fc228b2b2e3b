//! Rows of what runs pods, and of what scales and protects them.

use super::{NONE, autoscaler, containers, count, int, or_none, selector};
use crate::human;
use trireme_schema::Value;

pub(super) fn cell(kind: &str, column: &str, o: &Value) -> Value {
    const TEMPLATE: &[&str] = &["spec", "template", "spec", "containers"];
    const JOB_TEMPLATE: &[&str] = &["spec", "jobTemplate", "spec", "template", "spec", "containers"];
    let of_jobs = kind == "CronJob";
    let template = if of_jobs { JOB_TEMPLATE } else { TEMPLATE };
    match (kind, column) {
        (_, "Containers") => containers(o, template, "name"),
        (_, "Images") => containers(o, template, "image"),
        (_, "Selector") if of_jobs => selector(o.at(&["spec", "jobTemplate", "spec", "selector"])),
        (_, "Selector") => selector(o.at(&["spec", "selector"])),
        ("Deployment" | "StatefulSet", "Ready") => {
            let ready = o.int_at(&["status", "readyReplicas"]).unwrap_or_default();
            format!("{ready}/{}", o.int_at(&["spec", "replicas"]).unwrap_or_default()).into()
        }
        ("Deployment", "Up-to-date") => int(o, &["status", "updatedReplicas"]),
        ("Deployment", "Available") => int(o, &["status", "availableReplicas"]),
        ("ReplicaSet", "Desired") => int(o, &["spec", "replicas"]),
        ("ReplicaSet", "Current") => int(o, &["status", "replicas"]),
        ("ReplicaSet", "Ready") => int(o, &["status", "readyReplicas"]),
        ("DaemonSet", "Desired") => int(o, &["status", "desiredNumberScheduled"]),
        ("DaemonSet", "Current") => int(o, &["status", "currentNumberScheduled"]),
        ("DaemonSet", "Ready") => int(o, &["status", "numberReady"]),
        ("DaemonSet", "Up-to-date") => int(o, &["status", "updatedNumberScheduled"]),
        ("DaemonSet", "Available") => int(o, &["status", "numberAvailable"]),
        ("DaemonSet", "Node Selector") => selector(o.at(&["spec", "template", "spec", "nodeSelector"])),
        ("ControllerRevision", "Controller") => {
            let owner = o.list_at(&["metadata", "ownerReferences"]).iter().find(|r| r.bool_at(&["controller"]));
            let shown = owner.map(|r| {
                let group = r.str_at(&["apiVersion"]).split_once('/').map(|(group, _)| format!(".{group}"));
                let kind = format!("{}{}", r.str_at(&["kind"]), group.unwrap_or_default());
                format!("{}/{}", kind.to_lowercase(), r.str_at(&["name"]))
            });
            shown.map_or(NONE.into(), Value::from)
        }
        ("ControllerRevision", "Revision") => int(o, &["revision"]),
        ("Job", _) => job(column, o),
        ("CronJob", "Schedule") => o.str_at(&["spec", "schedule"]).into(),
        ("CronJob", "Timezone") => or_none(o.str_at(&["spec", "timeZone"])),
        ("CronJob", "Suspend") => (if o.bool_at(&["spec", "suspend"]) { "True" } else { "False" }).into(),
        ("CronJob", "Active") => count(o.at(&["status", "active"])),
        ("CronJob", "Last Schedule") => match o.str_at(&["status", "lastScheduleTime"]) {
            "" => NONE.into(),
            at => human::age(at).into(),
        },
        ("PodDisruptionBudget", "Min Available") => amount(o.at(&["spec", "minAvailable"])),
        ("PodDisruptionBudget", "Max Unavailable") => amount(o.at(&["spec", "maxUnavailable"])),
        ("PodDisruptionBudget", "Allowed Disruptions") => int(o, &["status", "disruptionsAllowed"]),
        ("HorizontalPodAutoscaler", _) => scaling(column, o),
        _ => Value::from(""),
    }
}

fn scaling(column: &str, o: &Value) -> Value {
    match column {
        "Reference" => {
            let target = |f| o.str_at(&["spec", "scaleTargetRef", f]);
            format!("{}/{}", target("kind"), target("name")).into()
        }
        "Targets" => autoscaler::targets(o).into(),
        "MinPods" => o.int_at(&["spec", "minReplicas"]).map_or("<unset>".into(), |n| n.to_string().into()),
        "MaxPods" => int(o, &["spec", "maxReplicas"]),
        "Replicas" => int(o, &["status", "currentReplicas"]),
        _ => Value::from(""),
    }
}

fn amount(value: Option<&Value>) -> Value {
    match value {
        Some(Value::Int(n)) => n.to_string().into(),
        Some(Value::String(text)) => text.as_str().into(),
        _ => "N/A".into(),
    }
}

fn job(column: &str, o: &Value) -> Value {
    let condition = |kind: &str| {
        o.list_at(&["status", "conditions"])
            .iter()
            .any(|c| c.str_at(&["type"]) == kind && c.str_at(&["status"]) == "True")
    };
    match column {
        "Status" => (if condition("Complete") {
            "Complete"
        } else if condition("Failed") {
            "Failed"
        } else if o.at(&["metadata", "deletionTimestamp"]).is_some() {
            "Terminating"
        } else if condition("Suspended") {
            "Suspended"
        } else if condition("FailureTarget") {
            "FailureTarget"
        } else if condition("SuccessCriteriaMet") {
            "SuccessCriteriaMet"
        } else {
            "Running"
        })
        .into(),
        "Completions" => {
            let done = o.int_at(&["status", "succeeded"]).unwrap_or_default();
            match (o.int_at(&["spec", "completions"]), o.int_at(&["spec", "parallelism"]).unwrap_or_default()) {
                (Some(n), _) => format!("{done}/{n}").into(),
                (None, p) if p > 1 => format!("{done}/1 of {p}").into(),
                (None, _) => format!("{done}/1").into(),
            }
        }
        "Duration" => {
            let at = |f| o.str_at(&["status", f]).parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
            match (at("startTime"), at("completionTime")) {
                (None, _) => "".into(),
                (Some(start), Some(end)) => human::duration(end - start).into(),
                (Some(start), None) => human::duration(jiff::Timestamp::now().as_second() - start).into(),
            }
        }
        _ => Value::from(""),
    }
}
