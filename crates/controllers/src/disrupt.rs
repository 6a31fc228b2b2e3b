//! Pods that are taken away from their owners, who are told that they did not fail by themselves (KEP-3329).

use jiff::Timestamp;
use serde_json::json;
use trireme_client::{Client, DeleteOptions, Patch};

use crate::Error;
use crate::view::PodKind;

/// Notes the condition `DisruptionTarget` in a pod's status, then deletes the pod. One that is gone, or is another by
/// now, is left alone.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub(crate) async fn disrupt(
    client: &Client,
    (namespace, name, uid): (&str, &str, &str),
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": now.to_string(),
    });
    let patch = json!({"metadata": {"uid": uid}, "status": {"conditions": [condition]}});
    let api = client.namespaced::<PodKind>(namespace);
    let result = match api.patch(name, Some("status"), &Patch::Strategic(patch)).await {
        Ok(_) => api.delete(name, &DeleteOptions::default().uid(uid)).await,
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        other => Ok(other?),
    }
}
