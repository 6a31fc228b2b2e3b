//! Replication controllers: the ancestor of replica sets.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Pod, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use trireme_client::{Client, Informer, Key, ObjectRef};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::expectations::Expectations;
use crate::pod_control::{Owned, PodControl, owners_of_pod};
use crate::replicas::{self, Counts, Step};
use crate::selector::map_matches;
use crate::{Clock, Error, merge_patch, pod_template, view};

pub(crate) struct ReplicationControllers {
    client: Client,
    controllers: Informer<ReplicationController>,
    pods: Informer<Pod>,
    control: PodControl,
    expectations: Arc<Expectations>,
    clock: Clock,
}

impl ReplicationControllers {
    pub(crate) fn new(context: &Context) -> Self {
        let pods = context.informer::<Pod>();
        let expectations = Arc::new(Expectations::default());
        let recorder = context.recorder("replication-controller");
        Self {
            client: context.client.clone(),
            controllers: context.informer(),
            control: PodControl::new(&context.client, pods.clone(), recorder, Arc::clone(&expectations)),
            pods,
            expectations,
            clock: context.clock.clone(),
        }
    }
}

impl Controller for ReplicationControllers {
    const NAME: &'static str = "replicationcontroller-controller";
    const ACCOUNT: Option<&'static str> = Some("replication-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.controllers);
        let this = Arc::clone(self);
        watches.on(&self.pods, move |change| {
            this.expectations.observe(change);
            owners_of_pod::<ReplicationController>(change, &this.controllers, |controller, labels| {
                let selector = controller.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                selector.is_some_and(|selector| !selector.is_empty() && map_matches(selector, labels))
            })
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.controllers.find(key) else { return Ok(Requeue::Never) };
        let controller = entry.decode()?;
        let Some(spec) = &controller.spec else { return Ok(Requeue::Never) };
        let Some(wanted) = spec.selector.as_ref().filter(|selector| !selector.is_empty()) else {
            return Ok(Requeue::Never);
        };
        let up_to_date = self.expectations.met(&entry.meta.uid);
        let owned = Owned::<ReplicationController>::new(&controller.metadata, entry.meta.deleting);
        let claimed = self.control.claim(&owned, |labels| map_matches(wanted, labels)).await?;
        let active: Vec<view::Pod> = claimed.into_iter().filter(view::Pod::is_active).collect();
        let now = self.clock.now();
        let step = replicas::step(active.len(), spec.replicas.unwrap_or(1));
        let mut failure = None;
        if up_to_date && !entry.meta.deleting {
            let about = ObjectRef::to::<ReplicationController>(&controller.metadata);
            failure = match &step {
                Step::Keep => None,
                Step::Create(count) => {
                    let template = spec.template.clone().unwrap_or_default();
                    let pod = || pod_template::pod(&template, &key.namespace, owned.reference());
                    self.control.create(&owned, &about, *count, pod).await
                }
                Step::Delete(count) => {
                    let chosen = replicas::to_delete(active.clone(), &active, *count, now);
                    self.control.delete(&owned, &about, &chosen).await
                }
            };
        }
        let labels = spec.template.as_ref().map(pod_template::labels).unwrap_or_default();
        let counts = replicas::count(&active, &labels, spec.min_ready_seconds.unwrap_or(0), now);
        let old = controller.status.clone().unwrap_or_default();
        let failed = failure.as_ref().map(|error| (&step, error.to_string()));
        let new = status(&old, &counts, controller.metadata.generation, failed, now);
        if let Some(patch) = merge_patch::status(&controller.metadata, &old, &new)? {
            let api = self.client.namespaced::<ReplicationController>(&key.namespace);
            api.patch(&key.name, Some("status"), &patch).await?;
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(counts.next_available.map_or(Requeue::Never, Requeue::seconds)),
        }
    }
}

fn status(
    old: &ReplicationControllerStatus,
    counts: &Counts,
    generation: Option<i64>,
    failure: Option<(&Step, String)>,
    now: Timestamp,
) -> ReplicationControllerStatus {
    let mut conditions = old.conditions.clone().unwrap_or_default();
    match failure {
        None => conditions.retain(|condition| condition.type_ != "ReplicaFailure"),
        Some((step, message)) => {
            if !conditions.iter().any(|condition| condition.type_ == "ReplicaFailure") {
                let reason = if matches!(step, Step::Create(_)) { "FailedCreate" } else { "FailedDelete" };
                conditions.push(ReplicationControllerCondition {
                    type_: "ReplicaFailure".to_owned(),
                    status: "True".to_owned(),
                    reason: Some(reason.to_owned()),
                    message: Some(message),
                    last_transition_time: Some(Time(now)),
                });
            }
        }
    }
    ReplicationControllerStatus {
        replicas: counts.replicas,
        fully_labeled_replicas: Some(counts.fully_labeled),
        ready_replicas: Some(counts.ready),
        available_replicas: Some(counts.available),
        observed_generation: generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn pods_are_created_adopted_released_and_removed() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        api.put::<Pod>(json!({"metadata": {"name": "orphan", "namespace": "n", "labels": {"a": "b"}}}));
        tokio::spawn(run(ReplicationControllers::new(&context), context.shutdown.clone()));
        api.put::<ReplicationController>(json!({
            "metadata": {"name": "rc", "namespace": "n"},
            "spec": {"replicas": 2, "selector": {"a": "b"},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}}
        }));
        let owned = || {
            let pods = api.all::<Pod>();
            pods.into_iter().filter(|pod| pod.metadata.owner_references.as_ref().is_some_and(|o| !o.is_empty())).count()
        };
        eventually("one created, one adopted", || api.all::<Pod>().len() == 2 && owned() == 2).await;
        api.change::<Pod>("n", "orphan", json!({"metadata": {"labels": {"a": "c"}}}));
        eventually("one released, one more created", || api.all::<Pod>().len() == 3 && owned() == 2).await;
        api.change::<ReplicationController>("n", "rc", json!({"spec": {"replicas": 0}}));
        eventually("all gone", || api.all::<Pod>().len() == 1).await;
        let status = || api.get::<ReplicationController>("n", "rc").unwrap().status.unwrap_or_default();
        eventually("the status", || status().replicas == 0).await;
        context.shutdown.cancel();
    }
}
