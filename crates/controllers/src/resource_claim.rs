//! Claims to devices: made of templates for pods, reserved for pods that have a node, and given back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use serde_json::json;
use trireme_client::{Change, Client, DeleteOptions, EventKind, Informer, Key, ObjectRef, Patch, Recorder};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::device_claims::{ClaimingPod, Named, PodsByClaim, is_for, reserved};
use crate::view::PodKind;
use crate::{Error, merge_patch, owner};

/// Says for which of a pod's claims a claim was made.
const ANNOTATION: &str = "resource.kubernetes.io/pod-claim-name";
/// Keeps an allocated claim.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
const MANAGER: &str = "ResourceClaimController";
/// How many pods may use a claim at once (resource.k8s.io `ResourceClaimReservedForMaxSize`).
const MOST_CONSUMERS: usize = 256;
/// Leaves space for five random characters in a name of 63.
const LONGEST_BASE: usize = 57;
/// How many deleted pods are remembered; of others the server is asked.
const REMEMBERED: usize = 500;

/// A key is of a pod or of a claim; no name has a colon.
const OF_POD: &str = "pod:";
const OF_CLAIM: &str = "claim:";

pub(crate) struct ResourceClaims {
    client: Client,
    pods: Informer<Pod>,
    claims: Informer<ResourceClaim>,
    templates: Informer<ResourceClaimTemplate>,
    recorder: Recorder,
    by_claim: PodsByClaim,
    /// Claims that were made and that the informer may not show yet, by the uid of the pod and the name of its claim.
    made: Mutex<HashMap<String, BTreeMap<String, String>>>,
    /// The uids of pods that are gone for certain, the latest last.
    gone: Mutex<VecDeque<Box<str>>>,
}

/// What is known of the pod that a claim is reserved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consumer {
    /// It may still run.
    Alive,
    /// It is gone, was replaced, or ran to its end.
    Over,
}

/// What is to be done about a claim.
#[derive(Debug, Default, PartialEq)]
struct Review {
    /// The reservations that stay, when some go.
    reserved: Option<Vec<ResourceClaimConsumerReference>>,
    /// Whether the devices are given back.
    deallocate: bool,
    /// Whether nothing holds the claim any more.
    release: bool,
}

/// Decides about a claim by what became of each of its consumers.
fn review(claim: &ResourceClaim, consumers: &[Consumer]) -> Review {
    let kept: Vec<_> =
        reserved(claim).iter().zip(consumers).filter(|(_, state)| **state == Consumer::Alive).map(|(c, _)| c).collect();
    let allocated = claim.status.as_ref().is_some_and(|status| status.allocation.is_some());
    let held = claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    if kept.len() < reserved(claim).len() {
        // The last consumer gives the devices back, so that the next one may get others, on another node.
        let deallocate = kept.is_empty() && held && allocated;
        let release = held && (deallocate || !allocated);
        return Review { reserved: Some(kept.into_iter().cloned().collect()), deallocate, release };
    }
    let unused = held && claim.metadata.deletion_timestamp.is_some() && kept.is_empty();
    Review { reserved: None, deallocate: unused && allocated, release: unused }
}

/// What the name of a generated claim begins with: both names are cut in proportion when they are too long.
fn base_name(pod: &str, claim: &str) -> String {
    let whole = format!("{pod}-{claim}-");
    if whole.len() <= LONGEST_BASE {
        return whole;
    }
    let cut = |text: &str| text.get(..text.len() * LONGEST_BASE / whole.len()).unwrap_or(text).to_owned();
    format!("{}-{}", cut(pod), cut(claim))
}

/// The claim that a template asks for.
fn generated(pod: &ClaimingPod, name: &str, template: &ResourceClaimTemplate) -> ResourceClaim {
    let own = template.spec.metadata.clone().unwrap_or_default();
    let mut annotations = own.annotations.unwrap_or_default();
    annotations.insert(ANNOTATION.to_owned(), name.to_owned());
    let pod_metadata = ObjectMeta {
        name: Some(pod.metadata.name.clone()),
        uid: Some(pod.metadata.uid.clone()),
        ..ObjectMeta::default()
    };
    ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(base_name(&pod.metadata.name, name)),
            namespace: Some(pod.metadata.namespace.clone()),
            owner_references: Some(vec![owner::controller_reference::<Pod>(&pod_metadata)]),
            annotations: Some(annotations),
            labels: own.labels,
            ..ObjectMeta::default()
        },
        spec: template.spec.spec.clone(),
        status: None,
    }
}

impl ResourceClaims {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            pods: context.informer(),
            claims: context.informer(),
            templates: context.informer(),
            recorder: context.recorder("resource_claim"),
            by_claim: PodsByClaim::default(),
            made: Mutex::default(),
            gone: Mutex::default(),
        }
    }

    /// The keys that a change of a pod touches.
    fn of_pod(&self, change: &Change<Pod>) -> Vec<Key> {
        let Some(entry) = change.latest() else { return Vec::new() };
        let Ok(pod) = entry.decode_as::<ClaimingPod>() else { return Vec::new() };
        if !pod.has_claims() {
            return Vec::new();
        }
        if change.new.is_none() {
            let mut gone = self.gone.lock();
            if gone.len() == REMEMBERED {
                gone.pop_front();
            }
            gone.push_back(entry.meta.uid.clone());
            self.made.lock().remove(&*entry.meta.uid);
        }
        self.keys(&pod, change.new.is_none())
    }

    fn keys(&self, pod: &ClaimingPod, deleted: bool) -> Vec<Key> {
        let namespace = &pod.metadata.namespace;
        let mut keys = Vec::new();
        if deleted || pod.is_done() {
            keys.extend(pod.claims().into_iter().map(|claim| Key::new(namespace, &format!("{OF_CLAIM}{claim}"))));
        }
        // A pod that is done gets no claim any more: the one that it had may be gone for that very reason.
        let works = !deleted && !pod.is_done() && pod.metadata.deletion_timestamp.is_none();
        if works && self.needs_work(pod) {
            keys.push(Key::new(namespace, &format!("{OF_POD}{}", pod.metadata.name)));
        }
        keys
    }

    /// Whether a claim of a pod has to be made or reserved.
    fn needs_work(&self, pod: &ClaimingPod) -> bool {
        for wanted in &pod.spec.resource_claims {
            let (name, made) = match pod.named(wanted) {
                Named::Missing => return true,
                Named::Unneeded => continue,
                Named::Given(name) => (name, false),
                Named::Made(name) => (name, true),
            };
            let Some(entry) = self.claims.get(&pod.metadata.namespace, name) else {
                // Only what was made of a template can be made again.
                if made {
                    return true;
                }
                continue;
            };
            if made && !is_for(&entry.meta, &pod.metadata.uid) {
                continue;
            }
            if !pod.spec.node_name.is_empty() && entry.decode().is_ok_and(|claim| needs_reservation(pod, &claim)) {
                return true;
            }
        }
        false
    }

    async fn sync_pod(&self, key: &Key) -> Result<(), Error> {
        let Some(entry) = self.pods.find(key).filter(|entry| !entry.meta.deleting) else { return Ok(()) };
        let pod: ClaimingPod = entry.decode_as()?;
        if pod.is_done() {
            return Ok(());
        }
        let mut names = BTreeMap::new();
        let mut new = false;
        for wanted in &pod.spec.resource_claims {
            let Some(template) = wanted.resource_claim_template_name.as_deref() else { continue };
            let known = match pod.named(wanted) {
                Named::Unneeded => continue,
                Named::Made(name) => self.claims.get(&key.namespace, name).map(|entry| (name.to_owned(), entry)),
                Named::Given(_) | Named::Missing => None,
            };
            if let Some((name, _)) = known.filter(|(_, claim)| is_for(&claim.meta, &pod.metadata.uid)) {
                names.insert(wanted.name.clone(), name);
                continue;
            }
            match self.make(&pod, &wanted.name, template).await {
                Ok(name) => drop(names.insert(wanted.name.clone(), name)),
                Err(error) => {
                    let about = ObjectRef {
                        api_version: "v1".to_owned(),
                        kind: "Pod".to_owned(),
                        namespace: key.namespace.to_string(),
                        name: key.name.to_string(),
                        uid: pod.metadata.uid.clone(),
                        ..ObjectRef::default()
                    };
                    let message = format!("PodResourceClaim {}: {error}", wanted.name);
                    self.recorder.record(&about, EventKind::Warning, "FailedResourceClaimCreation", message);
                    return Err(error);
                }
            }
            new = true;
        }
        if new {
            let statuses: Vec<_> =
                names.iter().map(|(name, claim)| json!({"name": name, "resourceClaimName": claim})).collect();
            let object = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": key.name, "namespace": key.namespace, "uid": pod.metadata.uid},
                "status": {"resourceClaimStatuses": statuses},
            });
            let patch = Patch::Apply { object, manager: MANAGER.to_owned(), force: true };
            self.client.namespaced::<PodKind>(&key.namespace).patch(&key.name, Some("status"), &patch).await?;
        }
        // The scheduler reserves for the pods that it places; others brought their node.
        if !pod.spec.node_name.is_empty() {
            self.reserve(key, &pod).await?;
        }
        Ok(())
    }

    async fn reserve(&self, key: &Key, pod: &ClaimingPod) -> Result<(), Error> {
        for wanted in &pod.spec.resource_claims {
            let (Named::Given(name) | Named::Made(name)) = pod.named(wanted) else { continue };
            let Some(entry) = self.claims.get(&key.namespace, name) else { return Ok(()) };
            let claim = entry.decode()?;
            let ours = wanted.resource_claim_name.is_some() || is_for(&entry.meta, &pod.metadata.uid);
            if !ours || !needs_reservation(pod, &claim) {
                continue;
            }
            let mut consumers = reserved(&claim).to_vec();
            consumers.push(ResourceClaimConsumerReference {
                api_group: None,
                resource: "pods".to_owned(),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            });
            self.write_status(&claim, &consumers, false).await?;
        }
        Ok(())
    }

    /// Finds or makes the claim for one of a pod's claims: it may be that it was made and that the pod's status was not
    /// written.
    async fn make(&self, pod: &ClaimingPod, name: &str, template: &str) -> Result<String, Error> {
        let (namespace, uid) = (&pod.metadata.namespace, &pod.metadata.uid);
        for entry in self.claims.controlled_by(uid) {
            let annotations = entry.decode()?.metadata.annotations.unwrap_or_default();
            if annotations.get(ANNOTATION).is_some_and(|of| of == name) {
                return Ok(entry.meta.key.name.to_string());
            }
        }
        let known = self.made.lock().get(uid).and_then(|made| made.get(name)).cloned();
        if let Some(known) = known
            && self.client.namespaced::<ResourceClaim>(namespace).find(&known).await?.is_some()
        {
            return Ok(known);
        }
        let Some(template) = self.templates.get(namespace, template) else {
            return Err(Error::NotYet(format!(
                "resource claim template {template:?}: resourceclaimtemplate.resource.k8s.io {template:?} not found"
            )));
        };
        let claim = generated(pod, name, &template.decode()?);
        let created = self.client.namespaced::<ResourceClaim>(namespace).create(&claim).await?;
        let created = created.metadata.name.unwrap_or_default();
        self.made.lock().entry(uid.clone()).or_default().insert(name.to_owned(), created.clone());
        Ok(created)
    }

    async fn sync_claim(&self, key: &Key) -> Result<(), Error> {
        let Some(entry) = self.claims.find(key) else { return Ok(()) };
        let claim = entry.decode()?;
        let mut consumers = Vec::new();
        for consumer in reserved(&claim) {
            consumers.push(self.state(&key.namespace, consumer).await?);
        }
        let decided = review(&claim, &consumers);
        let mut claim = claim;
        if decided.reserved.is_some() || decided.deallocate {
            let kept = decided.reserved.unwrap_or_default();
            claim = self.write_status(&claim, &kept, decided.deallocate).await?;
        }
        if decided.release {
            let mut new = claim.clone();
            new.metadata.finalizers = crate::pvc_protection::finalizers(new.metadata.finalizers, FINALIZER, false);
            if let Some(patch) = merge_patch::object(&claim, &new)? {
                let api = self.client.namespaced::<ResourceClaim>(&key.namespace);
                claim = match api.patch(&key.name, None, &patch).await {
                    Err(error) if error.is_not_found() => return Ok(()),
                    other => other?,
                };
            }
        }
        if consumers.contains(&Consumer::Alive) || claim.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        // The garbage collector takes generated claims with their pod, but a pod that is done may stay for long.
        let Some(of) = entry.meta.controller.as_ref().filter(|owner| &*owner.kind == "Pod") else { return Ok(()) };
        let Some(pod) = self.pods.get(&key.namespace, &of.name) else { return Ok(()) };
        if pod.meta.uid != of.uid || pod.decode_as::<ClaimingPod>()?.is_done() {
            let options = DeleteOptions::default().uid(&*entry.meta.uid);
            self.client.namespaced::<ResourceClaim>(&key.namespace).delete_if_present(&key.name, &options).await?;
        }
        Ok(())
    }

    async fn state(&self, namespace: &str, of: &ResourceClaimConsumerReference) -> Result<Consumer, Error> {
        if of.api_group.as_deref().is_some_and(|group| !group.is_empty()) || of.resource != "pods" {
            return Err(Error::Invalid {
                object: format!("ResourceClaim {namespace}/*"),
                field: "status.reservedFor",
                reason: format!("unsupported ReservedFor entry: {} {}", of.resource, of.name),
            });
        }
        if self.gone.lock().iter().any(|uid| **uid == *of.uid) {
            return Ok(Consumer::Over);
        }
        let over = |over: bool| if over { Consumer::Over } else { Consumer::Alive };
        if let Some(pod) = self.pods.get(namespace, &of.name) {
            return Ok(over(*pod.meta.uid != *of.uid || pod.decode_as::<ClaimingPod>()?.is_done()));
        }
        // The informer may be behind, and to take a claim from a pod that is being placed would be bad.
        let found = self.client.namespaced::<PodKind>(namespace).find(&of.name).await?;
        Ok(over(found.is_none_or(|pod| pod.0.metadata.uid != of.uid)))
    }

    /// Writes who may use a claim; only of the claim as it was looked at.
    async fn write_status(
        &self,
        claim: &ResourceClaim,
        consumers: &[ResourceClaimConsumerReference],
        deallocate: bool,
    ) -> Result<ResourceClaim, Error> {
        let metadata = &claim.metadata;
        let mut status = json!({ "reservedFor": consumers });
        if deallocate && let Some(fields) = status.as_object_mut() {
            fields.insert("allocation".to_owned(), serde_json::Value::Null);
        }
        let patch = Patch::Merge(json!({
            "metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
            "status": status,
        }));
        let api = self.client.namespaced::<ResourceClaim>(metadata.namespace.as_deref().unwrap_or_default());
        Ok(api.patch(metadata.name.as_deref().unwrap_or_default(), Some("status"), &patch).await?)
    }
}

fn needs_reservation(pod: &ClaimingPod, claim: &ResourceClaim) -> bool {
    let allocated = claim.status.as_ref().is_some_and(|status| status.allocation.is_some());
    allocated && !pod.is_reserved(claim) && reserved(claim).len() < MOST_CONSUMERS
}

impl Controller for ResourceClaims {
    const NAME: &'static str = "resourceclaim-controller";
    const ACCOUNT: Option<&'static str> = Some("resource-claim-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.needs(&self.templates);
        let this = Arc::clone(self);
        watches.on(&self.pods, move |change| {
            this.by_claim.observe(change);
            this.of_pod(change)
        });
        let this = Arc::clone(self);
        watches.on(&self.claims, move |change| {
            let Some(key) = change.latest().map(|entry| entry.meta.key.clone()) else { return Vec::new() };
            let users = this.by_claim.of(&key);
            let pods = users.iter().filter_map(|pod| this.pods.find(pod)?.decode_as::<ClaimingPod>().ok());
            let mut keys: Vec<Key> = pods.flat_map(|pod| this.keys(&pod, false)).collect();
            if change.new.is_some() {
                keys.push(Key::new(&key.namespace, &format!("{OF_CLAIM}{}", key.name)));
            }
            keys
        });
        let this = Arc::clone(self);
        watches.on(&self.templates, move |change| {
            // Pods that waited for their template.
            let Some(template) = change.new.as_ref().filter(|_| change.old.is_none()) else { return Vec::new() };
            if !this.templates.is_synced() {
                return Vec::new();
            }
            let namespace = &template.meta.key.namespace;
            let pods = this.pods.in_namespace(namespace).into_iter();
            let waiting = pods.filter_map(|pod| pod.decode_as::<ClaimingPod>().ok()).filter(|pod| {
                let wants = |name: &Option<String>| name.as_deref() == Some(&*template.meta.key.name);
                pod.spec.resource_claims.iter().any(|claim| wants(&claim.resource_claim_template_name))
            });
            waiting.flat_map(|pod| this.keys(&pod, false)).collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        if let Some(pod) = key.name.strip_prefix(OF_POD) {
            self.sync_pod(&Key::new(&key.namespace, pod)).await?;
        } else if let Some(claim) = key.name.strip_prefix(OF_CLAIM) {
            self.sync_claim(&Key::new(&key.namespace, claim)).await?;
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

    #[test]
    fn a_generated_name_shows_both_names() {
        assert_eq!(base_name("web", "gpu"), "web-gpu-");
        let long = base_name(&"p".repeat(60), &"c".repeat(30));
        assert_eq!(long, format!("{}-{}", "p".repeat(60 * 57 / 92), "c".repeat(30 * 57 / 92)));
        assert!(long.len() <= 58);
    }

    #[test]
    fn the_last_consumer_gives_the_devices_back() {
        use Consumer::{Alive, Over};
        let claim = |reserved: &[&str], allocated: bool, held: bool, deleted: bool| -> ResourceClaim {
            let consumers: Vec<_> =
                reserved.iter().map(|uid| json!({"resource": "pods", "name": uid, "uid": uid})).collect();
            serde_json::from_value(json!({
                "metadata": {"finalizers": held.then_some([FINALIZER]),
                    "deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z")},
                "spec": {}, "status": {"reservedFor": consumers, "allocation": allocated.then(|| json!({}))}}))
            .unwrap()
        };
        for (claim, consumers, kept, deallocate, release) in [
            (claim(&[], false, false, false), &[][..], None, false, false),
            (claim(&["a"], true, true, false), &[Alive], None, false, false),
            (claim(&["a", "b"], true, true, false), &[Alive, Over], Some(1), false, false),
            (claim(&["a", "b"], true, true, false), &[Over, Over], Some(0), true, true),
            (claim(&["a"], true, false, false), &[Over], Some(0), false, false),
            // Allocated and unused is left as it is, until it is deleted.
            (claim(&[], true, true, false), &[], None, false, false),
            (claim(&[], true, true, true), &[], None, true, true),
            (claim(&[], false, true, true), &[], None, false, true),
            (claim(&["a"], true, true, true), &[Alive], None, false, false),
        ] {
            let decided = review(&claim, consumers);
            let told = (decided.reserved.map(|kept| kept.len()), decided.deallocate, decided.release);
            assert_eq!(told, (kept, deallocate, release), "{consumers:?}");
        }
    }

    fn pod(node: &str) -> serde_json::Value {
        json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": node, "containers": [],
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"},
                {"name": "shared", "resourceClaimName": "s"}]}})
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_gets_claims_of_templates_and_gives_them_back() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(ResourceClaims::new(&context), context.shutdown.clone()));
        api.put::<Pod>(pod("n1"));
        // The template comes after the pod.
        api.put::<ResourceClaimTemplate>(json!({"metadata": {"name": "t", "namespace": "n"}, "spec": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"devices": {}}}}));
        let claims = || api.all::<ResourceClaim>();
        eventually("the claim", || claims().len() == 1).await;
        let made = claims().remove(0);
        let name = made.metadata.name.clone().unwrap();
        assert!(name.starts_with("p-gpu-"));
        assert_eq!(made.metadata.labels.unwrap()["a"], "b");
        assert_eq!(made.metadata.owner_references.unwrap()[0].name, "p");
        let told = || -> Option<String> {
            let status = api.get::<Pod>("n", "p")?.status?.resource_claim_statuses?;
            status.into_iter().find(|status| status.name == "gpu")?.resource_claim_name
        };
        eventually("the status", || told().as_deref() == Some(&name)).await;

        // A pod that brought its node: what is allocated is reserved for it.
        let protected = json!({"finalizers": [FINALIZER]});
        api.change::<ResourceClaim>("n", &name, json!({"metadata": protected, "status": {"allocation": {}}}));
        api.put::<ResourceClaim>(json!({"metadata": {"name": "s", "namespace": "n", "finalizers": [FINALIZER]},
            "spec": {}, "status": {"allocation": {}}}));
        let users = |name: &str| {
            let claim = api.get::<ResourceClaim>("n", name);
            claim.map(|claim| reserved(&claim).len())
        };
        eventually("the reservations", || users(&name) == Some(1) && users("s") == Some(1)).await;

        // Once it has ended, its own claim goes and the shared one is free again.
        api.change::<Pod>("n", "p", json!({"status": {"phase": "Succeeded"}}));
        eventually("the end", || users(&name).is_none() && users("s") == Some(0)).await;
        let shared = api.get::<ResourceClaim>("n", "s").unwrap();
        assert!(shared.status.unwrap().allocation.is_none());
        context.shutdown.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_was_made_and_not_told_is_found_again() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        let pod = api.put::<Pod>(pod(""));
        let uid = pod.metadata.uid.unwrap();
        api.put::<ResourceClaimTemplate>(
            json!({"metadata": {"name": "t", "namespace": "n"}, "spec": {"spec": {"devices": {}}}}),
        );
        api.put::<ResourceClaim>(json!({"metadata": {"name": "p-gpu-x", "namespace": "n",
            "annotations": {ANNOTATION: "gpu"}, "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p",
                "uid": uid, "controller": true}]}, "spec": {}}));
        tokio::spawn(run(ResourceClaims::new(&context), context.shutdown.clone()));
        let told = || api.get::<Pod>("n", "p").and_then(|pod| pod.status?.resource_claim_statuses);
        eventually("the status", || told().is_some()).await;
        assert_eq!(told().unwrap()[0].resource_claim_name.as_deref(), Some("p-gpu-x"));
        assert_eq!(api.count::<ResourceClaim>(), 1);
        context.shutdown.cancel();
    }
}
