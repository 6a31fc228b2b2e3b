//! Writing a pod's status.

use super::{Done, Worker};
use crate::calls;
use crate::status::{self, End, Whole};
use trireme_schema::Value;

impl Worker {
    /// Writes the status, if it is another than was written last.
    pub(super) async fn report(&mut self, pod: &Value) -> Done<()> {
        let mut seen = pod.clone();
        // Transition times are kept from what was last written, which the pod's object may not show yet.
        for condition in self.reported.list_at(&["conditions"]) {
            let kind = condition.str_at(&["type"]);
            let mut all = seen.list_at(&["status", "conditions"]).to_vec();
            all.retain(|c| c.str_at(&["type"]) != kind);
            all.push(condition.clone());
            seen.set_at(&["status", "conditions"], Value::Array(all));
        }
        let whole = Whole {
            notes: &self.notes,
            ips: &self.ips,
            host_ip: &self.shared.config.ip.to_string(),
            sandbox: self.sandbox.is_some(),
            finished: self.finished,
            end: self.end.as_ref(),
            started_at: &self.started_at,
            runtime: &self.shared.runtime,
            resources: self.resizes.resources(),
            more: self.resizes.conditions().into_iter().chain(self.end.as_ref().and_then(End::condition)).collect(),
        };
        let status = status::pod(&seen, whole);
        if status == self.reported {
            return Ok(());
        }
        let before = if self.reported.is_null() { pod.at(&["status"]) } else { Some(&self.reported) };
        let (namespace, name) = (pod.str_at(&["metadata", "namespace"]), pod.str_at(&["metadata", "name"]));
        let mut patch = Value::object();
        patch.set_at(&["metadata", "uid"], pod.str_at(&["metadata", "uid"]));
        patch.set_at(&["status"], status::patch(before.unwrap_or(&Value::Null), &status));
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
        match calls::send(&self.shared.client, http::Method::PATCH, &path, calls::STRATEGIC, &patch).await {
            Ok(_) => {
                self.reported = status;
                Ok(())
            }
            // The pod is gone or another: the node hears of it.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => {
                tracing::warn!(pod = name, %error, "cannot write a pod's status");
                Err(error.to_string())
            }
        }
    }
}
