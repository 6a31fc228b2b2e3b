//! Starting a sandbox and containers.

use super::pauses::Tried;
use super::{Done, RETRY, Worker, grpc, hook, unless_deleted};
use crate::container::{self, Needs};
use crate::environment;
use crate::probe::Target;
use crate::sandbox;
use crate::spec;
use crate::volumes;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trireme_client::EventKind;
use trireme_cri as cri;
use trireme_schema::Value;

/// What could not be configured is looked at again after this (upstream: ten to fifteen seconds); a ConfigMap or Secret
/// that comes wakes the worker at once.
const CONFIGURE_AGAIN: Duration = Duration::from_secs(10);

/// Whether there is a network is asked again after this (upstream: a second).
const NETWORK_AGAIN: Duration = Duration::from_secs(1);

/// Why a container could not be started: reason and message of its waiting state.
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// What the event says, if another than the message; none if all has been said.
    pub(super) told: Option<String>,
    pub(super) again: Duration,
    /// Whether the runtime was asked to make the container: that is not tried again at every change of the pod.
    pub(super) made: bool,
}

impl Failure {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { reason, told: Some(message.clone()), message, again: CONFIGURE_AGAIN, made: false }
    }
}

impl Worker {
    /// Makes the sandbox; an error is how long to wait before the next try.
    pub(super) async fn start_sandbox(&mut self, pod: &Value) -> Result<(), Duration> {
        if let Some(left) = self.pauses.left(&Tried::Sandbox, Instant::now()) {
            return Err(left);
        }
        let trouble = self.shared.state.borrow().network.clone();
        if !trouble.is_empty() && !pod.bool_at(&["spec", "hostNetwork"]) {
            if trouble != self.no_network {
                self.event(pod, "", EventKind::Warning, "NetworkNotReady", format!("network is not ready: {trouble}"));
                self.no_network = trouble;
            }
            return Err(NETWORK_AGAIN);
        }
        self.no_network.clear();
        if self.attempt > 0 {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            self.event(pod, "", EventKind::Normal, "SandboxChanged", text);
        }
        match self.try_sandbox(pod).await {
            Ok(()) => {
                self.pauses.went_well(&Tried::Sandbox);
                Ok(())
            }
            Err(why) => {
                let text = format!("Failed to create pod sandbox: {why}");
                self.event(pod, "", EventKind::Warning, "FailedCreatePodSandBox", text);
                Err(self.pauses.failed(Tried::Sandbox, Instant::now()))
            }
        }
    }

    async fn try_sandbox(&mut self, pod: &Value) -> Done<()> {
        let runtime_handler = self.handler(pod).await?;
        let config = sandbox::sandbox(&self.shared.config, pod, self.attempt)?;
        let uid = pod.str_at(&["metadata", "uid"]);
        volumes::make_dir(&self.shared.config, uid).map_err(|e| format!("directory of the pod: {e}"))?;
        let logs = sandbox::log_dir(&self.shared.config, pod);
        tokio::fs::create_dir_all(&logs).await.map_err(|e| format!("{}: {e}", logs.display()))?;
        let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler };
        let answer = self.shared.cri.runtime.clone().run_pod_sandbox(request).await.map_err(grpc)?;
        self.sandbox = Some(answer.into_inner().pod_sandbox_id);
        Ok(())
    }

    /// The runtime's handler that the pod's RuntimeClass names.
    async fn handler(&self, pod: &Value) -> Done<String> {
        let class = pod.str_at(&["spec", "runtimeClassName"]);
        if class.is_empty() {
            return Ok(String::new());
        }
        let path = format!("/apis/node.k8s.io/v1/runtimeclasses/{class}");
        match crate::calls::get(&self.shared.client, &path).await {
            Ok(found) => Ok(found.str_at(&["handler"]).to_owned()),
            Err(error) if error.is_not_found() => Err(format!("RuntimeClass {class:?} not found")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Starts a container; an error is how long to wait before the next try.
    pub(super) async fn start(&mut self, pod: &Arc<Value>, name: &str) -> Result<(), Duration> {
        let Some(spec) = spec::container(pod, name).cloned() else { return Err(super::RESYNC) };
        let spec = self.resizes.applied(spec);
        let note = self.notes.entry(name.to_owned()).or_default();
        let ended = note.ended().cloned();
        let failed = ended.as_ref().and_then(|e| Timestamp::from_nanosecond(e.finished_at.into()).ok());
        if let Some(failed) = failed {
            let backoff = self.restarts.entry(name.to_owned()).or_default();
            if let Some(left) = backoff.left(failed, Timestamp::now()) {
                let length = backoff.length();
                self.tell_crash(pod, name, length).await;
                return Err(left);
            }
            backoff.tried(failed, Timestamp::now());
        }
        let tried = Tried::Container(name.to_owned());
        // What has ended is started again by its own back-off.
        if ended.is_none()
            && let Some(left) = self.pauses.left(&tried, Instant::now())
        {
            return Err(left);
        }
        let attempt = self.next_attempt(pod, name).await;
        match self.start_now(pod, &spec, name, attempt).await {
            Ok(()) => {
                self.notes.entry(name.to_owned()).or_default().waiting = None;
                self.pauses.went_well(&tried);
                Ok(())
            }
            Err(failure) => {
                if let Some(told) = failure.told {
                    self.event(pod, name, EventKind::Warning, "Failed", format!("Error: {told}"));
                }
                let note = self.notes.entry(name.to_owned()).or_default();
                note.waiting = Some((failure.reason.to_owned(), failure.message));
                let _ = self.report(pod).await;
                let pause = if failure.made { self.pauses.failed(tried, Instant::now()) } else { failure.again };
                Err(pause.min(failure.again))
            }
        }
    }

    async fn tell_crash(&mut self, pod: &Value, name: &str, length: Duration) {
        let meta = |field| pod.str_at(&["metadata", field]);
        let place = format!("{}_{}({})", meta("name"), meta("namespace"), meta("uid"));
        let text = format!("back-off {} restarting failed container={name} pod={place}", minutes(length));
        let note = self.notes.entry(name.to_owned()).or_default();
        let news = note.waiting.replace(("CrashLoopBackOff".into(), text)).is_none();
        if news {
            let text = format!("Back-off restarting failed container {name} in pod {place}");
            self.event(pod, name, EventKind::Warning, "BackOff", text);
            let _ = self.report(pod).await;
        }
    }

    /// The number of the next attempt; one that was made and never started makes room.
    async fn next_attempt(&mut self, pod: &Value, name: &str) -> u32 {
        let current = self.notes.get(name).and_then(|n| n.current.as_ref());
        let Some(current) = current else {
            // When the runtime has forgotten it, the status still counts.
            let before = spec::status(pod, name).filter(|s| !s.str_at(&["containerID"]).is_empty());
            return before.and_then(|s| s.int_at(&["restartCount"])).map_or(0, |n| n as u32 + 1);
        };
        let attempt = current.metadata.as_ref().map_or(0, |m| m.attempt);
        if current.state() != cri::ContainerState::ContainerCreated {
            return attempt + 1;
        }
        let request = cri::RemoveContainerRequest { container_id: current.id.clone() };
        let _ = self.shared.cri.runtime.clone().remove_container(request).await;
        attempt
    }

    /// The services that a pod's variables tell of.
    fn services(&self, pod: &Value) -> Vec<Value> {
        let namespace = pod.str_at(&["metadata", "namespace"]);
        let links = pod.at(&["spec", "enableServiceLinks"]).and_then(Value::as_bool).unwrap_or(true);
        let all = self.shared.services.list();
        let wanted = all.iter().filter(|s| {
            let key = &s.meta.key;
            (links && &*key.namespace == namespace) || (&*key.namespace == "default" && &*key.name == "kubernetes")
        });
        wanted.filter_map(|s| trireme_schema::json::parse(&s.bytes).ok()).collect()
    }

    async fn start_now(&mut self, pod: &Arc<Value>, spec: &Value, name: &str, attempt: u32) -> Result<(), Failure> {
        let image = self.image(pod, spec, name).await?;
        let bad = |why: String| Failure::new("CreateContainerConfigError", why);
        container::check_user(pod, spec, image.uid.as_ref().map(|u| u.value), &image.username).map_err(bad)?;
        let seen = volumes::with_addresses(pod, &self.ips, &self.shared.config);
        let services = environment::of_services(&self.services(pod));
        let node = self.shared.allocatable();
        let env = environment::of_container(&self.shared.client, &seen, spec, &services, &node).await.map_err(bad)?;
        let hosts = volumes::hosts(&self.shared.config, pod, &self.ips).map_err(|e| bad(e.to_string()))?;
        let image_volumes = self.image_volumes(pod, spec, name).await?;
        let needs = Needs {
            config: &self.shared.config,
            env,
            attempt,
            image: image.id,
            hosts,
            memory: self.shared.memory,
            target: self
                .notes
                .get(spec.str_at(&["targetContainerName"]))
                .and_then(|n| n.running())
                .map(|c| c.id.clone()),
            volumes: &self.volumes,
            image_volumes,
        };
        let config = container::container(pod, spec, needs).map_err(bad)?;
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: self.sandbox.clone().unwrap_or_default(),
            config: Some(config),
            sandbox_config: Some(
                sandbox::sandbox(&self.shared.config, pod, self.attempt.saturating_sub(1)).map_err(bad)?,
            ),
        };
        let mut runtime = self.shared.cri.runtime.clone();
        let created = runtime.create_container(request).await;
        let id = created
            .map_err(|s| Failure { made: true, ..Failure::new("CreateContainerError", s.message()) })?
            .into_inner()
            .container_id;
        self.event(pod, name, EventKind::Normal, "Created", "Container created");
        let started = runtime.start_container(cri::StartContainerRequest { container_id: id.clone() }).await;
        // What did not start has ended, and is started again like what ran.
        started.map_err(|s| Failure { again: RETRY, made: true, ..Failure::new("RunContainerError", s.message()) })?;
        self.event(pod, name, EventKind::Normal, "Started", "Container started");
        if let Some(hook) = spec.at(&["lifecycle", "postStart"]) {
            self.post_start(pod, spec, name, id, hook).await?;
        }
        Ok(())
    }

    async fn post_start(
        &mut self,
        pod: &Arc<Value>,
        spec: &Value,
        name: &str,
        id: String,
        hook: &Value,
    ) -> Result<(), Failure> {
        let ip = self.ips.first().cloned().unwrap_or_default();
        let target = Target { id, ip, spec: spec.clone() };
        let done = unless_deleted(self.pod.clone(), hook::run(&self.shared.cri, &target, hook)).await;
        let Some(Err(why)) = done else { return Ok(()) };
        self.event(pod, name, EventKind::Warning, "FailedPostStartHook", "PostStartHook failed");
        if self.look(pod).await.is_ok() {
            self.stop(pod, name, spec::grace(pod), "FailedPostStartHook");
        }
        Err(Failure { told: None, again: RETRY, ..Failure::new("PostStartHookError", why) })
    }
}

/// A time as Go writes it.
fn minutes(length: Duration) -> String {
    let seconds = length.as_secs();
    if seconds >= 60 { format!("{}m{}s", seconds / 60, seconds % 60) } else { format!("{seconds}s") }
}
