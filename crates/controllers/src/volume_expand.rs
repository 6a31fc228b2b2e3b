//! Claims that want to be larger: no volume of this cluster's own can be made larger, so that somebody else has to.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use trireme_client::{EventKind, Informer, Key, ObjectRef, Recorder};
use trireme_schema::Quantity;

use crate::Error;
use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};

pub(crate) struct VolumeExpand {
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    recorder: Recorder,
}

impl VolumeExpand {
    pub(crate) fn new(context: &Context) -> Self {
        Self { claims: context.informer(), volumes: context.informer(), recorder: context.recorder("volume_expand") }
    }
}

/// What a bound claim asks for and what it has, in bytes; none when it is not bound.
fn sizes(claim: &PersistentVolumeClaim) -> Option<(i64, i64)> {
    let status = claim.status.as_ref().filter(|status| status.phase.as_deref() == Some("Bound"))?;
    let bytes = |text: Option<&Text>| text.and_then(|text| text.0.parse::<Quantity>().ok()).map_or(0, |q| q.value());
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    let has = status.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
    Some((bytes(requests.get("storage")), bytes(has)))
}

impl Controller for VolumeExpand {
    const NAME: &'static str = "persistentvolume-expander-controller";
    const ACCOUNT: Option<&'static str> = Some("expand-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.needs(&self.volumes);
        watches.on(&self.claims, |change| {
            let Some(new) = &change.new else { return Vec::new() };
            let of = |entry: &trireme_client::Entry<PersistentVolumeClaim>| entry.decode().ok();
            let Some((wants, has)) = of(new).as_ref().and_then(sizes) else { return Vec::new() };
            let before = change.old.as_deref().and_then(of).as_ref().and_then(sizes);
            let grew = before.is_none_or(|(wanted, had)| wants > wanted || has > had);
            if grew && wants > has { vec![new.meta.key.clone()] } else { Vec::new() }
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.claims.find(key) else { return Ok(Requeue::Never) };
        let claim = entry.decode()?;
        let Some((wants, has)) = sizes(&claim) else { return Ok(Requeue::Never) };
        if wants <= has {
            return Ok(Requeue::Never);
        }
        let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        let Some(volume) = self.volumes.get("", name) else {
            return Err(Error::NotYet(format!("failed to get PV {name:?}")));
        };
        let spec = volume.decode()?.spec.unwrap_or_default();
        let bound = spec.claim_ref.as_ref().is_some_and(|claim| claim.uid.as_deref() == Some(&*entry.meta.uid));
        if !bound {
            return Err(Error::NotYet(format!("persistent Volume is not bound to PVC being updated : {key}")));
        }
        // A CSI driver has its resizer; nothing is known that makes other volumes larger.
        let kind = if spec.csi.is_some() { EventKind::Normal } else { EventKind::Warning };
        let about = ObjectRef::to::<PersistentVolumeClaim>(&claim.metadata);
        let message = "waiting for an external controller to expand this PVC";
        self.recorder.record(&about, kind, "ExternalExpanding", message);
        Ok(Requeue::Never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};
    use k8s_openapi::api::core::v1::Event;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_grows_is_told_who_has_to_act() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        let claim = |wants: &str| {
            json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"},
                "spec": {"volumeName": "v", "resources": {"requests": {"storage": wants}}},
                "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}})
        };
        api.put::<PersistentVolume>(json!({"metadata": {"name": "v"}, "spec": {
            "csi": {"driver": "d", "volumeHandle": "h"}, "claimRef": {"namespace": "n", "name": "c", "uid": "u"}}}));
        api.put::<PersistentVolumeClaim>(claim("1Gi"));
        tokio::spawn(run(VolumeExpand::new(&context), context.shutdown.clone()));
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(api.count::<Event>(), 0);
        api.put::<PersistentVolumeClaim>(claim("2Gi"));
        eventually("the event", || api.count::<Event>() == 1).await;
        let event = api.all::<Event>().remove(0);
        assert_eq!((event.type_.as_deref(), event.reason.as_deref()), (Some("Normal"), Some("ExternalExpanding")));
        context.shutdown.cancel();
    }
}
