//! Pods that nobody else removes: too many ended ones, those whose node is gone, and those that were deleted before
//! they had a node.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use serde_json::json;
use trireme_client::{Client, DeleteOptions, Informer, Key, Patch};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{Clock, Error, view};

/// A node's absence counts once it has lasted this long: a node that registers anew is away for a moment.
const QUARANTINE: i64 = 40;
/// How often ended pods are counted.
const SWEEP: Duration = Duration::from_secs(20);

pub(crate) struct PodGc {
    client: Client,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    threshold: usize,
    clock: Clock,
    /// Nodes that pods name but that do not exist, and since when.
    absent: Mutex<HashMap<String, Timestamp>>,
}

/// Why a pod is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Ended,
    Orphaned,
    Unscheduled,
    OutOfService,
}

impl PodGc {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            pods: context.informer(),
            nodes: context.informer(),
            threshold: context.options.terminated_pods,
            clock: context.clock.clone(),
            absent: Mutex::default(),
        }
    }

    async fn remove(&self, pod: &view::Pod, why: Why) -> Result<(), Error> {
        let api = self.client.namespaced::<view::PodKind>(&pod.metadata.namespace);
        let (name, uid) = (pod.metadata.name.as_str(), pod.metadata.uid.as_str());
        if !pod.is_terminal() && matches!(why, Why::Orphaned | Why::OutOfService) {
            let mut status = json!({"phase": "Failed"});
            if why == Why::Orphaned {
                // KEP-3329: jobs tell by this condition that the pod did not fail by itself.
                status["conditions"] = json!([{
                    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                    "message": "PodGC: node no longer exists", "lastTransitionTime": self.clock.now().to_string(),
                }]);
            }
            let patch = Patch::Strategic(json!({"metadata": {"uid": uid}, "status": status}));
            match api.patch(name, Some("status"), &patch).await {
                Err(error) if error.is_not_found() || error.is_conflict() => return Ok(()),
                other => drop(other?),
            }
        }
        tracing::info!(pod = %name, namespace = pod.metadata.namespace, ?why, "removing");
        match api.delete(name, &DeleteOptions::default().uid(uid).grace(0)).await {
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            other => Ok(other?),
        }
    }

    /// Whether a node has been absent for long enough, by the cache and by the server.
    async fn is_gone(&self, node: &str, now: Timestamp) -> Result<bool, Error> {
        let since = *self.absent.lock().entry(node.to_owned()).or_insert(now);
        if now.as_second() - since.as_second() < QUARANTINE {
            return Ok(false);
        }
        Ok(self.client.all::<Node>().find(node).await?.is_none())
    }
}

impl Controller for PodGc {
    const NAME: &'static str = "pod-garbage-collector-controller";
    const ACCOUNT: Option<&'static str> = Some("pod-garbage-collector");
    const WORKERS: usize = 1;

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.needs(&self.pods);
        let sweep = Key::new("", "sweep");
        watches.start_with(sweep.clone());
        watches.on(&self.nodes, move |change| if change.new.is_none() { vec![sweep.clone()] } else { Vec::new() });
    }

    async fn reconcile(&self, _: &Key) -> Result<Requeue, Error> {
        let now = self.clock.now();
        let mut pods = Vec::new();
        for entry in self.pods.list() {
            pods.push(entry.decode_as::<view::Pod>()?);
        }
        let mut out_of_service = Vec::new();
        for entry in self.nodes.list() {
            let taints = entry.decode()?.spec.and_then(|spec| spec.taints).unwrap_or_default();
            if taints.iter().any(|taint| taint.key == "node.kubernetes.io/out-of-service") {
                out_of_service.push(entry.meta.key.name.to_string());
            }
        }
        let mut absent = Vec::new();
        for pod in &pods {
            let node = &pod.spec.node_name;
            if !node.is_empty() && self.nodes.get("", node).is_none() && !absent.contains(node) {
                absent.push(node.clone());
            }
        }
        self.absent.lock().retain(|node, _| absent.contains(node));
        let mut gone = Vec::new();
        for node in absent {
            if self.is_gone(&node, now).await? {
                gone.push(node);
            }
        }
        let mut failure = None;
        for (pod, why) in choose(&pods, self.threshold, &gone, &out_of_service) {
            if let Err(error) = self.remove(pod, why).await {
                tracing::warn!(pod = pod.metadata.name, %error, "not removed");
                failure = Some(error);
            }
        }
        failure.map_or(Ok(Requeue::After(SWEEP)), Err)
    }
}

/// The pods to remove.
fn choose<'a>(
    pods: &'a [view::Pod],
    threshold: usize,
    gone: &[String],
    out_of_service: &[String],
) -> Vec<(&'a view::Pod, Why)> {
    let mut chosen = Vec::new();
    let mut ended: Vec<&view::Pod> = pods.iter().filter(|pod| pod.is_terminal()).collect();
    if threshold > 0 && ended.len() > threshold {
        ended.sort_by(|a, b| {
            (a.metadata.creation_timestamp, &a.metadata.name).cmp(&(b.metadata.creation_timestamp, &b.metadata.name))
        });
        chosen.extend(ended.iter().take(ended.len() - threshold).map(|pod| (*pod, Why::Ended)));
    }
    for pod in pods {
        let node = &pod.spec.node_name;
        let deleting = pod.metadata.deletion_timestamp.is_some();
        if node.is_empty() && deleting {
            chosen.push((pod, Why::Unscheduled));
        } else if gone.contains(node) {
            chosen.push((pod, Why::Orphaned));
        } else if deleting && out_of_service.contains(node) {
            chosen.push((pod, Why::OutOfService));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pods_that_nobody_else_removes_are_chosen() {
        let pod = |name: &str, phase: &str, node: &str, deleting: bool, created: &str| -> view::Pod {
            serde_json::from_value(json!({
                "metadata": {"name": name, "creationTimestamp": created,
                    "deletionTimestamp": deleting.then_some("2026-01-01T00:00:00Z")},
                "spec": {"nodeName": node}, "status": {"phase": phase}
            }))
            .unwrap()
        };
        let pods = [
            pod("newer", "Failed", "n1", false, "2026-01-01T02:00:00Z"),
            pod("older", "Succeeded", "n1", false, "2026-01-01T01:00:00Z"),
            pod("running", "Running", "n1", true, "2026-01-01T01:00:00Z"),
            pod("unscheduled", "Pending", "", true, "2026-01-01T01:00:00Z"),
            pod("waiting", "Pending", "", false, "2026-01-01T01:00:00Z"),
            pod("orphan", "Running", "n2", false, "2026-01-01T01:00:00Z"),
            pod("stuck", "Running", "n3", true, "2026-01-01T01:00:00Z"),
        ];
        let chosen = choose(&pods, 1, &["n2".to_owned()], &["n3".to_owned()]);
        let chosen: Vec<_> = chosen.iter().map(|(pod, why)| (pod.metadata.name.as_str(), *why)).collect();
        assert_eq!(
            chosen,
            [
                ("older", Why::Ended),
                ("unscheduled", Why::Unscheduled),
                ("orphan", Why::Orphaned),
                ("stuck", Why::OutOfService)
            ]
        );
    }
}
