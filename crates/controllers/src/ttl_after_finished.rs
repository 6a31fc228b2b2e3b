//! Jobs that say how long they want to stay after their end.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use trireme_client::{Client, DeleteOptions, Informer, Key, Propagation};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{Clock, Error};

pub(crate) struct TtlAfterFinished {
    client: Client,
    jobs: Informer<Job>,
    clock: Clock,
}

impl TtlAfterFinished {
    pub(crate) fn new(context: &Context) -> Self {
        Self { client: context.client.clone(), jobs: context.informer(), clock: context.clock.clone() }
    }
}

impl Controller for TtlAfterFinished {
    const NAME: &'static str = "ttl-after-finished-controller";
    const ACCOUNT: Option<&'static str> = Some("ttl-after-finished-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.jobs);
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.jobs.find(key) else { return Ok(Requeue::Never) };
        let now = self.clock.now().as_second();
        match expires(&entry.decode()?) {
            None => return Ok(Requeue::Never),
            Some(at) if at > now => return Ok(Requeue::seconds(at - now)),
            Some(_) => {}
        }
        // The cache may be behind: whoever has just raised the time to live must win.
        let api = self.client.namespaced::<Job>(&key.namespace);
        let Some(live) = api.find(&key.name).await? else { return Ok(Requeue::Never) };
        if expires(&live).is_none_or(|at| at > now) {
            return Err(Error::NotYet(format!("job {key} has changed")));
        }
        let options =
            DeleteOptions::default().uid(live.metadata.uid.unwrap_or_default()).propagation(Propagation::Foreground);
        api.delete_if_present(&key.name, &options).await?;
        Ok(Requeue::Never)
    }
}

/// When an ended job goes, in seconds since the epoch; `None` when it stays.
fn expires(job: &Job) -> Option<i64> {
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions.iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    Some(ended.last_transition_time.as_ref()?.0.as_second().saturating_add(i64::from(ttl)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_ended_jobs_with_a_time_to_live_go() {
        let job = |spec: serde_json::Value, kind: &str| -> Job {
            serde_json::from_value(json!({
                "metadata": {"name": "j"}, "spec": spec,
                "status": {"conditions": [
                    {"type": kind, "status": "True", "lastTransitionTime": "1970-01-01T00:01:00Z"}]}
            }))
            .unwrap()
        };
        let with_ttl = json!({"ttlSecondsAfterFinished": 30, "template": {}});
        assert_eq!(expires(&job(with_ttl.clone(), "Complete")), Some(90));
        assert_eq!(expires(&job(with_ttl.clone(), "Failed")), Some(90));
        assert_eq!(expires(&job(with_ttl, "Suspended")), None);
        assert_eq!(expires(&job(json!({"template": {}}), "Complete")), None);
    }
}
