//! Stateful sets: pods with names and claims of their own, in order.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;
use trireme_client::{Client, DeleteOptions, EventKind, Informer, Key, ObjectRef, Patch};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::expectations::Expectations;
use crate::pod_control::{Owned, PodControl, owners_of_pod};
use crate::revisions::{self, Newest, Revisions};
use crate::{Clock, Error, merge_patch, pod_template, selector, view};

mod identity;
mod plan;

use identity::Keeper;
use plan::{Action, Counts, Member, Shape};

pub(crate) struct StatefulSets {
    client: Client,
    sets: Informer<StatefulSet>,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    revisions: Informer<ControllerRevision>,
    history: Revisions,
    control: PodControl,
    expectations: Arc<Expectations>,
    clock: Clock,
}

/// The set and the two revisions that its pods may be of.
struct Set<'a> {
    set: &'a StatefulSet,
    owned: &'a Owned<StatefulSet>,
    current: &'a ControllerRevision,
    update: &'a ControllerRevision,
    about: ObjectRef,
}

impl StatefulSets {
    pub(crate) fn new(context: &Context) -> Self {
        let pods = context.informer::<Pod>();
        let expectations = Arc::new(Expectations::default());
        let recorder = context.recorder("statefulset-controller");
        let revisions = context.informer();
        Self {
            client: context.client.clone(),
            sets: context.informer(),
            control: PodControl::new(&context.client, pods.clone(), recorder, Arc::clone(&expectations)),
            pods,
            claims: context.informer(),
            history: Revisions::new(&context.client, revisions.clone()),
            revisions,
            expectations,
            clock: context.clock.clone(),
        }
    }

    fn tell(&self, set: &Set<'_>, verb: &str, what: &str, error: Option<&trireme_client::Error>) {
        let name = &set.about.name;
        let reason = format!("{}{}", if error.is_some() { "Failed" } else { "Successful" }, capitalized(verb));
        let kind = if error.is_some() { EventKind::Warning } else { EventKind::Normal };
        let message = match error {
            Some(error) => format!("{verb} {what} in StatefulSet {name} failed error: {error}"),
            None => format!("{verb} {what} in StatefulSet {name} successful"),
        };
        self.control.recorder().record(&set.about, kind, &reason, message);
    }

    /// Makes the claims that a pod needs; gives back nothing until all are there and stay.
    async fn make_claims(&self, set: &Set<'_>, pod: &str) -> Result<(), Error> {
        let api = self.client.namespaced::<PersistentVolumeClaim>(&set.about.namespace);
        for claim in identity::claims(set.set, pod) {
            let name = claim.metadata.name.clone().unwrap_or_default();
            match self.claims.get(&set.about.namespace, &name) {
                Some(there) if there.meta.deleting => {
                    return Err(Error::NotYet(format!("claim {name} is being deleted")));
                }
                Some(_) => continue,
                None => {}
            }
            let what = format!("Claim {name} Pod {pod}");
            match api.create(&claim).await {
                Ok(_) => self.tell(set, "create", &what, None),
                Err(error) if error.is_already_exists() => {}
                Err(error) => {
                    self.tell(set, "create", &what, Some(&error));
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    async fn create(&self, set: &Set<'_>, ordinal: i32, revision: &ControllerRevision) -> Result<(), Error> {
        let name = identity::pod_name(&set.about.name, ordinal);
        self.make_claims(set, &name).await?;
        let pod = identity::pod(set.set, set.owned.reference(), ordinal, revision)?;
        self.expectations.creations(&set.about.uid, 1);
        let what = format!("Pod {name}");
        match self.client.namespaced::<view::PodKind>(&set.about.namespace).create(&pod).await {
            Ok(_) => {
                self.tell(set, "create", &what, None);
                Ok(())
            }
            Err(error) => {
                self.expectations.created(&set.about.uid);
                if error.is_namespace_terminating() {
                    return Ok(());
                }
                self.tell(set, "create", &what, Some(&error));
                Err(error.into())
            }
        }
    }

    async fn delete(&self, set: &Set<'_>, members: &[Member], ordinal: i32) -> Result<(), Error> {
        let Some(member) = members.iter().find(|member| member.ordinal == ordinal) else { return Ok(()) };
        let metadata = &member.pod.metadata;
        self.expectations.deletion(&set.about.uid, &metadata.uid);
        let options = DeleteOptions::default().uid(metadata.uid.as_str());
        let what = format!("Pod {}", metadata.name);
        match self.client.namespaced::<Pod>(&set.about.namespace).delete(&metadata.name, &options).await {
            Ok(()) => {
                self.tell(set, "delete", &what, None);
                Ok(())
            }
            Err(error) => {
                self.expectations.deleted(&set.about.uid, &metadata.uid);
                if error.is_not_found() || error.is_conflict() {
                    return Ok(());
                }
                self.tell(set, "delete", &what, Some(&error));
                Err(error.into())
            }
        }
    }

    async fn act(&self, set: &Set<'_>, members: &[Member], action: &Action) -> Result<(), Error> {
        match action {
            Action::Create { ordinal, updated } => {
                self.create(set, *ordinal, if *updated { set.update } else { set.current }).await
            }
            Action::Recreate(ordinal) => {
                let name = identity::pod_name(&set.about.name, *ordinal);
                let message =
                    format!("StatefulSet {}/{} is recreating failed Pod {name}", set.about.namespace, set.about.name);
                self.control.recorder().record(&set.about, EventKind::Warning, "RecreatingFailedPod", message);
                self.delete(set, members, *ordinal).await
            }
            Action::Shrink(ordinal) | Action::Update(ordinal) => self.delete(set, members, *ordinal).await,
        }
    }

    /// Gives the claims of all pods the owners that the retention policy wants.
    async fn keep_claims(&self, set: &Set<'_>, shape: &Shape<'_>, members: &[Member]) -> Result<(), Error> {
        let Some(spec) = &set.set.spec else { return Ok(()) };
        let api = self.client.namespaced::<PersistentVolumeClaim>(&set.about.namespace);
        for member in members {
            let condemned = !(shape.start..shape.start.saturating_add(shape.replicas)).contains(&member.ordinal);
            let pod = &member.pod.metadata;
            let owner = |api_version: &str, kind: &str, name: &str, uid: &str| OwnerReference {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                name: name.to_owned(),
                uid: uid.to_owned(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            };
            let of_set = owner("apps/v1", "StatefulSet", &set.about.name, &set.about.uid);
            let of_pod = owner("v1", "Pod", &pod.name, &pod.uid);
            let wanted = match identity::keeper(spec, condemned) {
                Keeper::Nobody => None,
                Keeper::Set => Some(of_set.clone()),
                Keeper::Pod => Some(of_pod.clone()),
            };
            for name in identity::claim_names(spec, &pod.name).into_values() {
                let Some(entry) = self.claims.get(&set.about.namespace, &name) else { continue };
                let claim = entry.decode()?;
                let owners = claim.metadata.owner_references.clone().unwrap_or_default();
                let ours = |owner: &OwnerReference| owner.uid == of_set.uid || owner.uid == of_pod.uid;
                let mut kept: Vec<OwnerReference> = owners.iter().filter(|owner| !ours(owner)).cloned().collect();
                // Somebody else manages the claim: the policy is not ours to carry out.
                if kept.iter().any(|owner| owner.controller == Some(true)) {
                    continue;
                }
                kept.extend(wanted.clone());
                if kept != owners {
                    let patch = json!({"metadata": {"uid": claim.metadata.uid,
                        "resourceVersion": claim.metadata.resource_version, "ownerReferences": kept}});
                    api.patch(&name, None, &Patch::Merge(patch)).await?;
                }
            }
        }
        Ok(())
    }
}

fn capitalized(verb: &str) -> String {
    let mut letters = verb.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn name_of(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

impl Controller for StatefulSets {
    const NAME: &'static str = "statefulset-controller";
    const ACCOUNT: Option<&'static str> = Some("statefulset-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.sets);
        let this = Arc::clone(self);
        watches.on(&self.pods, move |change| {
            this.expectations.observe(change);
            owners_of_pod::<StatefulSet>(change, &this.sets, |set, labels| {
                set.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, labels))
            })
        });
        watches.needs(&self.claims);
        watches.needs(&self.revisions);
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.sets.find(key) else { return Ok(Requeue::Never) };
        let set = entry.decode()?;
        let Some(spec) = &set.spec else { return Ok(Requeue::Never) };
        if selector::is_empty(&spec.selector) {
            return Ok(Requeue::Never);
        }
        let now = self.clock.now();
        let up_to_date = self.expectations.met(&entry.meta.uid);
        let owned = Owned::<StatefulSet>::new(&set.metadata, entry.meta.deleting);
        let is_ours = |labels: &trireme_client::Meta| {
            selector::matches(&spec.selector, labels) && identity::ordinal(&key.name, &labels.key.name).is_some()
        };
        let pods = self.control.claim(&owned, is_ours).await?;
        let mut members: Vec<Member> = pods
            .into_iter()
            .filter_map(|pod| Some(Member { ordinal: identity::ordinal(&key.name, &pod.metadata.name)?, pod }))
            .collect();
        members.sort_by_key(|member| member.ordinal);

        let owner = revisions::Owner {
            metadata: &set.metadata,
            owned: &owned,
            selector: &spec.selector,
            labels: pod_template::labels(&spec.template),
        };
        let mut known = self.history.claim(&owner).await?;
        let old = set.status.clone().unwrap_or_default();
        let collisions = old.collision_count.unwrap_or(0);
        let data = revisions::template_data(&spec.template)?;
        let update = match self.history.newest(&owner, &mut known, &data, collisions).await? {
            Newest::Found(update) => update,
            Newest::Collision => {
                let new = StatefulSetStatus { collision_count: Some(collisions.saturating_add(1)), ..old.clone() };
                if let Some(patch) = merge_patch::status(&set.metadata, &old, &new)? {
                    let api = self.client.namespaced::<StatefulSet>(&key.namespace);
                    api.patch(&key.name, Some("status"), &patch).await?;
                }
                return Err(Error::NotYet(format!("the hash of {key} is taken")));
            }
        };
        let current = known.iter().find(|revision| Some(name_of(revision)) == old.current_revision.as_deref());
        let current = current.cloned().unwrap_or_else(|| (*update).clone());
        let about = ObjectRef::to::<StatefulSet>(&set.metadata);
        let picture = Set { set: &set, owned: &owned, current: &current, update: &update, about };
        let shape = Shape::of(spec, name_of(&current), name_of(&update));

        let mut result = Ok(());
        if up_to_date && !entry.meta.deleting {
            result = self.keep_claims(&picture, &shape, &members).await;
            for action in plan::plan(&shape, &members, now) {
                if result.is_ok() {
                    result = self.act(&picture, &members, &action).await;
                }
            }
        }
        let counts = plan::count(&shape, &members, now);
        let new = status(&old, &shape, &counts, set.metadata.generation);
        if let Some(patch) = merge_patch::status(&set.metadata, &old, &new)? {
            let api = self.client.namespaced::<StatefulSet>(&key.namespace);
            api.patch(&key.name, Some("status"), &patch).await?;
        }
        let used: Vec<&str> = members.iter().map(|member| plan::revision(&member.pod)).collect();
        let in_use = |revision: &ControllerRevision| {
            let name = name_of(revision);
            name == shape.current || name == shape.update || used.contains(&name)
        };
        self.history.truncate(&known, in_use, spec.revision_history_limit.unwrap_or(10)).await?;
        result.map(|()| counts.next_available.map_or(Requeue::Never, Requeue::seconds))
    }
}

fn status(old: &StatefulSetStatus, shape: &Shape<'_>, counts: &Counts, generation: Option<i64>) -> StatefulSetStatus {
    let complete = plan::is_complete(shape, counts);
    let some = |count: i32| (count != 0).then_some(count);
    StatefulSetStatus {
        observed_generation: generation,
        replicas: counts.replicas,
        ready_replicas: some(counts.ready),
        available_replicas: Some(counts.available),
        current_replicas: some(if complete { counts.updated } else { counts.current }),
        updated_replicas: some(counts.updated),
        current_revision: Some(if complete { shape.update } else { shape.current }.to_owned()),
        update_revision: Some(shape.update.to_owned()),
        collision_count: old.collision_count.or(Some(0)),
        conditions: old.conditions.clone(),
    }
}

#[cfg(test)]
mod tests;
