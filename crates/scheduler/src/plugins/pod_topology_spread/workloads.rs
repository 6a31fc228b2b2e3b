use std::collections::HashMap;
use std::sync::{Arc, Weak};

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ReplicationController, Service};
use parking_lot::Mutex;
use serde::Deserialize;
use trireme_client::{Change, Entry, Informer, Informers};

use crate::{LabelSelector, Labels, PodInfo, PodShape, Requirement};

/// Knows with which other pods a pod belongs.
pub trait Workloads: Send + Sync {
    /// The pods of the same services and of the same owner; `None` when a pod has neither.
    fn selector(&self, pod: &Arc<PodInfo>) -> Option<LabelSelector>;
}

/// Knows of no services and owners.
pub struct Nobody;

impl Workloads for Nobody {
    fn selector(&self, _pod: &Arc<PodInfo>) -> Option<LabelSelector> {
        None
    }
}

/// Knows it from the API's objects.
pub struct Informed {
    services: Informer<Service>,
    controllers: Informer<ReplicationController>,
    replica_sets: Informer<ReplicaSet>,
    stateful_sets: Informer<StatefulSet>,
    known: Arc<Mutex<Known>>,
}

/// What was found out, until something changes in the namespace.
#[derive(Default)]
struct Known {
    versions: HashMap<Box<str>, u64>,
    by_shape: HashMap<usize, Found>,
}

struct Found {
    /// Tells a shape apart from a later one at the same address.
    shape: Weak<PodShape>,
    version: u64,
    selector: Option<LabelSelector>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WithLabels {
    spec: LabelsSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LabelsSpec {
    selector: Labels,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WithSelector {
    spec: SelectorSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SelectorSpec {
    selector: LabelSelector,
}

/// How many shapes are remembered before all are forgotten.
const KEPT: usize = 4_096;

impl Informed {
    /// Follows services and owners of pods.
    pub fn new(informers: &Informers) -> Self {
        let known = Arc::new(Mutex::new(Known::default()));
        let informed = Self {
            services: informers.get(),
            controllers: informers.get(),
            replica_sets: informers.get(),
            stateful_sets: informers.get(),
            known,
        };
        informed.follow(&informed.services, true);
        informed.follow(&informed.controllers, true);
        // Selectors of these cannot be changed, while their status is all the time.
        informed.follow(&informed.replica_sets, false);
        informed.follow(&informed.stateful_sets, false);
        informed
    }

    fn follow<K: Send + Sync + 'static>(&self, informer: &Informer<K>, changes: bool) {
        let known = Arc::clone(&self.known);
        informer.subscribe(move |change: &Change<K>| {
            if (changes || change.old.is_none() || change.new.is_none())
                && let Some(entry) = change.latest()
            {
                *known.lock().versions.entry(entry.meta.key.namespace.clone()).or_default() += 1;
            }
        });
    }

    fn look_up(&self, pod: &PodInfo) -> Option<LabelSelector> {
        let mut labels: Vec<(Box<str>, Box<str>)> = Vec::new();
        for service in self.services.in_namespace(&pod.namespace) {
            let Ok(service) = service.decode_as::<WithLabels>() else { continue };
            let selector = service.spec.selector;
            if !selector.is_empty() && selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value)) {
                labels.extend(selector.iter().map(|(key, value)| (key.into(), value.into())));
            }
        }
        let mut selector = LabelSelector::default();
        if let Some(owner) = &pod.owner {
            match (&*owner.api_version, &*owner.kind) {
                ("v1", "ReplicationController") => {
                    if let Some(owner) = named::<_, WithLabels>(&self.controllers, pod, &owner.name) {
                        let own = &owner.spec.selector;
                        labels.extend(own.iter().map(|(key, value)| (key.into(), value.into())));
                    }
                }
                ("apps/v1", "ReplicaSet") => {
                    let owner: Option<WithSelector> = named(&self.replica_sets, pod, &owner.name);
                    selector = owner.map(|owner| owner.spec.selector).unwrap_or_default();
                }
                ("apps/v1", "StatefulSet") => {
                    let owner: Option<WithSelector> = named(&self.stateful_sets, pod, &owner.name);
                    selector = owner.map(|owner| owner.spec.selector).unwrap_or_default();
                }
                _ => {}
            }
        }
        let labels: Labels = labels.into_iter().collect();
        let mut all: Vec<Requirement> = labels.iter().map(|(key, value)| Requirement::equals(key, value)).collect();
        all.extend(selector.0);
        (!all.is_empty()).then_some(LabelSelector(all))
    }
}

fn named<K: Send + Sync + 'static, T: for<'de> Deserialize<'de>>(
    informer: &Informer<K>,
    pod: &PodInfo,
    name: &str,
) -> Option<T> {
    let entry: Arc<Entry<K>> = informer.get(&pod.namespace, name)?;
    entry.decode_as().ok()
}

impl Workloads for Informed {
    fn selector(&self, pod: &Arc<PodInfo>) -> Option<LabelSelector> {
        let address = Arc::as_ptr(&pod.shape) as usize;
        let version = {
            let known = self.known.lock();
            let version = known.versions.get(&pod.namespace).copied().unwrap_or(0);
            if let Some(found) = known.by_shape.get(&address)
                && found.version == version
                && found.shape.as_ptr() as usize == address
                && found.shape.strong_count() > 0
            {
                return found.selector.clone();
            }
            version
        };
        let selector = self.look_up(pod);
        let mut known = self.known.lock();
        if known.by_shape.len() >= KEPT {
            known.by_shape.clear();
        }
        let found = Found { shape: Arc::downgrade(&pod.shape), version, selector: selector.clone() };
        known.by_shape.insert(address, found);
        selector
    }
}
