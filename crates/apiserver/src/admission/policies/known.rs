//! The policies that are configured, compiled once for each version of a policy.
//!
//! What holds is that of the topics' last events: a request compares revisions, and what changed is read and compiled
//! by the first request that meets it. So a policy holds for all that comes after its write was answered, and a cluster
//! without policies pays for four numbers.

use super::bound::{Binding, Bound, Policy};
use super::metrics::Metrics;
use crate::catalogue::topic;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use trireme_policies::{Mutating, Validating};
use trireme_schema::{Value, json};
use trireme_store::{Record, Snapshot, Store, Topic};

const GROUP: &str = "admissionregistration.k8s.io";

/// All policies, and what is counted of them.
pub(crate) struct Known {
    pub(super) validating: Kind<Validating>,
    pub(super) mutating: Kind<Mutating>,
    pub(super) metrics: Metrics,
}

impl Known {
    /// Those of a store.
    pub fn new(store: &Store) -> Self {
        Self {
            validating: Kind::new(store, ["validatingadmissionpolicies", "validatingadmissionpolicybindings"]),
            mutating: Kind::new(store, ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"]),
            metrics: Metrics::default(),
        }
    }

    /// What is counted, in Prometheus' text form.
    pub fn metrics(&self, out: &mut String) {
        self.metrics.write(out);
    }
}

/// The policies of one kind.
pub(super) struct Kind<P> {
    /// Policies and bindings.
    topics: [Arc<Topic>; 2],
    now: ArcSwap<Generation<P>>,
    /// Held by whoever makes the next generation.
    making: Mutex<()>,
}

/// The policies at one revision of both topics.
struct Generation<P> {
    revisions: [i64; 2],
    bound: Arc<[Bound<P>]>,
    /// Every compiled policy with the revision of its record.
    policies: HashMap<Arc<str>, (i64, Arc<Policy<P>>)>,
}

/// An expression as a policy's kind compiles it.
pub(super) trait Compiled: Sized {
    fn compile(policy: &Value) -> Self;
}

impl Compiled for Validating {
    fn compile(policy: &Value) -> Self {
        Validating::compile(policy)
    }
}

impl Compiled for Mutating {
    fn compile(policy: &Value) -> Self {
        Mutating::compile(policy)
    }
}

impl<P: Compiled> Kind<P> {
    fn new(store: &Store, plurals: [&str; 2]) -> Self {
        let topics = plurals.map(|plural| store.topic(&topic(GROUP, plural)));
        // No topic has a revision below zero: the first request makes the first generation.
        let none = Generation { revisions: [-1; 2], bound: Arc::new([]), policies: HashMap::new() };
        Self { topics, now: ArcSwap::from_pointee(none), making: Mutex::new(()) }
    }

    /// The policies with bindings, by name; their bindings by name.
    pub fn bound(&self) -> Arc<[Bound<P>]> {
        if let Some(bound) = self.current(&self.snapshots()) {
            return bound;
        }
        let _one = self.making.lock();
        let snapshots = self.snapshots();
        if let Some(bound) = self.current(&snapshots) {
            return bound;
        }
        let next = Generation::make(&snapshots, &self.now.load());
        let bound = next.bound.clone();
        self.now.store(Arc::new(next));
        bound
    }

    fn snapshots(&self) -> [Arc<Snapshot>; 2] {
        self.topics.each_ref().map(|topic| topic.snapshot())
    }

    fn current(&self, [policies, bindings]: &[Arc<Snapshot>; 2]) -> Option<Arc<[Bound<P>]>> {
        let now = self.now.load();
        (now.revisions == [policies.revision, bindings.revision]).then(|| now.bound.clone())
    }
}

impl<P: Compiled> Generation<P> {
    fn make([policies, bindings]: &[Arc<Snapshot>; 2], before: &Self) -> Self {
        let mut of_policy: BTreeMap<String, Vec<Arc<Binding>>> = BTreeMap::new();
        for record in bindings.keys.values() {
            let binding = Arc::new(Binding::read(&read(record)));
            of_policy.entry(binding.policy.clone()).or_default().push(binding);
        }
        let mut compiled = HashMap::new();
        let mut bound = Vec::new();
        for record in policies.keys.values() {
            let name = record.key.rsplit('/').next().unwrap_or_default();
            // Nobody asks a policy without bindings.
            let Some(bindings) = of_policy.remove(name) else { continue };
            let known = before.policies.get(&record.key).filter(|(revision, _)| *revision == record.mod_revision);
            let policy = match known {
                Some((_, policy)) => policy.clone(),
                None => Arc::new(Policy::read(&read(record), P::compile)),
            };
            compiled.insert(record.key.clone(), (record.mod_revision, policy.clone()));
            bound.push(Bound { policy, bindings });
        }
        Self { revisions: [policies.revision, bindings.revision], bound: bound.into(), policies: compiled }
    }
}

fn read(record: &Record) -> Value {
    json::parse(&record.value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::value;
    use trireme_store::{Template, Txn};

    #[tokio::test]
    async fn a_policy_is_compiled_once_for_each_of_its_versions() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let known = Known::new(&store);
        let bound = || known.validating.bound();
        let key = |plural: &str, name: &str| format!("{}/{name}", topic(GROUP, plural));
        let (policy, binding) = (key("validatingadmissionpolicies", "p"), "validatingadmissionpolicybindings");
        let put = async |key: &str, value: Value| {
            let template = Template::plain(json::to_vec(&value));
            let txn = match store.get(key) {
                Some(record) => Txn::update(key.to_owned(), record.mod_revision, template),
                None => Txn::create(key.to_owned(), template),
            };
            store.commit(txn).await.unwrap();
        };
        let rule = |text: &str| value!({"metadata": {"name": "p"}, "spec": {"validations": [{"expression": text}]}});
        let bind = |name: &str| value!({"metadata": {"name": name}, "spec": {"policyName": "p"}});

        assert!(bound().is_empty());
        put(&policy, rule("true")).await;
        assert!(bound().is_empty(), "nobody asks a policy without bindings");
        put(&key(binding, "a"), bind("a")).await;
        let first = bound();
        assert!(Arc::ptr_eq(&first, &bound()), "nothing changed");
        put(&key(binding, "b"), bind("b")).await;
        let second = bound();
        assert_eq!((first[0].bindings.len(), second[0].bindings.len()), (1, 2));
        assert!(Arc::ptr_eq(&first[0].policy, &second[0].policy), "only bindings changed");
        put(&policy, rule("false")).await;
        assert!(!Arc::ptr_eq(&second[0].policy, &bound()[0].policy));
        let record = store.get(&policy).unwrap();
        store.commit(Txn::delete(policy.clone(), record.mod_revision, None)).await.unwrap();
        assert!(bound().is_empty());
    }
}
