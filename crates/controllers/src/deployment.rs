//! Deployments: roll from one replica set to the next when the template changes.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use trireme_client::{Client, DeleteOptions, EventKind, Informer, Key, ObjectRef, Patch, Recorder};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::owner::{self, Claim};
use crate::pod_control::{Owned, still_there};
use crate::{Clock, Error, merge_patch, selector, view};

mod progress;
mod revision;
mod rollout;
#[cfg(test)]
mod tests;

use rollout::{Bounds, Resize, Set};

pub(crate) struct Deployments {
    client: Client,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    recorder: Recorder,
    clock: Clock,
}

/// One step's picture of a deployment.
struct Rollout<'a> {
    key: &'a Key,
    deployment: Deployment,
    bounds: Bounds,
    /// All its sets, the oldest first.
    sets: Vec<ReplicaSet>,
}

impl Deployments {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            deployments: context.informer(),
            sets: context.informer(),
            pods: context.informer(),
            recorder: context.recorder("deployment-controller"),
            clock: context.clock.clone(),
        }
    }

    /// The deployment's replica sets, claimed and sorted by age.
    async fn claim(&self, deployment: &Deployment, key: &Key) -> Result<Vec<ReplicaSet>, Error> {
        let Some(spec) = &deployment.spec else { return Ok(Vec::new()) };
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let deleting = deployment.metadata.deletion_timestamp.is_some();
        let owned = Owned::<Deployment>::new(&deployment.metadata, deleting);
        let api = self.client.namespaced::<ReplicaSet>(&key.namespace);
        let mut sets = Vec::new();
        for entry in self.sets.in_namespace(&key.namespace) {
            let patch = match owner::claim(&entry.meta, uid, deleting, selector::matches(&spec.selector, &entry.meta)) {
                Claim::Ignore => continue,
                Claim::Ours => {
                    sets.push(entry.decode()?);
                    continue;
                }
                Claim::Adopt if !still_there(&self.client, &owned).await? => continue,
                Claim::Adopt => owner::adoption(&entry.meta.uid, owned.reference()),
                Claim::Release => owner::release(&entry.meta.uid, uid),
            };
            match api.patch(&entry.meta.key.name, None, &patch).await {
                Ok(set) if owner::controller_of(&set.metadata).is_some() => sets.push(set),
                Ok(_) => {}
                Err(error) if error.is_not_found() || error.is_conflict() || error.is_invalid() => {}
                Err(error) => return Err(error.into()),
            }
        }
        sets.sort_by(|a, b| {
            (&a.metadata.creation_timestamp, &a.metadata.name).cmp(&(&b.metadata.creation_timestamp, &b.metadata.name))
        });
        Ok(sets)
    }

    /// Gives a set a new size, and says so.
    async fn resize(&self, rollout: &mut Rollout<'_>, resize: &Resize) -> Result<bool, Error> {
        let Some(set) = rollout.sets.iter_mut().find(|set| set.metadata.name.as_ref() == Some(&resize.name)) else {
            return Ok(false);
        };
        let from = size(set);
        let mut wanted = set.clone();
        wanted.spec.get_or_insert_default().replicas = Some(resize.size);
        revision::annotate_size(wanted.metadata.annotations.get_or_insert_default(), rollout.bounds);
        let Some(patch) = merge_patch::object(&*set, &wanted)? else { return Ok(false) };
        *set = self.client.namespaced(&rollout.key.namespace).patch(&resize.name, None, &patch).await?;
        if from == resize.size {
            return Ok(false);
        }
        let way = if from < resize.size { "up" } else { "down" };
        let message = format!("Scaled {way} replica set {} from {from} to {}", resize.name, resize.size);
        let about = ObjectRef::to::<Deployment>(&rollout.deployment.metadata);
        self.recorder.record(&about, EventKind::Normal, "ScalingReplicaSet", message);
        Ok(true)
    }

    async fn resize_all(&self, rollout: &mut Rollout<'_>, resizes: &[Resize]) -> Result<bool, Error> {
        let mut changed = false;
        for resize in resizes {
            changed |= self.resize(rollout, resize).await?;
        }
        Ok(changed)
    }

    /// Finds the set of the present template, with revision and annotations up to date; makes it if `create`.
    async fn newest(&self, rollout: &mut Rollout<'_>, create: bool) -> Result<Option<String>, Error> {
        let now = self.clock.now();
        let sets = self.client.namespaced::<ReplicaSet>(&rollout.key.namespace);
        let has_deadline = progress::deadline(&rollout.deployment).is_some();
        let found = revision::newest(&rollout.deployment, &rollout.sets).and_then(|set| set.metadata.name.clone());
        let is_old = |set: &&ReplicaSet| set.metadata.name != found;
        let next = revision::next(&rollout.sets.iter().filter(is_old).collect::<Vec<_>>());
        if let Some(name) = found {
            let Some(set) = rollout.sets.iter_mut().find(|set| set.metadata.name.as_ref() == Some(&name)) else {
                return Ok(None);
            };
            let mut wanted = set.clone();
            wanted.metadata.annotations = Some(revision::annotate(&rollout.deployment, &set.metadata, next));
            if let Some(spec) = &mut wanted.spec {
                spec.min_ready_seconds = rollout.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
            }
            if let Some(patch) = merge_patch::object(&*set, &wanted)? {
                *set = sets.patch(&name, None, &patch).await?;
            }
            let revision = revision::revision(&set.metadata);
            self.set_revision(rollout, revision).await?;
            let known = rollout.deployment.status.as_ref().and_then(|status| status.conditions.as_ref());
            if has_deadline && !known.into_iter().flatten().any(|condition| condition.type_ == "Progressing") {
                let message = format!("Found new replica set \"{name}\"");
                self.condition(rollout, "True", "FoundNewReplicaSet", message).await?;
            }
            return Ok(Some(name));
        }
        if !create {
            return Ok(None);
        }
        let rolling = rollout.deployment.spec.as_ref().is_some_and(rollout::is_rolling);
        let size = if rolling {
            rollout::new_size(rollout.bounds, 0, &outlines(rollout.sets.iter()))
        } else {
            rollout.bounds.replicas
        };
        let collisions = rollout.deployment.status.as_ref().and_then(|status| status.collision_count);
        let wanted = revision::new_set(&rollout.deployment, rollout.bounds, size, next, collisions)?;
        let name = wanted.metadata.name.clone().unwrap_or_default();
        let created = match sets.create(&wanted).await {
            Ok(set) => {
                if size > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {size}");
                    let about = ObjectRef::to::<Deployment>(&rollout.deployment.metadata);
                    self.recorder.record(&about, EventKind::Normal, "ScalingReplicaSet", message);
                }
                set
            }
            Err(error) if error.is_already_exists() => {
                let there = sets.get(&name).await?;
                if !revision::is_same(&rollout.deployment, &there) {
                    // Another template has this hash: the next try takes another.
                    let collisions = collisions.unwrap_or(0).saturating_add(1);
                    let uid = &rollout.deployment.metadata.uid;
                    let patch =
                        Patch::Merge(json!({"metadata": {"uid": uid}, "status": {"collisionCount": collisions}}));
                    let api = self.client.namespaced::<Deployment>(&rollout.key.namespace);
                    api.patch(&rollout.key.name, Some("status"), &patch).await?;
                    return Err(Error::NotYet(format!("the hash of {name} is taken, collision {collisions}")));
                }
                there
            }
            Err(error) if error.is_namespace_terminating() => return Ok(None),
            Err(error) => {
                if has_deadline {
                    let message = format!("Failed to create new replica set \"{name}\": {error}");
                    self.condition(rollout, "False", "ReplicaSetCreateError", message).await?;
                }
                return Err(error.into());
            }
        };
        tracing::debug!(deployment = %rollout.key, set = name, revision = next, at = %now, "new replica set");
        rollout.sets.push(created);
        self.set_revision(rollout, next).await?;
        if has_deadline {
            let message = format!("Created new replica set \"{name}\"");
            self.condition(rollout, "True", "NewReplicaSetCreated", message).await?;
        }
        Ok(Some(name))
    }

    /// Writes the revision on the deployment itself.
    async fn set_revision(&self, rollout: &mut Rollout<'_>, revision: i64) -> Result<(), Error> {
        if revision::revision(&rollout.deployment.metadata) == revision {
            return Ok(());
        }
        let annotations = json!({ (revision::REVISION): revision.to_string() });
        let patch =
            Patch::Merge(json!({ "metadata": { "uid": rollout.deployment.metadata.uid, "annotations": annotations } }));
        let api = self.client.namespaced::<Deployment>(&rollout.key.namespace);
        rollout.deployment = api.patch(&rollout.key.name, None, &patch).await?;
        Ok(())
    }

    /// Writes the condition Progressing at once: creating the set is progress that the counts do not show yet.
    async fn condition(
        &self,
        rollout: &mut Rollout<'_>,
        status: &str,
        reason: &str,
        message: String,
    ) -> Result<(), Error> {
        let mut new = rollout.deployment.status.clone().unwrap_or_default();
        let conditions = new.conditions.get_or_insert_default();
        progress::set(conditions, "Progressing", status, reason, message, self.clock.now());
        self.write_status(rollout, new).await
    }

    async fn write_status(&self, rollout: &mut Rollout<'_>, new: DeploymentStatus) -> Result<(), Error> {
        let old = rollout.deployment.status.clone().unwrap_or_default();
        if let Some(patch) = merge_patch::status(&rollout.deployment.metadata, &old, &new)? {
            let api = self.client.namespaced::<Deployment>(&rollout.key.namespace);
            rollout.deployment = api.patch(&rollout.key.name, Some("status"), &patch).await?;
        }
        Ok(())
    }

    /// Paused, resized, or only to be counted: sizes follow, templates do not.
    async fn keep(&self, rollout: &mut Rollout<'_>) -> Result<Requeue, Error> {
        let new = self.newest(rollout, false).await?;
        let rolling = rollout.deployment.spec.as_ref().is_some_and(rollout::is_rolling);
        let sizes = rollout::rescale(rolling, rollout.bounds, &outlines(rollout.sets.iter()), new.as_deref());
        self.resize_all(rollout, &sizes).await?;
        if rollout.deployment.spec.as_ref().is_some_and(|spec| spec.paused == Some(true)) {
            self.clean_up(rollout, new.as_deref()).await?;
        }
        let (sets, newest) = rollout.split(new.as_deref());
        let status = progress::counts(&rollout.deployment, rollout.bounds, &sets, newest, self.clock.now());
        self.write_status(rollout, status).await?;
        Ok(Requeue::Never)
    }

    async fn roll(&self, rollout: &mut Rollout<'_>) -> Result<Requeue, Error> {
        let new = self.newest(rollout, true).await?;
        let Some(name) = new.as_deref() else { return Ok(Requeue::Never) };
        let newest = rollout.outline(name);
        let old = rollout.old(name);
        let grown = rollout::new_size(rollout.bounds, newest.size, &old);
        let moved = self.resize(rollout, &Resize { name: name.to_owned(), size: grown }).await?;
        let moved = moved || {
            let sizes = rollout::shrink_old(rollout.bounds, &rollout.outline(name), &rollout.old(name));
            self.resize_all(rollout, &sizes).await?
        };
        self.finish(rollout, new.as_deref(), moved).await
    }

    async fn recreate(&self, rollout: &mut Rollout<'_>) -> Result<Requeue, Error> {
        let found = self.newest(rollout, false).await?;
        let name = found.as_deref().unwrap_or_default();
        let shrink: Vec<Resize> = rollout
            .old(name)
            .into_iter()
            .filter(|set| set.size > 0)
            .map(|set| Resize { name: set.name, size: 0 })
            .collect();
        if self.resize_all(rollout, &shrink).await? || self.old_pods_run(rollout, name) {
            return self.finish(rollout, found.as_deref(), true).await;
        }
        let new = self.newest(rollout, true).await?;
        if let Some(name) = &new {
            let size = rollout.bounds.replicas;
            self.resize(rollout, &Resize { name: name.clone(), size }).await?;
        }
        self.finish(rollout, new.as_deref(), false).await
    }

    /// Whether a pod of an old set has not ended yet.
    fn old_pods_run(&self, rollout: &Rollout<'_>, new: &str) -> bool {
        let old = rollout.sets.iter().filter(|set| set.metadata.name.as_deref() != Some(new));
        let uids = old.filter_map(|set| set.metadata.uid.as_deref());
        uids.flat_map(|uid| self.pods.controlled_by(uid))
            .any(|entry| entry.decode_as::<view::Pod>().is_ok_and(|pod| !pod.is_terminal()))
    }

    /// Cleans up after a finished rollout, and writes the status.
    async fn finish(&self, rollout: &mut Rollout<'_>, new: Option<&str>, moved: bool) -> Result<Requeue, Error> {
        let status = rollout.deployment.status.clone().unwrap_or_default();
        if !moved && progress::is_complete(&rollout.deployment, &status) {
            self.clean_up(rollout, new).await?;
        }
        let now = self.clock.now();
        let (sets, newest) = rollout.split(new);
        let counts = progress::counts(&rollout.deployment, rollout.bounds, &sets, newest, now);
        let status = progress::progress(&rollout.deployment, counts, &sets, newest, now);
        let stuck = progress::stuck_in(&rollout.deployment, &status, now);
        self.write_status(rollout, status).await?;
        Ok(stuck.map_or(Requeue::Never, Requeue::seconds))
    }

    /// Deletes the old sets beyond the history limit, by revision.
    async fn clean_up(&self, rollout: &mut Rollout<'_>, new: Option<&str>) -> Result<(), Error> {
        let limit = rollout.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let Ok(limit) = usize::try_from(limit) else { return Ok(()) };
        let doomed = beyond_history(&rollout.sets, new, limit);
        let api = self.client.namespaced::<ReplicaSet>(&rollout.key.namespace);
        for (name, uid) in doomed {
            api.delete_if_present(&name, &DeleteOptions::default().uid(uid)).await?;
            rollout.sets.retain(|set| set.metadata.name.as_ref() != Some(&name));
        }
        Ok(())
    }

    /// Follows `spec.paused` in the condition Progressing, so that a pause does not count against the deadline.
    async fn note_pause(&self, rollout: &mut Rollout<'_>) -> Result<(), Error> {
        if progress::deadline(&rollout.deployment).is_none() {
            return Ok(());
        }
        let conditions = rollout.deployment.status.as_ref().and_then(|status| status.conditions.as_ref());
        let reason =
            conditions.into_iter().flatten().find(|c| c.type_ == "Progressing").and_then(|c| c.reason.as_deref());
        if reason == Some("ProgressDeadlineExceeded") {
            return Ok(());
        }
        let was = reason == Some("DeploymentPaused");
        match (rollout.deployment.spec.as_ref().is_some_and(|spec| spec.paused == Some(true)), was) {
            (true, false) => {
                self.condition(rollout, "Unknown", "DeploymentPaused", "Deployment is paused".to_owned()).await
            }
            (false, true) => {
                self.condition(rollout, "Unknown", "DeploymentResumed", "Deployment is resumed".to_owned()).await
            }
            _ => Ok(()),
        }
    }
}

impl Controller for Deployments {
    const NAME: &'static str = "deployment-controller";
    const ACCOUNT: Option<&'static str> = Some("deployment-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.deployments);
        let this = Arc::clone(self);
        watches.on(&self.sets, move |change| {
            let mut touched: Vec<Key> = [&change.old, &change.new]
                .into_iter()
                .flatten()
                .filter_map(|entry| {
                    let owner = entry.meta.controller.as_ref().filter(|owner| &*owner.kind == "Deployment")?;
                    Some(Key::new(&entry.meta.key.namespace, &owner.name))
                })
                .collect();
            if let Some(orphan) = change.new.as_ref().filter(|new| new.meta.controller.is_none()) {
                let candidates = this.deployments.in_namespace(&orphan.meta.key.namespace);
                touched.extend(candidates.iter().filter_map(|entry| {
                    let spec = entry.decode().ok()?.spec?;
                    selector::matches(&spec.selector, &orphan.meta).then(|| entry.meta.key.clone())
                }));
            }
            touched.dedup();
            touched
        });
        let this = Arc::clone(self);
        // A deployment that recreates waits for the last old pod to go.
        watches.on(&self.pods, move |change| {
            let (Some(old), None) = (&change.old, &change.new) else { return Vec::new() };
            let owner = old.meta.controller.as_ref().filter(|owner| &*owner.kind == "ReplicaSet");
            let set = owner.and_then(|owner| this.sets.get(&old.meta.key.namespace, &owner.name));
            let deployment = set.as_ref().and_then(|set| set.meta.controller.as_ref());
            deployment.map(|owner| Key::new(&old.meta.key.namespace, &owner.name)).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.deployments.find(key) else { return Ok(Requeue::Never) };
        let deployment = entry.decode()?;
        let Some(spec) = &deployment.spec else { return Ok(Requeue::Never) };
        if selector::is_empty(&spec.selector) {
            let about = ObjectRef::to::<Deployment>(&deployment.metadata);
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.record(&about, EventKind::Warning, "SelectingAll", message);
            return Ok(Requeue::Never);
        }
        let sets = self.claim(&deployment, key).await?;
        let (bounds, paused, rolling) = (Bounds::of(spec), spec.paused == Some(true), rollout::is_rolling(spec));
        let mut rollout = Rollout { key, deployment, bounds, sets };
        if entry.meta.deleting {
            let new = revision::newest(&rollout.deployment, &rollout.sets).and_then(|set| set.metadata.name.clone());
            let (sets, newest) = rollout.split(new.as_deref());
            let status = progress::counts(&rollout.deployment, bounds, &sets, newest, self.clock.now());
            self.write_status(&mut rollout, status).await?;
            return Ok(Requeue::Never);
        }
        self.note_pause(&mut rollout).await?;
        if paused || rollout.is_resized() {
            return self.keep(&mut rollout).await;
        }
        if rolling { self.roll(&mut rollout).await } else { self.recreate(&mut rollout).await }
    }
}

impl Rollout<'_> {
    /// Whether the deployment's size is not the one for which its sets were sized.
    fn is_resized(&self) -> bool {
        self.sets.iter().filter(|set| size(set) > 0).any(|set| {
            revision::number::<i32>(&set.metadata, revision::DESIRED)
                .is_some_and(|desired| desired != self.bounds.replicas)
        })
    }

    fn outline(&self, name: &str) -> Set {
        let set = self.sets.iter().filter(|set| set.metadata.name.as_deref() == Some(name));
        outlines(set).pop().unwrap_or_default()
    }

    fn old(&self, new: &str) -> Vec<Set> {
        outlines(self.sets.iter().filter(|set| set.metadata.name.as_deref() != Some(new)))
    }

    fn split(&self, new: Option<&str>) -> (Vec<&ReplicaSet>, Option<&ReplicaSet>) {
        let newest = new.and_then(|new| self.sets.iter().find(|set| set.metadata.name.as_deref() == Some(new)));
        (self.sets.iter().collect(), newest)
    }
}

fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn outlines<'a>(sets: impl Iterator<Item = &'a ReplicaSet>) -> Vec<Set> {
    sets.map(|set| Set {
        name: set.metadata.name.clone().unwrap_or_default(),
        size: size(set),
        present: set.status.as_ref().map_or(0, |status| status.replicas),
        available: set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0),
        desired: revision::number(&set.metadata, revision::DESIRED),
        most: revision::number(&set.metadata, revision::MOST),
    })
    .collect()
}

/// The sets (name, uid) that are empty and older than the history goes.
fn beyond_history(sets: &[ReplicaSet], new: Option<&str>, limit: usize) -> Vec<(String, String)> {
    let mut old: Vec<&ReplicaSet> = sets
        .iter()
        .filter(|set| set.metadata.name.as_deref() != new && set.metadata.deletion_timestamp.is_none())
        .collect();
    old.sort_by_key(|set| revision::revision(&set.metadata));
    let excess = old.len().saturating_sub(limit);
    let is_empty = |set: &ReplicaSet| {
        let observed = set.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
        size(set) == 0
            && set.status.as_ref().map_or(0, |status| status.replicas) == 0
            && observed >= set.metadata.generation.unwrap_or(0)
    };
    let doomed = old.into_iter().take(excess).filter(|set| is_empty(set));
    doomed.filter_map(|set| Some((set.metadata.name.clone()?, set.metadata.uid.clone()?))).collect()
}
