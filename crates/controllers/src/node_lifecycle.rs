//! Nodes that fall silent: their conditions become Unknown, taints keep pods away, and their pods are not ready.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use serde_json::json;
use trireme_client::{Change, Client, EventKind, Informer, Key, ObjectRef, Patch, Recorder};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::pods_by_node::PodsByNode;
use crate::taints::{self, NO_EXECUTE, NO_SCHEDULE, taint};
use crate::{Clock, Error, view};

mod zones;

use zones::Zones;

const LEASES: &str = "kube-node-lease";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

pub(crate) struct NodeLifecycle {
    client: Client,
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<Pod>,
    by_node: PodsByNode,
    recorder: Recorder,
    clock: Clock,
    grace: i64,
    startup_grace: i64,
    /// When each node was last heard of, by our own clock: the clocks of nodes are not trusted.
    heard: Mutex<HashMap<String, Heard>>,
    zones: Mutex<Zones>,
}

/// The last sign of life of a node.
#[derive(Clone, Debug)]
struct Heard {
    at: Timestamp,
    renewed: Option<Timestamp>,
    heartbeat: Option<Timestamp>,
}

impl NodeLifecycle {
    pub(crate) fn new(context: &Context) -> Self {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self {
            client: context.client.clone(),
            nodes: context.informer(),
            leases: context.informer(),
            pods: context.informer(),
            by_node: PodsByNode::default(),
            recorder: context.recorder("node-controller"),
            clock: context.clock.clone(),
            grace: seconds(context.options.node_grace),
            startup_grace: seconds(context.options.node_startup_grace),
            heard: Mutex::default(),
            zones: Mutex::default(),
        }
    }

    /// Takes a renewed lease for a sign of life.
    fn hear_lease(&self, change: &Change<Lease>) {
        let Some(new) = change.new.as_ref().filter(|new| &*new.meta.key.namespace == LEASES) else { return };
        let renewed = new.decode().ok().and_then(|lease| lease.spec?.renew_time).map(|time| time.0);
        let now = self.clock.now();
        let mut heard = self.heard.lock();
        let known = heard.entry(new.meta.key.name.to_string());
        let known = known.or_insert(Heard { at: now, renewed, heartbeat: None });
        if known.renewed < renewed {
            known.renewed = renewed;
            known.at = now;
        }
    }

    /// Takes a reported condition for a sign of life; gives when the node was last heard of.
    fn hear_node(&self, node: &Node, now: Timestamp) -> Timestamp {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let ready = condition(node, "Ready");
        let heartbeat = ready.and_then(|ready| ready.last_heartbeat_time.as_ref()).map(|time| time.0);
        let mut heard = self.heard.lock();
        let known = heard.entry(name.to_owned()).or_insert(Heard { at: now, renewed: None, heartbeat });
        // What we wrote ourselves (Unknown) is no sign of life.
        if known.heartbeat < heartbeat && ready.is_some_and(|ready| ready.status != "Unknown") {
            known.heartbeat = heartbeat;
            known.at = now;
        }
        known.at
    }

    /// Tells that the pods of a node are not ready.
    async fn mark_pods(&self, node: &str, now: Timestamp) -> Result<(), Error> {
        for key in self.by_node.of(node) {
            let Some(entry) = self.pods.find(&key) else { continue };
            let pod: view::Pod = entry.decode_as()?;
            if !pod.is_ready() || pod.is_terminal() {
                continue;
            }
            let condition = json!({
                "type": "Ready", "status": "False", "lastTransitionTime": now.to_string(),
            });
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
            let api = self.client.namespaced::<view::PodKind>(&key.namespace);
            match api.patch(&key.name, Some("status"), &Patch::Strategic(patch)).await {
                Ok(_) => {
                    let about = ObjectRef {
                        api_version: "v1".to_owned(),
                        kind: "Pod".to_owned(),
                        namespace: key.namespace.to_string(),
                        name: key.name.to_string(),
                        uid: pod.metadata.uid,
                        ..ObjectRef::default()
                    };
                    self.recorder.record(&about, EventKind::Warning, "NodeNotReady", "Node is not ready");
                }
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn event(&self, node: &Node, reason: &str, message: String) {
        // Upstream's node events carry the node's name as uid, and tools look for it there.
        let mut about = ObjectRef::to::<Node>(&node.metadata);
        about.uid.clone_from(&about.name);
        self.recorder.record(&about, EventKind::Normal, reason, message);
    }
}

impl Controller for NodeLifecycle {
    const NAME: &'static str = "node-lifecycle-controller";
    const ACCOUNT: Option<&'static str> = Some("node-controller");
    const WORKERS: usize = 8;

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        let this = Arc::clone(self);
        watches.on(&self.leases, move |change| {
            this.hear_lease(change);
            Vec::new()
        });
        let this = Arc::clone(self);
        watches.on(&self.nodes, move |change| {
            let Some(latest) = change.latest() else { return Vec::new() };
            let key = latest.meta.key.clone();
            match &change.new {
                None => {
                    this.heard.lock().remove(&*key.name);
                    this.zones.lock().forget(&key.name);
                    if let Ok(node) = latest.decode() {
                        let message = format!("Node {0} event: Removing Node {0} from Controller", key.name);
                        this.event(&node, "RemovingNode", message);
                    }
                    return Vec::new();
                }
                Some(new) if change.old.is_none() => {
                    if let Ok(node) = new.decode() {
                        let message = format!("Node {0} event: Registered Node {0} in Controller", key.name);
                        this.event(&node, "RegisteredNode", message);
                    }
                }
                Some(_) => {}
            }
            vec![key]
        });
        let this = Arc::clone(self);
        watches.on(&self.pods, move |change| {
            this.by_node.observe(change);
            Vec::new()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.nodes.find(key) else { return Ok(Requeue::Never) };
        let mut node = entry.decode()?;
        let now = self.clock.now();
        let heard = self.hear_node(&node, now);
        let never_reported = condition(&node, "Ready").is_none();
        let grace = if never_reported { self.startup_grace } else { self.grace };
        let left = heard.as_second().saturating_add(grace) - now.as_second();
        let was = state(&node);
        if left <= 0 {
            let old = node.status.clone().unwrap_or_default();
            let mut new = old.clone();
            new.conditions = Some(unknown(&node, now));
            if let Some(patch) = crate::merge_patch::status(&node.metadata, &old, &new)? {
                node = self.client.all::<Node>().patch(&key.name, Some("status"), &patch).await?;
            }
        }
        let is = state(&node);
        if is != State::Ready {
            if was == State::Ready {
                let message = format!("Node {} status is now: NodeNotReady", key.name);
                self.event(&node, "NodeNotReady", message);
            }
            self.mark_pods(&key.name, now).await?;
        }

        let zone = zone(&node);
        let (may_evict, retry) = self.zones.lock().see(&zone, &key.name, is == State::Ready, now);
        let old = node.spec.clone().and_then(|spec| spec.taints).unwrap_or_default();
        let new = wanted_taints(&node, &old, may_evict, now);
        if new != old {
            let patch = json!({
                "metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
                "spec": {"taints": new},
            });
            self.client.all::<Node>().patch(&key.name, None, &Patch::Merge(patch)).await?;
        }
        // A silent node is looked at again when something is heard of it, or when the others of its zone have changed.
        let again = if left > 0 { Requeue::seconds(left) } else { Requeue::seconds(grace.min(5)) };
        Ok(again.or_sooner(retry.map_or(Requeue::Never, Requeue::seconds)))
    }
}

/// What the condition Ready says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    NotReady,
    Unknown,
    /// Nothing has been reported yet.
    New,
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

fn state(node: &Node) -> State {
    match condition(node, "Ready").map(|ready| ready.status.as_str()) {
        Some("True") => State::Ready,
        Some("False") => State::NotReady,
        Some(_) => State::Unknown,
        None => State::New,
    }
}

fn zone(node: &Node) -> String {
    let label =
        |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).cloned().unwrap_or_default();
    format!("{}:{}", label(REGION), label(ZONE))
}

/// The conditions of a node that has not been heard of.
fn unknown(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let mut conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(present) if present.status == "Unknown" => {}
            Some(present) => {
                present.status = "Unknown".to_owned();
                present.reason = Some("NodeStatusUnknown".to_owned());
                present.message = Some("Kubelet stopped posting node status.".to_owned());
                present.last_transition_time = Some(Time(now));
            }
            None => conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    conditions
}

/// The taints that follow from a node's state; those that others set stay. Without leave to evict, no NoExecute taint is
/// added (but one that is there stays while its reason does).
fn wanted_taints(node: &Node, old: &[Taint], may_evict: bool, now: Timestamp) -> Vec<Taint> {
    let is = |kind: &str| condition(node, kind).is_some_and(|condition| condition.status == "True");
    let unschedulable = node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    let state = state(node);
    let ours = [
        (taint(taints::NOT_READY, NO_SCHEDULE), matches!(state, State::NotReady | State::New)),
        (taint(taints::UNREACHABLE, NO_SCHEDULE), state == State::Unknown),
        (taint(taints::MEMORY_PRESSURE, NO_SCHEDULE), is("MemoryPressure")),
        (taint(taints::DISK_PRESSURE, NO_SCHEDULE), is("DiskPressure")),
        (taint(taints::PID_PRESSURE, NO_SCHEDULE), is("PIDPressure")),
        (taint(taints::NETWORK_UNAVAILABLE, NO_SCHEDULE), is("NetworkUnavailable")),
        (taint(taints::UNSCHEDULABLE, NO_SCHEDULE), unschedulable),
        (taint(taints::NOT_READY, NO_EXECUTE), state == State::NotReady),
        (taint(taints::UNREACHABLE, NO_EXECUTE), state == State::Unknown),
    ];
    let wanted =
        |present: &Taint| ours.iter().find(|(taint, _)| taints::same(taint, present)).is_none_or(|(_, wanted)| *wanted);
    let mut taints: Vec<Taint> = old.iter().filter(|present| wanted(present)).cloned().collect();
    for (taint, wanted) in ours {
        let missing = wanted && !taints.iter().any(|present| taints::same(present, &taint));
        if missing && (taint.effect != NO_EXECUTE || may_evict) {
            taints.push(Taint { time_added: Some(Time(now)), ..taint });
        }
    }
    taints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, eventually};

    fn node(name: &str, ready: &str) -> serde_json::Value {
        json!({
            "metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}
        })
    }

    #[test]
    fn taints_follow_the_conditions_and_others_stay() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let own = || vec![taint("mine", NO_SCHEDULE)];
        let keys = |ready: &str, old: Vec<Taint>, may_evict: bool| {
            let node: Node = serde_json::from_value(node("n", ready)).unwrap();
            let taints = wanted_taints(&node, &old, may_evict, now);
            taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect::<Vec<_>>()
        };
        assert_eq!(keys("True", own(), true), ["mine:NoSchedule"]);
        let unreachable = [
            "mine:NoSchedule",
            "node.kubernetes.io/unreachable:NoSchedule",
            "node.kubernetes.io/unreachable:NoExecute",
        ];
        assert_eq!(keys("Unknown", own(), true), unreachable);
        assert_eq!(keys("Unknown", own(), false), unreachable[..2]);
        let before = vec![taint(taints::NOT_READY, NO_EXECUTE), taint(taints::NOT_READY, NO_SCHEDULE)];
        assert!(keys("True", before, true).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_node_becomes_unknown_and_its_pods_not_ready() {
        let api = FakeApi::default();
        let begun = tokio::time::Instant::now();
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock =
            Clock::of(move || start + jiff::SignedDuration::from_secs(begun.elapsed().as_secs().try_into().unwrap()));
        let context = api.context(Options::default(), clock);
        for name in ["alive", "silent"] {
            api.put::<Node>(node(name, "True"));
        }
        api.put::<Lease>(json!({"metadata": {"name": "alive", "namespace": LEASES}, "spec": {}}));
        api.put::<Pod>(json!({
            "metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "silent", "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        }));
        tokio::spawn(run(NodeLifecycle::new(&context), context.shutdown.clone()));
        let renewals = api.clone();
        tokio::spawn(async move {
            for minute in 0..20 {
                let time = format!("2026-01-01T01:{minute:02}:00.000000Z");
                renewals.change::<Lease>(LEASES, "alive", json!({"spec": {"renewTime": time}}));
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        });
        tokio::time::sleep(Duration::from_secs(45)).await;
        let state_of = |name: &str| state(&api.get::<Node>("", name).unwrap());
        assert_eq!((state_of("alive"), state_of("silent")), (State::Ready, State::Ready));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!((state_of("alive"), state_of("silent")), (State::Ready, State::Unknown));
        let tainted = || {
            let taints = api.get::<Node>("", "silent").unwrap().spec.and_then(|spec| spec.taints).unwrap_or_default();
            taints.iter().any(|taint| taint.key == taints::UNREACHABLE && taint.effect == NO_EXECUTE)
        };
        eventually("the taint", tainted).await;
        let pod = api.get::<Pod>("n", "p").unwrap().status.unwrap().conditions.unwrap();
        assert_eq!(pod[0].status, "False");
        context.shutdown.cancel();
    }
}
