//! The node: registers, and gives every pod that is bound to it a worker.

use crate::config::NodeConfig;
use crate::cri::Cri;
use crate::eviction::{self, Evictions, Evictor};
use crate::node_status::Keeper;
use crate::pods::Pods;
use crate::runtime_events::{Happened, Heard, RuntimeEvents};
use crate::runtime_state::{self, RuntimeState};
use crate::sources::Sources;
use crate::worker::{Shared, Worker};
use crate::{image_collection, lease, log_rotation, machine, pod_cidrs, register};
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod, Service};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trireme_client::{Client, Informer, InformerBuilder, Key, Recorder};
use trireme_cri as cri;
use trireme_schema::{Value, json};

/// The node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime does not answer.
    #[error("the container runtime does not answer: {0}")]
    Runtime(String),
    /// The API server refuses the node.
    #[error("cannot register the node {name}: {source}")]
    Register {
        /// The node's name.
        name: String,
        /// Why.
        source: trireme_client::Error,
    },
    /// A directory cannot be made.
    #[error("{path}: {source}")]
    Directory {
        /// The directory.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A node that runs.
pub struct Node {
    tasks: JoinSet<()>,
}

struct Handle {
    pod: watch::Sender<Arc<Value>>,
    changed: Arc<Notify>,
}

impl Node {
    /// Registers the node and starts to run its pods, until `stop`; pods go on then.
    ///
    /// # Errors
    /// When the runtime does not answer, or the API server refuses the node.
    pub async fn start(
        config: NodeConfig,
        client: Client,
        cri: Cri,
        events: RuntimeEvents,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        std::fs::create_dir_all(&config.root)
            .map_err(|source| Error::Directory { path: config.root.clone(), source })?;
        let state = RuntimeState::ask(&cri).await.map_err(Error::Runtime)?;
        let now = eviction::look_once(&config);
        let registered = register::register(&config, &client, &state, &now).await;
        let registered = registered.map_err(|source| Error::Register { name: config.name.clone(), source })?;
        let mut tasks = JoinSet::new();
        let (states, seen) = watch::channel(state.clone());
        let uid = registered.str_at(&["metadata", "uid"]).to_owned();
        tasks.spawn(lease::keep(config.clone(), client.clone(), uid, stop.clone()));
        let (short, seen_short) = watch::channel(now);
        let keeper = Keeper {
            config: config.clone(),
            client: client.clone(),
            cri: cri.clone(),
            runtime: seen.clone(),
            short: seen_short.clone(),
        };
        tasks.spawn(keeper.run(stop.clone()));
        let services = InformerBuilder::<Service>::all().start(client.clone(), stop.clone());
        let pods = InformerBuilder::<Pod>::all()
            .fields(&format!("spec.nodeName={}", config.name))
            .start(client.clone(), stop.clone());
        let node = InformerBuilder::<NodeObject>::all()
            .fields(&format!("metadata.name={}", config.name))
            .start(client.clone(), stop.clone());
        let recorder = Recorder::new(client.clone(), "kubelet", &config.name);
        let shared = Arc::new(Shared {
            memory: machine::memory(),
            runtime: state.name,
            state: seen,
            short: seen_short,
            evictions: Evictions::default(),
            config,
            sources: Sources::new(client.clone(), stop.clone()),
            client,
            cri: cri.clone(),
            recorder,
            services: services.clone(),
            node: node.clone(),
            pods: Pods::default(),
        });
        tasks.spawn(pod_cidrs::tell(node.clone(), shared.config.name.clone(), cri.clone(), stop.clone()));
        tasks.spawn(log_rotation::keep(cri.clone(), stop.clone()));
        tasks.spawn(image_collection::keep(shared.clone(), stop.clone()));
        let evictor = Evictor { shared: shared.clone(), events: events.clone(), short };
        tasks.spawn(evictor.keep(stop.clone()));
        let dirty: Arc<(Mutex<Vec<Key>>, Notify)> = Arc::default();
        let notes = dirty.clone();
        pods.subscribe(move |change| {
            if let Some(entry) = change.latest() {
                notes.0.lock().push(entry.meta.key.clone());
                notes.1.notify_one();
            }
        });
        tasks.spawn(runtime_state::keep(cri.clone(), states, stop.clone()));
        let heard = events.hear();
        tasks.spawn(events.keep(cri, stop.clone()));
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => return,
                () = async { tokio::join!(pods.synced(), services.synced(), node.synced()); } => {}
            }
            dispatch(shared, pods, dirty, heard, stop).await;
        });
        Ok(Self { tasks })
    }

    /// Waits until all has ended.
    pub async fn ended(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn dispatch(
    shared: Arc<Shared>,
    pods: Informer<Pod>,
    dirty: Arc<(Mutex<Vec<Key>>, Notify)>,
    mut heard: Heard,
    stop: CancellationToken,
) {
    let mut workers: HashMap<Box<str>, Handle> = HashMap::new();
    let mut running = JoinSet::new();
    clean(&shared, &pods).await;
    loop {
        let keys = std::mem::take(&mut *dirty.0.lock());
        for key in keys {
            let Some(entry) = pods.find(&key) else { continue };
            let Ok(pod) = json::parse(&entry.bytes) else { continue };
            let pod = Arc::new(pod);
            if let Some(handle) = workers.get(&entry.meta.uid)
                && handle.pod.send(pod.clone()).is_ok()
            {
                continue;
            }
            let (sender, receiver) = watch::channel(pod);
            let changed = Arc::new(Notify::new());
            let worker = Worker::new(shared.clone(), receiver, changed.clone());
            let uid = entry.meta.uid.clone();
            running.spawn(async move {
                worker.run().await;
                uid
            });
            workers.insert(entry.meta.uid.clone(), Handle { pod: sender, changed });
        }
        // A pod whose object has gone without us is ended like one that is being deleted.
        let known: Vec<Box<str>> = pods.list().iter().map(|e| e.meta.uid.clone()).collect();
        for (uid, handle) in &workers {
            let pod = handle.pod.borrow().clone();
            if !known.contains(uid) && pod.at(&["metadata", "deletionTimestamp"]).is_none() {
                let mut gone = (*pod).clone();
                gone.set_at(&["metadata", "deletionTimestamp"], trireme_schema::time::now());
                gone.set_at(&["metadata", "deletionGracePeriodSeconds"], 0);
                let _ = handle.pod.send(Arc::new(gone));
            }
        }
        tokio::select! {
            () = stop.cancelled() => {
                // Letting go of the senders ends the workers; the containers run on.
                workers.clear();
                while running.join_next().await.is_some() {}
                return;
            }
            () = dirty.1.notified() => {}
            happened = heard.next() => match happened {
                Happened::Anywhere => workers.values().for_each(|h| h.changed.notify_one()),
                Happened::To(uid) => if let Some(handle) = workers.get(uid.as_str()) {
                    handle.changed.notify_one();
                },
            },
            Some(ended) = running.join_next() => {
                if let Ok(uid) = ended {
                    workers.remove(&uid);
                }
            }
        }
    }
}

/// Removes sandboxes of pods that are no longer bound to this node. Those of which the node has no directory are of
/// others who use the runtime.
async fn clean(shared: &Arc<Shared>, pods: &Informer<Pod>) {
    let known: Vec<Box<str>> = pods.list().iter().map(|e| e.meta.uid.clone()).collect();
    let mut runtime = shared.cri.runtime.clone();
    let Ok(all) = runtime.list_pod_sandbox(cri::ListPodSandboxRequest { filter: None }).await else { return };
    for sandbox in all.into_inner().items {
        let uid = sandbox.metadata.map(|m| m.uid).unwrap_or_default();
        if known.iter().any(|k| **k == *uid) || !crate::volumes::has_dir(&shared.config, &uid) {
            continue;
        }
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id };
        if let Err(status) = runtime.remove_pod_sandbox(request).await {
            tracing::warn!(%uid, status = %status.message(), "cannot remove what is left of a pod");
        }
        crate::volumes::tear_down(&shared.config, &uid);
    }
}
