//! Volumes of CSI drivers are attached to the nodes of the pods that use them, and detached from where they are not used.
//!
//! A VolumeAttachment asks the driver's attacher; `volumesAttached` of a node says what is done, and `volumesInUse` what
//! the node may still have mounted.

mod plan;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    AttachedVolume, Node, NodeCondition, PersistentVolume, PersistentVolumeClaim, Pod, Taint,
};
use k8s_openapi::api::storage::v1::{
    CSIDriver, VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec, VolumeError,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use trireme_client::{Client, DeleteOptions, Entry, EventKind, Informer, Key, ObjectRef, Patch, Recorder};

use self::plan::{Attachment, NodeState, Step, Volume, plan};
use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::pods_by_node::PodsByNode;
use crate::view::Metadata;
use crate::{Clock, Error, view};

/// Where a node says that its volumes are for this controller to attach.
const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// After so long without an answer of the attacher the pods are told.
const ATTACH_PATIENCE: Duration = Duration::from_secs(120);
/// A node that could not be looked at is looked at again after this time.
const AGAIN: Duration = Duration::from_secs(5);

pub(crate) struct AttachDetach {
    client: Client,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    attachments: Informer<VolumeAttachment>,
    drivers: Informer<CSIDriver>,
    by_node: PodsByNode,
    recorder: Recorder,
    clock: Clock,
    state: Mutex<State>,
}

/// What is remembered while this process runs.
#[derive(Default)]
struct State {
    /// Since when attachments are not wanted any more.
    unwanted: HashMap<String, Timestamp>,
    /// Attachments that we asked for and that are not told to pods yet.
    pending: HashMap<String, Pending>,
    /// Which nodes wait for a claim to be bound, or for a volume to be detached elsewhere.
    waiting: HashMap<Waits, BTreeSet<String>>,
    /// The volumes that a node that is gone had in use.
    last_in_use: HashMap<String, BTreeSet<String>>,
}

struct Pending {
    /// When the pods are told that nothing happens.
    patience: Timestamp,
    /// The failure that was told last.
    told: Option<VolumeError>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Waits {
    Claim(Key),
    Volume(String),
}

/// The fields of a node that count here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct AttachNode {
    metadata: Annotated,
    spec: Tainted,
    status: InUse,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Annotated {
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Tainted {
    taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct InUse {
    volumes_attached: Vec<AttachedVolume>,
    volumes_in_use: BTreeSet<String>,
    conditions: Vec<NodeCondition>,
}

impl AttachNode {
    fn state(&self) -> NodeState {
        let ready = self.status.conditions.iter().find(|condition| condition.type_ == "Ready");
        NodeState {
            managed: self.metadata.annotations.contains_key(MANAGED),
            healthy: ready.is_some_and(|condition| condition.status == "True"),
            out_of_service: self.spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE),
            in_use: Some(self.status.volumes_in_use.clone()),
        }
    }
}

/// A pod that a volume is attached for.
struct User {
    about: ObjectRef,
    volume: Volume,
}

impl AttachDetach {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            pods: context.informer(),
            nodes: context.informer(),
            claims: context.informer(),
            volumes: context.informer(),
            attachments: context.informer(),
            drivers: context.informer(),
            by_node: PodsByNode::default(),
            recorder: context.recorder("attachdetach-controller"),
            clock: context.clock.clone(),
            state: Mutex::default(),
        }
    }

    fn wait(&self, waits: Waits, node: &str) {
        self.state.lock().waiting.entry(waits).or_default().insert(node.to_owned());
    }

    /// The nodes that waited for something, which has happened.
    fn waited(&self, waits: &Waits) -> Vec<Key> {
        let nodes = self.state.lock().waiting.remove(waits).unwrap_or_default();
        nodes.iter().map(|node| Key::new("", node)).collect()
    }

    /// The volume of a PersistentVolume, if a CSI driver has it that attaches.
    fn attachable(&self, name: &str) -> Result<Option<Volume>, Error> {
        let Some(entry) = self.volumes.get("", name) else { return Ok(None) };
        let spec = entry.decode()?.spec.unwrap_or_default();
        let Some(csi) = spec.csi else { return Ok(None) };
        if let Some(driver) = self.drivers.get("", &csi.driver)
            && driver.decode()?.spec.attach_required == Some(false)
        {
            return Ok(None);
        }
        // Without access modes nobody knows, and the attacher may refuse.
        let modes = spec.access_modes.unwrap_or_default();
        let shared = modes.is_empty() || modes.iter().any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany");
        Ok(Some(Volume { driver: csi.driver, handle: csi.volume_handle, name: name.to_owned(), exclusive: !shared }))
    }

    /// The volumes that the pods of a node want, by pod.
    fn users(&self, node: &str) -> Result<Vec<User>, Error> {
        let mut users = Vec::new();
        for key in self.by_node.of(node) {
            let Some(entry) = self.pods.find(&key) else { continue };
            let pod: view::Pod = entry.decode_as()?;
            if is_over(&pod) {
                continue;
            }
            for volume in &pod.spec.volumes {
                let (claim, made) = match (&volume.persistent_volume_claim, &volume.ephemeral) {
                    (Some(source), _) => (source.claim_name.clone(), false),
                    (None, Some(_)) => (format!("{}-{}", key.name, volume.name), true),
                    (None, None) => continue,
                };
                let claim = Key::new(&key.namespace, &claim);
                let bound = self.bound(&claim, made.then_some(&*pod.metadata.uid))?;
                let Some(bound) = bound else {
                    self.wait(Waits::Claim(claim), node);
                    continue;
                };
                if let Some(volume) = self.attachable(&bound)? {
                    users.push(User { about: about(&pod), volume });
                }
            }
        }
        Ok(users)
    }

    /// The volume that a claim is bound to; a claim that was made for a pod must be that pod's.
    fn bound(&self, key: &Key, owner: Option<&str>) -> Result<Option<String>, Error> {
        let Some(entry) = self.claims.find(key) else { return Ok(None) };
        if owner.is_some_and(|uid| entry.meta.controller.as_ref().is_none_or(|own| &*own.uid != uid)) {
            return Ok(None);
        }
        let claim = entry.decode()?;
        let bound = claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"));
        let volume = claim.spec.and_then(|spec| spec.volume_name).filter(|name| bound && !name.is_empty());
        let Some(volume) = volume else { return Ok(None) };
        // The volume may come later than the claim, to us.
        let Some(there) = self.volumes.get("", &volume) else {
            return Err(Error::NotYet(format!("PersistentVolume {volume} is not known")));
        };
        let of = there.decode()?.spec.and_then(|spec| spec.claim_ref).and_then(|claim| claim.uid);
        Ok((of.as_deref() == Some(&*entry.meta.uid)).then_some(volume))
    }

    fn attachments(&self, node: &str, wanted: &[Volume]) -> Result<Vec<Attachment>, Error> {
        let now = self.clock.now();
        let wanted: BTreeSet<String> = wanted.iter().map(|volume| volume.attachment(node)).collect();
        let mut found = Vec::new();
        for entry in self.attachments.list() {
            let object = entry.decode()?;
            let Some(name) = object.spec.source.persistent_volume_name.as_deref() else { continue };
            if object.spec.node_name != node {
                continue;
            }
            let volume = match self.volumes.get("", name) {
                Some(volume) => volume.decode()?.spec.and_then(|spec| spec.csi).map(|csi| Volume {
                    driver: csi.driver,
                    handle: csi.volume_handle,
                    name: name.to_owned(),
                    exclusive: false,
                }),
                None => None,
            };
            let name = entry.meta.key.name.to_string();
            let ours = match &volume {
                Some(volume) => volume.attachment(node) == name,
                None => name.len() == 68 && name.starts_with("csi-"),
            };
            // What somebody else asked for is his.
            if !ours {
                continue;
            }
            let unwanted = {
                let mut state = self.state.lock();
                if wanted.contains(&name) {
                    state.unwanted.remove(&name);
                    Duration::ZERO
                } else {
                    let since = *state.unwanted.entry(name.clone()).or_insert(now);
                    Duration::try_from(now.duration_since(since)).unwrap_or_default()
                }
            };
            found.push(Attachment {
                name,
                volume,
                driver: object.spec.attacher.clone(),
                attached: object.status.as_ref().is_some_and(|status| status.attached),
                deleting: entry.meta.deleting,
                unwanted,
            });
        }
        Ok(found)
    }

    /// The other nodes that a volume is attached to, or is being attached to.
    fn elsewhere(&self, volume: &Volume, node: &str) -> Vec<String> {
        let objects = self.attachments.list().into_iter().filter_map(|entry| entry.decode().ok());
        let of_volume = objects.filter(|object| {
            let name = object.spec.source.persistent_volume_name.as_deref();
            name == Some(&*volume.name) && object.spec.node_name != node
        });
        of_volume.map(|object| object.spec.node_name).collect()
    }

    async fn attach(&self, volume: &Volume, node: &str) -> Result<(), Error> {
        let name = volume.attachment(node);
        let object = VolumeAttachment {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            spec: VolumeAttachmentSpec {
                attacher: volume.driver.clone(),
                node_name: node.to_owned(),
                source: VolumeAttachmentSource {
                    persistent_volume_name: Some(volume.name.clone()),
                    ..VolumeAttachmentSource::default()
                },
            },
            status: None,
        };
        let patience = self.clock.now().checked_add(ATTACH_PATIENCE).unwrap_or(Timestamp::MAX);
        self.state.lock().pending.insert(name, Pending { patience, told: None });
        match self.client.all::<VolumeAttachment>().create(&object).await {
            Err(error) if error.is_already_exists() => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// Tells the pods that a volume is on another node; once, until it is not any more.
    fn refuse(&self, volume: &Volume, node: &str, users: &[User]) {
        let waits = Waits::Volume(volume.unique());
        let told = self.state.lock().waiting.get(&waits).is_some_and(|nodes| nodes.contains(node));
        self.wait(waits, node);
        if told {
            return;
        }
        let others: BTreeSet<String> = self.elsewhere(volume, node).into_iter().collect();
        let elsewhere: Vec<ObjectRef> = others
            .iter()
            .flat_map(|other| self.users(other).unwrap_or_default())
            .filter(|user| user.volume.name == volume.name)
            .map(|user| user.about)
            .collect();
        for user in users.iter().filter(|user| user.volume == *volume) {
            let why = in_use(&user.about.namespace, &elsewhere);
            let message = format!("Multi-Attach error for volume {:?} {why}", volume.name);
            self.recorder.record(&user.about, EventKind::Warning, "FailedAttachVolume", message);
        }
    }

    async fn detach(&self, attachment: &str, volume: Option<&Volume>, node: &str, verify: bool) -> Result<(), Error> {
        if verify && let Some(volume) = volume {
            // The informer may be behind, and to take a volume from under a pod destroys what it writes.
            let found = self.client.all::<Node>().find(node).await?;
            let in_use = found.and_then(|node| node.status).and_then(|status| status.volumes_in_use);
            if in_use.into_iter().flatten().any(|name| name == volume.unique()) {
                return Err(Error::NotYet(format!("volume {} is still in use by node {node}", volume.name)));
            }
        }
        self.state.lock().unwanted.remove(attachment);
        let options = DeleteOptions::default();
        Ok(self.client.all::<VolumeAttachment>().delete_if_present(attachment, &options).await?)
    }

    /// Writes which volumes the node may use.
    async fn report(&self, node: &str, known: &[AttachedVolume], attached: &BTreeSet<String>) -> Result<(), Error> {
        let told: BTreeSet<&str> = known.iter().map(|volume| volume.name.as_str()).collect();
        if told.len() == known.len() && told == attached.iter().map(String::as_str).collect() {
            return Ok(());
        }
        let list: Vec<_> = attached.iter().map(|name| json!({"name": name, "devicePath": ""})).collect();
        let patch = Patch::Merge(json!({ "status": { "volumesAttached": list } }));
        match self.client.all::<Node>().patch(node, Some("status"), &patch).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// Tells the pods what became of what they wait for. Gives when they are told that nothing happens.
    fn tell(&self, node: &str, users: &[User]) -> Requeue {
        let now = self.clock.now();
        let mut again = Requeue::Never;
        for user in users {
            let name = user.volume.attachment(node);
            let Some(entry) = self.attachments.get("", &name) else { continue };
            let Ok(object) = entry.decode() else { continue };
            let status = object.status.unwrap_or_default();
            let tell = |kind: EventKind, reason: &str, message: String| {
                users.iter().filter(|other| other.volume == user.volume).for_each(|other| {
                    self.recorder.record(&other.about, kind, reason, message.as_str());
                });
            };
            let mut state = self.state.lock();
            if status.attached {
                if state.pending.remove(&name).is_some() {
                    let message = format!("AttachVolume.Attach succeeded for volume {:?} ", user.volume.name);
                    tell(EventKind::Normal, "SuccessfulAttachVolume", message);
                }
                continue;
            }
            let patience = now.checked_add(ATTACH_PATIENCE).unwrap_or(Timestamp::MAX);
            let pending = state.pending.entry(name).or_insert(Pending { patience, told: None });
            let failed = |why: &str| format!("AttachVolume.Attach failed for volume {:?} : {why}", user.volume.name);
            if let Some(error) = status.attach_error.filter(|error| Some(error) != pending.told.as_ref()) {
                let message = failed(error.message.as_deref().unwrap_or_default());
                tell(EventKind::Warning, "FailedAttachVolume", message);
                pending.told = Some(error);
                pending.patience = patience;
            } else if now >= pending.patience {
                let Volume { driver, handle, .. } = &user.volume;
                let why =
                    format!("timed out waiting for external-attacher of {driver} CSI driver to attach volume {handle}");
                tell(EventKind::Warning, "FailedAttachVolume", failed(&why));
                pending.patience = patience;
            }
            let left = pending.patience.as_second().saturating_sub(now.as_second());
            again = again.or_sooner(Requeue::seconds(left));
        }
        again
    }
}

/// Whether none of a pod's containers runs any more.
fn is_over(pod: &view::Pod) -> bool {
    let stopped = || {
        let all = pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses);
        all.filter_map(|status| status.state.as_ref()).all(|state| state.running.is_none())
    };
    pod.is_terminal() || pod.metadata.deletion_timestamp.is_some() && stopped()
}

fn about(pod: &view::Pod) -> ObjectRef {
    let Metadata { name, namespace, uid, .. } = &pod.metadata;
    ObjectRef {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: namespace.clone(),
        name: name.clone(),
        uid: uid.clone(),
        ..ObjectRef::default()
    }
}

/// Why a volume cannot be attached: names of pods are told in their own namespace only.
fn in_use(namespace: &str, pods: &[ObjectRef]) -> String {
    let local: Vec<&str> = pods.iter().filter(|pod| pod.namespace == namespace).map(|pod| pod.name.as_str()).collect();
    let foreign = pods.len() - local.len();
    let names = local.join(", ");
    match (local.is_empty(), foreign) {
        (true, 0) => "Volume is already exclusively attached to one node and can't be attached to another".to_owned(),
        (false, 0) => format!("Volume is already used by pod(s) {names}"),
        (true, foreign) => format!("Volume is already used by {foreign} pod(s) in different namespaces"),
        (false, foreign) => {
            format!("Volume is already used by pod(s) {names} and {foreign} pod(s) in different namespaces")
        }
    }
}

impl Controller for AttachDetach {
    const NAME: &'static str = "persistentvolume-attach-detach-controller";
    const ACCOUNT: Option<&'static str> = Some("attachdetach-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.needs(&self.volumes);
        let this = Arc::clone(self);
        watches.on(&self.pods, move |change| {
            this.by_node.observe(change);
            let pod = |entry: &Option<Arc<Entry<Pod>>>| entry.as_ref()?.decode_as::<view::Pod>().ok();
            let (old, new) = (pod(&change.old), pod(&change.new));
            // A pod without claims has nothing to attach, and most changes change nothing here.
            let wants = |pod: &Option<view::Pod>| {
                let pod = pod.as_ref().filter(|pod| !is_over(pod))?;
                let claims = crate::pvc_protection::claims_of(pod);
                (!claims.is_empty() && !pod.spec.node_name.is_empty()).then(|| (pod.spec.node_name.clone(), claims))
            };
            let (before, after) = (wants(&old), wants(&new));
            if before == after {
                return Vec::new();
            }
            before.into_iter().chain(after).map(|(node, _)| Key::new("", &node)).collect()
        });
        let this = Arc::clone(self);
        watches.on(&self.nodes, move |change| {
            let node = |entry: &Option<Arc<Entry<Node>>>| entry.as_ref()?.decode_as::<AttachNode>().ok();
            let (old, new) = (node(&change.old), node(&change.new));
            let Some(key) = change.latest().map(|entry| entry.meta.key.clone()) else { return Vec::new() };
            if let (Some(old), None) = (&old, &new) {
                this.state.lock().last_in_use.insert(key.name.to_string(), old.status.volumes_in_use.clone());
            }
            let state = |node: &AttachNode| (node.state(), node.status.volumes_attached.clone());
            if old.as_ref().map(state) == new.as_ref().map(state) { Vec::new() } else { vec![key] }
        });
        let this = Arc::clone(self);
        watches.on(&self.claims, move |change| {
            change.new.as_ref().map(|entry| this.waited(&Waits::Claim(entry.meta.key.clone()))).unwrap_or_default()
        });
        let this = Arc::clone(self);
        watches.on(&self.attachments, move |change| {
            let Some(object) = change.latest().and_then(|entry| entry.decode().ok()) else { return Vec::new() };
            let mut keys = vec![Key::new("", &object.spec.node_name)];
            if change.new.is_none()
                && let Some(name) = object.spec.source.persistent_volume_name.as_deref()
                && let Ok(Some(volume)) = this.attachable(name)
            {
                keys.extend(this.waited(&Waits::Volume(volume.unique())));
            }
            keys
        });
        let this = Arc::clone(self);
        watches.on(&self.drivers, move |_| this.nodes.list().iter().map(|entry| entry.meta.key.clone()).collect());
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let node = &*key.name;
        let found = match self.nodes.find(key) {
            Some(entry) => Some(entry.decode_as::<AttachNode>()?),
            None => None,
        };
        let users = self.users(node)?;
        let mut wanted: Vec<Volume> = users.iter().map(|user| user.volume.clone()).collect();
        wanted.sort();
        wanted.dedup();
        let attachments = self.attachments(node, &wanted)?;
        let state = match &found {
            Some(found) => {
                self.state.lock().last_in_use.remove(node);
                found.state()
            }
            None if attachments.is_empty() => {
                self.state.lock().last_in_use.remove(node);
                return Ok(Requeue::Never);
            }
            None => {
                let in_use = self.state.lock().last_in_use.get(node).cloned();
                NodeState { in_use, ..NodeState::default() }
            }
        };
        let steps = plan(node, &state, &wanted, &attachments, |volume| !self.elsewhere(volume, node).is_empty());
        let leaving =
            |name: &str| steps.iter().any(|s| matches!(s, Step::Detach { attachment, .. } if attachment == name));
        let usable = attachments.iter().filter(|a| a.attached && !a.deleting && !leaving(&a.name));
        let usable: BTreeSet<String> = usable.filter_map(|a| a.volume.as_ref()).map(Volume::unique).collect();
        // A volume is not for the node any more before it is taken away.
        if let Some(found) = &found {
            self.report(node, &found.status.volumes_attached, &usable).await?;
        }
        let mut again = Requeue::Never;
        for step in &steps {
            match step {
                Step::Attach(volume) => self.attach(volume, node).await?,
                Step::Refuse(volume) => self.refuse(volume, node, &users),
                Step::Detach { attachment, verify } => {
                    let of = attachments.iter().find(|known| known.name == *attachment);
                    let volume = of.and_then(|known| known.volume.as_ref());
                    match self.detach(attachment, volume, node, *verify).await {
                        Err(Error::NotYet(_)) => again = again.or_sooner(Requeue::After(AGAIN)),
                        other => other?,
                    }
                }
                // A healthy node says when it has unmounted the volume; an ill one is waited for.
                Step::Wait(left) if !state.healthy => again = again.or_sooner(Requeue::After(*left)),
                Step::Wait(_) => {}
            }
        }
        Ok(again.or_sooner(self.tell(node, &users)))
    }
}

#[cfg(test)]
mod tests;
