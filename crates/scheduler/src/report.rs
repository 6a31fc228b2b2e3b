//! What users are told of a pod that could not be placed.

use serde_json::{Value, json};
use trireme_client::{Client, EventKind, Patch, Recorder};

use crate::{PodInfo, view};

/// Writes conditions and events.
pub struct Report {
    client: Client,
    recorder: Recorder,
}

/// What is to become of the node on which room is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nominated {
    /// It stays as it is.
    Keep,
    /// There is none any more.
    Clear,
    /// This one.
    Node(Box<str>),
}

impl Report {
    /// Writes through this client.
    pub fn new(client: Client, name: &str) -> Self {
        Self { recorder: Recorder::new(client.clone(), name, ""), client }
    }

    /// The recorder of events.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The pod was bound.
    pub fn scheduled(&self, pod: &PodInfo, node: &str) {
        let message = format!("Successfully assigned {} to {node}", pod.key);
        self.recorder.record(&pod.reference(), EventKind::Normal, "Scheduled", message);
    }

    /// The pod was not bound. `known` is the pod's status as it is, so that nothing is written twice: that would only
    /// wake everybody up.
    pub fn failed(
        &self,
        pod: &PodInfo,
        reason: &'static str,
        message: String,
        nominated: &Nominated,
        known: Option<&view::PodStatus>,
    ) {
        let Some(patch) = patch(pod, reason, &message, nominated, known) else {
            return self.recorder.record(&pod.reference(), EventKind::Warning, "FailedScheduling", message);
        };
        self.recorder.record(&pod.reference(), EventKind::Warning, "FailedScheduling", message);
        self.patch(pod, patch);
    }

    /// Sets the node on which room is being made, or takes it away.
    pub fn nominate(&self, pod: &PodInfo, nominated: &Nominated) {
        let node = match nominated {
            Nominated::Keep => return,
            Nominated::Clear => Value::Null,
            Nominated::Node(node) => json!(node),
        };
        self.patch(pod, json!({"metadata": {"uid": pod.uid}, "status": {"nominatedNodeName": node}}));
    }

    fn patch(&self, pod: &PodInfo, patch: Value) {
        let (api, name) = (self.client.namespaced::<view::Pod>(&pod.key.namespace), pod.key.name.clone());
        tokio::spawn(async move {
            if let Err(error) = api.patch(&name, Some("status"), &Patch::Strategic(patch)).await
                && !error.is_not_found()
            {
                tracing::debug!(pod = %name, %error, "the status of a waiting pod was not written");
            }
        });
    }
}

fn patch(
    pod: &PodInfo,
    reason: &str,
    message: &str,
    nominated: &Nominated,
    known: Option<&view::PodStatus>,
) -> Option<Value> {
    let condition = known.and_then(|known| known.conditions.iter().find(|c| &*c.kind == "PodScheduled"));
    let told = condition.is_some_and(|c| &*c.status == "False" && &*c.reason == reason && &*c.message == message);
    let node = known.map_or("", |known| &known.nominated_node_name);
    let wanted = match nominated {
        Nominated::Keep => node,
        Nominated::Clear => "",
        Nominated::Node(node) => node,
    };
    if told && node == wanted {
        return None;
    }
    let mut status = json!({});
    if !told {
        let was = condition.map_or("", |c| &c.status);
        let mut condition = json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message, "lastProbeTime": null,
        });
        if was != "False" {
            condition["lastTransitionTime"] =
                json!(jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string());
        }
        status["conditions"] = json!([condition]);
    }
    if node != wanted {
        status["nominatedNodeName"] = if wanted.is_empty() { Value::Null } else { json!(wanted) };
    }
    Some(json!({"metadata": {"uid": pod.uid}, "status": status}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_already_is_not_written_again() {
        let pod = crate::testing::pod("a", json!({}));
        let known = |nominated: &str| {
            let condition =
                json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "m"});
            serde_json::from_value(json!({"conditions": [condition], "nominatedNodeName": nominated})).unwrap()
        };
        let with = |message: &str, nominated: &Nominated, before: &str| {
            patch(&pod, "Unschedulable", message, nominated, Some(&known(before))).map(|patch| patch["status"].clone())
        };
        let node = Nominated::Node("n1".into());
        assert_eq!(with("m", &Nominated::Keep, "n1"), None);
        assert_eq!(with("m", &node, "n1"), None);
        assert_eq!(with("m", &node, ""), Some(json!({"nominatedNodeName": "n1"})));
        assert_eq!(with("m", &Nominated::Clear, "n1"), Some(json!({"nominatedNodeName": null})));
        assert_eq!(with("other", &Nominated::Keep, "n1").unwrap()["conditions"][0]["message"], "other");
        assert_eq!(with("other", &Nominated::Keep, "n1").unwrap()["conditions"][0].get("lastTransitionTime"), None);
    }
}
