use std::sync::Arc;

use serde_json::json;
use trireme_client::{Client, DeleteOptions, EventKind, Patch, Recorder};

use crate::framework::{Effect, Status};
use crate::{Approvals, PodInfo, view};

/// Removes pods that have to go.
pub trait Evict: Send + Sync {
    /// Removes these pods for another, in the background.
    fn evict(&self, preemptor: &Arc<PodInfo>, victims: &[Arc<PodInfo>], node: &str) -> Effect;
}

/// Removes them through the API.
pub struct Evictor {
    client: Client,
    recorder: Recorder,
    approvals: Approvals,
}

impl Evictor {
    /// Calls are made by this client; pods that are not bound yet are refused the approval.
    pub fn new(client: Client, approvals: Approvals) -> Self {
        Self { recorder: Recorder::new(client.clone(), "default-scheduler", ""), client, approvals }
    }
}

impl Evict for Evictor {
    fn evict(&self, preemptor: &Arc<PodInfo>, victims: &[Arc<PodInfo>], node: &str) -> Effect {
        let (client, recorder) = (self.client.clone(), self.recorder.clone());
        let message = format!("{}: preempting to accommodate a higher priority pod", preemptor.scheduler);
        let told = format!("Preempted by pod {} on node {node}", preemptor.uid);
        let mut bound = Vec::new();
        for victim in victims.iter().filter(|victim| !victim.terminating) {
            // A pod that waits for approval is not running anywhere: it is enough to refuse it.
            if !self.approvals.reject(&victim.uid, Status::unschedulable("preempted").by("DefaultPreemption")) {
                bound.push(Arc::clone(victim));
            }
            recorder.record(&victim.reference(), EventKind::Normal, "Preempted", told.clone());
        }
        Box::pin(async move {
            let removals = bound.iter().map(|victim| remove(&client, victim, &message));
            futures::future::join_all(removals).await;
        })
    }
}

async fn remove(client: &Client, victim: &PodInfo, message: &str) {
    let api = client.namespaced::<view::Pod>(&victim.key.namespace);
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message,
        "lastTransitionTime": jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string(),
    });
    let patch = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}});
    if let Err(error) = api.patch(&victim.key.name, Some("status"), &Patch::Strategic(patch)).await
        && !error.is_not_found()
    {
        tracing::warn!(pod = %victim.key, %error, "a preempted pod could not be told so");
        return;
    }
    let options = DeleteOptions::default().uid(&*victim.uid);
    if let Err(error) = api.delete_if_present(&victim.key.name, &options).await {
        tracing::warn!(pod = %victim.key, %error, "a preempted pod could not be deleted");
    }
}
