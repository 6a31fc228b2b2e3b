//! The garbage collector: objects whose owners are gone go too.
//!
//! A graph of all objects, fed by metadata-only informers over every resource that can be listed and deleted, says which
//! objects to look at; what is deleted is decided on the live object and its live owners.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use trireme_client::{
    Api, Backoff, Change, Client, DeleteOptions, Informer, InformerBuilder, Key, Kind, Patch, Propagation, Queue,
    Resource, Selection,
};

use crate::Error;
use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::discovery::{Discovered, discover};
use crate::view::Metadata;

mod graph;

use graph::{Graph, Node, Verdict};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Changes of the set of resources come in bursts: they are awaited before discovery is asked.
const SETTLE: Duration = Duration::from_millis(500);
/// Resources of a server that does not answer are not awaited for longer: the others are to be collected all the same.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many owners are remembered as gone.
const REMEMBERED: usize = 4_096;

pub(crate) struct GarbageCollector {
    client: Client,
    shutdown: CancellationToken,
    graph: Arc<Mutex<Graph>>,
    /// Resources by group and kind, as discovery knows them.
    resources: Arc<Mutex<HashMap<(String, String), Resource>>>,
    /// Owners that the server said do not exist; a uid never comes back.
    gone: Mutex<HashSet<String>>,
}

/// Any object, read for its metadata.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Object {
    pub(crate) metadata: Metadata,
}

/// Custom resource definitions and aggregated APIs change the set of resources.
struct Definition;
struct Aggregated;

impl Kind for Definition {
    fn resource() -> Resource {
        resource("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions")
    }
}

impl Kind for Aggregated {
    fn resource() -> Resource {
        resource("apiregistration.k8s.io", "APIService", "apiservices")
    }
}

fn resource(group: &'static str, kind: &'static str, plural: &'static str) -> Resource {
    Resource { group: group.into(), version: "v1".into(), kind: kind.into(), plural: plural.into(), namespaced: false }
}

impl GarbageCollector {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            shutdown: context.shutdown.clone(),
            graph: Arc::default(),
            resources: Arc::default(),
            gone: Mutex::default(),
        }
    }

    fn api(&self, resource: &Resource, namespace: &str) -> Api<Object> {
        self.client.dynamic(resource.clone(), Some(namespace).filter(|namespace| !namespace.is_empty()))
    }

    /// Follows the set of resources: starts an informer for each that is new and stops those whose resource is gone.
    /// `ready` is told once the first ones know their objects.
    async fn follow_resources(self: Arc<Self>, queue: Queue<Key>, ready: Arc<Notify>) {
        let changed = Arc::new(Notify::new());
        for collection in [Definition::resource(), Aggregated::resource()] {
            let changed = Arc::clone(&changed);
            let informer = self.informer(&collection, self.shutdown.clone());
            informer.subscribe(move |_| changed.notify_one());
        }
        let mut running: HashMap<Resource, CancellationToken> = HashMap::new();
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        let mut first = true;
        loop {
            let whole = match discover(&self.client).await {
                Ok(discovered) => {
                    let whole = discovered.failed.is_empty();
                    let started = self.take_over(discovered, &mut running, &queue);
                    if first {
                        let known = futures::future::join_all(started.iter().map(Informer::synced));
                        tokio::select! {
                            () = self.shutdown.cancelled() => return,
                            _ = known => {}
                            () = tokio::time::sleep(PATIENCE) => {
                                tracing::warn!("the garbage collector begins without the objects of some resources");
                            }
                        }
                        ready.notify_one();
                        first = false;
                    }
                    whole
                }
                Err(error) => {
                    tracing::debug!(%error, "the resources are not known");
                    false
                }
            };
            if whole {
                backoff.reset();
                tokio::select! {
                    () = self.shutdown.cancelled() => return,
                    () = changed.notified() => {}
                }
            }
            let pause = if whole { SETTLE } else { backoff.step() };
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn informer(&self, resource: &Resource, shutdown: CancellationToken) -> Informer<Object> {
        let collection = resource.collection(None);
        let selection = Selection { collection, metadata_only: true, ..Selection::default() };
        InformerBuilder::<Object>::of(selection).start(self.client.clone(), shutdown)
    }

    fn take_over(
        self: &Arc<Self>,
        discovered: Discovered,
        running: &mut HashMap<Resource, CancellationToken>,
        queue: &Queue<Key>,
    ) -> Vec<Informer<Object>> {
        let served: HashSet<&Resource> = discovered.resources.iter().map(|served| &served.resource).collect();
        running.retain(|resource, stop| {
            // A version that did not answer this time keeps its informers.
            let version = format!("{}/{}", resource.group, resource.version);
            let stays = served.contains(resource) || discovered.failed.contains_key(&version);
            if !stays {
                stop.cancel();
                self.graph.lock().remove_resource(resource).into_iter().for_each(|uid| queue.add(by_uid(&uid)));
            }
            stays
        });
        let mut by_kind = self.resources.lock();
        let mut started = Vec::new();
        for served in discovered.resources {
            let resource = served.resource.clone();
            by_kind.insert((resource.group.to_string(), resource.kind.to_string()), resource.clone());
            // Events go by their own age, and are owned by nobody.
            let collected = served.can(&["delete", "list", "watch"]) && resource.plural != "events";
            if !collected || running.contains_key(&resource) {
                continue;
            }
            let stop = self.shutdown.child_token();
            let informer = self.informer(&resource, stop.clone());
            let (graph, queue, of) = (Arc::clone(&self.graph), queue.clone(), resource.clone());
            informer.subscribe(move |change| observe(&graph, &queue, &of, change));
            started.push(informer);
            running.insert(resource, stop);
        }
        started
    }

    /// Asks the server about an owner that the graph does not know.
    async fn look_up(&self, dependent: &Node, owner: &OwnerReference) -> Result<Verdict, Error> {
        if self.gone.lock().contains(&owner.uid) {
            return Ok(Verdict::Gone);
        }
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let found = self.resources.lock().get(&(group.to_owned(), owner.kind.clone())).cloned();
        let Some(resource) = found else {
            return Err(Error::NotYet(format!(
                "no resource is known for the owner {} {}",
                owner.api_version, owner.kind
            )));
        };
        if resource.namespaced && dependent.key.namespace.is_empty() {
            // A cluster-scoped object cannot have a namespaced owner; such a reference deletes nothing.
            return Ok(Verdict::Solid);
        }
        let namespace = if resource.namespaced { &*dependent.key.namespace } else { "" };
        let there = self.api(&resource, namespace).find(&owner.name).await?;
        Ok(match there {
            Some(there) if there.metadata.uid == owner.uid => graph::verdict(&there.metadata),
            _ => {
                let mut gone = self.gone.lock();
                if gone.len() >= REMEMBERED {
                    gone.clear();
                }
                gone.insert(owner.uid.clone());
                Verdict::Gone
            }
        })
    }

    /// Looks at an object that has owners: deletes it when none of them is left.
    async fn collect(&self, uid: &str, node: &Node) -> Result<(), Error> {
        let api = self.api(&node.resource, &node.key.namespace);
        let live = match api.find(&node.key.name).await? {
            Some(live) if live.metadata.uid == uid => live.metadata,
            _ => return Ok(()),
        };
        if live.owner_references.is_empty() || live.deletion_timestamp.is_some() && !has(&live, FOREGROUND) {
            return Ok(());
        }
        let mut verdicts = Vec::with_capacity(live.owner_references.len());
        for owner in &live.owner_references {
            let known = self.graph.lock().owner(node, owner);
            verdicts.push(match known {
                Some(verdict) => verdict,
                None => self.look_up(node, owner).await?,
            });
        }
        let has_dependents = self.graph.lock().has_dependents(uid);
        match graph::decide(&verdicts, has_dependents) {
            graph::Step::Keep => Ok(()),
            graph::Step::Unlink => {
                let owners: Vec<&OwnerReference> = live
                    .owner_references
                    .iter()
                    .zip(&verdicts)
                    .filter(|(_, verdict)| **verdict == Verdict::Solid)
                    .map(|(owner, _)| owner)
                    .collect();
                self.set_owners(&api, &live, &json!(owners)).await
            }
            step @ (graph::Step::DeleteForeground | graph::Step::Delete) => {
                if live.deletion_timestamp.is_some() {
                    return Ok(());
                }
                let propagation = match step {
                    _ if has(&live, ORPHAN) => Propagation::Orphan,
                    graph::Step::DeleteForeground => Propagation::Foreground,
                    _ if has(&live, FOREGROUND) => Propagation::Foreground,
                    _ => Propagation::Background,
                };
                tracing::debug!(kind = %node.resource.kind, key = %node.key, ?propagation, "collecting");
                let options = DeleteOptions::default().uid(uid).propagation(propagation);
                api.delete_if_present(&node.key.name, &options).await?;
                Ok(())
            }
        }
    }

    async fn set_owners(&self, api: &Api<Object>, live: &Metadata, owners: &Value) -> Result<(), Error> {
        let patch = json!({"metadata": {
            "uid": live.uid, "resourceVersion": live.resource_version, "ownerReferences": owners}});
        match api.patch(&live.name, None, &Patch::Merge(patch)).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// Lets go of everything that an object owns, because it was deleted with the policy `Orphan`.
    async fn orphan(&self, uid: &str, node: &Node) -> Result<(), Error> {
        let dependents = self.graph.lock().dependents(uid);
        for (dependent_uid, dependent) in dependents {
            let api = self.api(&dependent.resource, &dependent.key.namespace);
            let Some(live) = api.find(&dependent.key.name).await? else { continue };
            if live.metadata.uid != dependent_uid {
                continue;
            }
            let others: Vec<_> = live.metadata.owner_references.iter().filter(|owner| owner.uid != uid).collect();
            if others.len() < live.metadata.owner_references.len() {
                self.set_owners(&api, &live.metadata, &json!(others)).await?;
            }
        }
        self.remove_finalizer(uid, node, ORPHAN).await
    }

    /// Waits for the dependents that block their owner's deletion, then lets the owner go.
    async fn finish_foreground(&self, uid: &str, node: &Node, queue: &Queue<Key>) -> Result<(), Error> {
        let blocking = self.graph.lock().blocking(uid);
        if blocking.is_empty() {
            return self.remove_finalizer(uid, node, FOREGROUND).await;
        }
        blocking.iter().for_each(|dependent| queue.add(by_uid(dependent)));
        Ok(())
    }

    async fn remove_finalizer(&self, uid: &str, node: &Node, finalizer: &str) -> Result<(), Error> {
        let api = self.api(&node.resource, &node.key.namespace);
        let Some(live) = api.find(&node.key.name).await?.filter(|live| live.metadata.uid == uid) else {
            return Ok(());
        };
        let left: Vec<&String> = live.metadata.finalizers.iter().filter(|f| *f != finalizer).collect();
        if left.len() == live.metadata.finalizers.len() {
            return Ok(());
        }
        let patch = json!({"metadata": {
            "uid": uid, "resourceVersion": live.metadata.resource_version, "finalizers": left}});
        match api.patch(&node.key.name, None, &Patch::Merge(patch)).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }
}

/// Objects are known by their uid here, since owner references name it.
fn by_uid(uid: &str) -> Key {
    Key::new("", uid)
}

fn has(metadata: &Metadata, finalizer: &str) -> bool {
    metadata.finalizers.iter().any(|f| f == finalizer)
}

fn observe(graph: &Mutex<Graph>, queue: &Queue<Key>, resource: &Resource, change: &Change<Object>) {
    let Some(latest) = change.latest() else { return };
    let mut touched = Vec::new();
    if let Some(old) = &change.old
        && change.new.as_ref().is_none_or(|new| new.meta.uid != old.meta.uid)
    {
        touched.extend(graph.lock().remove(&old.meta.uid));
    }
    if change.new.is_some() {
        match latest.decode() {
            Ok(object) => touched.extend(graph.lock().set(resource, object.metadata)),
            Err(error) => tracing::warn!(key = %latest.meta.key, %error, "an object cannot be read"),
        }
    }
    touched.into_iter().for_each(|uid| queue.add(by_uid(&uid)));
}

impl Controller for GarbageCollector {
    const NAME: &'static str = "garbage-collector-controller";
    const ACCOUNT: Option<&'static str> = Some("generic-garbage-collector");
    const WORKERS: usize = 20;

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        let ready = Arc::new(Notify::new());
        *self.graph.lock() = Graph::default();
        let queue = watches.queue();
        self.graph.lock().queue = Some(queue.clone());
        tokio::spawn(Arc::clone(self).follow_resources(queue, Arc::clone(&ready)));
        watches.wait_for(async move { ready.notified().await });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let uid = &*key.name;
        let (node, queue) = {
            let graph = self.graph.lock();
            (graph.get(uid).cloned(), graph.queue.clone())
        };
        let (Some(node), Some(queue)) = (node, queue) else { return Ok(Requeue::Never) };
        let result = if node.deleting && node.orphan {
            self.orphan(uid, &node).await
        } else if node.deleting && node.foreground {
            self.finish_foreground(uid, &node, &queue).await
        } else if node.owners.is_empty() || node.deleting {
            Ok(())
        } else {
            self.collect(uid, &node).await
        };
        match result {
            // A resource that has gone meanwhile has no objects to collect.
            Err(Error::Api(error)) if error.is_not_found() => Ok(Requeue::Never),
            other => other.map(|()| Requeue::Never),
        }
    }
}

#[cfg(test)]
mod tests;
