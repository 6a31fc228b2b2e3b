//! Claims of the ephemeral volumes of pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use trireme_client::{Client, EventKind, Informer, Key, ObjectRef, Recorder};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{Error, owner, view};

pub(crate) struct EphemeralVolumes {
    client: Client,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    recorder: Recorder,
}

impl EphemeralVolumes {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            pods: context.informer(),
            claims: context.informer(),
            recorder: context.recorder("ephemeral_volume"),
        }
    }
}

/// The claims that a pod's ephemeral volumes need.
fn claims(pod: &Pod) -> Vec<PersistentVolumeClaim> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let claim = volumes.filter_map(|volume| {
        let template = volume.ephemeral.as_ref()?.volume_claim_template.clone()?;
        let metadata = template.metadata.unwrap_or_default();
        Some(PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(format!("{name}-{}", volume.name)),
                namespace: pod.metadata.namespace.clone(),
                labels: metadata.labels,
                annotations: metadata.annotations,
                owner_references: Some(vec![owner::controller_reference::<Pod>(&pod.metadata)]),
                ..ObjectMeta::default()
            },
            spec: Some(template.spec),
            status: None,
        })
    });
    claim.collect()
}

impl Controller for EphemeralVolumes {
    const NAME: &'static str = "ephemeral-volume-controller";
    const ACCOUNT: Option<&'static str> = Some("ephemeral-volume-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on(&self.pods, |change| {
            let Some(new) = &change.new else { return Vec::new() };
            let has = new
                .decode_as::<view::Pod>()
                .is_ok_and(|pod| pod.is_active() && pod.spec.volumes.iter().any(|volume| volume.ephemeral.is_some()));
            if has { vec![new.meta.key.clone()] } else { Vec::new() }
        });
        let this = Arc::clone(self);
        watches.on(&self.claims, move |change| {
            let gone = change.old.as_ref().filter(|_| change.new.is_none());
            let owner = gone.and_then(|claim| claim.meta.controller.as_ref()).filter(|owner| &*owner.kind == "Pod");
            let key = gone.zip(owner).map(|(claim, owner)| Key::new(&claim.meta.key.namespace, &owner.name));
            key.filter(|key| this.pods.find(key).is_some()).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.pods.find(key).filter(|entry| !entry.meta.deleting) else {
            return Ok(Requeue::Never);
        };
        let pod = entry.decode()?;
        for claim in claims(&pod) {
            let name = claim.metadata.name.clone().unwrap_or_default();
            if let Some(there) = self.claims.get(&key.namespace, &name) {
                let ours = there.meta.controller.as_ref().is_some_and(|owner| owner.uid == entry.meta.uid);
                if !ours {
                    let message =
                        format!("PVC {}/{name} was not created for pod {key} (pod is not owner)", key.namespace);
                    let about = ObjectRef::to::<Pod>(&pod.metadata);
                    self.recorder.record(&about, EventKind::Warning, "FailedBinding", message);
                }
                continue;
            }
            let result = self.client.namespaced::<PersistentVolumeClaim>(&key.namespace).create(&claim).await;
            match result {
                Err(error) if error.is_already_exists() || error.is_namespace_terminating() => {}
                other => drop(other?),
            }
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
    async fn a_pod_gets_the_claims_of_its_ephemeral_volumes() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(EphemeralVolumes::new(&context), context.shutdown.clone()));
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}});
        api.put::<Pod>(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [],
            "volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]}}));
        let claim = || api.get::<PersistentVolumeClaim>("n", "p-scratch");
        eventually("the claim", || claim().is_some()).await;
        let metadata = claim().unwrap().metadata;
        assert_eq!(metadata.owner_references.unwrap()[0].name, "p");
        assert_eq!(metadata.labels.unwrap()["a"], "b");
        context.shutdown.cancel();
    }
}
