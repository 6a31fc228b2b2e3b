//! A pod's worker: looks at what there is, makes the next step, waits.
//!
//! One task a pod. A step never waits for a program to end: containers are stopped by tasks of their own ([`stop`]),
//! probed by others ([`probes`]), and the runtime's events wake the worker again.

mod hook;
mod image;
mod last_words;
mod observe;
mod pauses;
mod probes;
mod report;
mod resize;
mod start;
mod stop;

use crate::backoff::Backoff;
use crate::config::NodeConfig;
use crate::cri::Cri;
use crate::eviction::{Evictions, Short};
use crate::plan::{Action, Observed, plan};
use crate::pods::Pods;
use crate::runtime_state::RuntimeState;
use crate::sources::Sources;
use crate::spec;
use crate::status::{End, Note};
use crate::volumes::Volumes;
use crate::{admit, calls};
use jiff::Timestamp;
use pauses::Pauses;
use probes::Probes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use stop::{Stop, Stops};
use tokio::sync::{Notify, watch};
use trireme_client::{Client, EventKind, Informer, ObjectRef, Recorder};
use trireme_cri as cri;
use trireme_schema::{Value, time};

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) config: NodeConfig,
    pub(crate) client: Client,
    pub(crate) cri: Cri,
    pub(crate) recorder: Recorder,
    /// The machine's memory in bytes.
    pub(crate) memory: i64,
    /// The runtime's name, as container ids begin with it.
    pub(crate) runtime: String,
    /// How the runtime is.
    pub(crate) state: watch::Receiver<RuntimeState>,
    /// What the node is short of.
    pub(crate) short: Short,
    /// The pods that are to end for that.
    pub(crate) evictions: Evictions,
    /// Services, for the variables that tell of them.
    pub(crate) services: Informer<k8s_openapi::api::core::v1::Service>,
    /// This node, for what it can take.
    pub(crate) node: Informer<k8s_openapi::api::core::v1::Node>,
    /// The pods that were admitted.
    pub(crate) pods: Pods,
    /// ConfigMaps and Secrets that pods use.
    pub(crate) sources: Sources,
}

impl Shared {
    /// This node as events name it: upstream takes its name for its UID.
    pub(crate) fn reference(&self) -> ObjectRef {
        let name = self.config.name.clone();
        ObjectRef { api_version: "v1".into(), kind: "Node".into(), uid: name.clone(), name, ..ObjectRef::default() }
    }

    /// This node's object.
    fn this_node(&self) -> Value {
        let node = self.node.get("", &self.config.name);
        node.and_then(|n| trireme_schema::json::parse(&n.bytes).ok()).unwrap_or_default()
    }

    /// What pods can have of this node.
    fn allocatable(&self) -> Value {
        self.this_node().at(&["status", "allocatable"]).cloned().unwrap_or_default()
    }
}

/// What was begun and came to nothing is looked at again after this.
const RETRY: Duration = Duration::from_secs(2);
/// Who did not answer (the runtime, the API server) is asked again after these pauses.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// All is looked at anew about this often, should an event have been missed.
const RESYNC: Duration = Duration::from_secs(60);

/// A pod's worker.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    pod: watch::Receiver<Arc<Value>>,
    changed: Arc<Notify>,
    sandbox: Option<String>,
    ips: Vec<String>,
    attempt: u32,
    notes: BTreeMap<String, Note>,
    /// Pauses before a container is started again, by its name.
    restarts: HashMap<String, Backoff>,
    /// Pauses before an image is pulled again, by its name.
    pulls: HashMap<String, image::Pulls>,
    pauses: Pauses,
    /// Pauses after rounds that failed.
    rounds: trireme_client::Backoff,
    /// Why pods have no network, as it was told last.
    no_network: String,
    probes: Probes,
    stops: Stops,
    volumes: Volumes,
    admitted: bool,
    /// Why the pod ends though its containers would go on.
    end: Option<End>,
    /// Nothing is started any more.
    finished: bool,
    started_at: String,
    reported: Value,
    resizes: resize::Resizes,
}

type Done<T> = Result<T, String>;

/// What comes after a step.
enum Next {
    /// Another, when something happens, and in any case after this.
    After(Duration),
    /// Nothing: the pod is gone.
    Gone,
}

fn grpc(status: tonic::Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

fn is_deleted(pod: &Value) -> bool {
    pod.at(&["metadata", "deletionTimestamp"]).is_some()
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, pod: watch::Receiver<Arc<Value>>, changed: Arc<Notify>) -> Self {
        Self {
            shared,
            pod,
            probes: Probes::new(changed.clone()),
            stops: Stops::new(changed.clone()),
            changed,
            sandbox: None,
            ips: Vec::new(),
            attempt: 0,
            notes: BTreeMap::new(),
            restarts: HashMap::new(),
            pulls: HashMap::new(),
            pauses: Pauses::default(),
            rounds: trireme_client::Backoff::new(ASK_AGAIN.0, ASK_AGAIN.1),
            no_network: String::new(),
            volumes: Volumes::default(),
            admitted: false,
            end: None,
            finished: false,
            started_at: String::new(),
            reported: Value::Null,
            resizes: resize::Resizes::default(),
        }
    }

    /// Works until the pod is gone, or the node lets go of its workers; what runs goes on then.
    pub(crate) async fn run(mut self) {
        loop {
            let pod = self.pod.borrow_and_update().clone();
            let wait = match self.step(&pod).await {
                Ok(Next::After(pause)) => {
                    self.rounds.reset();
                    pause.max(Duration::from_millis(1))
                }
                Ok(Next::Gone) => break,
                Err(why) => {
                    tracing::debug!(pod = pod.str_at(&["metadata", "name"]), %why, "a step failed");
                    self.rounds.step()
                }
            };
            tokio::select! {
                changed = self.pod.changed() => if changed.is_err() {
                    break;
                },
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        let pod = self.pod.borrow().clone();
        let uid = pod.str_at(&["metadata", "uid"]);
        self.shared.pods.remove(uid);
        self.shared.sources.release(uid);
    }

    fn event(&self, pod: &Value, container: &str, kind: EventKind, reason: &str, message: impl Into<String>) {
        let mut about = spec::reference(pod);
        if !container.is_empty() {
            about = about.at(spec::field_path(pod, container));
        }
        self.shared.recorder.record(&about, kind, reason, message);
    }

    /// One round.
    async fn step(&mut self, pod: &Arc<Value>) -> Done<Next> {
        if self.started_at.is_empty() {
            self.started_at = match pod.str_at(&["status", "startTime"]) {
                "" => time::now(),
                at => at.to_owned(),
            };
        }
        let observed = self.look(pod).await?;
        self.probes.sync(&self.shared, pod, &self.notes, &self.ips);
        if !is_deleted(pod) && !spec::is_over(pod) {
            self.admit(pod);
            self.check_deadline(pod);
            let evicted = self.shared.evictions.take(pod.str_at(&["metadata", "uid"]));
            self.end = self.end.take().or(evicted);
        }
        if is_deleted(pod) || spec::is_over(pod) || self.end.is_some() || self.finished {
            return self.wind_down(pod, &observed).await;
        }
        self.resize(pod).await;
        self.report(pod).await?;
        self.end_failed(pod);
        let actions = plan(pod, &observed);
        if actions.contains(&Action::Finish) {
            self.finished = true;
            return self.wind_down(pod, &observed).await;
        }
        let mut wait = self.set_up_volumes(pod, !actions.is_empty()).await?;
        for action in actions {
            match action {
                Action::Finish => {}
                Action::StartSandbox => {
                    let pause = self.start_sandbox(pod).await.err().unwrap_or_default();
                    return Ok(Next::After(self.time_left(pod).map_or(pause, |left| pause.min(left))));
                }
                Action::Start(name) => match self.start(pod, &name).await {
                    Ok(()) => wait = Duration::ZERO,
                    Err(pause) => wait = wait.min(pause),
                },
            }
        }
        if wait.is_zero() {
            // What was started is looked at now, so that it is told of at once.
            let observed = self.look(pod).await?;
            self.probes.sync(&self.shared, pod, &self.notes, &self.ips);
            self.report(pod).await?;
            if plan(pod, &observed).is_empty() {
                wait = RESYNC;
            }
        }
        Ok(Next::After(self.time_left(pod).map_or(wait, |left| wait.min(left))))
    }

    /// Asks whether the node can take the pod, once.
    fn admit(&mut self, pod: &Arc<Value>) {
        if std::mem::replace(&mut self.admitted, true) {
            self.shared.pods.update(pod);
            return;
        }
        // One that was admitted before the agent was started again is not asked anew.
        let known = !pod.str_at(&["status", "startTime"]).is_empty();
        let node = self.shared.this_node();
        let short = self.shared.short.borrow().clone();
        let judge = |others: &[&Value]| match known {
            true => Ok(()),
            false => admit::under_pressure(pod, &short).and_then(|()| admit::admit(pod, others, &node)),
        };
        if let Err(rejection) = self.shared.pods.admit(pod, judge) {
            self.event(pod, "", EventKind::Warning, &rejection.reason, rejection.message.clone());
            self.end = Some(End { rejected: true, ..End::new(rejection.reason, rejection.message) });
        }
    }

    /// How long the pod may still be active.
    fn time_left(&self, pod: &Value) -> Option<Duration> {
        let most = pod.int_at(&["spec", "activeDeadlineSeconds"])?;
        let started = time::parse(&self.started_at).ok()?;
        let active = Duration::try_from(Timestamp::now().duration_since(started)).unwrap_or_default();
        Some(Duration::from_secs(most.max(0) as u64).saturating_sub(active))
    }

    fn check_deadline(&mut self, pod: &Value) {
        if self.end.is_none() && !self.finished && self.time_left(pod).is_some_and(|left| left.is_zero()) {
            let message = "Pod was active on the node longer than the specified deadline";
            self.event(pod, "", EventKind::Normal, "DeadlineExceeded", message);
            self.end = Some(End::new("DeadlineExceeded", message));
        }
    }

    /// Makes the volumes when something is to be started, and brings them up to date when something changed.
    async fn set_up_volumes(&mut self, pod: &Value, needed: bool) -> Done<Duration> {
        let uid = pod.str_at(&["metadata", "uid"]);
        self.shared.sources.hold(uid, crate::sources::of(pod), &self.changed, self.volumes.stale());
        if needed || self.volumes.is_due(pod) {
            let node = self.shared.allocatable();
            let made = self.volumes.set_up(&self.shared.config, &self.shared.client, pod, &self.ips, &node).await;
            if let Err(why) = made {
                self.event(pod, "", EventKind::Warning, "FailedMount", why.clone());
                return Err(why);
            }
        }
        Ok(self.volumes.next().min(RESYNC))
    }

    /// Ends containers whose probe failed; they are started again by their policy.
    fn end_failed(&mut self, pod: &Arc<Value>) {
        for (id, kind) in self.probes.take_failed() {
            let note = self.notes.iter().find(|(_, n)| n.running().is_some_and(|c| c.id == id));
            let Some(name) = note.map(|(name, _)| name.clone()) else { continue };
            let own =
                spec::container(pod, &name).and_then(|c| c.int_at(&[kind.field(), "terminationGracePeriodSeconds"]));
            let why = format!("Container {name} failed {} probe, will be restarted", kind.title().to_lowercase());
            self.stop(pod, &name, own.unwrap_or_else(|| spec::grace(pod)), &why);
        }
    }

    /// Stops a container that runs, without waiting for it.
    fn stop(&mut self, pod: &Arc<Value>, name: &str, grace: i64, why: &str) {
        let Some(id) = self.notes.get(name).and_then(Note::running).map(|c| c.id.clone()) else { return };
        let stop = Stop {
            cri: self.shared.cri.clone(),
            recorder: self.shared.recorder.clone(),
            about: spec::reference(pod).at(spec::field_path(pod, name)),
            spec: spec::container(pod, name).cloned().unwrap_or_default(),
            id,
            ip: self.ips.first().cloned().unwrap_or_default(),
            after: stop::predecessors(pod, name),
        };
        if self.stops.start(stop, grace) {
            self.event(pod, name, EventKind::Normal, "Killing", why);
        }
    }

    /// Ends a pod: its containers, then its sandbox, and, if it is being deleted, all that is left of it.
    async fn wind_down(&mut self, pod: &Arc<Value>, observed: &Observed) -> Done<Next> {
        let (deleted, over) = (is_deleted(pod), spec::is_over(pod));
        let running = observed.running();
        if !running.is_empty() {
            self.probes.let_end();
            let own = pod.int_at(&["metadata", "deletionGracePeriodSeconds"]).filter(|_| deleted);
            let own = own.or(self.end.as_ref().and_then(|end| end.grace));
            for name in running {
                self.stop(pod, &name, own.unwrap_or_else(|| spec::grace(pod)), &format!("Stopping container {name}"));
            }
            if !over {
                self.report(pod).await?;
            }
            return Ok(Next::After(RESYNC));
        }
        self.finished = true;
        self.shared.pods.remove(pod.str_at(&["metadata", "uid"]));
        // A status that tells the end is not written again; of a pod that never was here there is nothing to tell.
        if !over && (!deleted || !self.notes.is_empty()) {
            let told = self.report(pod).await;
            if !deleted {
                told?;
            }
        }
        self.stop_sandbox().await?;
        if !deleted {
            // Nobody reads them any more; what is told of the containers has been read.
            crate::volumes::tear_down_volumes(&self.shared.config, pod.str_at(&["metadata", "uid"]));
            return Ok(Next::After(RESYNC));
        }
        self.remove(pod).await?;
        Ok(Next::Gone)
    }

    async fn stop_sandbox(&mut self) -> Done<()> {
        if let Some(id) = self.sandbox.take() {
            let request = cri::StopPodSandboxRequest { pod_sandbox_id: id };
            self.shared.cri.runtime.clone().stop_pod_sandbox(request).await.map_err(grpc)?;
        }
        Ok(())
    }

    /// Removes what is left of a pod here, and lets its object go.
    async fn remove(&mut self, pod: &Value) -> Done<()> {
        let meta = |field| pod.str_at(&["metadata", field]);
        let selector = HashMap::from([(crate::cri::label::UID.to_owned(), meta("uid").to_owned())]);
        let filter = cri::PodSandboxFilter { label_selector: selector, ..cri::PodSandboxFilter::default() };
        let mut runtime = self.shared.cri.runtime.clone();
        let left = runtime.list_pod_sandbox(cri::ListPodSandboxRequest { filter: Some(filter) }).await.map_err(grpc)?;
        for sandbox in left.into_inner().items {
            let request = cri::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id };
            runtime.remove_pod_sandbox(request).await.map_err(grpc)?;
        }
        crate::volumes::tear_down(&self.shared.config, meta("uid"));
        let _ = tokio::fs::remove_dir_all(crate::sandbox::log_dir(&self.shared.config, pod)).await;
        let mut options = Value::object();
        options.set_at(&["kind"], "DeleteOptions");
        options.set_at(&["apiVersion"], "v1");
        options.set_at(&["gracePeriodSeconds"], 0);
        options.set_at(&["preconditions", "uid"], meta("uid"));
        let path = format!("/api/v1/namespaces/{}/pods/{}", meta("namespace"), meta("name"));
        match calls::send(&self.shared.client, http::Method::DELETE, &path, calls::JSON, &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.to_string()),
            _ => Ok(()),
        }
    }
}

/// Does something that may take long, unless the pod is to go, or nobody tells of it any more: neither an image nor a
/// hook is waited for then. All else is done to its end, so that nothing is left behind half made.
async fn unless_deleted<T>(mut pod: watch::Receiver<Arc<Value>>, work: impl Future<Output = T>) -> Option<T> {
    let deletion = async {
        while pod.changed().await.is_ok() {
            if is_deleted(&pod.borrow_and_update()) {
                return;
            }
        }
    };
    tokio::select! {
        done = work => Some(done),
        () = deletion => None,
    }
}
