//! Claims that a pod uses are not deleted under it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use trireme_client::{Client, Informer, Key};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{Error, merge_patch, view};

const FINALIZER: &str = "kubernetes.io/pvc-protection";

pub(crate) struct PvcProtection {
    client: Client,
    claims: Informer<PersistentVolumeClaim>,
    pods: Informer<Pod>,
}

impl PvcProtection {
    pub(crate) fn new(context: &Context) -> Self {
        Self { client: context.client.clone(), claims: context.informer(), pods: context.informer() }
    }

    fn is_used(&self, key: &Key) -> Result<bool, Error> {
        for entry in self.pods.in_namespace(&key.namespace) {
            if uses(&entry.decode_as::<view::Pod>()?, &key.name) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The names of the claims of a pod, those of its ephemeral volumes included.
pub(crate) fn claims_of(pod: &view::Pod) -> Vec<String> {
    let claim = |volume: &view::Volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => Some(source.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.metadata.name, volume.name)),
        (None, None) => None,
    };
    pod.spec.volumes.iter().filter_map(claim).collect()
}

/// Whether a pod holds a claim: once it runs nowhere any more, it does not.
fn uses(pod: &view::Pod, claim: &str) -> bool {
    !pod.is_terminal() && !pod.spec.node_name.is_empty() && claims_of(pod).iter().any(|used| used == claim)
}

/// The finalizers of an object with ours added or removed.
pub(crate) fn finalizers(old: Option<Vec<String>>, finalizer: &str, wanted: bool) -> Option<Vec<String>> {
    let mut list = old.unwrap_or_default();
    list.retain(|present| present != finalizer);
    if wanted {
        list.push(finalizer.to_owned());
    }
    (!list.is_empty()).then_some(list)
}

impl Controller for PvcProtection {
    const NAME: &'static str = "persistentvolumeclaim-protection-controller";
    const ACCOUNT: Option<&'static str> = Some("pvc-protection-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.claims);
        watches.on(&self.pods, |change| {
            let decoded = change.latest().and_then(|entry| entry.decode_as::<view::Pod>().ok());
            let Some(pod) = decoded.filter(|pod| change.new.is_none() || pod.is_terminal()) else { return Vec::new() };
            claims_of(&pod).iter().map(|claim| Key::new(&pod.metadata.namespace, claim)).collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.claims.find(key) else { return Ok(Requeue::Never) };
        let claim = entry.decode()?;
        let has = claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
        let wanted = if entry.meta.deleting { has && self.is_used(key)? } else { true };
        if wanted == has {
            return Ok(Requeue::Never);
        }
        let mut new = claim.clone();
        new.metadata.finalizers = finalizers(new.metadata.finalizers, FINALIZER, wanted);
        if let Some(patch) = merge_patch::object(&claim, &new)? {
            self.client.namespaced::<PersistentVolumeClaim>(&key.namespace).patch(&key.name, None, &patch).await?;
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
    async fn a_used_claim_goes_with_the_last_pod() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(PvcProtection::new(&context), context.shutdown.clone()));
        api.put::<PersistentVolumeClaim>(json!({"metadata": {"name": "data", "namespace": "n"}, "spec": {}}));
        api.put::<Pod>(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "x", "containers": [],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}}));
        let claim = || api.get::<PersistentVolumeClaim>("n", "data");
        eventually("the finalizer", || claim().unwrap().metadata.finalizers.is_some()).await;
        let options = trireme_client::DeleteOptions::default();
        context.client.namespaced::<PersistentVolumeClaim>("n").delete("data", &options).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(claim().is_some());
        api.change::<Pod>("n", "p", json!({"status": {"phase": "Succeeded"}}));
        eventually("the end", || claim().is_none()).await;
        context.shutdown.cancel();
    }
}
