use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Binding, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::json;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trireme_client::{Client, Error, EventKind, Informer, Informers, Key, ObjectRef, Patch, Recorder};

use crate::view::{self, Node, Pod};
use crate::{Cluster, Diagnosis, Framework, Hint, PodInfo, Queue, plugins};

/// How many bindings may be on their way at once.
const BINDINGS: usize = 256;
/// How many decisions are made before new changes are looked at.
const BATCH: usize = 64;

/// How the scheduler behaves.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// Pods that name this scheduler are ours.
    pub name: String,
}

/// The running scheduler: one task that owns all state.
pub struct Scheduler {
    config: SchedulerConfig,
    client: Client,
    recorder: Recorder,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    dirty: Arc<Dirty>,
    cluster: Cluster,
    queue: Queue,
    framework: Framework,
    rng: SmallRng,
    bindings: Arc<Semaphore>,
    outcomes: (mpsc::Sender<Outcome>, mpsc::Receiver<Outcome>),
}

/// The keys of changed objects, each once however often it has changed: what is read then is the newest state.
#[derive(Default)]
struct Dirty {
    keys: Mutex<(HashSet<Key>, HashSet<Key>)>,
    changed: Notify,
}

/// How a binding ended.
struct Outcome {
    key: Key,
    uid: Box<str>,
    result: Result<(), Error>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self { name: "default-scheduler".to_owned() }
    }
}

impl Scheduler {
    /// Starts scheduling until `shutdown`.
    pub fn start(
        config: SchedulerConfig,
        client: Client,
        informers: &Informers,
        shutdown: CancellationToken,
    ) -> tokio::task::JoinHandle<()> {
        let dirty = Arc::new(Dirty::default());
        let (pods, nodes) = (informers.get::<Pod>(), informers.get::<Node>());
        let changed = Arc::clone(&dirty);
        pods.subscribe(move |change| {
            if let Some(entry) = change.latest() {
                changed.keys.lock().0.insert(entry.meta.key.clone());
                changed.changed.notify_one();
            }
        });
        let changed = Arc::clone(&dirty);
        nodes.subscribe(move |change| {
            if let Some(entry) = change.latest() {
                changed.keys.lock().1.insert(entry.meta.key.clone());
                changed.changed.notify_one();
            }
        });
        let scheduler = Self {
            recorder: Recorder::new(client.clone(), &config.name, ""),
            config,
            client,
            pods,
            nodes,
            dirty,
            cluster: Cluster::default(),
            queue: Queue::default(),
            framework: Framework::new(plugins::defaults()),
            rng: SmallRng::from_os_rng(),
            bindings: Arc::new(Semaphore::new(BINDINGS)),
            outcomes: mpsc::channel(BINDINGS),
        };
        tokio::spawn(scheduler.run(shutdown))
    }

    async fn run(mut self, shutdown: CancellationToken) {
        // Deciding with half a picture would put too much on the nodes that are seen first.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = async { tokio::join!(self.pods.synced(), self.nodes.synced()); } => {}
        }
        let dirty = Arc::clone(&self.dirty);
        loop {
            self.take_changes();
            while let Ok(outcome) = self.outcomes.1.try_recv() {
                self.bound(outcome);
            }
            let mut decided = 0;
            while decided < BATCH
                && self.bindings.available_permits() > 0
                && let Some(pod) = self.queue.next(Instant::now())
            {
                self.decide(pod);
                decided += 1;
            }
            if decided == BATCH {
                tokio::task::yield_now().await;
                continue;
            }
            let due = self.queue.due();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = dirty.changed.notified() => {}
                Some(outcome) = self.outcomes.1.recv() => self.bound(outcome),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    fn take_changes(&mut self) {
        let (pods, nodes) = std::mem::take(&mut *self.dirty.keys.lock());
        for key in nodes {
            self.node_changed(&key);
        }
        for key in pods {
            self.pod_changed(&key);
        }
    }

    fn node_changed(&mut self, key: &Key) {
        let Some(entry) = self.nodes.find(key) else {
            self.cluster.remove_node(&key.name);
            return;
        };
        let node: Node = match entry.decode() {
            Ok(node) => node,
            Err(error) => return tracing::warn!(node = %key, %error, "a node cannot be read"),
        };
        let mut read = Ok(());
        self.cluster.set_node(&key.name, |info| read = info.update(node));
        if let Err(error) = read {
            tracing::warn!(node = %key, %error, "a node's resources cannot be read");
        }
        self.hint(Hint::Node);
    }

    fn pod_changed(&mut self, key: &Key) {
        let pod = match self.pods.find(key).map(|entry| entry.decode()) {
            Some(Ok(pod)) => Some(pod),
            Some(Err(error)) => return tracing::warn!(pod = %key, %error, "a pod cannot be read"),
            None => None,
        };
        // A pod that has ended takes nothing any more.
        let Some(pod) = pod.filter(|pod| !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed")) else {
            self.queue.remove(key);
            if self.cluster.remove(key).is_some() {
                self.hint(Hint::PodGone);
            }
            return;
        };
        let node = pod.spec.node_name.clone();
        if node.is_empty() {
            self.unbound_pod_changed(key, pod);
            return;
        }
        self.queue.remove(key);
        let was_elsewhere = self.cluster.node_of(key) != Some(node.as_str());
        match PodInfo::read(pod) {
            Ok(info) => self.cluster.place(info, &node),
            Err(error) => tracing::warn!(pod = %key, %error, "a pod's resources cannot be read"),
        }
        if was_elsewhere {
            self.hint(Hint::PodPlaced);
        }
    }

    fn unbound_pod_changed(&mut self, key: &Key, pod: Pod) {
        let ours = pod.spec.scheduler_name == self.config.name && pod.metadata.deletion_timestamp.is_none();
        if !ours {
            self.queue.remove(key);
            return;
        }
        // Our own decision for this very pod is on its way; a pod of the same name made anew is another pod.
        if self.cluster.is_assumed(key) {
            if self.cluster.pod(key).is_some_and(|assumed| *assumed.uid == *pod.metadata.uid) {
                return;
            }
            self.cluster.remove(key);
        }
        match PodInfo::read(pod) {
            Ok(info) => self.queue.add(info),
            Err(error) => tracing::warn!(pod = %key, %error, "a pod's resources cannot be read"),
        }
    }

    fn hint(&mut self, hint: Hint) {
        let framework = &self.framework;
        self.queue.hint(Instant::now(), |pod, rejected_by| framework.helps(pod, rejected_by, hint));
    }

    fn decide(&mut self, pod: PodInfo) {
        match self.framework.choose(&pod, &self.cluster, &mut self.rng) {
            Ok(node) => self.bind(pod, &node),
            Err(diagnosis) => self.unschedulable(&pod, &diagnosis),
        }
    }

    fn bind(&mut self, pod: PodInfo, node: &str) {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.key.name.to_string()),
                namespace: Some(pod.key.namespace.to_string()),
                uid: Some(pod.uid.to_string()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let api = self.client.namespaced::<Pod>(&pod.key.namespace);
        let (outcomes, permits, recorder) =
            (self.outcomes.0.clone(), Arc::clone(&self.bindings), self.recorder.clone());
        let about = about(&pod);
        let message = format!("Successfully assigned {} to {node}", pod.key);
        let (key, uid) = (pod.key.clone(), pod.uid.clone());
        self.cluster.assume(pod, node);
        tokio::spawn(async move {
            let Ok(_permit) = permits.acquire().await else { return };
            let result = api.post::<_, Status>(&key.name, "binding", &binding).await.map(drop);
            if result.is_ok() {
                recorder.record(&about, EventKind::Normal, "Scheduled", message);
            }
            // The receiver is gone only when the scheduler has stopped.
            let _ = outcomes.send(Outcome { key, uid, result }).await;
        });
    }

    fn bound(&mut self, outcome: Outcome) {
        let Outcome { key, uid, result } = outcome;
        let still_ours = self.cluster.is_assumed(&key) && self.cluster.pod(&key).is_some_and(|pod| pod.uid == uid);
        match result {
            Ok(()) => self.queue.remove(&key),
            Err(_) if !still_ours => {}
            Err(error) => {
                tracing::warn!(pod = %key, %error, "a binding was refused");
                self.cluster.remove(&key);
                if error.is_not_found() {
                    self.queue.remove(&key);
                } else {
                    self.queue.failed(&key, Vec::new(), Instant::now());
                }
                self.hint(Hint::PodGone);
            }
        }
    }

    fn unschedulable(&mut self, pod: &PodInfo, diagnosis: &Diagnosis) {
        let message = diagnosis.to_string();
        tracing::debug!(pod = %pod.key, message, "no node fits");
        self.recorder.record(&about(pod), EventKind::Warning, "FailedScheduling", message.clone());
        self.queue.failed(&pod.key, diagnosis.rejected_by().to_vec(), Instant::now());
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": pod.uid},
            "status": {"conditions": [{
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": message,
                "lastProbeTime": null,
                "lastTransitionTime": jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string(),
            }]},
        }));
        if self.says_so_already(pod, &message) {
            return;
        }
        let (api, name) = (self.client.namespaced::<view::Pod>(&pod.key.namespace), pod.key.name.clone());
        tokio::spawn(async move {
            if let Err(error) = api.patch(&name, Some("status"), &patch).await
                && !error.is_not_found()
            {
                tracing::debug!(pod = %name, %error, "the condition PodScheduled was not written");
            }
        });
    }

    /// Whether the pod's condition has this message already: writing it again would only wake everybody up.
    fn says_so_already(&self, pod: &PodInfo, message: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Conditions {
            #[serde(default)]
            status: Status,
        }
        #[derive(Default, serde::Deserialize)]
        struct Status {
            #[serde(default)]
            conditions: Vec<Condition>,
        }
        #[derive(serde::Deserialize)]
        struct Condition {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            message: String,
        }
        let Some(Ok(now)) = self.pods.find(&pod.key).map(|entry| entry.decode_as::<Conditions>()) else { return false };
        now.status.conditions.iter().any(|c| c.kind == "PodScheduled" && c.message == message)
    }
}

fn about(pod: &PodInfo) -> ObjectRef {
    ObjectRef {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: pod.key.namespace.to_string(),
        name: pod.key.name.to_string(),
        uid: pod.uid.to_string(),
        resource_version: pod.resource_version.to_string(),
        field_path: String::new(),
    }
}
