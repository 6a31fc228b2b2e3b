//! Replica sets: so many pods of one template.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use trireme_client::{Client, Informer, Key, ObjectRef};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::expectations::Expectations;
use crate::pod_control::{Owned, PodControl};
use crate::replicas::{self, Counts, Step};
use crate::{Clock, Error, merge_patch, pod_template, selector, view};

pub(crate) struct ReplicaSets {
    client: Client,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    control: PodControl,
    expectations: Arc<Expectations>,
    clock: Clock,
}

impl ReplicaSets {
    pub(crate) fn new(context: &Context) -> Self {
        let pods = context.informer::<Pod>();
        let recorder = context.recorder("replicaset-controller");
        let expectations = Arc::new(Expectations::default());
        Self {
            client: context.client.clone(),
            sets: context.informer(),
            control: PodControl::new(&context.client, pods.clone(), recorder, Arc::clone(&expectations)),
            pods,
            expectations,
            clock: context.clock.clone(),
        }
    }

    /// The active pods of all replica sets that share this one's owner.
    fn related(&self, set: &ReplicaSet, own: &[view::Pod]) -> Vec<view::Pod> {
        let Some(owner) = crate::owner::controller_of(&set.metadata) else { return own.to_vec() };
        let siblings = self.sets.controlled_by(&owner.uid);
        let pods = siblings.iter().flat_map(|sibling| self.pods.controlled_by(&sibling.meta.uid));
        pods.filter_map(|entry| entry.decode_as::<view::Pod>().ok()).filter(view::Pod::is_active).collect()
    }
}

impl Controller for ReplicaSets {
    const NAME: &'static str = "replicaset-controller";
    const ACCOUNT: Option<&'static str> = Some("replicaset-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.sets);
        let this = Arc::clone(self);
        watches.on(&self.pods, move |change| {
            this.expectations.observe(change);
            crate::pod_control::owners_of_pod::<ReplicaSet>(change, &this.sets, |set, labels| {
                set.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, labels))
            })
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.sets.find(key) else { return Ok(Requeue::Never) };
        let set = entry.decode()?;
        let uid = &*entry.meta.uid;
        let Some(spec) = set.spec.as_ref() else { return Ok(Requeue::Never) };
        let deleting = entry.meta.deleting;
        // Asked before the pods are read: what was seen between the two is in the picture.
        let up_to_date = self.expectations.met(uid);
        let owned = Owned::<ReplicaSet>::new(&set.metadata, deleting);
        let claimed = self.control.claim(&owned, |labels| selector::matches(&spec.selector, labels)).await?;
        let terminating = count_of(claimed.iter().filter(|pod| pod.is_terminating()).count());
        let mut active: Vec<view::Pod> = claimed.into_iter().filter(view::Pod::is_active).collect();
        let now = self.clock.now();
        let desired = spec.replicas.unwrap_or(1);

        let step = replicas::step(active.len(), desired);
        let mut failure = None;
        if up_to_date && !deleting {
            let about = ObjectRef::to::<ReplicaSet>(&set.metadata);
            match &step {
                Step::Keep => {}
                Step::Create(count) => {
                    let template = spec.template.clone().unwrap_or_default();
                    failure = self
                        .control
                        .create(&owned, &about, *count, || {
                            pod_template::pod(&template, &key.namespace, owned.reference())
                        })
                        .await;
                }
                Step::Delete(count) => {
                    let related = self.related(&set, &active);
                    active.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
                    let chosen = replicas::to_delete(active.clone(), &related, *count, now);
                    failure = self.control.delete(&owned, &about, &chosen).await;
                }
            }
        }

        let labels = spec.template.as_ref().map(pod_template::labels).unwrap_or_default();
        let counts = replicas::count(&active, &labels, spec.min_ready_seconds.unwrap_or(0), now);
        let old = set.status.clone().unwrap_or_default();
        let failed = failure.as_ref().map(|error| (&step, error.to_string()));
        let new = status(&old, &counts, terminating, set.metadata.generation, failed, now);
        if let Some(patch) = merge_patch::status(&set.metadata, &old, &new)? {
            let sets = self.client.namespaced::<ReplicaSet>(&key.namespace);
            sets.patch(&key.name, Some("status"), &patch).await?;
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(counts.next_available.map_or(Requeue::Never, Requeue::seconds)),
        }
    }
}

/// The status that follows from what was counted and from how the last step ended.
fn status(
    old: &ReplicaSetStatus,
    counts: &Counts,
    terminating: i32,
    generation: Option<i64>,
    failure: Option<(&Step, String)>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let mut conditions: Vec<ReplicaSetCondition> = old.conditions.clone().unwrap_or_default();
    let present = conditions.iter().position(|condition| condition.type_ == "ReplicaFailure");
    match (failure, present) {
        (Some((step, message)), None) => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(if matches!(step, Step::Create(_)) { "FailedCreate" } else { "FailedDelete" }.to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        }),
        (None, Some(at)) => drop(conditions.remove(at)),
        _ => {}
    }
    ReplicaSetStatus {
        replicas: counts.replicas,
        fully_labeled_replicas: Some(counts.fully_labeled),
        ready_replicas: Some(counts.ready),
        available_replicas: Some(counts.available),
        terminating_replicas: Some(terminating),
        observed_generation: generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    }
}

pub(crate) fn count_of(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_condition_until_a_step_succeeds() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let counts = Counts { replicas: 1, ..Counts::default() };
        let failed =
            status(&ReplicaSetStatus::default(), &counts, 0, Some(2), Some((&Step::Create(2), "quota".into())), now);
        let condition = &failed.conditions.as_ref().unwrap()[0];
        assert_eq!((condition.reason.as_deref(), condition.message.as_deref()), (Some("FailedCreate"), Some("quota")));
        assert_eq!(failed.observed_generation, Some(2));
        assert_eq!(status(&failed, &counts, 0, Some(2), None, now).conditions, None);
    }
}
