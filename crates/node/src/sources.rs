//! ConfigMaps and Secrets that pods use: watched one by one, as long as a pod uses them.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use trireme_client::{Client, InformerBuilder, Kind, Selection};
use trireme_schema::Value;

/// A ConfigMap or Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Source {
    /// `configmaps` or `secrets`.
    plural: &'static str,
    namespace: String,
    name: String,
}

/// The ConfigMaps and Secrets that a pod's volumes and variables are made of.
pub(crate) fn of(pod: &Value) -> BTreeSet<Source> {
    let namespace = pod.str_at(&["metadata", "namespace"]);
    let mut out = BTreeSet::new();
    let mut add = |plural, name: &str| {
        if !name.is_empty() {
            out.insert(Source { plural, namespace: namespace.to_owned(), name: name.to_owned() });
        }
    };
    for volume in pod.list_at(&["spec", "volumes"]) {
        add("configmaps", volume.str_at(&["configMap", "name"]));
        add("secrets", volume.str_at(&["secret", "secretName"]));
        for source in volume.list_at(&["projected", "sources"]) {
            add("configmaps", source.str_at(&["configMap", "name"]));
            add("secrets", source.str_at(&["secret", "name"]));
        }
    }
    for list in ["initContainers", "containers"] {
        for container in pod.list_at(&["spec", list]) {
            for from in container.list_at(&["envFrom"]) {
                add("configmaps", from.str_at(&["configMapRef", "name"]));
                add("secrets", from.str_at(&["secretRef", "name"]));
            }
            for variable in container.list_at(&["env"]) {
                add("configmaps", variable.str_at(&["valueFrom", "configMapKeyRef", "name"]));
                add("secrets", variable.str_at(&["valueFrom", "secretKeyRef", "name"]));
            }
        }
    }
    out
}

/// Who wants to hear of a source's changes.
#[derive(Clone)]
struct Holder {
    changed: Arc<Notify>,
    stale: Arc<AtomicBool>,
}

type Holders = Arc<Mutex<HashMap<String, Holder>>>;

/// The sources that are watched.
pub(crate) struct Sources {
    client: Client,
    stop: CancellationToken,
    watched: Mutex<HashMap<Source, (Holders, DropGuard)>>,
}

impl Sources {
    pub(crate) fn new(client: Client, stop: CancellationToken) -> Self {
        Self { client, stop, watched: Mutex::default() }
    }

    /// Watches sources for a pod, and no others: `stale` is set and `changed` is notified when one changes.
    pub(crate) fn hold(&self, uid: &str, wanted: BTreeSet<Source>, changed: &Arc<Notify>, stale: Arc<AtomicBool>) {
        let mut watched = self.watched.lock();
        watched.retain(|source, (holders, _)| {
            let mut holders = holders.lock();
            if !wanted.contains(source) {
                holders.remove(uid);
            }
            !holders.is_empty()
        });
        for source in wanted {
            let (holders, _) = watched.entry(source).or_insert_with_key(|source| self.watch(source));
            holders
                .lock()
                .entry(uid.to_owned())
                .or_insert_with(|| Holder { changed: changed.clone(), stale: stale.clone() });
        }
    }

    /// Lets go of all that a pod holds.
    pub(crate) fn release(&self, uid: &str) {
        self.watched.lock().retain(|_, (holders, _)| {
            let mut holders = holders.lock();
            holders.remove(uid);
            !holders.is_empty()
        });
    }

    fn watch(&self, source: &Source) -> (Holders, DropGuard) {
        let holders = Holders::default();
        let stop = self.stop.child_token();
        match source.plural {
            "secrets" => self.follow::<Secret>(source, &holders, &stop),
            _ => self.follow::<ConfigMap>(source, &holders, &stop),
        }
        (holders, stop.drop_guard())
    }

    fn follow<K: Kind + Send + Sync + 'static>(&self, source: &Source, holders: &Holders, stop: &CancellationToken) {
        let selection = Selection {
            collection: format!("/api/v1/namespaces/{}/{}", source.namespace, source.plural),
            fields: Some(format!("metadata.name={}", source.name)),
            metadata_only: true,
            ..Selection::default()
        };
        let informer = InformerBuilder::<K>::of(selection).start(self.client.clone(), stop.clone());
        let holders = holders.clone();
        informer.subscribe(move |_| {
            for holder in holders.lock().values() {
                holder.stale.store(true, Ordering::Release);
                holder.changed.notify_one();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn all_that_a_pod_is_made_of_is_found() {
        let text = br#"{"metadata":{"namespace":"n"},"spec":{
            "volumes":[{"configMap":{"name":"a"}},{"secret":{"secretName":"b"}},
                {"projected":{"sources":[{"configMap":{"name":"c"}},{"secret":{"name":"d"}}]}}],
            "containers":[{"envFrom":[{"prefix":"x","configMapRef":{"name":"e"}}],
                "env":[{"name":"V","valueFrom":{"secretKeyRef":{"name":"f","key":"k"}}}]}]}}"#;
        let found = of(&json::parse(text).unwrap());
        let names: Vec<(&str, &str)> = found.iter().map(|s| (s.plural, s.name.as_str())).collect();
        assert_eq!(
            names,
            [
                ("configmaps", "a"),
                ("configmaps", "c"),
                ("configmaps", "e"),
                ("secrets", "b"),
                ("secrets", "d"),
                ("secrets", "f")
            ]
        );
    }
}
