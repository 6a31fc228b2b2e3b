//! Binds claims to volumes, and asks provisioners for volumes that are missing.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use trireme_client::{Client, EventKind, Informer, Key, ObjectRef, Patch, Recorder};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{Clock, Error, merge_patch};

mod matching;

use matching::{Reference, best, class_of_claim, reference};

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const BETA_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The provisioner of classes whose volumes are made by hand.
const BY_HAND: &str = "kubernetes.io/no-provisioner";

pub(crate) struct VolumeBinder {
    client: Client,
    volumes: Informer<PersistentVolume>,
    claims: Informer<PersistentVolumeClaim>,
    classes: Informer<StorageClass>,
    recorder: Recorder,
    clock: Clock,
}

/// What to do about a claim.
#[derive(Clone, Debug, PartialEq)]
enum ClaimStep {
    /// Bind it to this volume, or finish that.
    Bind(Box<PersistentVolume>),
    /// It waits for a volume.
    Wait,
    /// Its volume is gone, or somebody else's.
    Lost { reason: &'static str, message: &'static str },
}

fn has(metadata: &ObjectMeta, annotation: &str) -> bool {
    metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(annotation))
}

/// Decides about a claim. `may_choose` says whether a volume may be chosen now, or only with the first pod.
fn claim_step(claim: &PersistentVolumeClaim, volumes: &[PersistentVolume], may_choose: bool) -> ClaimStep {
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty());
    let completed = has(&claim.metadata, BIND_COMPLETED);
    let Some(name) = named else {
        let found = best(claim, volumes).filter(|volume| {
            let kept = reference(volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()), claim);
            may_choose || kept == Reference::Ours
        });
        return found.map_or(ClaimStep::Wait, |volume| ClaimStep::Bind(Box::new(volume.clone())));
    };
    let Some(volume) = volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(name)) else {
        return if completed {
            let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            ClaimStep::Lost { reason: "ClaimLost", message }
        } else {
            ClaimStep::Wait
        };
    };
    match reference(volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()), claim) {
        Reference::Free if !completed && !matching::suits(claim, volume) => ClaimStep::Wait,
        Reference::Free | Reference::Ours => ClaimStep::Bind(Box::new(volume.clone())),
        Reference::Other if completed => {
            let message = "Two claims are bound to the same volume, this one is bound incorrectly";
            ClaimStep::Lost { reason: "ClaimMisbound", message }
        }
        Reference::Other => ClaimStep::Wait,
    }
}

impl VolumeBinder {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            volumes: context.informer(),
            claims: context.informer(),
            classes: context.informer(),
            recorder: context.recorder("persistentvolume-controller"),
            clock: context.clock.clone(),
        }
    }

    async fn set_volume_phase(&self, volume: &PersistentVolume, phase: &str) -> Result<(), Error> {
        let old = volume.status.clone().unwrap_or_default();
        if old.phase.as_deref() == Some(phase) {
            return Ok(());
        }
        let mut new = old.clone();
        new.phase = Some(phase.to_owned());
        new.last_phase_transition_time = Some(Time(self.clock.now()));
        if let Some(patch) = merge_patch::status(&volume.metadata, &old, &new)? {
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            self.client.all::<PersistentVolume>().patch(name, Some("status"), &patch).await?;
        }
        Ok(())
    }

    /// Binds in an order in which a crash leaves nothing half-done: the volume names the claim first, then the claim
    /// names the volume, then it is complete.
    async fn bind(&self, key: &Key, claim: &PersistentVolumeClaim, volume: PersistentVolume) -> Result<(), Error> {
        let volumes = self.client.all::<PersistentVolume>();
        let claims = self.client.namespaced::<PersistentVolumeClaim>(&key.namespace);
        let volume_name = volume.metadata.name.clone().unwrap_or_default();
        let mut wanted = volume.clone();
        let spec = wanted.spec.get_or_insert_default();
        let present = spec.claim_ref.clone();
        spec.claim_ref = Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            namespace: claim.metadata.namespace.clone(),
            name: claim.metadata.name.clone(),
            uid: claim.metadata.uid.clone(),
            resource_version: present
                .as_ref()
                .and_then(|p| p.resource_version.clone())
                .or_else(|| claim.metadata.resource_version.clone()),
            field_path: None,
        });
        if present.is_none() {
            let annotations = wanted.metadata.annotations.get_or_insert_default();
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        let complete = present.as_ref().is_some_and(|present| present.uid == claim.metadata.uid);
        let volume = match merge_patch::object(&volume, &wanted)?.filter(|_| !complete) {
            Some(patch) => volumes.patch(&volume_name, None, &patch).await?,
            None => volume,
        };
        self.set_volume_phase(&volume, "Bound").await?;

        let mut wanted = claim.clone();
        let spec = wanted.spec.get_or_insert_default();
        let annotations = wanted.metadata.annotations.get_or_insert_default();
        if spec.volume_name.as_deref().unwrap_or_default().is_empty() {
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        spec.volume_name = Some(volume_name);
        annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
        let claim = match merge_patch::object(claim, &wanted)? {
            Some(patch) => claims.patch(&key.name, None, &patch).await?,
            None => claim.clone(),
        };
        let old = claim.status.clone().unwrap_or_default();
        let mut new = old.clone();
        let given = volume.spec.unwrap_or_default();
        new.phase = Some("Bound".to_owned());
        new.access_modes = given.access_modes;
        // A volume that grows later tells its size to the claim through the resizer, not through the binder.
        if old.phase.as_deref() != Some("Bound") || new.capacity.is_none() {
            new.capacity = given.capacity;
        }
        if let Some(patch) = merge_patch::status(&claim.metadata, &old, &new)? {
            claims.patch(&key.name, Some("status"), &patch).await?;
        }
        Ok(())
    }

    async fn set_claim_phase(&self, claim: &PersistentVolumeClaim, phase: &str) -> Result<bool, Error> {
        let old = claim.status.clone().unwrap_or_default();
        let mut new = old.clone();
        new.phase = Some(phase.to_owned());
        if phase == "Lost" {
            new.capacity = None;
            new.access_modes = None;
        }
        let Some(patch) = merge_patch::status(&claim.metadata, &old, &new)? else { return Ok(false) };
        let api = self.client.namespaced(claim.metadata.namespace.as_deref().unwrap_or_default());
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let _: PersistentVolumeClaim = api.patch(name, Some("status"), &patch).await?;
        Ok(true)
    }

    /// Tells what an unbound claim waits for, and asks the provisioner of its class for a volume.
    async fn wait(
        &self,
        claim: &PersistentVolumeClaim,
        class: Option<&StorageClass>,
        delayed: bool,
    ) -> Result<(), Error> {
        let about = ObjectRef::to::<PersistentVolumeClaim>(&claim.metadata);
        let name = class_of_claim(claim);
        let preselected = claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some());
        if preselected {
            // Bound to one volume by hand: nothing else will do.
        } else if delayed {
            let message = "waiting for first consumer to be created before binding";
            self.recorder.record(&about, EventKind::Normal, "WaitForFirstConsumer", message);
        } else if name.is_empty() {
            let message = "no persistent volumes available for this claim and no storage class is set";
            self.recorder.record(&about, EventKind::Normal, "FailedBinding", message);
        } else if let Some(class) = class.filter(|class| class.provisioner != BY_HAND) {
            let provisioner = &class.provisioner;
            if !has(&claim.metadata, PROVISIONER) {
                let annotations = json!({(PROVISIONER): provisioner, (BETA_PROVISIONER): provisioner});
                let metadata = json!({"uid": claim.metadata.uid, "annotations": annotations});
                let api = self.client.namespaced::<PersistentVolumeClaim>(&about.namespace);
                api.patch(&about.name, None, &Patch::Merge(json!({ "metadata": metadata }))).await?;
                return Ok(());
            }
            let message = format!(
                "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
            );
            self.recorder.record(&about, EventKind::Normal, "ExternalProvisioning", message);
        } else if class.is_none() {
            let message = format!("storageclass.storage.k8s.io \"{name}\" not found");
            self.recorder.record(&about, EventKind::Warning, "ProvisioningFailed", message);
        }
        self.set_claim_phase(claim, "Pending").await.map(drop)
    }

    async fn reconcile_claim(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.claims.find(key).filter(|entry| !entry.meta.deleting) else {
            return Ok(Requeue::Never);
        };
        let claim = entry.decode()?;
        let mut volumes = Vec::new();
        for volume in self.volumes.list() {
            volumes.push(volume.decode()?);
        }
        let class = match self.classes.get("", class_of_claim(&claim)) {
            Some(class) => Some(class.decode()?),
            None => None,
        };
        let waits = class.as_ref().and_then(|c| c.volume_binding_mode.as_deref()) == Some("WaitForFirstConsumer");
        let delayed = waits && !has(&claim.metadata, SELECTED_NODE);
        match claim_step(&claim, &volumes, !delayed) {
            ClaimStep::Bind(volume) => self.bind(key, &claim, *volume).await?,
            ClaimStep::Wait => self.wait(&claim, class.as_ref(), delayed).await?,
            ClaimStep::Lost { reason, message } => {
                if self.set_claim_phase(&claim, "Lost").await? {
                    let about = ObjectRef::to::<PersistentVolumeClaim>(&claim.metadata);
                    self.recorder.record(&about, EventKind::Warning, reason, message);
                }
            }
        }
        Ok(Requeue::Never)
    }

    async fn reconcile_volume(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.volumes.find(key) else { return Ok(Requeue::Never) };
        let volume = entry.decode()?;
        let claim_ref = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone());
        let Some(claim_ref) = claim_ref.filter(|to| to.uid.as_ref().is_some_and(|uid| !uid.is_empty())) else {
            self.set_volume_phase(&volume, "Available").await?;
            return Ok(Requeue::Never);
        };
        let namespace = claim_ref.namespace.unwrap_or_default();
        let name = claim_ref.name.unwrap_or_default();
        let known =
            self.claims.get(&namespace, &name).filter(|claim| Some(&*claim.meta.uid) == claim_ref.uid.as_deref());
        if known.is_some() {
            return Ok(Requeue::Never);
        }
        // Reclaiming destroys data: the server must say that the claim is gone, not the cache.
        let live = self.client.namespaced::<PersistentVolumeClaim>(&namespace).find(&name).await?;
        if live.is_some_and(|live| live.metadata.uid == claim_ref.uid) {
            return Err(Error::NotYet(format!("claim {namespace}/{name} is not in the cache")));
        }
        // Deleting the volume itself is its provisioner's work, which sees the phase (CSI external-provisioner).
        self.set_volume_phase(&volume, "Released").await?;
        Ok(Requeue::Never)
    }
}

impl Controller for VolumeBinder {
    const NAME: &'static str = "persistentvolume-binder-controller";
    const ACCOUNT: Option<&'static str> = Some("persistent-volume-binder");
    // Two claims decided at once would be given the same volume.
    const WORKERS: usize = 1;

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.claims);
        let this = Arc::clone(self);
        watches.on(&self.claims, move |change| {
            let (Some(old), None) = (&change.old, &change.new) else { return Vec::new() };
            let volume = old.decode().ok().and_then(|claim| claim.spec?.volume_name);
            let volume = volume.and_then(|name| this.volumes.get("", &name));
            volume.map(|volume| volume.meta.key.clone()).into_iter().collect()
        });
        let this = Arc::clone(self);
        watches.on(&self.volumes, move |change| {
            let Some(latest) = change.latest() else { return Vec::new() };
            let mut touched = vec![latest.meta.key.clone()];
            let claim = latest.decode().ok().and_then(|volume| volume.spec?.claim_ref);
            match claim {
                Some(claim) => {
                    touched.push(Key::new(&claim.namespace.unwrap_or_default(), &claim.name.unwrap_or_default()));
                }
                // A free volume may be what any waiting claim waits for.
                None => touched.extend(this.claims.list().iter().map(|claim| claim.meta.key.clone())),
            }
            touched
        });
        let this = Arc::clone(self);
        watches.on(&self.classes, move |_| this.claims.list().iter().map(|claim| claim.meta.key.clone()).collect());
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        if key.namespace.is_empty() { self.reconcile_volume(key).await } else { self.reconcile_claim(key).await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};

    fn claim(name: &str, class: &str) -> serde_json::Value {
        json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"storageClassName": class,
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
    }

    fn volume(name: &str) -> serde_json::Value {
        json!({"metadata": {"name": name}, "spec": {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"]}})
    }

    #[tokio::test(start_paused = true)]
    async fn claims_and_volumes_find_each_other_and_part() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(VolumeBinder::new(&context), context.shutdown.clone()));
        api.put::<PersistentVolume>(volume("v"));
        for name in ["a", "b"] {
            api.put::<PersistentVolumeClaim>(claim(name, ""));
        }
        let phase = |name: &str| api.get::<PersistentVolumeClaim>("n", name)?.status?.phase;
        let volume_phase = |name: &str| api.get::<PersistentVolume>("", name)?.status?.phase;
        let settled = || {
            let (a, b) = (phase("a"), phase("b"));
            let mut both = [a.as_deref(), b.as_deref()];
            both.sort_unstable();
            both == [Some("Bound"), Some("Pending")] && volume_phase("v").as_deref() == Some("Bound")
        };
        eventually("one bound, one waiting", settled).await;
        let (winner, loser) = if phase("a").as_deref() == Some("Bound") { ("a", "b") } else { ("b", "a") };
        api.remove::<PersistentVolumeClaim>("n", winner);
        eventually("the release", || volume_phase("v").as_deref() == Some("Released")).await;
        assert_eq!(phase(loser).as_deref(), Some("Pending"));
        api.put::<PersistentVolume>(volume("w"));
        eventually("the other", || phase(loser).as_deref() == Some("Bound")).await;
        api.remove::<PersistentVolume>("", "w");
        eventually("the loss", || phase(loser).as_deref() == Some("Lost")).await;
        context.shutdown.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn a_class_asks_its_provisioner_at_once_or_with_the_first_pod() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(VolumeBinder::new(&context), context.shutdown.clone()));
        for (name, mode) in [("now", "Immediate"), ("later", "WaitForFirstConsumer")] {
            api.put::<StorageClass>(
                json!({"metadata": {"name": name}, "provisioner": "example.com/p", "volumeBindingMode": mode}),
            );
            api.put::<PersistentVolumeClaim>(claim(name, name));
        }
        let asked = |name: &str| has(&api.get::<PersistentVolumeClaim>("n", name).unwrap().metadata, PROVISIONER);
        eventually("the first", || asked("now")).await;
        assert!(!asked("later"));
        let selected = json!({"metadata": {"annotations": {SELECTED_NODE: "n1"}}});
        api.change::<PersistentVolumeClaim>("n", "later", selected);
        eventually("the second", || asked("later")).await;
        context.shutdown.cancel();
    }
}
