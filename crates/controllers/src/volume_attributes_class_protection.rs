//! Classes of volume attributes that volumes have are not deleted under them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use trireme_client::{Client, Informer, Key, ListOptions};

use crate::Error;
use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::pvc_protection::finalizers;

const FINALIZER: &str = "kubernetes.io/vac-protection";

pub(crate) struct VolumeAttributesClassProtection {
    client: Client,
    classes: Informer<VolumeAttributesClass>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
}

/// The classes that a claim has, wants, or is being changed to.
fn of_claim(claim: &PersistentVolumeClaim) -> Vec<&str> {
    let status = claim.status.as_ref();
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|status| status.modify_volume_status.as_ref());
    let target = target.and_then(|target| target.target_volume_attributes_class_name.as_deref());
    [wanted, current, target].into_iter().flatten().collect()
}

fn of_volume(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref())
}

impl VolumeAttributesClassProtection {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            classes: context.informer(),
            claims: context.informer(),
            volumes: context.informer(),
        }
    }

    /// Whether anything has the class; the server is asked where the informers know of nothing, for they may be behind.
    async fn is_used(&self, class: &str) -> Result<bool, Error> {
        for entry in self.claims.list() {
            if of_claim(&entry.decode()?).contains(&class) {
                return Ok(true);
            }
        }
        for entry in self.volumes.list() {
            if of_volume(&entry.decode()?) == Some(class) {
                return Ok(true);
            }
        }
        let claims = self.client.all::<PersistentVolumeClaim>().list(&ListOptions::default()).await?;
        let volumes = self.client.all::<PersistentVolume>().list(&ListOptions::default()).await?;
        Ok(claims.items.iter().any(|claim| of_claim(claim).contains(&class))
            || volumes.items.iter().any(|volume| of_volume(volume) == Some(class)))
    }

    /// Of the classes that something had before, those that are being deleted.
    fn freed(&self, had: &[String], has: &[String]) -> Vec<Key> {
        let freed = had.iter().filter(|class| !has.contains(class)).map(|class| Key::new("", class));
        freed.filter(|key| self.classes.find(key).is_some_and(|class| class.meta.deleting)).collect()
    }
}

impl Controller for VolumeAttributesClassProtection {
    const NAME: &'static str = "volumeattributesclass-protection-controller";
    const ACCOUNT: Option<&'static str> = Some("volumeattributesclass-protection-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.classes);
        let this = Arc::clone(self);
        watches.on(&self.claims, move |change| {
            let of = |entry: &Option<Arc<trireme_client::Entry<PersistentVolumeClaim>>>| -> Vec<String> {
                let claim = entry.as_ref().and_then(|entry| entry.decode().ok());
                claim.map(|claim| of_claim(&claim).into_iter().map(str::to_owned).collect()).unwrap_or_default()
            };
            this.freed(&of(&change.old), &of(&change.new))
        });
        let this = Arc::clone(self);
        watches.on(&self.volumes, move |change| {
            let of = |entry: &Option<Arc<trireme_client::Entry<PersistentVolume>>>| -> Vec<String> {
                let volume = entry.as_ref().and_then(|entry| entry.decode().ok());
                volume.and_then(|volume| of_volume(&volume).map(str::to_owned)).into_iter().collect()
            };
            this.freed(&of(&change.old), &of(&change.new))
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.classes.find(key) else { return Ok(Requeue::Never) };
        let mut class = entry.decode()?;
        let has = class.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
        let wanted = if entry.meta.deleting { has && self.is_used(&key.name).await? } else { true };
        if wanted != has {
            class.metadata.finalizers = finalizers(class.metadata.finalizers, FINALIZER, wanted);
            self.client.all::<VolumeAttributesClass>().update(&key.name, &class).await?;
        }
        Ok(Requeue::Never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn a_class_goes_once_nothing_has_it() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(VolumeAttributesClassProtection::new(&context), context.shutdown.clone()));
        api.put::<VolumeAttributesClass>(json!({"metadata": {"name": "gold"}, "driverName": "d"}));
        api.put::<PersistentVolumeClaim>(json!({"metadata": {"name": "c", "namespace": "n"},
            "spec": {"volumeAttributesClassName": "silver"}, "status": {"currentVolumeAttributesClassName": "gold"}}));
        let class = || api.get::<VolumeAttributesClass>("", "gold");
        eventually("the finalizer", || class().unwrap().metadata.finalizers.is_some()).await;
        let options = trireme_client::DeleteOptions::default();
        context.client.all::<VolumeAttributesClass>().delete("gold", &options).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(class().is_some());
        let changed = json!({"status": {"currentVolumeAttributesClassName": "silver"}});
        api.change::<PersistentVolumeClaim>("n", "c", changed);
        eventually("the end", || class().is_none()).await;
        context.shutdown.cancel();
    }
}
