//! A pod's worker: looks at what there is, makes the next step, waits.

use crate::calls;
use crate::config::NodeConfig;
use crate::container::{self, Needs};
use crate::cri::{Cri, label};
use crate::environment;
use crate::plan::{Action, Observed, plan};
use crate::probe;
use crate::sandbox;
use crate::status::{self, Note, Whole};
use crate::volumes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trireme_client::{Client, EventKind, ObjectRef, Recorder};
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
    /// Services, for the variables that tell of them.
    pub(crate) services: trireme_client::Informer<k8s_openapi::api::core::v1::Service>,
}

/// The first pause before a container is started again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A container that ran this long begins anew with the first pause.
const GOOD_RUN: Duration = Duration::from_secs(600);
/// What failed is tried again after this.
const RETRY: Duration = Duration::from_secs(2);
/// Volumes are brought up to date about this often.
const RESYNC: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Pause {
    until: Option<Instant>,
    length: Duration,
}

/// What probes say, by container id.
#[derive(Default)]
struct Verdicts {
    ready: HashMap<String, bool>,
    started: HashMap<String, bool>,
    /// Containers that a probe wants ended, with the message.
    failed: HashMap<String, String>,
}

/// A pod's worker.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    pod: watch::Receiver<Arc<Value>>,
    changed: Arc<Notify>,
    sandbox: Option<String>,
    ips: Vec<String>,
    attempt: u32,
    notes: BTreeMap<String, Note>,
    pauses: HashMap<String, Pause>,
    verdicts: Arc<Mutex<Verdicts>>,
    probes: HashMap<String, CancellationToken>,
    finished: bool,
    stopping: bool,
    reported: Value,
    volumes_at: Option<Instant>,
}

type Done<T> = Result<T, String>;

fn grpc(status: tonic::Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, pod: watch::Receiver<Arc<Value>>, changed: Arc<Notify>) -> Self {
        Self {
            shared,
            pod,
            changed,
            sandbox: None,
            ips: Vec::new(),
            attempt: 0,
            notes: BTreeMap::new(),
            pauses: HashMap::new(),
            verdicts: Arc::default(),
            probes: HashMap::new(),
            finished: false,
            stopping: false,
            reported: Value::Null,
            volumes_at: None,
        }
    }

    /// Works until the pod is gone.
    pub(crate) async fn run(mut self) {
        loop {
            let pod = self.pod.borrow_and_update().clone();
            let wait = match self.step(&pod).await {
                Ok(Some(pause)) => pause,
                Ok(None) => return self.end(&pod),
                Err(why) => {
                    tracing::debug!(pod = pod.str_at(&["metadata", "name"]), %why, "a step failed");
                    RETRY
                }
            };
            tokio::select! {
                changed = self.pod.changed() => if changed.is_err() {
                    // The node lets go of its workers when it stops; what runs goes on.
                    return self.end_probes();
                },
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn end_probes(&mut self) {
        self.probes.drain().for_each(|(_, token)| token.cancel());
    }

    fn end(&mut self, pod: &Value) {
        self.end_probes();
        volumes::tear_down(&self.shared.config, pod.str_at(&["metadata", "uid"]));
    }

    fn reference(&self, pod: &Value) -> ObjectRef {
        let meta = |name| pod.str_at(&["metadata", name]).to_owned();
        ObjectRef {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: meta("namespace"),
            name: meta("name"),
            uid: meta("uid"),
            resource_version: meta("resourceVersion"),
            field_path: String::new(),
        }
    }

    fn event(&self, pod: &Value, container: &str, kind: EventKind, reason: &str, message: impl Into<String>) {
        let mut about = self.reference(pod);
        if !container.is_empty() {
            let init = pod.list_at(&["spec", "initContainers"]).iter().any(|c| c.str_at(&["name"]) == container);
            about = about.at(format!("spec.{}{{{container}}}", if init { "initContainers" } else { "containers" }));
        }
        self.shared.recorder.record(&about, kind, reason, message);
    }

    /// One round; gives how long to wait, or `None` when the pod is gone.
    async fn step(&mut self, pod: &Value) -> Done<Option<Duration>> {
        let observed = self.look(pod).await?;
        if pod.at(&["metadata", "deletionTimestamp"]).is_some() {
            self.stop(pod).await?;
            return Ok(None);
        }
        let over = matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed");
        if over || self.finished {
            self.finished = true;
            if self.sandbox.is_some() {
                self.stop_sandbox().await?;
            }
            // When the runtime knows its containers no more, what was written of them stays.
            if !self.notes.is_empty() {
                self.report(pod).await?;
            }
            return Ok(Some(RESYNC));
        }
        let mut wait = RESYNC;
        self.report(pod).await?;
        self.end_failed(pod).await;
        let actions = plan(pod, &observed);
        if !actions.is_empty() || self.volumes_at.is_none_or(|at| at.elapsed() > RESYNC) {
            if let Err(why) = volumes::set_up(&self.shared.config, &self.shared.client, pod).await {
                self.event(pod, "", EventKind::Warning, "FailedMount", why.clone());
                return Err(why);
            }
            self.volumes_at = Some(Instant::now());
        }
        for action in actions {
            match action {
                Action::Finish => {
                    self.finished = true;
                    self.report(pod).await?;
                    return Ok(Some(Duration::ZERO));
                }
                Action::StartSandbox => {
                    self.start_sandbox(pod).await?;
                    return Ok(Some(Duration::ZERO));
                }
                Action::Start(name) => match self.start(pod, &name).await {
                    Ok(()) => wait = wait.min(Duration::ZERO),
                    Err(Some(pause)) => wait = wait.min(pause),
                    Err(None) => {}
                },
            }
        }
        let observed = self.look(pod).await?;
        self.watch(pod, &observed);
        self.report(pod).await?;
        if wait.is_zero() && plan(pod, &observed).is_empty() {
            wait = RESYNC;
        }
        Ok(Some(wait.max(Duration::from_millis(1))))
    }

    /// Asks the runtime what there is.
    async fn look(&mut self, pod: &Value) -> Done<Observed> {
        let uid = pod.str_at(&["metadata", "uid"]);
        let selector = HashMap::from([(label::UID.to_owned(), uid.to_owned())]);
        let mut runtime = self.shared.cri.runtime.clone();
        let filter = cri::PodSandboxFilter { label_selector: selector.clone(), ..cri::PodSandboxFilter::default() };
        let sandboxes =
            runtime.list_pod_sandbox(cri::ListPodSandboxRequest { filter: Some(filter) }).await.map_err(grpc)?;
        let sandboxes = sandboxes.into_inner().items;
        let newest = sandboxes.iter().max_by_key(|s| s.created_at);
        self.attempt = newest.and_then(|s| s.metadata.as_ref()).map_or(0, |m| m.attempt + 1);
        let ready = newest.filter(|s| s.state == cri::PodSandboxState::SandboxReady as i32);
        self.sandbox = ready.map(|s| s.id.clone());
        if let Some(id) = &self.sandbox
            && self.ips.is_empty()
        {
            let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
            let status =
                runtime.pod_sandbox_status(request).await.map_err(grpc)?.into_inner().status.unwrap_or_default();
            let network = status.network.unwrap_or_default();
            let all = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|i| i.ip));
            self.ips = all.filter(|ip| !ip.is_empty()).collect();
            if self.ips.is_empty() && pod.bool_at(&["spec", "hostNetwork"]) {
                self.ips = vec![self.shared.config.ip.to_string()];
            }
        }
        // Sandboxes that were before are of no use.
        for old in
            sandboxes.iter().filter(|s| Some(&s.id) != self.sandbox.as_ref() && newest.is_some_and(|n| n.id != s.id))
        {
            let _ = runtime.remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id: old.id.clone() }).await;
        }
        let filter = cri::ContainerFilter { label_selector: selector, ..cri::ContainerFilter::default() };
        let containers =
            runtime.list_containers(cri::ListContainersRequest { filter: Some(filter) }).await.map_err(grpc)?;
        let mut by_name: BTreeMap<String, Vec<cri::Container>> = BTreeMap::new();
        for container in containers.into_inner().containers {
            let name = container.labels.get(label::CONTAINER).cloned().unwrap_or_default();
            by_name.entry(name).or_default().push(container);
        }
        let mut observed = Observed { sandbox: self.sandbox.is_some(), ..Observed::default() };
        for (name, mut attempts) in by_name {
            attempts.sort_by_key(|c| c.created_at);
            let mut statuses = Vec::new();
            for container in attempts.iter().rev().take(2) {
                let request = cri::ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
                if let Ok(answer) = runtime.container_status(request).await {
                    statuses.extend(answer.into_inner().status);
                }
            }
            // One that ended is kept for its log; those before it go.
            let many = attempts.len().saturating_sub(2);
            for old in attempts.iter().take(many) {
                let _ = runtime.remove_container(cri::RemoveContainerRequest { container_id: old.id.clone() }).await;
            }
            let mut statuses = statuses.into_iter();
            let (current, last) = (statuses.next(), statuses.next());
            let note = self.notes.entry(name.clone()).or_default();
            if let Some(status) = &current {
                observed.note(&name, status);
                let running = status.state() == cri::ContainerState::ContainerRunning;
                let spec = spec_of(pod, &name);
                let verdicts = self.verdicts.lock();
                note.started = running
                    && (spec.is_none_or(|s| s.get("startupProbe").is_none())
                        || verdicts.started.get(&status.id) == Some(&true));
                let probed = spec.is_some_and(|s| s.get("readinessProbe").is_some());
                note.ready = note.started && (!probed || verdicts.ready.get(&status.id) == Some(&true));
                drop(verdicts);
                if note.started {
                    observed.started.push(name.clone());
                }
                if running {
                    note.waiting = None;
                }
                if status.state() == cri::ContainerState::ContainerExited {
                    note.message = last_words(&self.shared.config, pod, spec, &name, status);
                }
            }
            note.current = current;
            note.last = last;
        }
        Ok(observed)
    }

    async fn start_sandbox(&mut self, pod: &Value) -> Done<()> {
        let config = sandbox::sandbox(&self.shared.config, pod, self.attempt);
        self.ips.clear();
        let logs = sandbox::log_dir(&self.shared.config, pod);
        tokio::fs::create_dir_all(&logs).await.map_err(|e| format!("{}: {e}", logs.display()))?;
        let handler = String::new();
        let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler: handler };
        match self.shared.cri.runtime.clone().run_pod_sandbox(request).await {
            Ok(answer) => {
                self.sandbox = Some(answer.into_inner().pod_sandbox_id);
                Ok(())
            }
            Err(status) => {
                let why = format!("Failed to create pod sandbox: {}", grpc(status));
                self.event(pod, "", EventKind::Warning, "FailedCreatePodSandBox", why.clone());
                Err(why)
            }
        }
    }

    /// Starts a container; an error is how long to wait before the next try.
    async fn start(&mut self, pod: &Value, name: &str) -> Result<(), Option<Duration>> {
        let Some(spec) = spec_of(pod, name).cloned() else { return Err(None) };
        let note = self.notes.entry(name.to_owned()).or_default();
        let ended = note.current.as_ref().filter(|c| c.state() == cri::ContainerState::ContainerExited).cloned();
        if let Some(pause) = self.pause(name, ended.as_ref()) {
            if ended.is_none() {
                // It never ran: what it waits for has been told.
                return Err(Some(pause));
            }
            let text = crash_text(pod, name, self.pauses.get(name).map_or(FIRST_PAUSE, |p| p.length));
            self.notes.entry(name.to_owned()).or_default().waiting = Some(("CrashLoopBackOff".into(), text.clone()));
            self.event(
                pod,
                name,
                EventKind::Warning,
                "BackOff",
                format!(
                    "Back-off restarting failed container {name} in pod {}_{}({})",
                    pod.str_at(&["metadata", "name"]),
                    pod.str_at(&["metadata", "namespace"]),
                    pod.str_at(&["metadata", "uid"])
                ),
            );
            let _ = self.report(pod).await;
            return Err(Some(pause));
        }
        let attempt = ended.as_ref().and_then(|c| c.metadata.as_ref()).map_or(0, |m| m.attempt + 1);
        match self.start_now(pod, &spec, name, attempt).await {
            Ok(()) => {
                self.notes.entry(name.to_owned()).or_default().waiting = None;
                Ok(())
            }
            Err((reason, message)) => {
                self.event(pod, name, EventKind::Warning, "Failed", format!("Error: {message}"));
                let pulled = matches!(reason.as_str(), "ErrImagePull");
                self.notes.entry(name.to_owned()).or_default().waiting = Some((reason, message));
                let _ = self.report(pod).await;
                let pause = self.pauses.entry(name.to_owned()).or_default();
                pause.length = if pause.length.is_zero() { FIRST_PAUSE } else { (pause.length * 2).min(LONGEST_PAUSE) };
                if pulled {
                    let image = spec.str_at(&["image"]);
                    let note = self.notes.entry(name.to_owned()).or_default();
                    note.waiting = Some(("ImagePullBackOff".into(), format!("Back-off pulling image \"{image}\"")));
                }
                pause.until = Some(Instant::now() + pause.length);
                Err(Some(pause.length))
            }
        }
    }

    /// How long a container must still wait.
    fn pause(&mut self, name: &str, ended: Option<&cri::ContainerStatus>) -> Option<Duration> {
        let pause = self.pauses.entry(name.to_owned()).or_default();
        if let Some(until) = pause.until {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Some(left);
            }
            pause.until = None;
            return None;
        }
        let ended = ended?;
        let ran = Duration::from_nanos((ended.finished_at - ended.started_at).max(0) as u64);
        if ran > GOOD_RUN {
            pause.length = Duration::ZERO;
        }
        // The first restart is at once.
        if pause.length.is_zero() {
            pause.length = FIRST_PAUSE;
            return None;
        }
        let length = pause.length;
        pause.length = (pause.length * 2).min(LONGEST_PAUSE);
        pause.until = Some(Instant::now() + length);
        Some(length)
    }

    async fn start_now(&mut self, pod: &Value, spec: &Value, name: &str, attempt: u32) -> Result<(), (String, String)> {
        let image = self.image(pod, spec, name).await?;
        let bad = |why: String| ("CreateContainerConfigError".to_owned(), why);
        container::check_user(pod, spec, image.uid.as_ref().map(|u| u.value), &image.username).map_err(bad)?;
        let namespace = pod.str_at(&["metadata", "namespace"]);
        let links = pod.at(&["spec", "enableServiceLinks"]).and_then(Value::as_bool).unwrap_or(true);
        let services: Vec<Value> = self
            .shared
            .services
            .list()
            .iter()
            .filter(|s| {
                let key = &s.meta.key;
                (links && &*key.namespace == namespace) || (&*key.namespace == "default" && &*key.name == "kubernetes")
            })
            .filter_map(|s| trireme_schema::json::parse(&s.bytes).ok())
            .collect();
        let mut seen = pod.clone();
        // What the pod reads of itself is newer here than in what was last written.
        if let Some(ip) = self.ips.first() {
            seen.set_at(&["status", "podIP"], ip.as_str());
            let ips = self.ips.iter().map(|ip| Value::Object([("ip", ip.as_str())].into_iter().collect()));
            seen.set_at(&["status", "podIPs"], Value::Array(ips.collect()));
        }
        seen.set_at(&["status", "hostIP"], self.shared.config.ip.to_string());
        let services = environment::of_services(&services);
        let env = environment::of_container(&self.shared.client, &seen, spec, &services).await.map_err(bad)?;
        let hosts = volumes::hosts(&self.shared.config, pod, &self.ips).map_err(|e| bad(e.to_string()))?;
        let needs = Needs {
            config: &self.shared.config,
            env,
            attempt,
            image: image.id,
            hosts: Some(hosts),
            memory: self.shared.memory,
        };
        let config = container::container(pod, spec, needs).map_err(bad)?;
        let sandbox = self.sandbox.clone().unwrap_or_default();
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox,
            config: Some(config),
            sandbox_config: Some(sandbox::sandbox(&self.shared.config, pod, self.attempt)),
        };
        let mut runtime = self.shared.cri.runtime.clone();
        let created = runtime.create_container(request).await;
        let id =
            created.map_err(|s| ("CreateContainerError".to_owned(), s.message().to_owned()))?.into_inner().container_id;
        self.event(pod, name, EventKind::Normal, "Created", "Container created");
        let started = runtime.start_container(cri::StartContainerRequest { container_id: id.clone() }).await;
        started.map_err(|s| ("RunContainerError".to_owned(), s.message().to_owned()))?;
        self.event(pod, name, EventKind::Normal, "Started", "Container started");
        if let Some(hook) = spec.at(&["lifecycle", "postStart"])
            && let Err(why) = self.hook(&id, spec, hook).await
        {
            self.event(pod, name, EventKind::Warning, "FailedPostStartHook", format!("PostStartHook failed: {why}"));
            let stop = cri::StopContainerRequest { container_id: id, timeout: grace(pod) };
            let _ = runtime.stop_container(stop).await;
            return Err(("PostStartHookError".to_owned(), why));
        }
        Ok(())
    }

    /// A lifecycle hook.
    async fn hook(&self, id: &str, spec: &Value, hook: &Value) -> Done<()> {
        if let Some(sleep) = hook.get("sleep") {
            tokio::time::sleep(Duration::from_secs(sleep.int_at(&["seconds"]).unwrap_or_default().max(0) as u64)).await;
            return Ok(());
        }
        let mut probe = hook.clone();
        // A hook may take as long as the pod's grace period; who calls bounds it.
        probe.set_at(&["timeoutSeconds"], 600);
        let ip = self.ips.first().cloned().unwrap_or_default();
        probe::once(&self.shared.cri, id, &ip, spec, &probe).await
    }

    /// The image of a container, pulled if its policy says so.
    async fn image(&self, pod: &Value, spec: &Value, name: &str) -> Result<cri::Image, (String, String)> {
        let wanted = spec.str_at(&["image"]);
        let policy = spec.str_at(&["imagePullPolicy"]);
        let mut images = self.shared.cri.images.clone();
        let image = cri::ImageSpec { image: wanted.to_owned(), ..cri::ImageSpec::default() };
        let find = |mut images: trireme_cri::image_service_client::ImageServiceClient<tonic::transport::Channel>,
                    image: cri::ImageSpec| async move {
            let request = cri::ImageStatusRequest { image: Some(image), verbose: false };
            images.image_status(request).await.map(|a| a.into_inner().image)
        };
        let inspect = |s: tonic::Status| ("ImageInspectError".to_owned(), s.message().to_owned());
        let here = find(images.clone(), image.clone()).await.map_err(inspect)?;
        match (here, policy) {
            (Some(here), "IfNotPresent" | "Never") => {
                self.event(
                    pod,
                    name,
                    EventKind::Normal,
                    "Pulled",
                    format!("Container image \"{wanted}\" already present on machine"),
                );
                return Ok(here);
            }
            (None, "Never") => {
                let why = format!("Container image \"{wanted}\" is not present with pull policy of Never");
                return Err(("ErrImageNeverPull".into(), why));
            }
            _ => {}
        }
        self.event(pod, name, EventKind::Normal, "Pulling", format!("Pulling image \"{wanted}\""));
        let begun = Instant::now();
        let auth = self.credentials(pod, wanted).await;
        let request = cri::PullImageRequest { image: Some(image.clone()), auth, sandbox_config: None };
        if let Err(status) = images.pull_image(request).await {
            let why = format!("failed to pull and unpack image \"{wanted}\": {}", status.message());
            self.event(pod, name, EventKind::Warning, "Failed", format!("Failed to pull image \"{wanted}\": {why}"));
            return Err(("ErrImagePull".into(), why));
        }
        let took = begun.elapsed();
        self.event(
            pod,
            name,
            EventKind::Normal,
            "Pulled",
            format!("Successfully pulled image \"{wanted}\" in {took:.3?}"),
        );
        find(images, image)
            .await
            .map_err(inspect)?
            .ok_or_else(|| ("ErrImagePull".into(), "the image is gone again".into()))
    }

    /// Credentials from the pod's `imagePullSecrets` for an image's registry.
    async fn credentials(&self, pod: &Value, image: &str) -> Option<cri::AuthConfig> {
        let namespace = pod.str_at(&["metadata", "namespace"]);
        let registry = image.split('/').next().unwrap_or_default();
        for reference in pod.list_at(&["spec", "imagePullSecrets"]) {
            let path = format!("/api/v1/namespaces/{namespace}/secrets/{}", reference.str_at(&["name"]));
            let Ok(secret) = calls::get(&self.shared.client, &path).await else { continue };
            let text = secret.at(&["data", ".dockerconfigjson"]).map(environment::secret_text).unwrap_or_default();
            let Ok(config) = trireme_schema::json::parse(text.as_bytes()) else { continue };
            let auths = config.at(&["auths"]).and_then(Value::as_object).cloned().unwrap_or_default();
            for (server, entry) in auths {
                let host = server.trim_start_matches("https://").trim_start_matches("http://");
                if host.split('/').next() == Some(registry) {
                    let text = |field: &str| entry.str_at(&[field]).to_owned();
                    return Some(cri::AuthConfig {
                        username: text("username"),
                        password: text("password"),
                        auth: text("auth"),
                        server_address: server.to_string(),
                        identity_token: text("identitytoken"),
                        registry_token: String::new(),
                    });
                }
            }
        }
        None
    }

    /// Starts the probes of containers that run, and ends those of containers that do not.
    fn watch(&mut self, pod: &Value, observed: &Observed) {
        let mut alive = Vec::new();
        for name in observed.containers.keys() {
            let Some(spec) = spec_of(pod, name) else { continue };
            let Some(id) = self
                .notes
                .get(name)
                .and_then(|n| n.current.as_ref())
                .filter(|c| c.state() == cri::ContainerState::ContainerRunning)
                .map(|c| c.id.clone())
            else {
                continue;
            };
            alive.push(id.clone());
            if self.probes.contains_key(&id) {
                continue;
            }
            let stop = CancellationToken::new();
            self.probes.insert(id.clone(), stop.clone());
            let kinds = ["startupProbe", "livenessProbe", "readinessProbe"];
            for kind in kinds.into_iter().filter(|k| spec.get(k).is_some()) {
                let task = ProbeTask {
                    shared: self.shared.clone(),
                    verdicts: self.verdicts.clone(),
                    changed: self.changed.clone(),
                    about: self.reference(pod).at(format!("spec.containers{{{name}}}")),
                    id: id.clone(),
                    ip: self.ips.first().cloned().unwrap_or_default(),
                    spec: spec.clone(),
                    kind,
                };
                let stop = stop.clone();
                tokio::spawn(async move { stop.run_until_cancelled(task.run()).await });
            }
        }
        self.probes.retain(|id, stop| {
            let keep = alive.contains(id);
            if !keep {
                stop.cancel();
            }
            keep
        });
    }

    /// Ends containers whose probe failed; they are started again by their policy.
    async fn end_failed(&mut self, pod: &Value) {
        let failed: Vec<(String, String)> = self.verdicts.lock().failed.drain().collect();
        for (id, message) in failed {
            let name =
                self.notes.iter().find(|(_, n)| n.current.as_ref().is_some_and(|c| c.id == id)).map(|(n, _)| n.clone());
            let Some(name) = name else { continue };
            self.event(
                pod,
                &name,
                EventKind::Normal,
                "Killing",
                format!("Container {name} {message}, will be restarted"),
            );
            let request = cri::StopContainerRequest { container_id: id, timeout: grace(pod) };
            let _ = self.shared.cri.runtime.clone().stop_container(request).await;
        }
    }

    /// Ends a pod that is being deleted, and lets its object go.
    async fn stop(&mut self, pod: &Value) -> Done<()> {
        self.end_probes();
        let grace = pod.int_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or_else(|| grace(pod));
        let running: Vec<(String, String)> = self
            .notes
            .iter()
            .filter_map(|(name, n)| n.current.as_ref().map(|c| (name.clone(), c)))
            .filter(|(_, c)| c.state() == cri::ContainerState::ContainerRunning)
            .map(|(name, c)| (name, c.id.clone()))
            .collect();
        let sidecar =
            |name: &str| pod.list_at(&["spec", "initContainers"]).iter().position(|c| c.str_at(&["name"]) == name);
        let (mut sidecars, main): (Vec<_>, Vec<_>) = running.into_iter().partition(|(name, _)| sidecar(name).is_some());
        let first = !self.stopping;
        self.stopping = true;
        let deadline = Instant::now() + Duration::from_secs(grace.max(0) as u64);
        let stops = main.iter().map(|(name, id)| {
            if first {
                self.event(pod, name, EventKind::Normal, "Killing", format!("Stopping container {name}"));
            }
            self.stop_one(pod, name, id, deadline)
        });
        futures::future::join_all(stops).await;
        // Sidecars go last, in the reverse of the order in which they came.
        sidecars.sort_by_key(|(name, _)| std::cmp::Reverse(sidecar(name)));
        for (name, id) in &sidecars {
            self.event(pod, name, EventKind::Normal, "Killing", format!("Stopping container {name}"));
            self.stop_one(pod, name, id, deadline).await;
        }
        self.look(pod).await?;
        self.finished = true;
        if !self.notes.is_empty() {
            // What is not told now can be told by nobody.
            let _ = self.report(pod).await;
        }
        self.stop_sandbox().await?;
        let uid = pod.str_at(&["metadata", "uid"]);
        let selector = HashMap::from([(label::UID.to_owned(), uid.to_owned())]);
        let filter = cri::PodSandboxFilter { label_selector: selector, ..cri::PodSandboxFilter::default() };
        let mut runtime = self.shared.cri.runtime.clone();
        let left = runtime.list_pod_sandbox(cri::ListPodSandboxRequest { filter: Some(filter) }).await.map_err(grpc)?;
        for sandbox in left.into_inner().items {
            let request = cri::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id };
            runtime.remove_pod_sandbox(request).await.map_err(grpc)?;
        }
        let _ = tokio::fs::remove_dir_all(sandbox::log_dir(&self.shared.config, pod)).await;
        let (namespace, name) = (pod.str_at(&["metadata", "namespace"]), pod.str_at(&["metadata", "name"]));
        let mut options = Value::object();
        options.set_at(&["kind"], "DeleteOptions");
        options.set_at(&["apiVersion"], "v1");
        options.set_at(&["gracePeriodSeconds"], 0);
        options.set_at(&["preconditions", "uid"], uid);
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        match calls::send(&self.shared.client, http::Method::DELETE, &path, calls::JSON, &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    async fn stop_one(&self, pod: &Value, name: &str, id: &str, deadline: Instant) {
        if let Some(spec) = spec_of(pod, name)
            && let Some(hook) = spec.at(&["lifecycle", "preStop"])
        {
            match tokio::time::timeout_at(deadline, self.hook(id, spec, hook)).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => {
                    self.event(
                        pod,
                        name,
                        EventKind::Warning,
                        "FailedPreStopHook",
                        format!("PreStopHook failed: {why}"),
                    );
                }
                Err(_) => {}
            }
        }
        let left = deadline.saturating_duration_since(Instant::now()).as_secs_f64().ceil() as i64;
        let request = cri::StopContainerRequest { container_id: id.to_owned(), timeout: left };
        if let Err(status) = self.shared.cri.runtime.clone().stop_container(request).await {
            tracing::warn!(container = id, status = %status.message(), "cannot stop a container");
        }
    }

    async fn stop_sandbox(&mut self) -> Done<()> {
        if let Some(id) = self.sandbox.take() {
            let request = cri::StopPodSandboxRequest { pod_sandbox_id: id };
            self.shared.cri.runtime.clone().stop_pod_sandbox(request).await.map_err(grpc)?;
        }
        Ok(())
    }

    /// Writes the status, if it is another than was written last.
    async fn report(&mut self, pod: &Value) -> Done<()> {
        let started = match pod.str_at(&["status", "startTime"]) {
            "" => match self.reported.str_at(&["startTime"]) {
                "" => time::now(),
                at => at.to_owned(),
            },
            at => at.to_owned(),
        };
        let whole = Whole {
            notes: &self.notes,
            ips: &self.ips,
            host_ip: &self.shared.config.ip.to_string(),
            sandbox: self.sandbox.is_some(),
            finished: self.finished,
            started_at: &started,
            runtime: &self.shared.runtime,
        };
        let mut seen = pod.clone();
        // Transition times are kept from what was last written, which the pod's object may not show yet.
        if !self.reported.is_null() {
            seen.set_at(&["status", "conditions"], self.reported.get("conditions").cloned().unwrap_or_default());
        }
        let status = status::pod(&seen, &whole);
        if status == self.reported {
            return Ok(());
        }
        let (namespace, name) = (pod.str_at(&["metadata", "namespace"]), pod.str_at(&["metadata", "name"]));
        let mut patch = Value::object();
        patch.set_at(&["metadata", "uid"], pod.str_at(&["metadata", "uid"]));
        patch.set_at(&["status"], status.clone());
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
        match calls::send(&self.shared.client, http::Method::PATCH, &path, calls::MERGE, &patch).await {
            Ok(_) => {
                self.reported = status;
                Ok(())
            }
            // The pod is gone or another: the node hears of it.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A container of a pod by its name.
fn spec_of<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| pod.list_at(&["spec", list]))
        .find(|c| c.str_at(&["name"]) == name)
}

fn grace(pod: &Value) -> i64 {
    pod.int_at(&["spec", "terminationGracePeriodSeconds"]).unwrap_or(30)
}

fn crash_text(pod: &Value, name: &str, length: Duration) -> String {
    let meta = |field| pod.str_at(&["metadata", field]);
    let seconds = length.as_secs();
    let pause = if seconds >= 60 { format!("{}m{}s", seconds / 60, seconds % 60) } else { format!("{seconds}s") };
    format!(
        "back-off {pause} restarting failed container={name} pod={}_{}({})",
        meta("name"),
        meta("namespace"),
        meta("uid")
    )
}

/// What a container left in its termination file, or the end of its log.
fn last_words(
    config: &NodeConfig,
    pod: &Value,
    spec: Option<&Value>,
    name: &str,
    status: &cri::ContainerStatus,
) -> String {
    const MOST: usize = 4096;
    let attempt = status.metadata.as_ref().map_or(0, |m| m.attempt);
    let bytes = std::fs::read(container::termination_file(config, pod, name, attempt)).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes.get(..MOST).unwrap_or(&bytes)).into_owned();
    let falls_back = spec.is_some_and(|s| s.str_at(&["terminationMessagePolicy"]) == "FallbackToLogsOnError");
    if text.is_empty() && falls_back && status.exit_code != 0 {
        let log = std::fs::read_to_string(&status.log_path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
        let tail = lines.iter().rev().take(80).rev().copied().collect::<Vec<_>>().join("\n");
        return tail.chars().rev().take(2048).collect::<Vec<_>>().into_iter().rev().collect();
    }
    text
}

/// One probe of one container, until it is cancelled.
struct ProbeTask {
    shared: Arc<Shared>,
    verdicts: Arc<Mutex<Verdicts>>,
    changed: Arc<Notify>,
    about: ObjectRef,
    id: String,
    ip: String,
    spec: Value,
    kind: &'static str,
}

impl ProbeTask {
    async fn run(self) {
        let Some(probe) = self.spec.get(self.kind).cloned() else { return };
        let rhythm = probe::rhythm(&probe);
        let startup = self.kind == "startupProbe";
        if !startup && self.spec.get("startupProbe").is_some() {
            // Nothing else is asked before the container has started.
            while self.verdicts.lock().started.get(&self.id) != Some(&true) {
                self.changed.notified().await;
                self.changed.notify_one();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        tokio::time::sleep(rhythm.delay).await;
        let (mut good, mut bad) = (0, 0);
        let mut ticks = tokio::time::interval(rhythm.period);
        loop {
            ticks.tick().await;
            let result = probe::once(&self.shared.cri, &self.id, &self.ip, &self.spec, &probe).await;
            match &result {
                Ok(()) => (good, bad) = (good + 1, 0),
                Err(why) => {
                    (good, bad) = (0, bad + 1);
                    let kind = match self.kind {
                        "startupProbe" => "Startup",
                        "livenessProbe" => "Liveness",
                        _ => "Readiness",
                    };
                    let text = format!("{kind} probe failed: {why}");
                    self.shared.recorder.record(&self.about, EventKind::Warning, "Unhealthy", text);
                }
            }
            let (passed, failed) = (good >= rhythm.successes, bad >= rhythm.failures);
            let mut verdicts = self.verdicts.lock();
            let mut news = false;
            match self.kind {
                "readinessProbe" if passed || failed => {
                    news = verdicts.ready.insert(self.id.clone(), passed) != Some(passed);
                }
                "startupProbe" if passed => {
                    verdicts.started.insert(self.id.clone(), true);
                    drop(verdicts);
                    self.changed.notify_one();
                    return;
                }
                "livenessProbe" | "startupProbe" if failed => {
                    let name = if startup { "startup" } else { "liveness" };
                    verdicts.failed.insert(self.id.clone(), format!("failed {name} probe"));
                    drop(verdicts);
                    self.changed.notify_one();
                    return;
                }
                _ => {}
            }
            drop(verdicts);
            if news {
                self.changed.notify_one();
            }
        }
    }
}
