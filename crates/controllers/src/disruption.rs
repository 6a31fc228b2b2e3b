//! Pod disruption budgets: how many pods may be taken away right now.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use trireme_client::{Client, EventKind, Informer, Key, ObjectRef, Recorder};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::percent::scaled;
use crate::replica_set::count_of;
use crate::{Clock, Error, merge_patch, selector, view};

/// A pod whose eviction was granted must be gone after this long; else it counts again.
const GRANTED: i64 = 120;

pub(crate) struct Disruption {
    client: Client,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    stateful_sets: Informer<StatefulSet>,
    controllers: Informer<ReplicationController>,
    recorder: Recorder,
    clock: Clock,
}

/// The numbers of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Budget {
    /// How many pods there should be.
    expected: i32,
    /// How many of them must be healthy.
    desired_healthy: i32,
}

impl Disruption {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            budgets: context.informer(),
            pods: context.informer(),
            deployments: context.informer(),
            replica_sets: context.informer(),
            stateful_sets: context.informer(),
            controllers: context.informer(),
            recorder: context.recorder("controllermanager"),
            clock: context.clock.clone(),
        }
    }

    /// The size that the controller of a pod should have, with the uid of what has that size; an error text when the
    /// pod has no controller or one without a known size.
    fn scale(&self, namespace: &str, owner: &OwnerReference) -> Result<(String, i32), String> {
        let gone = || format!("{} {} is not there", owner.kind, owner.name);
        let read = |error: trireme_client::Error| error.to_string();
        match owner.kind.as_str() {
            "ReplicaSet" => {
                let entry = self.replica_sets.get(namespace, &owner.name).ok_or_else(gone)?;
                if let Some(above) = entry.meta.controller.as_ref().filter(|above| &*above.kind == "Deployment") {
                    let entry = self.deployments.get(namespace, &above.name).ok_or_else(gone)?;
                    let spec = entry.decode().map_err(read)?.spec;
                    return Ok((above.uid.to_string(), spec.and_then(|spec| spec.replicas).unwrap_or(1)));
                }
                let spec = entry.decode().map_err(read)?.spec;
                Ok((owner.uid.clone(), spec.and_then(|spec| spec.replicas).unwrap_or(1)))
            }
            "StatefulSet" => {
                let entry = self.stateful_sets.get(namespace, &owner.name).ok_or_else(gone)?;
                let spec = entry.decode().map_err(read)?.spec;
                Ok((owner.uid.clone(), spec.and_then(|spec| spec.replicas).unwrap_or(1)))
            }
            "ReplicationController" => {
                let entry = self.controllers.get(namespace, &owner.name).ok_or_else(gone)?;
                let spec = entry.decode().map_err(read)?.spec;
                Ok((owner.uid.clone(), spec.and_then(|spec| spec.replicas).unwrap_or(1)))
            }
            kind => Err(format!("{} does not implement the scale subresource", kind.to_lowercase())),
        }
    }

    /// How many pods the controllers of these pods should have together.
    fn expected(&self, namespace: &str, pods: &[view::Pod]) -> Result<i32, String> {
        let mut sizes: HashMap<String, i32> = HashMap::new();
        for pod in pods {
            let owner = pod.metadata.owner_references.iter().find(|owner| owner.controller == Some(true));
            let owner = owner.ok_or_else(|| format!("found no controller ref for pod {:?}", pod.metadata.name))?;
            let (uid, size) = self.scale(namespace, owner)?;
            sizes.insert(uid, size);
        }
        Ok(sizes.values().sum())
    }
}

/// The numbers of a budget; `expected` asks the controllers of the pods.
fn budget(
    spec: &PodDisruptionBudgetSpec,
    pods: usize,
    expected: impl FnOnce() -> Result<i32, String>,
) -> Result<Budget, String> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    if let Some(most) = &spec.max_unavailable {
        let expected = expected()?;
        let most = scaled(most, expected, true).ok_or("maxUnavailable is no number")?;
        return Ok(Budget { expected, desired_healthy: (expected - most).max(0) });
    }
    match &spec.min_available {
        Some(IntOrString::Int(least)) => Ok(Budget { expected: count_of(pods), desired_healthy: *least }),
        Some(least) => {
            let expected = expected()?;
            let desired_healthy = scaled(least, expected, true).ok_or("minAvailable is no number")?;
            Ok(Budget { expected, desired_healthy })
        }
        None => Ok(Budget { expected: count_of(pods), desired_healthy: 0 }),
    }
}

/// The status that follows, and in how many seconds a granted eviction expires.
fn status(
    old: &PodDisruptionBudgetStatus,
    budget: Budget,
    pods: &[view::Pod],
    generation: Option<i64>,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<i64>) {
    let mut again: Option<i64> = None;
    let mut granted: BTreeMap<String, Time> = BTreeMap::new();
    for (name, since) in old.disrupted_pods.iter().flatten() {
        let there = pods.iter().any(|pod| pod.metadata.name == *name && pod.metadata.deletion_timestamp.is_none());
        let left = since.0.as_second() + GRANTED - now.as_second();
        if there && left > 0 {
            granted.insert(name.clone(), since.clone());
            again = Some(again.map_or(left, |known| known.min(left)));
        }
    }
    let healthy = pods.iter().filter(|pod| {
        pod.metadata.deletion_timestamp.is_none() && pod.is_ready() && !granted.contains_key(&pod.metadata.name)
    });
    let healthy = count_of(healthy.count());
    let allowed = if budget.expected <= 0 { 0 } else { (healthy - budget.desired_healthy).max(0) };
    let (value, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let new = PodDisruptionBudgetStatus {
        expected_pods: Some(budget.expected),
        desired_healthy: Some(budget.desired_healthy),
        current_healthy: Some(healthy),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!granted.is_empty()).then_some(granted),
        observed_generation: generation,
        conditions: Some(vec![condition(old, value, reason, String::new(), generation, now)]),
    };
    (new, again)
}

fn condition(
    old: &PodDisruptionBudgetStatus,
    value: &str,
    reason: &str,
    message: String,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let known = old.conditions.iter().flatten().find(|c| c.type_ == "DisruptionAllowed" && c.status == value);
    Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: known.map_or(Time(now), |known| known.last_transition_time.clone()),
    }
}

impl Controller for Disruption {
    const NAME: &'static str = "disruption-controller";
    const ACCOUNT: Option<&'static str> = Some("disruption-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.budgets);
        let this = Arc::clone(self);
        watches.on(&self.pods, move |change| {
            let Some(latest) = change.latest() else { return Vec::new() };
            let budgets = this.budgets.in_namespace(&latest.meta.key.namespace);
            let states: Vec<_> = [&change.old, &change.new].into_iter().flatten().collect();
            let selecting = budgets.into_iter().filter(|entry| {
                let selector = entry.decode().ok().and_then(|budget| budget.spec?.selector);
                selector.is_some_and(|selector| states.iter().any(|state| selector::matches(&selector, &state.meta)))
            });
            selecting.map(|entry| entry.meta.key.clone()).collect()
        });
        // A controller that is resized changes what a percentage means.
        let in_namespace = |this: &Arc<Self>, namespace: &str| -> Vec<Key> {
            this.budgets.in_namespace(namespace).iter().map(|entry| entry.meta.key.clone()).collect()
        };
        let this = Arc::clone(self);
        watches.on(&self.deployments, move |change| {
            change.latest().map(|entry| in_namespace(&this, &entry.meta.key.namespace)).unwrap_or_default()
        });
        let this = Arc::clone(self);
        watches.on(&self.replica_sets, move |change| {
            change.latest().map(|entry| in_namespace(&this, &entry.meta.key.namespace)).unwrap_or_default()
        });
        let this = Arc::clone(self);
        watches.on(&self.stateful_sets, move |change| {
            change.latest().map(|entry| in_namespace(&this, &entry.meta.key.namespace)).unwrap_or_default()
        });
        let this = Arc::clone(self);
        watches.on(&self.controllers, move |change| {
            change.latest().map(|entry| in_namespace(&this, &entry.meta.key.namespace)).unwrap_or_default()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.budgets.find(key).filter(|entry| !entry.meta.deleting) else {
            return Ok(Requeue::Never);
        };
        let object = entry.decode()?;
        let Some(spec) = &object.spec else { return Ok(Requeue::Never) };
        let mut pods = Vec::new();
        if let Some(wanted) = &spec.selector {
            for pod in self.pods.in_namespace(&key.namespace) {
                if selector::matches(wanted, &pod.meta) {
                    pods.push(pod.decode_as::<view::Pod>()?);
                }
            }
        }
        pods.retain(|pod| !pod.is_terminal());
        let about = ObjectRef::to::<PodDisruptionBudget>(&object.metadata);
        if pods.is_empty() {
            self.recorder.record(&about, EventKind::Normal, "NoPods", "No matching pods found");
        }
        let old = object.status.clone().unwrap_or_default();
        let (now, generation) = (self.clock.now(), object.metadata.generation);
        let (new, again) = match budget(spec, pods.len(), || self.expected(&key.namespace, &pods)) {
            Ok(budget) => status(&old, budget, &pods, generation, now),
            Err(reason) => {
                let message = format!("Failed to calculate the number of expected pods: {reason}");
                self.recorder.record(&about, EventKind::Warning, "CalculateExpectedPodCountFailed", message);
                // Nothing may be taken away while nobody knows how much there should be.
                let conditions = vec![condition(&old, "False", "SyncFailed", reason, generation, now)];
                let new = PodDisruptionBudgetStatus {
                    disruptions_allowed: Some(0),
                    observed_generation: generation,
                    conditions: Some(conditions),
                    ..old.clone()
                };
                (new, None)
            }
        };
        if let Some(patch) = merge_patch::status(&object.metadata, &old, &new)? {
            let api = self.client.namespaced::<PodDisruptionBudget>(&key.namespace);
            api.patch(&key.name, Some("status"), &patch).await?;
        }
        Ok(again.map_or(Requeue::Never, Requeue::seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, ready: bool) -> view::Pod {
        serde_json::from_value(json!({"metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}}))
        .unwrap()
    }

    #[test]
    fn budgets_are_numbers_or_percentages() {
        for (spec, expected) in [
            (json!({"minAvailable": 2}), Budget { expected: 4, desired_healthy: 2 }),
            (json!({"minAvailable": "50%"}), Budget { expected: 5, desired_healthy: 3 }),
            (json!({"maxUnavailable": 1}), Budget { expected: 5, desired_healthy: 4 }),
            (json!({"maxUnavailable": "50%"}), Budget { expected: 5, desired_healthy: 2 }),
            (json!({"maxUnavailable": 9}), Budget { expected: 5, desired_healthy: 0 }),
        ] {
            let parsed: PodDisruptionBudgetSpec = serde_json::from_value(spec.clone()).unwrap();
            assert_eq!(budget(&parsed, 4, || Ok(5)), Ok(expected), "{spec}");
        }
    }

    #[test]
    fn granted_evictions_count_until_the_pod_is_gone_or_they_expire() {
        let now: Timestamp = "2026-01-01T00:02:00Z".parse().unwrap();
        let granted = |time: &str| -> PodDisruptionBudgetStatus {
            serde_json::from_value(json!({"disruptedPods": {"a": time, "gone": "2026-01-01T00:01:59Z"},
                "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}))
            .unwrap()
        };
        let pods = [pod("a", true), pod("b", true), pod("c", false)];
        let budget = Budget { expected: 3, desired_healthy: 1 };
        let (fresh, again) = status(&granted("2026-01-01T00:01:00Z"), budget, &pods, Some(1), now);
        assert_eq!((fresh.current_healthy, fresh.disruptions_allowed, again), (Some(1), Some(0), Some(60)));
        assert_eq!(fresh.disrupted_pods.unwrap().len(), 1);
        assert_eq!(fresh.conditions.unwrap()[0].reason, "InsufficientPods");
        let (expired, again) = status(&granted("2026-01-01T00:00:00Z"), budget, &pods, Some(1), now);
        assert_eq!((expired.disruptions_allowed, expired.disrupted_pods, again), (Some(1), None, None));
    }
}
