//! Daemon sets: one pod on every node that fits.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
};
use serde::Deserialize;
use trireme_client::{Change, Client, EventKind, Informer, Key, ObjectRef};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::expectations::Expectations;
use crate::pod_control::{Owned, PodControl, owners_of_pod};
use crate::revisions::{self, Newest, Revisions};
use crate::{Clock, Error, merge_patch, pod_template, selector, view};

mod plan;

use plan::{Counts, Fit, Plan};

const GENERATION_LABEL: &str = "pod-template-generation";
const GENERATION: &str = "deprecated.daemonset.template.generation";
/// At most so many pods are created or deleted in one step.
const BURST: usize = 250;
const NAME_FIELD: &str = "metadata.name";

pub(crate) struct DaemonSets {
    client: Client,
    sets: Informer<DaemonSet>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    revisions: Informer<ControllerRevision>,
    history: Revisions,
    control: PodControl,
    expectations: Arc<Expectations>,
    clock: Clock,
}

/// The part of a pod that binds it to a node before it is scheduled.
#[derive(Deserialize)]
struct Bound {
    spec: BoundSpec,
}

#[derive(Deserialize)]
struct BoundSpec {
    #[serde(default)]
    affinity: Option<Affinity>,
}

impl DaemonSets {
    pub(crate) fn new(context: &Context) -> Self {
        let pods = context.informer::<Pod>();
        let expectations = Arc::new(Expectations::default());
        let recorder = context.recorder("daemonset-controller");
        let revisions = context.informer();
        Self {
            client: context.client.clone(),
            sets: context.informer(),
            control: PodControl::new(&context.client, pods.clone(), recorder, Arc::clone(&expectations)),
            pods,
            nodes: context.informer(),
            history: Revisions::new(&context.client, revisions.clone()),
            revisions,
            expectations,
            clock: context.clock.clone(),
        }
    }

    /// The node that an unscheduled pod is made for.
    fn wanted_node(&self, pod: &view::Pod) -> Option<String> {
        let entry = self.pods.get(&pod.metadata.namespace, &pod.metadata.name)?;
        let affinity = entry.decode_as::<Bound>().ok()?.spec.affinity?.node_affinity?;
        let terms = affinity.required_during_scheduling_ignored_during_execution?.node_selector_terms;
        let fields = terms.into_iter().flat_map(|term| term.match_fields.unwrap_or_default());
        fields.filter(|field| field.key == NAME_FIELD).find_map(|field| field.values?.into_iter().next())
    }

    fn picture(&self, spec: &DaemonSetSpec, pods: Vec<view::Pod>) -> Result<Picture, Error> {
        let pod_spec = spec.template.spec.clone().unwrap_or_default();
        let mut fits = BTreeMap::new();
        for entry in self.nodes.list() {
            fits.insert(entry.meta.key.name.to_string(), plan::fit(&pod_spec, &entry.decode()?));
        }
        let mut by_node: BTreeMap<String, Vec<view::Pod>> = BTreeMap::new();
        for pod in pods {
            let affinity = if pod.spec.node_name.is_empty() { self.wanted_node(&pod) } else { None };
            if let Some(node) = plan::target(&pod, affinity.as_deref()) {
                by_node.entry(node).or_default().push(pod);
            }
        }
        Ok(Picture { fits, by_node })
    }

    async fn carry_out(&self, owned: &Owned<DaemonSet>, set: &DaemonSet, plan: Plan, hash: &str) -> Result<(), Error> {
        let about = ObjectRef::to::<DaemonSet>(&set.metadata);
        let mut delete = plan.delete;
        for (pod, failed) in plan.ended {
            let node = &pod.spec.node_name;
            let name = format!("{}/{}", pod.metadata.namespace, pod.metadata.name);
            if failed {
                let message = format!("Found failed daemon pod {name} on node {node}, will try to kill it");
                self.control.recorder().record(&about, EventKind::Warning, "FailedDaemonPod", message);
            } else {
                let message = format!("Found succeeded daemon pod {name} on node {node}, will try to delete it");
                self.control.recorder().record(&about, EventKind::Normal, "SucceededDaemonPod", message);
            }
            delete.push(pod);
        }
        delete.truncate(BURST);
        let create: Vec<Pod> = plan.create.iter().take(BURST).map(|node| new_pod(set, owned, node, hash)).collect();
        let created = self.control.create_all(owned, &about, &create).await;
        let deleted = self.control.delete(owned, &about, &delete).await;
        created.or(deleted).map_or(Ok(()), Err)
    }
}

struct Picture {
    fits: BTreeMap<String, Fit>,
    by_node: BTreeMap<String, Vec<view::Pod>>,
}

/// The pod of a daemon set for a node.
fn new_pod(set: &DaemonSet, owned: &Owned<DaemonSet>, node: &str, hash: &str) -> Pod {
    let spec = set.spec.clone().unwrap_or_default();
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = pod_template::pod(&spec.template, namespace, owned.reference());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(revisions::HASH_LABEL.to_owned(), hash.to_owned());
    if let Some(generation) = set.metadata.annotations.as_ref().and_then(|annotations| annotations.get(GENERATION)) {
        labels.insert(GENERATION_LABEL.to_owned(), generation.clone());
    }
    bind(pod.spec.get_or_insert_default(), node);
    pod
}

/// Leaves the scheduler one node, which has been checked against the pod's own wishes already.
fn bind(spec: &mut PodSpec, node: &str) {
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    let requirement = NodeSelectorRequirement {
        key: NAME_FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![requirement]), match_expressions: None };
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
    let added = plan::tolerations(spec.host_network == Some(true));
    let tolerations = spec.tolerations.get_or_insert_default();
    for toleration in added {
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}

impl Controller for DaemonSets {
    const NAME: &'static str = "daemonset-controller";
    const ACCOUNT: Option<&'static str> = Some("daemon-set-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.sets);
        let this = Arc::clone(self);
        watches.on(&self.pods, move |change| {
            this.expectations.observe(change);
            owners_of_pod::<DaemonSet>(change, &this.sets, |set, labels| {
                set.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, labels))
            })
        });
        let this = Arc::clone(self);
        watches.on(&self.nodes, move |change| {
            if matters(change) { this.sets.list().iter().map(|set| set.meta.key.clone()).collect() } else { Vec::new() }
        });
        watches.on(&self.revisions, |change| {
            let Some(latest) = change.latest() else { return Vec::new() };
            let owner = latest.meta.controller.as_ref().filter(|owner| &*owner.kind == "DaemonSet");
            owner.map(|owner| Key::new(&latest.meta.key.namespace, &owner.name)).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.sets.find(key) else { return Ok(Requeue::Never) };
        let set = entry.decode()?;
        let Some(spec) = &set.spec else { return Ok(Requeue::Never) };
        let about = ObjectRef::to::<DaemonSet>(&set.metadata);
        if selector::is_empty(&spec.selector) {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.control.recorder().record(&about, EventKind::Warning, "SelectingAll", message);
            return Ok(Requeue::Never);
        }
        if entry.meta.deleting {
            return Ok(Requeue::Never);
        }
        let now = self.clock.now();
        let up_to_date = self.expectations.met(&entry.meta.uid);
        let owned = Owned::<DaemonSet>::new(&set.metadata, false);
        let owner = revisions::Owner {
            metadata: &set.metadata,
            owned: &owned,
            selector: &spec.selector,
            labels: pod_template::labels(&spec.template),
        };
        let mut known = self.history.claim(&owner).await?;
        let collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let data = revisions::template_data(&spec.template)?;
        let newest = match self.history.newest(&owner, &mut known, &data, collisions).await? {
            Newest::Found(newest) => newest,
            Newest::Collision => {
                let old = set.status.clone().unwrap_or_default();
                let new = DaemonSetStatus { collision_count: Some(collisions.saturating_add(1)), ..old.clone() };
                if let Some(patch) = merge_patch::status(&set.metadata, &old, &new)? {
                    self.client
                        .namespaced::<DaemonSet>(&key.namespace)
                        .patch(&key.name, Some("status"), &patch)
                        .await?;
                }
                return Err(Error::NotYet(format!("the hash of {key} is taken")));
            }
        };
        let hash = revisions::hash_of(&newest);
        let pods = self.control.claim(&owned, |labels| selector::matches(&spec.selector, labels)).await?;
        let picture = self.picture(spec, pods)?;
        let rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete");
        let surge = rolling && plan::bounds(spec, i32::try_from(picture.fits.len()).unwrap_or(i32::MAX)).0 > 0;
        let mut result = Ok(());
        if up_to_date {
            let plan = plan::manage(&picture.fits, &picture.by_node, hash, surge);
            result = self.carry_out(&owned, &set, plan, hash).await;
            if result.is_ok() && rolling && self.expectations.met(&entry.meta.uid) {
                let plan = plan::roll(&set, &picture.fits, &picture.by_node, hash, now);
                result = self.carry_out(&owned, &set, plan, hash).await;
            }
            let used: Vec<&str> = picture
                .by_node
                .values()
                .flatten()
                .filter_map(|pod| pod.metadata.labels.get(revisions::HASH_LABEL).map(String::as_str))
                .collect();
            let in_use = |revision: &ControllerRevision| {
                revision.metadata.uid == newest.metadata.uid || used.contains(&revisions::hash_of(revision))
            };
            self.history.truncate(&known, in_use, spec.revision_history_limit.unwrap_or(10)).await?;
        }
        let counts = plan::count(&picture.fits, &picture.by_node, hash, spec.min_ready_seconds.unwrap_or(0), now);
        let old = set.status.clone().unwrap_or_default();
        let new = status(&old, &counts, set.metadata.generation);
        if let Some(patch) = merge_patch::status(&set.metadata, &old, &new)? {
            self.client.namespaced::<DaemonSet>(&key.namespace).patch(&key.name, Some("status"), &patch).await?;
        }
        result.map(|()| counts.next_available.map_or(Requeue::Never, Requeue::seconds))
    }
}

/// Whether a change of a node can change where daemons run: heartbeats do not.
fn matters(change: &Change<Node>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    if old.meta.labels != new.meta.labels {
        return true;
    }
    let spec = |entry: &trireme_client::Entry<Node>| entry.decode().ok().and_then(|node| node.spec);
    let (old, new) = (spec(old), spec(new));
    let taints = |spec: &Option<k8s_openapi::api::core::v1::NodeSpec>| {
        spec.as_ref().map(|spec| (spec.taints.clone(), spec.unschedulable))
    };
    taints(&old) != taints(&new)
}

fn status(old: &DaemonSetStatus, counts: &Counts, generation: Option<i64>) -> DaemonSetStatus {
    DaemonSetStatus {
        observed_generation: generation,
        desired_number_scheduled: counts.desired,
        current_number_scheduled: counts.current,
        number_misscheduled: counts.misscheduled,
        number_ready: counts.ready,
        number_available: Some(counts.available),
        number_unavailable: Some(counts.desired - counts.available),
        updated_number_scheduled: Some(counts.updated),
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
    }
}

#[cfg(test)]
mod tests;
