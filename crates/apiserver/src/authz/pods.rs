//! Which pods are on which node, kept up to date from the events of the store when somebody asks.

use crate::catalogue::Catalogue;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use trireme_schema::{Value, json};
use trireme_store::{Change, Record, Store, Topic, Watch};

/// An index of pods by their node.
pub struct NodePods {
    topic: Arc<Topic>,
    prefix: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watch: Option<Watch>,
    by_node: HashMap<Box<str>, BTreeSet<Arc<str>>>,
    node_of: HashMap<Arc<str>, Box<str>>,
}

impl State {
    fn forget(&mut self, key: &Arc<str>) {
        if let Some(node) = self.node_of.remove(key)
            && let Some(pods) = self.by_node.get_mut(&node)
        {
            pods.remove(key);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }

    fn note(&mut self, record: &Record) {
        let node = node_of(record);
        if self.node_of.get(&record.key).map(|n| &**n) == node.as_deref() {
            return;
        }
        self.forget(&record.key);
        if let Some(node) = node {
            self.by_node.entry(node.clone()).or_default().insert(record.key.clone());
            self.node_of.insert(record.key.clone(), node);
        }
    }
}

/// The node of a stored pod. It is looked for in the bytes before they are parsed: most pods have been seen before.
fn node_of(record: &Record) -> Option<Box<str>> {
    const MARK: &[u8] = b"\"nodeName\":\"";
    if !record.value.windows(MARK.len()).any(|w| w == MARK) {
        return None;
    }
    let pod = json::parse(&record.value).ok()?;
    let node = pod.str_at(&["spec", "nodeName"]);
    (!node.is_empty()).then(|| node.into())
}

impl NodePods {
    /// An index that is filled at the first question.
    pub fn new(catalogue: &Catalogue, store: &Store) -> Self {
        let pods = catalogue.stored("", "pods");
        let name = pods.map_or_else(|| "pods".to_owned(), |p| p.topic.clone());
        Self { topic: store.topic(&name), prefix: format!("{name}/"), state: Mutex::default() }
    }

    /// The stored pods on a node.
    pub fn on(&self, node: &str) -> Vec<Arc<Record>> {
        let mut state = self.state.lock();
        let follows = match state.watch.take() {
            Some(watch) => self.follow(&mut state, watch),
            None => None,
        };
        state.watch = follows.or_else(|| self.fill(&mut state));
        let snapshot = self.topic.snapshot();
        let keys = state.by_node.get(node).into_iter().flatten();
        keys.filter_map(|key| snapshot.keys.get(key).cloned()).collect()
    }

    /// Takes up what has happened; nothing when too much has.
    fn follow(&self, state: &mut State, mut watch: Watch) -> Option<Watch> {
        while let Some(event) = watch.try_next().ok()? {
            match event.change {
                Change::Delete(ref record) => state.forget(&record.key),
                _ => state.note(event.record()),
            }
        }
        Some(watch)
    }

    fn fill(&self, state: &mut State) -> Option<Watch> {
        let snapshot = self.topic.snapshot();
        *state = State::default();
        snapshot.range(&self.prefix, None).for_each(|record| state.note(record));
        self.topic.watch(&self.prefix, snapshot.revision).ok()
    }
}

/// Names of objects of a kind (`secret`, `configMap`) that a pod refers to.
pub(crate) fn references<'a>(pod: &'a Value, kind: &str) -> impl Iterator<Item = &'a str> {
    let mut found = Vec::new();
    let volumes = pod.list_at(&["spec", "volumes"]);
    let projected = volumes.iter().flat_map(|v| v.list_at(&["projected", "sources"]));
    let (env, from) = if kind == "secret" {
        // Sources of old name their secrets each in a field of its own.
        const REFERENCES: [&str; 9] =
            ["cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos", "glusterfs", "csi"];
        for volume in volumes {
            found.push(volume.str_at(&["secret", "secretName"]));
            found.push(volume.str_at(&["azureFile", "secretName"]));
            found.extend(REFERENCES.iter().map(|source| volume.str_at(&[source, "secretRef", "name"])));
            found.push(volume.str_at(&["csi", "nodePublishSecretRef", "name"]));
        }
        found.extend(projected.map(|s| s.str_at(&["secret", "name"])));
        found.extend(pod.list_at(&["spec", "imagePullSecrets"]).iter().map(|s| s.str_at(&["name"])));
        ("secretKeyRef", "secretRef")
    } else {
        found.extend(volumes.iter().map(|v| v.str_at(&["configMap", "name"])));
        found.extend(projected.map(|s| s.str_at(&["configMap", "name"])));
        ("configMapKeyRef", "configMapRef")
    };
    for container in
        ["initContainers", "containers", "ephemeralContainers"].iter().flat_map(|list| pod.list_at(&["spec", list]))
    {
        found.extend(container.list_at(&["env"]).iter().map(|e| e.str_at(&["valueFrom", env, "name"])));
        found.extend(container.list_at(&["envFrom"]).iter().map(|e| e.str_at(&[from, "name"])));
    }
    found.into_iter().filter(|name| !name.is_empty())
}

/// Claims of a pod, those that are made for it among them.
pub(crate) fn claims(pod: &Value) -> impl Iterator<Item = String> {
    let name = pod.str_at(&["metadata", "name"]);
    pod.list_at(&["spec", "volumes"]).iter().filter_map(move |v| {
        let named = v.at(&["persistentVolumeClaim", "claimName"]).and_then(Value::as_str).map(str::to_owned);
        named.or_else(|| v.get("ephemeral").map(|_| format!("{name}-{}", v.str_at(&["name"]))))
    })
}

/// Resource claims of a pod.
pub(crate) fn resource_claims(pod: &Value) -> impl Iterator<Item = &str> {
    let named = pod.list_at(&["spec", "resourceClaims"]).iter().map(|c| c.str_at(&["resourceClaimName"]));
    let made = pod.list_at(&["status", "resourceClaimStatuses"]).iter().map(|c| c.str_at(&["resourceClaimName"]));
    let extended = [pod.str_at(&["status", "extendedResourceClaimStatus", "resourceClaimName"])];
    named.chain(made).chain(extended).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_store::{Template, Txn};

    #[tokio::test]
    async fn pods_are_found_by_their_node_as_they_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let index = NodePods::new(&Catalogue::builtin(), &store);
        let pod = |node: &str| Template::plain(format!(r#"{{"spec":{{"nodeName":"{node}"}}}}"#));
        store.commit(Txn::create("pods/a/x", pod("one"))).await.unwrap();
        assert_eq!(index.on("one").len(), 1);
        let second = store.commit(Txn::create("pods/a/y", pod("one"))).await.unwrap().revision;
        assert_eq!((index.on("one").len(), index.on("two").len()), (2, 0));
        store.commit(Txn::delete("pods/a/y", second, None)).await.unwrap();
        assert_eq!(index.on("one").len(), 1);
    }

    #[test]
    fn all_references_of_a_pod_are_found() {
        let pod = json::parse(
            br#"{"metadata":{"name":"p"},"spec":{"imagePullSecrets":[{"name":"pull"}],"containers":[{"env":[
            {"valueFrom":{"secretKeyRef":{"name":"env"}}}],"envFrom":[{"configMapRef":{"name":"from"}}]}],
            "volumes":[{"name":"e","ephemeral":{}},{"secret":{"secretName":"vol"}},
            {"projected":{"sources":[{"configMap":{"name":"proj"}}]}},{"rbd":{"secretRef":{"name":"rbd"}}}]}}"#,
        )
        .unwrap();
        assert_eq!(references(&pod, "secret").collect::<Vec<_>>(), ["vol", "rbd", "pull", "env"]);
        assert_eq!(references(&pod, "configMap").collect::<Vec<_>>(), ["proj", "from"]);
        assert_eq!(claims(&pod).collect::<Vec<_>>(), ["p-e"]);
    }
}
