//! Pods leave devices whose taints they do not tolerate, or tolerate only for a while (KEP-5055).
//!
//! Taints are those of devices in ResourceSlices; DeviceTaintRules are of an API that 1.36 does not serve by default.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{
    Device, DeviceRequestAllocationResult, DeviceTaint, DeviceToleration, ResourceClaim, ResourceSlice,
};
use parking_lot::Mutex;
use trireme_client::{Client, Entry, EventKind, Informer, Key, ObjectRef, Recorder};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::device_claims::{ClaimingPod, Named, PodsByClaim, is_for};
use crate::disrupt::disrupt;
use crate::taints::NO_EXECUTE;
use crate::{Clock, Error};

pub(crate) struct DeviceTaintEviction {
    client: Client,
    pods: Informer<Pod>,
    claims: Informer<ResourceClaim>,
    slices: Informer<ResourceSlice>,
    by_claim: PodsByClaim,
    recorder: Recorder,
    clock: Clock,
    /// The pods that are to leave, by uid.
    leaving: Mutex<HashSet<String>>,
}

/// The taints of the devices of a pool, of the newest generation of its slices.
type Taints = BTreeMap<String, Vec<DeviceTaint>>;

/// When a pod has to leave a device by its taints; none when it may stay.
fn leaves(taints: &[DeviceTaint], tolerations: &[DeviceToleration], now: Timestamp) -> Option<Timestamp> {
    let evicting = taints.iter().filter(|taint| taint.effect == NO_EXECUTE);
    let times = evicting.filter_map(|taint| {
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let mut tolerating = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
        if tolerating.peek().is_none() {
            return Some(since);
        }
        let seconds = tolerating.map(|toleration| toleration.toleration_seconds).collect::<Vec<_>>();
        // One toleration without an end is enough.
        let shortest = seconds.into_iter().collect::<Option<Vec<_>>>()?.into_iter().min()?.max(0);
        Some(since.checked_add(jiff::SignedDuration::from_secs(shortest)).unwrap_or(Timestamp::MAX))
    });
    times.min()
}

/// Whether a toleration tolerates a taint; what is empty matches all.
fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let own = |text: &Option<String>| text.clone().unwrap_or_default();
    let (effect, key) = (own(&toleration.effect), own(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => own(&toleration.value) == own(&taint.value),
        "Exists" => true,
        _ => false,
    }
}

/// The tainted devices of a pool, of those of its slices that are not outdated.
fn tainted(slices: &[ResourceSlice], driver: &str, pool: &str) -> Taints {
    let of_pool = || slices.iter().filter(|slice| slice.spec.driver == driver && slice.spec.pool.name == pool);
    let newest = of_pool().map(|slice| slice.spec.pool.generation).max();
    let current = of_pool().filter(|slice| Some(slice.spec.pool.generation) == newest);
    let devices = current.flat_map(|slice| slice.spec.devices.iter().flatten());
    let with_taints = devices.filter_map(|Device { name, taints, .. }| Some((name.clone(), taints.clone()?)));
    with_taints.filter(|(_, taints)| !taints.is_empty()).collect()
}

fn results(claim: &ResourceClaim) -> &[DeviceRequestAllocationResult] {
    let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
    let devices = allocation.and_then(|allocation| allocation.devices.as_ref());
    devices.and_then(|devices| devices.results.as_deref()).unwrap_or_default()
}

impl DeviceTaintEviction {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            pods: context.informer(),
            claims: context.informer(),
            slices: context.informer(),
            by_claim: PodsByClaim::default(),
            recorder: context.recorder(Self::NAME),
            clock: context.clock.clone(),
            leaving: Mutex::default(),
        }
    }

    /// When a pod has to leave.
    fn fate(&self, key: &Key, pod: &ClaimingPod) -> Result<Option<Timestamp>, Error> {
        if pod.spec.node_name.is_empty() {
            return Ok(None);
        }
        let mut slices: Option<Vec<ResourceSlice>> = None;
        let mut earliest: Option<Timestamp> = None;
        for wanted in &pod.spec.resource_claims {
            let (name, made) = match pod.named(wanted) {
                Named::Given(name) => (name, false),
                Named::Made(name) => (name, true),
                Named::Unneeded | Named::Missing => continue,
            };
            let Some(entry) = self.claims.get(&key.namespace, name) else { continue };
            let claim = entry.decode()?;
            if made && !is_for(&entry.meta, &pod.metadata.uid) || !pod.is_reserved(&claim) {
                continue;
            }
            for result in results(&claim) {
                let slices = match &mut slices {
                    Some(slices) => slices,
                    None => {
                        let all = self.slices.list();
                        let decoded = all.iter().map(|entry| entry.decode()).collect::<Result<_, _>>()?;
                        slices.insert(decoded)
                    }
                };
                let taints = tainted(slices, &result.driver, &result.pool);
                let Some(taints) = taints.get(&result.device) else { continue };
                let tolerations = result.tolerations.as_deref().unwrap_or_default();
                earliest = earliest.into_iter().chain(leaves(taints, tolerations, self.clock.now())).min();
            }
        }
        Ok(earliest)
    }

    fn tell(&self, key: &Key, uid: &str, message: &str) {
        let about = ObjectRef {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            uid: uid.to_owned(),
            ..ObjectRef::default()
        };
        self.recorder.record(&about, EventKind::Normal, "DeviceTaintManagerEviction", message);
    }

    async fn evict(&self, key: &Key, uid: &str) -> Result<(), Error> {
        self.tell(key, uid, "Marking for deletion");
        let message = "Device Taint manager: deleting due to NoExecute taint";
        let pod = (&*key.namespace, &*key.name, uid);
        disrupt(&self.client, pod, "DeletionByDeviceTaintManager", message, self.clock.now()).await
    }

    /// The pods that use devices of a slice's pool.
    fn users(&self, slice: &ResourceSlice) -> Vec<Key> {
        let mut pods = Vec::new();
        for entry in self.claims.list() {
            let uses = entry.decode().is_ok_and(|claim| {
                let mut results = results(&claim).iter();
                results.any(|result| result.driver == slice.spec.driver && result.pool == slice.spec.pool.name)
            });
            if uses {
                pods.extend(self.by_claim.of(&entry.meta.key));
            }
        }
        pods
    }
}

/// Whether a change of a slice can change who has to leave.
fn changes_taints(old: Option<&ResourceSlice>, new: Option<&ResourceSlice>) -> bool {
    let taints = |slice: Option<&ResourceSlice>| -> Vec<(String, Vec<DeviceTaint>)> {
        let devices = slice.into_iter().flat_map(|slice| slice.spec.devices.iter().flatten());
        devices.filter_map(|device| Some((device.name.clone(), device.taints.clone()?))).collect()
    };
    let generation = |slice: Option<&ResourceSlice>| slice.map(|slice| slice.spec.pool.generation);
    let (before, after) = (taints(old), taints(new));
    before != after || generation(old) != generation(new) && !(before.is_empty() && after.is_empty())
}

impl Controller for DeviceTaintEviction {
    const NAME: &'static str = "device-taint-eviction-controller";
    const ACCOUNT: Option<&'static str> = Some("device-taint-eviction-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        let this = Arc::clone(self);
        watches.on(&self.pods, move |change| {
            this.by_claim.observe(change);
            let Some(entry) = change.latest() else { return Vec::new() };
            if change.new.is_none() {
                this.leaving.lock().remove(&*entry.meta.uid);
                return Vec::new();
            }
            let claims = entry.decode_as::<ClaimingPod>().is_ok_and(|pod| pod.has_claims());
            if claims { vec![entry.meta.key.clone()] } else { Vec::new() }
        });
        let this = Arc::clone(self);
        watches.on(&self.claims, move |change| {
            change.latest().map(|entry| this.by_claim.of(&entry.meta.key)).unwrap_or_default()
        });
        let this = Arc::clone(self);
        watches.on(&self.slices, move |change| {
            let decode = |entry: &Option<Arc<Entry<ResourceSlice>>>| entry.as_ref().and_then(|e| e.decode().ok());
            let (old, new) = (decode(&change.old), decode(&change.new));
            if !changes_taints(old.as_ref(), new.as_ref()) {
                return Vec::new();
            }
            new.or(old).map(|slice| this.users(&slice)).unwrap_or_default()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.pods.find(key).filter(|entry| !entry.meta.deleting) else {
            return Ok(Requeue::Never);
        };
        let pod: ClaimingPod = entry.decode_as()?;
        let uid = &pod.metadata.uid;
        let Some(when) = self.fate(key, &pod)? else {
            if self.leaving.lock().remove(uid) {
                self.tell(key, uid, "Cancelling deletion");
            }
            return Ok(Requeue::Never);
        };
        let left = when.as_second().saturating_sub(self.clock.now().as_second());
        self.leaving.lock().insert(uid.clone());
        if left > 0 {
            return Ok(Requeue::seconds(left));
        }
        self.evict(key, uid).await?;
        self.leaving.lock().remove(uid);
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

    #[test]
    fn a_pod_leaves_after_the_shortest_time_that_it_tolerates() {
        let now: Timestamp = "2026-01-01T00:01:40Z".parse().unwrap();
        let taint =
            |key: &str, effect: &str| json!({"key": key, "effect": effect, "timeAdded": "2026-01-01T00:00:00Z"});
        let forever = json!([{"key": "bad", "operator": "Exists"}]);
        for (taints, tolerations, seconds) in [
            (json!([]), json!([]), None),
            (json!([taint("bad", "NoSchedule")]), json!([]), None),
            (json!([taint("bad", "NoExecute")]), json!([]), Some(0)),
            (json!([taint("bad", "NoExecute")]), forever, None),
            (json!([taint("bad", "NoExecute")]), json!([{"key": "bad", "value": "x"}]), Some(0)),
            (json!([taint("bad", "NoExecute")]), json!([{"key": "bad", "effect": "NoSchedule"}]), Some(0)),
            (
                json!([taint("bad", "NoExecute"), taint("worse", "NoExecute")]),
                json!([{"operator": "Exists", "tolerationSeconds": 300}, {"key": "worse", "tolerationSeconds": 20}]),
                Some(20),
            ),
        ] {
            let taints: Vec<DeviceTaint> = serde_json::from_value(taints).unwrap();
            let tolerations: Vec<DeviceToleration> = serde_json::from_value(tolerations).unwrap();
            let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            let expected = seconds.map(|seconds| start + jiff::SignedDuration::from_secs(seconds));
            assert_eq!(leaves(&taints, &tolerations, now), expected, "{taints:?} {tolerations:?}");
        }
    }

    fn slice(name: &str, generation: i64, taints: serde_json::Value) -> serde_json::Value {
        json!({"metadata": {"name": name}, "spec": {"driver": "d", "nodeName": "n1",
            "pool": {"name": "p", "generation": generation, "resourceSliceCount": 1},
            "devices": [{"name": "gpu-0", "taints": taints}]}})
    }

    #[test]
    fn outdated_slices_do_not_count() {
        let taint = json!([{"key": "bad", "effect": "NoExecute"}]);
        let slices: Vec<ResourceSlice> = [slice("a", 1, taint.clone()), slice("b", 2, json!([]))]
            .into_iter()
            .map(|slice| serde_json::from_value(slice).unwrap())
            .collect();
        assert!(tainted(&slices, "d", "p").is_empty());
        assert_eq!(tainted(&slices[..1], "d", "p").len(), 1);
        assert!(tainted(&slices[..1], "d", "other").is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tainted_device_loses_the_pods_that_use_it() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        api.put::<ResourceSlice>(slice("s", 1, json!([])));
        for (name, tolerations) in [("leaves", json!([])), ("stays", json!([{"operator": "Exists"}]))] {
            let pod = api.put::<Pod>(json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"nodeName": "n1",
                "containers": [], "resourceClaims": [{"name": "gpu", "resourceClaimName": name}]}}));
            let consumer = json!({"resource": "pods", "name": name, "uid": pod.metadata.uid});
            api.put::<ResourceClaim>(json!({"metadata": {"name": name, "namespace": "n"}, "spec": {}, "status": {
                "reservedFor": [consumer], "allocation": {"devices": {"results": [{"request": "r", "driver": "d",
                    "pool": "p", "device": "gpu-0", "tolerations": tolerations}]}}}}));
        }
        tokio::spawn(run(DeviceTaintEviction::new(&context), context.shutdown.clone()));
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(api.count::<Pod>(), 2);
        let taint = json!([{"key": "bad", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}]);
        api.put::<ResourceSlice>(slice("s", 2, taint));
        eventually("one to leave", || api.get::<Pod>("n", "leaves").is_none()).await;
        assert!(api.get::<Pod>("n", "stays").is_some());
        let told = || api.all::<k8s_openapi::api::core::v1::Event>();
        eventually("the event", || !told().is_empty()).await;
        assert_eq!(told()[0].message.as_deref(), Some("Marking for deletion"));
        context.shutdown.cancel();
    }
}
