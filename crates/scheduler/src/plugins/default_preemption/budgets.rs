use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::IgnoredAny;
use trireme_client::{Informer, Informers};

use crate::{LabelSelector, PodInfo};

/// A PodDisruptionBudget.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Namespace.
    pub namespace: Box<str>,
    /// Which pods are protected; none when it is empty.
    pub selector: LabelSelector,
    /// How many of them may go.
    pub allowed: i64,
    /// Pods that go already, and have been counted.
    pub disrupted: Vec<Box<str>>,
}

/// Knows the budgets.
pub trait Budgets: Send + Sync {
    /// All budgets, with a number that changes with them.
    fn all(&self) -> (u64, Arc<Vec<Budget>>);
}

/// There are none.
pub struct NoBudgets;

/// Knows them from the API.
pub struct InformedBudgets {
    budgets: Informer<PodDisruptionBudget>,
    version: Arc<AtomicU64>,
    known: Mutex<(u64, Arc<Vec<Budget>>)>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct View {
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    selector: Option<LabelSelector>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    disruptions_allowed: i64,
    disrupted_pods: BTreeMap<Box<str>, IgnoredAny>,
}

impl Budget {
    /// Whether the removal of a pod uses the budget.
    pub fn protects(&self, pod: &PodInfo) -> bool {
        self.namespace == pod.namespace
            && !self.selector.0.is_empty()
            && self.selector.matches(&pod.labels)
            && !self.disrupted.contains(&pod.key.name)
    }
}

impl Budgets for NoBudgets {
    fn all(&self) -> (u64, Arc<Vec<Budget>>) {
        (0, Arc::default())
    }
}

impl InformedBudgets {
    /// Follows them.
    pub fn new(informers: &Informers) -> Self {
        let (budgets, version) = (informers.get::<PodDisruptionBudget>(), Arc::new(AtomicU64::new(1)));
        let changed = Arc::clone(&version);
        budgets.subscribe(move |_| {
            changed.fetch_add(1, Ordering::Release);
        });
        Self { budgets, version, known: Mutex::default() }
    }
}

impl Budgets for InformedBudgets {
    fn all(&self) -> (u64, Arc<Vec<Budget>>) {
        let version = self.version.load(Ordering::Acquire);
        let mut known = self.known.lock();
        if known.0 != version {
            let read = |entry: Arc<trireme_client::Entry<PodDisruptionBudget>>| {
                let view: View = entry.decode_as().ok()?;
                Some(Budget {
                    namespace: entry.meta.key.namespace.clone(),
                    selector: view.spec.selector.unwrap_or_default(),
                    allowed: view.status.disruptions_allowed,
                    disrupted: view.status.disrupted_pods.into_keys().collect(),
                })
            };
            *known = (version, Arc::new(self.budgets.list().into_iter().filter_map(read).collect()));
        }
        known.clone()
    }
}
