//! How controllers make, delete and claim pods: with expectations, slow start and events.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::de::DeserializeOwned;
use trireme_client::{Change, Client, DeleteOptions, EventKind, Informer, Key, Kind, Meta, ObjectRef, Recorder};

use crate::expectations::Expectations;
use crate::owner::{self, Claim};
use crate::slow_start::slow_start;
use crate::{Error, view};

/// Calls about the pods of one kind of owner.
pub(crate) struct PodControl {
    client: Client,
    pods: Informer<Pod>,
    recorder: Recorder,
    expectations: Arc<Expectations>,
}

/// An owner of pods, of kind `K`.
pub(crate) struct Owned<K> {
    namespace: String,
    reference: OwnerReference,
    deleting: bool,
    kind: std::marker::PhantomData<fn() -> K>,
}

impl<K: Kind> Owned<K> {
    pub(crate) fn new(owner: &ObjectMeta, deleting: bool) -> Self {
        Self {
            namespace: owner.namespace.clone().unwrap_or_default(),
            reference: owner::controller_reference::<K>(owner),
            deleting,
            kind: std::marker::PhantomData,
        }
    }

    /// The reference that the pods carry.
    pub(crate) fn reference(&self) -> &OwnerReference {
        &self.reference
    }
}

impl PodControl {
    pub(crate) fn new(
        client: &Client,
        pods: Informer<Pod>,
        recorder: Recorder,
        expectations: Arc<Expectations>,
    ) -> Self {
        Self { client: client.clone(), pods, recorder, expectations }
    }

    /// The recorder of the owner's events.
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The owner's pods: those that it has, without those that it has to let go, with those that it can adopt.
    pub(crate) async fn claim<K: Kind + DeserializeOwned>(
        &self,
        owner: &Owned<K>,
        selected: impl Fn(&Meta) -> bool,
    ) -> Result<Vec<view::Pod>, Error> {
        let uid = &owner.reference.uid;
        let api = self.client.namespaced::<view::PodKind>(&owner.namespace);
        let mut mine = Vec::new();
        let mut may_adopt = None;
        for entry in self.pods.in_namespace(&owner.namespace) {
            match owner::claim(&entry.meta, uid, owner.deleting, selected(&entry.meta)) {
                Claim::Ignore => {}
                Claim::Ours => mine.push(entry.decode_as::<view::Pod>()?),
                Claim::Adopt => {
                    if may_adopt.is_none() {
                        may_adopt = Some(still_there::<K>(&self.client, owner).await?);
                    }
                    if may_adopt == Some(true) {
                        let patch = owner::adoption(&entry.meta.uid, &owner.reference);
                        match api.patch(&entry.meta.key.name, None, &patch).await {
                            Ok(pod) => mine.push(pod.0),
                            Err(error) if error.is_not_found() || error.is_conflict() || error.is_invalid() => {}
                            Err(error) => return Err(error.into()),
                        }
                    }
                }
                Claim::Release => {
                    let patch = owner::release(&entry.meta.uid, uid);
                    match api.patch(&entry.meta.key.name, None, &patch).await {
                        Ok(_) => {}
                        Err(error) if error.is_not_found() || error.is_conflict() || error.is_invalid() => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(mine)
    }

    /// Creates `count` pods; gives the first failure.
    pub(crate) async fn create<K: Kind>(
        &self,
        owner: &Owned<K>,
        about: &ObjectRef,
        count: usize,
        pod: impl Fn() -> Pod,
    ) -> Option<Error> {
        let pods: Vec<Pod> = (0..count).map(|_| pod()).collect();
        self.create_all(owner, about, &pods).await
    }

    /// Creates these pods; gives the first failure.
    pub(crate) async fn create_all<K: Kind>(&self, owner: &Owned<K>, about: &ObjectRef, pods: &[Pod]) -> Option<Error> {
        let uid = &owner.reference.uid;
        self.expectations.creations(uid, pods.len());
        let api = self.client.namespaced::<view::PodKind>(&owner.namespace);
        let begun = std::sync::atomic::AtomicUsize::new(0);
        let (_, failure) = slow_start(pods.len(), |at| {
            begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (api, pod) = (&api, pods.get(at));
            async move {
                let Some(pod) = pod else { return Ok(()) };
                match api.create(pod).await {
                    Ok(view::PodKind(created)) => {
                        let message = format!("Created pod: {}", created.metadata.name);
                        self.recorder.record(about, EventKind::Normal, "SuccessfulCreate", message);
                        Ok(())
                    }
                    Err(error) => {
                        self.expectations.created(uid);
                        // A namespace that is being deleted takes its owners along: not worth an event.
                        if !error.is_namespace_terminating() {
                            let message = format!("Error creating: {error}");
                            self.recorder.record(about, EventKind::Warning, "FailedCreate", message);
                        }
                        Err(error)
                    }
                }
            }
        })
        .await;
        for _ in begun.into_inner()..pods.len() {
            self.expectations.created(uid);
        }
        failure.filter(|error| !error.is_namespace_terminating()).map(Error::from)
    }

    /// Deletes these pods; gives the first failure.
    pub(crate) async fn delete<K: Kind>(
        &self,
        owner: &Owned<K>,
        about: &ObjectRef,
        pods: &[view::Pod],
    ) -> Option<Error> {
        let uid = &owner.reference.uid;
        for pod in pods {
            self.expectations.deletion(uid, &pod.metadata.uid);
        }
        let api = self.client.namespaced::<Pod>(&owner.namespace);
        let deletions = pods.iter().map(|pod| {
            let api = &api;
            async move {
                let name = &pod.metadata.name;
                match api.delete(name, &DeleteOptions::default().uid(pod.metadata.uid.as_str())).await {
                    Ok(()) => {
                        let message = format!("Deleted pod: {name}");
                        self.recorder.record(about, EventKind::Normal, "SuccessfulDelete", message);
                        None
                    }
                    Err(error) => {
                        self.expectations.deleted(uid, &pod.metadata.uid);
                        if error.is_not_found() || error.is_conflict() {
                            return None;
                        }
                        let message = format!("Error deleting: {error}");
                        self.recorder.record(about, EventKind::Warning, "FailedDelete", message);
                        Some(Error::from(error))
                    }
                }
            }
        });
        futures::future::join_all(deletions).await.into_iter().flatten().next()
    }
}

/// Asks the server, not the cache, whether the owner is still the same and is not being deleted: adopting for an owner
/// that is gone would take the object away from the collector.
pub(crate) async fn still_there<K: Kind + DeserializeOwned>(client: &Client, owner: &Owned<K>) -> Result<bool, Error> {
    let api = client.dynamic::<Head>(K::resource(), Some(&owner.namespace));
    let now = api.find(&owner.reference.name).await?;
    Ok(now.is_some_and(|now| now.metadata.uid == owner.reference.uid && now.metadata.deletion_timestamp.is_none()))
}

#[derive(serde::Deserialize)]
struct Head {
    metadata: view::Metadata,
}

/// The owners that a change of a pod touches: its managing owner before and now, and, for a pod that nobody manages,
/// every owner of its namespace whose selector accepts it.
pub(crate) fn owners_of_pod<K: Kind + DeserializeOwned>(
    change: &Change<Pod>,
    owners: &Informer<K>,
    selects: impl Fn(&K, &Meta) -> bool,
) -> Vec<Key> {
    let kind = K::resource().kind;
    let mut touched = Vec::new();
    for entry in change.old.iter().chain(&change.new) {
        if let Some(owner) = entry.meta.controller.as_ref().filter(|owner| *owner.kind == *kind) {
            touched.push(Key::new(&entry.meta.key.namespace, &owner.name));
        }
    }
    if let Some(new) = change.new.as_ref().filter(|new| new.meta.controller.is_none() && !new.meta.deleting) {
        let candidates = owners.in_namespace(&new.meta.key.namespace);
        let selecting = candidates
            .iter()
            .filter(|entry| entry.decode().is_ok_and(|owner| selects(&owner, &new.meta)))
            .map(|entry| entry.meta.key.clone());
        touched.extend(selecting);
    }
    touched.dedup();
    touched
}
