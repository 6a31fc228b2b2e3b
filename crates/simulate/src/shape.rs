//! What is kept of a pod's object: as much as its status is made of.

use crate::pod::Probes;
use serde::Deserialize;
use std::time::Duration;
use trireme_schema::{Map, Value, json};

/// The beginning of an object in an event: what is needed of one that is known already.
#[derive(Debug, Deserialize)]
pub(crate) struct Head {
    pub(crate) metadata: HeadMeta,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HeadMeta {
    pub(crate) uid: Box<str>,
    pub(crate) name: Box<str>,
    #[serde(default)]
    pub(crate) namespace: Box<str>,
    #[serde(default)]
    pub(crate) resource_version: String,
    #[serde(default)]
    pub(crate) generation: i64,
    #[serde(default)]
    pub(crate) deletion_timestamp: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    pub(crate) deletion_grace_period_seconds: Option<u64>,
}

const META: [&str; 4] = ["name", "namespace", "uid", "generation"];
const SPEC: [&str; 2] = ["restartPolicy", "readinessGates"];
const CONTAINER: [&str; 6] = ["name", "image", "resources", "volumeMounts", "restartPolicy", "restartPolicyRules"];
const STATUS: [&str; 3] = ["phase", "qosClass", "conditions"];

fn picked(from: Option<&Value>, fields: &[&str]) -> Map {
    fields.iter().filter_map(|field| Some((*field, from?.get(field)?.clone()))).collect()
}

/// A pod's object without what its status is not made of.
pub(crate) fn slim(pod: &Value) -> Value {
    let mut spec = picked(pod.get("spec"), &SPEC);
    for list in ["initContainers", "containers"] {
        let containers = pod.list_at(&["spec", list]);
        if !containers.is_empty() {
            let slim: Vec<Map> = containers.iter().map(|c| picked(Some(c), &CONTAINER)).collect();
            spec.insert(list, slim);
        }
    }
    let mut slim = Map::new();
    slim.insert("metadata", picked(pod.get("metadata"), &META));
    slim.insert("spec", spec);
    slim.insert("status", picked(pod.get("status"), &STATUS));
    Value::Object(slim)
}

/// As it is kept.
pub(crate) fn packed(slim: &Value) -> Box<[u8]> {
    json::to_vec(slim).into_boxed_slice()
}

/// Out of what is kept.
pub(crate) fn unpacked(packed: &[u8]) -> Value {
    // It was written by us.
    json::parse(packed).unwrap_or_default()
}

/// When the probes of the main containers first speak.
pub(crate) fn probes(pod: &Value) -> Vec<Probes> {
    let delay = |container: &Value, probe: &str| {
        let seconds = container.int_at(&[probe, "initialDelaySeconds"]).and_then(|s| u64::try_from(s).ok());
        Duration::from_secs(seconds.unwrap_or(0))
    };
    let of =
        |container| Probes { startup: delay(container, "startupProbe"), readiness: delay(container, "readinessProbe") };
    pod.list_at(&["spec", "containers"]).iter().map(of).collect()
}

/// The images of all containers.
pub(crate) fn images(pod: &Value) -> impl Iterator<Item = &str> {
    let lists = ["initContainers", "containers"].into_iter();
    lists.flat_map(|list| pod.list_at(&["spec", list])).map(|container| container.str_at(&["image"]))
}

/// The conditions of others in `new`, and ours as they were written last.
pub(crate) fn merged(new: &mut Value, written: &Value) {
    const OURS: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let ours = |c: &&Value| OURS.contains(&c.str_at(&["type"]));
    let mine = written.list_at(&["status", "conditions"]).iter().filter(ours);
    let others = new.list_at(&["status", "conditions"]).iter().filter(|c| !ours(c));
    let all: Vec<Value> = mine.chain(others).cloned().collect();
    new.set_at(&["status", "conditions"], Value::Array(all));
    if let Some(phase) = written.at(&["status", "phase"]) {
        new.set_at(&["status", "phase"], phase.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = r#"{"kind":"Pod","metadata":{"name":"p","namespace":"n","uid":"u","generation":2,"resourceVersion":"7",
        "managedFields":[{"manager":"m"}],"labels":{"a":"b"}},
        "spec":{"nodeName":"s","restartPolicy":"Always","volumes":[{"name":"v"}],
            "containers":[{"name":"c","image":"i","command":["x"],"readinessProbe":{"initialDelaySeconds":3}}]},
        "status":{"phase":"Pending","qosClass":"BestEffort","hostIP":"1.2.3.4","conditions":[{"type":"x/y","status":"True"}]}}"#;

    #[test]
    fn what_the_status_is_made_of_is_kept() {
        let pod = json::parse(POD.as_bytes()).unwrap();
        let want = json::parse(
            br#"{"metadata":{"name":"p","namespace":"n","uid":"u","generation":2},
                "spec":{"restartPolicy":"Always","containers":[{"name":"c","image":"i"}]},
                "status":{"phase":"Pending","qosClass":"BestEffort","conditions":[{"type":"x/y","status":"True"}]}}"#,
        );
        let slim = slim(&pod);
        assert_eq!(slim, want.unwrap());
        assert_eq!(unpacked(&packed(&slim)), slim);
        assert_eq!(probes(&pod), [Probes { startup: Duration::ZERO, readiness: Duration::from_secs(3) }]);
        assert_eq!(images(&pod).collect::<Vec<_>>(), ["i"]);
        let head: Head = serde_json::from_str(POD).unwrap();
        assert_eq!((&*head.metadata.name, head.metadata.generation), ("p", 2));
        assert!(head.metadata.deletion_timestamp.is_none());
    }

    #[test]
    fn conditions_of_others_come_from_them_and_ours_from_us() {
        let value = |text: &str| json::parse(text.as_bytes()).unwrap();
        let mut new = value(
            r#"{"status":{"phase":"Pending","conditions":[{"type":"Ready","status":"False"},{"type":"x/y","status":"True"}]}}"#,
        );
        merged(&mut new, &value(r#"{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#));
        let want = r#"{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"},{"type":"x/y","status":"True"}]}}"#;
        assert_eq!(new, value(want));
    }
}
