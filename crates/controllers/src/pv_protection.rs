//! Volumes that are bound to a claim are not deleted under it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;
use trireme_client::{Client, Informer, Key};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::pvc_protection::finalizers;
use crate::{Error, merge_patch};

const FINALIZER: &str = "kubernetes.io/pv-protection";

pub(crate) struct PvProtection {
    client: Client,
    volumes: Informer<PersistentVolume>,
}

impl PvProtection {
    pub(crate) fn new(context: &Context) -> Self {
        Self { client: context.client.clone(), volumes: context.informer() }
    }
}

impl Controller for PvProtection {
    const NAME: &'static str = "persistentvolume-protection-controller";
    const ACCOUNT: Option<&'static str> = Some("pv-protection-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.volumes);
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.volumes.find(key) else { return Ok(Requeue::Never) };
        let volume = entry.decode()?;
        let bound = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        let mut new = volume.clone();
        new.metadata.finalizers = finalizers(new.metadata.finalizers, FINALIZER, !entry.meta.deleting || bound);
        if new.metadata.finalizers.as_ref().map(Vec::len) == volume.metadata.finalizers.as_ref().map(Vec::len) {
            return Ok(Requeue::Never);
        }
        if let Some(patch) = merge_patch::object(&volume, &new)? {
            self.client.all::<PersistentVolume>().patch(&key.name, None, &patch).await?;
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
    async fn a_bound_volume_goes_once_it_is_released() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(PvProtection::new(&context), context.shutdown.clone()));
        api.put::<PersistentVolume>(json!({"metadata": {"name": "v"}, "status": {"phase": "Bound"}}));
        let volume = || api.get::<PersistentVolume>("", "v");
        eventually("the finalizer", || volume().unwrap().metadata.finalizers.is_some()).await;
        let options = trireme_client::DeleteOptions::default();
        context.client.all::<PersistentVolume>().delete("v", &options).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(volume().is_some());
        api.change::<PersistentVolume>("", "v", json!({"status": {"phase": "Released"}}));
        eventually("the end", || volume().is_none()).await;
        context.shutdown.cancel();
    }
}
