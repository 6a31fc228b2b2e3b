//! Sandboxes and containers: the state, and what is done to it.

use crate::capabilities;
use crate::cgroup::{Cgroups, Usage};
use crate::images::{ImageError, Images};
use crate::link::{self, Link, ShimCommand};
use crate::network::{SandboxAttach, SandboxNetwork};
use crate::record::{self, Container, Sandbox};
use crate::shim::{ContainerSpec, Exit, Limits, MountSpec, ProcessSpec, Reply, Request, SandboxSpec};
use crate::users;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use trireme_cri as cri;

/// How a runtime is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where state is kept.
    pub root: PathBuf,
    /// How shims are started.
    pub shim: ShimCommand,
    /// The group above all of this runtime's, such as `trireme-0123abcd`.
    pub cgroup: String,
    /// What `Version` says.
    pub version: String,
}

/// What cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such sandbox or container.
    #[error("{kind} {id:?} not found: not found")]
    NotFound {
        /// `sandbox` or `container`.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// It does not fit the state.
    #[error("{0}")]
    State(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The image.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// The network.
    #[error("failed to set up sandbox network: {0}")]
    Network(String),
    /// The program cannot be started.
    #[error("failed to create containerd task: {0}")]
    Start(String),
    /// A file or the shim.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

/// Something happened to a container.
#[derive(Clone, Debug)]
pub struct Event {
    /// The container.
    pub container: String,
    /// Its sandbox.
    pub sandbox: String,
    /// What.
    pub kind: cri::ContainerEventType,
    /// Nanoseconds since 1970.
    pub at: i64,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, Sandbox>,
    containers: BTreeMap<String, Container>,
}

/// The runtime.
pub struct Runtime {
    config: Config,
    images: Images,
    network: Arc<dyn SandboxNetwork>,
    cgroups: Cgroups,
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
    /// Changes whenever a container ends.
    ended: watch::Sender<u64>,
}

pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_nanosecond() as i64
}

fn new_id() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

/// A process that was started in a container, with its streams.
pub struct Session {
    /// Standard input, where there is one.
    pub stdin: Option<File>,
    /// Standard output.
    pub stdout: Option<File>,
    /// Standard error.
    pub stderr: Option<File>,
    /// The terminal, in place of them (with attach: for input only).
    pub tty: Option<File>,
    link: Link,
}

impl Session {
    fn new(streams: Vec<String>, fds: Vec<OwnedFd>, link: Link) -> Self {
        let mut session = Self { stdin: None, stdout: None, stderr: None, tty: None, link };
        for (name, fd) in streams.into_iter().zip(fds) {
            let place = match name.as_str() {
                "stdin" => &mut session.stdin,
                "stdout" => &mut session.stdout,
                "stderr" => &mut session.stderr,
                _ => &mut session.tty,
            };
            *place = Some(File::from(fd));
        }
        session
    }

    /// Kills the process.
    pub async fn kill(&mut self) {
        // A shim that is gone has taken the process with it.
        let _ = self.link.send(&Request::KillExec).await;
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// When the shim has gone.
    pub async fn exit(&mut self) -> io::Result<Exit> {
        loop {
            match self.link.next().await? {
                Some(Reply::Exited { exit, .. }) => return Ok(exit),
                Some(_) => {}
                None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            }
        }
    }
}

impl Runtime {
    /// Opens a runtime, and takes up what runs from before.
    ///
    /// # Errors
    /// When its directory cannot be used.
    pub async fn open(config: Config, images: Images, network: Arc<dyn SandboxNetwork>) -> Result<Arc<Self>, Error> {
        let sandboxes = config.root.join("sandboxes");
        fs::create_dir_all(&sandboxes).map_err(failed(sandboxes.display().to_string()))?;
        let runtime = Arc::new(Self {
            config,
            images,
            network,
            cgroups: Cgroups::detect(),
            state: Mutex::default(),
            events: broadcast::Sender::new(1024),
            ended: watch::Sender::new(0),
        });
        runtime.adopt(&sandboxes).await?;
        Ok(runtime)
    }

    /// Reads what is on disk, and listens to the shims that live.
    async fn adopt(self: &Arc<Self>, dir: &Path) -> Result<(), Error> {
        for entry in fs::read_dir(dir).map_err(failed(dir.display().to_string()))?.flatten() {
            let dir = entry.path();
            let Some(sandbox) = record::read::<Sandbox>(&dir.join("record.json")) else { continue };
            let mut containers = Vec::new();
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.ends_with(".container") {
                    containers.extend(record::read::<Container>(&entry.path()));
                }
            }
            for container in &mut containers {
                if container.exit.is_none() && container.started.is_some() {
                    container.exit = record::read(&dir.join(format!("{}.exit", container.id)));
                }
            }
            let id = sandbox.id.clone();
            let ready = sandbox.ready;
            {
                let mut state = self.state.lock();
                state.sandboxes.insert(id.clone(), sandbox);
                state.containers.extend(containers.into_iter().map(|c| (c.id.clone(), c)));
            }
            if ready && self.listen(&id).await.is_err() {
                // The shim is gone, with all that it held (the machine was restarted).
                self.lost(&id);
            }
        }
        Ok(())
    }

    fn lost(&self, sandbox: &str) {
        let mut state = self.state.lock();
        if let Some(sandbox) = state.sandboxes.get_mut(sandbox) {
            sandbox.ready = false;
            self.keep_sandbox(sandbox);
        }
        let left: Vec<(String, String)> = state
            .containers
            .values()
            .filter(|c| c.sandbox == sandbox && c.started.is_some() && c.exit.is_none())
            .map(|c| (c.id.clone(), c.cgroup.clone()))
            .collect();
        drop(state);
        for (id, group) in left {
            // Without the shim nobody would keep its log or hear of its end.
            self.kill_group(&group);
            // What its exit code was, nobody saw.
            self.note_exit(&id, Exit { code: 255, at: now(), oom: false });
        }
    }

    fn dir(&self, sandbox: &str) -> PathBuf {
        self.config.root.join("sandboxes").join(sandbox)
    }

    fn keep_sandbox(&self, sandbox: &Sandbox) {
        let path = self.dir(&sandbox.id).join("record.json");
        if let Err(error) = record::write(&path, sandbox) {
            tracing::error!(file = %path.display(), %error, "cannot write a sandbox's record");
        }
    }

    fn keep_container(&self, container: &Container) {
        let path = self.dir(&container.sandbox).join(format!("{}.container", container.id));
        if let Err(error) = record::write(&path, container) {
            tracing::error!(file = %path.display(), %error, "cannot write a container's record");
        }
    }

    /// Listens to a shim's exits.
    async fn listen(self: &Arc<Self>, sandbox: &str) -> io::Result<()> {
        let mut link = Link::open(&self.dir(sandbox)).await?;
        let Reply::Running { containers } = link.call(&Request::Events).await? else {
            return Err(io::Error::other("the shim says something else"));
        };
        // What ended while nobody listened has left its exit file.
        let missed: Vec<(String, Exit)> = {
            let state = self.state.lock();
            let open =
                state.containers.values().filter(|c| c.sandbox == sandbox && c.started.is_some() && c.exit.is_none());
            open.filter(|c| !containers.contains_key(&c.id))
                .map(|c| {
                    let exit = record::read(&self.dir(sandbox).join(format!("{}.exit", c.id)));
                    (c.id.clone(), exit.unwrap_or(Exit { code: 255, at: now(), oom: false }))
                })
                .collect()
        };
        for (id, exit) in missed {
            self.note_exit(&id, exit);
        }
        let (runtime, sandbox) = (Arc::downgrade(self), sandbox.to_owned());
        tokio::spawn(async move {
            while let Ok(Some(reply)) = link.next().await {
                let Some(runtime) = runtime.upgrade() else { return };
                if let Reply::Exited { id, exit } = reply {
                    runtime.note_exit(&id, exit);
                }
            }
            if let Some(runtime) = runtime.upgrade() {
                let known = runtime.state.lock().sandboxes.get(&sandbox).is_some_and(|s| s.ready);
                if known {
                    tracing::warn!(%sandbox, "a shim has gone");
                    runtime.lost(&sandbox);
                }
            }
        });
        Ok(())
    }

    fn note_exit(&self, id: &str, exit: Exit) {
        let event = {
            let mut state = self.state.lock();
            let Some(container) = state.containers.get_mut(id).filter(|c| c.exit.is_none()) else { return };
            container.exit = Some(exit.clone());
            self.keep_container(container);
            Event {
                container: id.to_owned(),
                sandbox: container.sandbox.clone(),
                kind: cri::ContainerEventType::ContainerStoppedEvent,
                at: exit.at,
            }
        };
        self.ended.send_modify(|n| *n += 1);
        self.publish(event);
    }

    fn publish(&self, event: Event) {
        // Nobody may listen.
        let _ = self.events.send(event);
    }

    fn happened(&self, container: &str, sandbox: &str, kind: cri::ContainerEventType) {
        self.publish(Event { container: container.to_owned(), sandbox: sandbox.to_owned(), kind, at: now() });
    }

    /// Events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// The images.
    pub fn images(&self) -> &Images {
        &self.images
    }

    pub(crate) fn version(&self) -> &str {
        &self.config.version
    }

    pub(crate) async fn network_trouble(&self) -> Option<String> {
        self.network.trouble().await
    }

    pub(crate) fn sandboxes(&self) -> Vec<Sandbox> {
        self.state.lock().sandboxes.values().cloned().collect()
    }

    pub(crate) fn containers(&self) -> Vec<Container> {
        self.state.lock().containers.values().cloned().collect()
    }

    /// A sandbox by its id or the beginning of it.
    pub(crate) fn sandbox(&self, id: &str) -> Result<Sandbox, Error> {
        let state = self.state.lock();
        let found = state.sandboxes.get(id).or_else(|| {
            let mut all = state.sandboxes.values().filter(|s| !id.is_empty() && s.id.starts_with(id));
            all.next().filter(|_| all.next().is_none())
        });
        found.cloned().ok_or_else(|| Error::NotFound { kind: "sandbox", id: id.to_owned() })
    }

    /// A container by its id or the beginning of it.
    pub(crate) fn container(&self, id: &str) -> Result<Container, Error> {
        let state = self.state.lock();
        let found = state.containers.get(id).or_else(|| {
            let mut all = state.containers.values().filter(|c| !id.is_empty() && c.id.starts_with(id));
            all.next().filter(|_| all.next().is_none())
        });
        found.cloned().ok_or_else(|| Error::NotFound { kind: "container", id: id.to_owned() })
    }

    /// Makes and starts a sandbox.
    pub(crate) async fn run_sandbox(
        self: &Arc<Self>,
        config: cri::PodSandboxConfig,
        handler: String,
    ) -> Result<String, Error> {
        let id = new_id();
        let dir = self.dir(&id);
        fs::create_dir_all(&dir).map_err(failed(dir.display().to_string()))?;
        let linux = config.linux.clone().unwrap_or_default();
        let namespaces = linux.security_context.unwrap_or_default().namespace_options.unwrap_or_default();
        let host = cri::NamespaceMode::Node as i32;
        let metadata = config.metadata.clone().unwrap_or_default();
        let mut sandbox = Sandbox {
            id: id.clone(),
            config: config.clone(),
            created: now(),
            ready: false,
            netns: None,
            ips: Vec::new(),
            handler,
        };
        if namespaces.network != host {
            let ports = config
                .port_mappings
                .iter()
                .filter(|p| p.host_port > 0)
                .map(|p| (p.host_ip.clone(), p.host_port as u16, p.container_port as u16, p.protocol));
            let attach = SandboxAttach {
                id: id.clone(),
                namespace: metadata.namespace,
                name: metadata.name,
                uid: metadata.uid,
                ports: ports.collect(),
            };
            match self.network.attach(attach).await {
                Ok(link) => (sandbox.netns, sandbox.ips) = (Some(link.netns), link.ips),
                Err(why) => {
                    let _ = fs::remove_dir_all(&dir);
                    return Err(Error::Network(why));
                }
            }
        }
        let spec = SandboxSpec {
            id: id.clone(),
            dir: dir.clone(),
            hostname: if namespaces.network == host { String::new() } else { config.hostname.clone() },
            netns: sandbox.netns.clone(),
            host_pid: namespaces.pid == host,
            host_ipc: namespaces.ipc == host,
            share_pid: namespaces.pid == cri::NamespaceMode::Pod as i32,
            sysctls: linux.sysctls.into_iter().collect(),
        };
        let made = async {
            let group = pod_group(&self.config.cgroup, &config);
            self.cgroups.create(&group).map_err(failed("make the pod's control group"))?;
            let whole = config.linux.as_ref().and_then(|l| l.resources.as_ref()).map(limits).unwrap_or_default();
            self.cgroups.limit(&group, &whole).map_err(failed("limit the pod"))?;
            self.resolv_conf(&sandbox)?;
            link::start(&self.config.shim, &spec).await.map_err(failed("start the shim"))?;
            sandbox.ready = true;
            self.keep_sandbox(&sandbox);
            self.state.lock().sandboxes.insert(id.clone(), sandbox.clone());
            self.listen(&id).await.map_err(failed("reach the shim"))
        }
        .await;
        if let Err(error) = made {
            self.cgroups.remove(&pod_group(&self.config.cgroup, &config));
            self.state.lock().sandboxes.remove(&id);
            if sandbox.netns.is_some()
                && let Err(why) = self.network.detach(id.clone()).await
            {
                tracing::warn!(%why, "cannot take back the address of a sandbox that did not start");
            }
            let _ = fs::remove_dir_all(&dir);
            return Err(error);
        }
        self.happened(&id, &id, cri::ContainerEventType::ContainerStartedEvent);
        Ok(id)
    }

    /// The sandbox's resolver configuration, when one is given.
    fn resolv_conf(&self, sandbox: &Sandbox) -> Result<(), Error> {
        let Some(dns) = &sandbox.config.dns_config else { return Ok(()) };
        let mut text = String::new();
        if !dns.searches.is_empty() {
            text.push_str(&format!("search {}\n", dns.searches.join(" ")));
        }
        dns.servers.iter().for_each(|s| text.push_str(&format!("nameserver {s}\n")));
        if !dns.options.is_empty() {
            text.push_str(&format!("options {}\n", dns.options.join(" ")));
        }
        let path = self.dir(&sandbox.id).join("resolv.conf");
        fs::write(&path, text).map_err(failed(path.display().to_string()))
    }

    /// Stops a sandbox and all in it; one that is gone is no error.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        let id = sandbox.id.clone();
        if let Some(known) = self.state.lock().sandboxes.get_mut(&id) {
            known.ready = false;
        }
        if let Ok(mut link) = Link::open(&self.dir(&id)).await {
            // It ends as it answers; either is fine.
            let _ = link.call(&Request::Shutdown).await;
        }
        let containers: Vec<Container> = self.containers().into_iter().filter(|c| c.sandbox == id).collect();
        for container in &containers {
            self.kill_group(&container.cgroup);
            if container.started.is_some() && container.exit.is_none() {
                self.note_exit(&container.id, Exit { code: 137, at: now(), oom: false });
            }
        }
        if sandbox.netns.is_some() {
            self.network.detach(id.clone()).await.map_err(Error::Network)?;
        }
        let mut stopped = sandbox;
        stopped.ready = false;
        stopped.netns = None;
        self.keep_sandbox(&stopped);
        self.state.lock().sandboxes.insert(id.clone(), stopped);
        self.happened(&id, &id, cri::ContainerEventType::ContainerStoppedEvent);
        Ok(())
    }

    fn kill_group(&self, group: &str) {
        for pid in self.cgroups.members(group) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// Removes a sandbox with all in it; one that is gone is no error.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        if sandbox.ready || sandbox.netns.is_some() {
            self.stop_sandbox(&sandbox.id).await?;
        }
        for container in self.containers().into_iter().filter(|c| c.sandbox == sandbox.id) {
            self.remove_container(&container.id).await?;
        }
        self.cgroups.remove(&pod_group(&self.config.cgroup, &sandbox.config));
        let dir = self.dir(&sandbox.id);
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(dir.display().to_string())(e)),
            _ => {}
        }
        self.state.lock().sandboxes.remove(&sandbox.id);
        self.happened(&sandbox.id, &sandbox.id, cri::ContainerEventType::ContainerDeletedEvent);
        Ok(())
    }

    /// Makes a container; it is not started.
    pub(crate) async fn create_container(&self, sandbox: &str, config: cri::ContainerConfig) -> Result<String, Error> {
        let sandbox = self.sandbox(sandbox)?;
        if !sandbox.ready {
            return Err(Error::State(format!("sandbox container {:?} is not running", sandbox.id)));
        }
        let id = new_id();
        let wanted = config.image.clone().unwrap_or_default().image;
        let image = self.images.get(&wanted)?;
        self.images.mount_rootfs(&id, &wanted).await?;
        let log = match config.log_path.as_str() {
            "" => PathBuf::new(),
            path => Path::new(&sandbox.config.log_directory).join(path),
        };
        let container = Container {
            cgroup: format!("{}/{id}", pod_group(&self.config.cgroup, &sandbox.config)),
            id: id.clone(),
            sandbox: sandbox.id.clone(),
            config,
            image_id: image.id.to_string(),
            image_ref: image.repo_digests.first().cloned().unwrap_or_else(|| image.id.to_string()),
            log,
            created: now(),
            started: None,
            pid: 0,
            exit: None,
            failure: String::new(),
            user: None,
        };
        self.keep_container(&container);
        self.state.lock().containers.insert(id.clone(), container);
        self.happened(&id, &sandbox.id, cri::ContainerEventType::ContainerCreatedEvent);
        Ok(id)
    }

    /// Starts a container.
    pub(crate) async fn start_container(&self, id: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        if container.started.is_some() {
            return Err(Error::State(format!("container {:?} is in state that cannot be started", container.id)));
        }
        let sandbox = self.sandbox(&container.sandbox)?;
        let started = async {
            let rootfs = self
                .images
                .mount_rootfs(&container.id, &container.config.image.clone().unwrap_or_default().image)
                .await?;
            let image = self.images.get(&container.image_id)?;
            let mut spec = self.spec(&sandbox, &container, &rootfs.path, &image.run)?;
            self.mount_images(&container, &mut spec).await?;
            let process = &spec.process;
            let user = users::User { uid: process.uid, gid: process.gid, groups: process.groups.clone() };
            let mut link = Link::open(&self.dir(&sandbox.id)).await.map_err(failed("reach the shim"))?;
            match link.call(&Request::Start(Box::new(spec))).await.map_err(failed("reach the shim"))? {
                Reply::Started { pid, at, .. } => Ok((pid, at, user)),
                Reply::Failed { why } => Err(Error::Start(why)),
                _ => Err(Error::State("the shim says something else".into())),
            }
        }
        .await;
        let mut state = self.state.lock();
        let Some(known) = state.containers.get_mut(&container.id) else { return Ok(()) };
        match started {
            Ok((pid, at, user)) => {
                (known.pid, known.started, known.user) = (pid, Some(at), Some(user));
                self.keep_container(known);
                drop(state);
                self.happened(&container.id, &sandbox.id, cri::ContainerEventType::ContainerStartedEvent);
                Ok(())
            }
            Err(error) => {
                known.started = Some(now());
                known.failure = error.to_string();
                known.exit = Some(Exit { code: 128, at: now(), oom: false });
                self.keep_container(known);
                Err(error)
            }
        }
    }

    /// Mounts the images that a container has as volumes.
    async fn mount_images(&self, container: &Container, spec: &mut ContainerSpec) -> Result<(), Error> {
        for (i, mount) in container.config.mounts.iter().enumerate() {
            let Some(image) = mount.image.as_ref().filter(|i| !i.image.is_empty()) else { continue };
            let volume = self.images.mount_volume(&volume_key(&container.id, i), &image.image).await?;
            let sub = Path::new(&mount.image_sub_path);
            if !sub.components().all(|c| matches!(c, std::path::Component::Normal(_))) {
                return Err(Error::Invalid(format!("image sub path {sub:?} leads out of the image")));
            }
            let source = volume.path.join(sub);
            let inside = source.canonicalize().is_ok_and(|real| real.starts_with(&volume.path));
            if !inside {
                return Err(Error::Start(format!("failed to mount image volume: {sub:?} is not in the image")));
            }
            spec.mounts.push(MountSpec {
                source,
                destination: PathBuf::from(&mount.container_path),
                readonly: true,
                ..MountSpec::default()
            });
        }
        Ok(())
    }

    fn spec(
        &self,
        sandbox: &Sandbox,
        container: &Container,
        rootfs: &Path,
        image: &crate::images::RunConfig,
    ) -> Result<ContainerSpec, Error> {
        let config = &container.config;
        let linux = config.linux.clone().unwrap_or_default();
        let security = linux.security_context.unwrap_or_default();
        let namespaces = security.namespace_options.clone().unwrap_or_default();
        let target = (namespaces.pid == cri::NamespaceMode::Target as i32).then_some(namespaces.target_id);
        let resources = linux.resources.unwrap_or_default();
        let mut args = if config.command.is_empty() { image.entrypoint.clone() } else { config.command.clone() };
        if !config.args.is_empty() {
            args.extend(config.args.clone());
        } else if config.command.is_empty() {
            args.extend(image.cmd.clone());
        }
        if args.is_empty() {
            return Err(Error::Start("no command specified".into()));
        }
        let gid = security.run_as_group.map(|g| g.value as u32);
        let user = match (&security.run_as_user, security.run_as_username.as_str()) {
            (Some(uid), _) => uid.value.to_string(),
            (None, "") => image.user.clone(),
            (None, name) => name.to_owned(),
        };
        let user = users::find(rootfs, &user, gid).map_err(Error::Start)?;
        let mut groups: Vec<u32> = security.supplemental_groups.iter().map(|g| *g as u32).collect();
        if security.supplemental_groups_policy == cri::SupplementalGroupsPolicy::Merge as i32 {
            groups.extend(user.groups.iter().filter(|g| !groups.contains(g)).copied().collect::<Vec<_>>());
        }
        let mut env: Vec<String> = image.env.clone();
        if !env.iter().any(|e| e.starts_with("PATH=")) {
            env.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
        }
        if config.tty && !env.iter().any(|e| e.starts_with("TERM=")) {
            env.push("TERM=xterm".into());
        }
        env.push(format!("HOSTNAME={}", sandbox.config.hostname));
        for pair in &config.envs {
            let key = format!("{}=", pair.key);
            env.retain(|e| !e.starts_with(&key));
            env.push(format!("{key}{}", pair.value));
        }
        if !env.iter().any(|e| e.starts_with("HOME=")) {
            env.push(if user.uid == 0 { "HOME=/root".into() } else { "HOME=/".to_owned() });
        }
        let capability = security.capabilities.clone().unwrap_or_default();
        let capabilities = if security.privileged {
            capabilities::all()
        } else {
            capabilities::of(&capability.add_capabilities, &capability.drop_capabilities).map_err(Error::Start)?
        };
        let profile = security.seccomp.clone().map(|s| (s.profile_type, s.localhost_ref));
        if let Some((kind, reference)) = &profile
            && *kind == cri::security_profile::ProfileType::Localhost as i32
        {
            return Err(Error::Start(format!(
                "seccomp profile {reference:?}: localhost profiles are not supported yet"
            )));
        }
        let unconfined = cri::security_profile::ProfileType::Unconfined as i32;
        let process = ProcessSpec {
            args,
            env,
            cwd: PathBuf::from(if config.working_dir.is_empty() { &image.working_dir } else { &config.working_dir }),
            uid: user.uid,
            gid: user.gid,
            groups,
            tty: config.tty,
            stdin: config.stdin,
            capabilities,
            no_new_privileges: security.no_new_privs,
            seccomp: profile.is_some_and(|(kind, _)| kind != unconfined),
            oom_score_adj: resources.oom_score_adj as i32,
        };
        let mut mounts = Vec::new();
        let resolv = self.dir(&sandbox.id).join("resolv.conf");
        let has = |path: &str| config.mounts.iter().any(|m| m.container_path == path);
        if resolv.exists() && !has("/etc/resolv.conf") {
            mounts.push(MountSpec { source: resolv, destination: "/etc/resolv.conf".into(), ..MountSpec::default() });
        }
        for mount in config.mounts.iter().filter(|m| m.image.is_none()) {
            let propagation = match mount.propagation() {
                cri::MountPropagation::PropagationHostToContainer => "rslave",
                cri::MountPropagation::PropagationBidirectional => "rshared",
                cri::MountPropagation::PropagationPrivate => "rprivate",
            };
            mounts.push(MountSpec {
                source: PathBuf::from(&mount.host_path),
                destination: PathBuf::from(&mount.container_path),
                readonly: mount.readonly,
                recursive_readonly: mount.recursive_read_only,
                propagation: propagation.into(),
            });
        }
        let paths = |list: &[String]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        Ok(ContainerSpec {
            id: container.id.clone(),
            rootfs: rootfs.to_owned(),
            process,
            mounts,
            devices: config
                .devices
                .iter()
                .map(|d| (PathBuf::from(&d.host_path), PathBuf::from(&d.container_path)))
                .collect(),
            masked: paths(&security.masked_paths),
            readonly: paths(&security.readonly_paths),
            readonly_rootfs: security.readonly_rootfs,
            privileged: security.privileged,
            cgroup: container.cgroup.clone(),
            limits: limits(&resources),
            log: container.log.clone(),
            stdin_once: config.stdin_once,
            pid_of: target,
        })
    }

    /// Stops a container: its stop signal, then after `grace` the end.
    pub(crate) async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let Ok(container) = self.container(id) else { return Ok(()) };
        if container.started.is_none() || container.exit.is_some() {
            return Ok(());
        }
        let signal = match self.images.get(&container.image_id) {
            Ok(image) => signal_number(&image.run.stop_signal),
            Err(_) => libc::SIGTERM,
        };
        if !grace.is_zero() {
            self.signal(&container, signal, false).await?;
            if self.wait_end(&container.id, grace).await {
                return Ok(());
            }
        }
        self.signal(&container, libc::SIGKILL, true).await?;
        if self.wait_end(&container.id, Duration::from_secs(30)).await {
            return Ok(());
        }
        Err(Error::State(format!("container {:?} does not end", container.id)))
    }

    async fn signal(&self, container: &Container, signal: i32, all: bool) -> Result<(), Error> {
        let mut link = Link::open(&self.dir(&container.sandbox)).await.map_err(failed("reach the shim"))?;
        let request = Request::Kill { id: container.id.clone(), signal, all };
        link.call(&request).await.map_err(failed("reach the shim")).map(drop)
    }

    /// Waits for a container's end; false when it takes longer.
    pub(crate) async fn wait_end(&self, id: &str, patience: Duration) -> bool {
        let mut changes = self.ended.subscribe();
        let over = || self.container(id).map_or(true, |c| c.exit.is_some());
        let wait = async {
            while !over() {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(patience, wait).await.is_ok()
    }

    /// Removes a container, stopping it if it runs; one that is gone is no error.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let Ok(container) = self.container(id) else { return Ok(()) };
        if container.started.is_some() && container.exit.is_none() {
            self.stop_container(&container.id, Duration::ZERO).await?;
        }
        if let Ok(mut link) = Link::open(&self.dir(&container.sandbox)).await {
            let _ = link.call(&Request::Forget { id: container.id.clone() }).await;
        }
        for (i, mount) in container.config.mounts.iter().enumerate() {
            if mount.image.is_some() {
                self.images.remove_rootfs(&volume_key(&container.id, i)).await?;
            }
        }
        self.images.remove_rootfs(&container.id).await?;
        self.cgroups.remove(&container.cgroup);
        let dir = self.dir(&container.sandbox);
        for name in [format!("{}.container", container.id), format!("{}.exit", container.id)] {
            let _ = fs::remove_file(dir.join(name));
        }
        self.state.lock().containers.remove(&container.id);
        self.happened(&container.id, &container.sandbox, cri::ContainerEventType::ContainerDeletedEvent);
        Ok(())
    }

    /// Runs a process in a container.
    ///
    /// # Errors
    /// When the container does not run or the program cannot be started.
    pub async fn exec(&self, id: &str, args: Vec<String>, tty: bool, stdin: bool) -> Result<Session, Error> {
        let container = self.container(id)?;
        let process = ProcessSpec { args, tty, stdin, ..ProcessSpec::default() };
        let request = Request::Exec { id: container.id.clone(), process: Box::new(process) };
        self.session(&container, &request).await
    }

    /// Joins a container's streams.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn attach(&self, id: &str) -> Result<Session, Error> {
        let container = self.container(id)?;
        self.session(&container, &Request::Attach { id: container.id.clone() }).await
    }

    async fn session(&self, container: &Container, request: &Request) -> Result<Session, Error> {
        let mut link = Link::open(&self.dir(&container.sandbox)).await.map_err(failed("reach the shim"))?;
        match link.call(request).await.map_err(failed("reach the shim"))? {
            Reply::Started { streams, .. } => {
                let fds = link.take_fds();
                Ok(Session::new(streams, fds, link))
            }
            Reply::Failed { why } => Err(Error::State(why)),
            _ => Err(Error::State("the shim says something else".into())),
        }
    }

    pub(crate) async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        let mut link = Link::open(&self.dir(&container.sandbox)).await.map_err(failed("reach the shim"))?;
        link.call(&Request::Reopen { id: container.id }).await.map_err(failed("reach the shim")).map(drop)
    }

    /// Changes what a container may take.
    pub(crate) fn update_limits(&self, id: &str, resources: &cri::LinuxContainerResources) -> Result<(), Error> {
        let container = self.container(id)?;
        self.cgroups.limit(&container.cgroup, &changed(resources)).map_err(failed("set limits"))?;
        let mut state = self.state.lock();
        let Some(known) = state.containers.get_mut(&container.id) else { return Ok(()) };
        let linux = known.config.linux.get_or_insert_default();
        // What is told to the kernel only once stays.
        let oom_score_adj = linux.resources.as_ref().map_or(resources.oom_score_adj, |r| r.oom_score_adj);
        linux.resources = Some(cri::LinuxContainerResources { oom_score_adj, ..resources.clone() });
        self.keep_container(known);
        Ok(())
    }

    /// Changes what a sandbox as a whole may take.
    pub(crate) fn update_sandbox_limits(&self, id: &str, resources: cri::LinuxContainerResources) -> Result<(), Error> {
        let sandbox = self.sandbox(id)?;
        let group = pod_group(&self.config.cgroup, &sandbox.config);
        self.cgroups.limit(&group, &changed(&resources)).map_err(failed("set limits"))?;
        let mut state = self.state.lock();
        let Some(known) = state.sandboxes.get_mut(&sandbox.id) else { return Ok(()) };
        known.config.linux.get_or_insert_default().resources = Some(resources);
        self.keep_sandbox(known);
        Ok(())
    }

    pub(crate) fn usage(&self, container: &Container) -> Usage {
        self.cgroups.usage(&container.cgroup)
    }

    pub(crate) fn sandbox_usage(&self, sandbox: &Sandbox) -> Usage {
        self.cgroups.usage(&pod_group(&self.config.cgroup, &sandbox.config))
    }

    /// Stops and removes all sandboxes, and the groups above them.
    ///
    /// # Errors
    /// The first that cannot be removed; the others are tried all the same.
    pub async fn remove_all(&self) -> Result<(), Error> {
        let mut result = Ok(());
        for sandbox in self.sandboxes() {
            result = result.and(self.remove_sandbox(&sandbox.id).await);
        }
        self.cgroups.remove(&self.config.cgroup);
        result
    }

    /// The network namespace of a sandbox, for who forwards ports into it; `None` is the host's.
    ///
    /// # Errors
    /// When there is no such sandbox.
    pub fn netns(&self, sandbox: &str) -> Result<Option<PathBuf>, Error> {
        self.sandbox(sandbox).map(|s| s.netns)
    }
}

/// The name of an image's mount for a container.
fn volume_key(container: &str, mount: usize) -> String {
    format!("{container}-{mount}")
}

/// The group of a pod: what the node asks for, below ours.
fn pod_group(root: &str, config: &cri::PodSandboxConfig) -> String {
    let asked = config.linux.as_ref().map(|l| l.cgroup_parent.trim_matches('/')).unwrap_or_default();
    let uid = config.metadata.as_ref().map(|m| m.uid.as_str()).unwrap_or_default();
    match asked {
        "" => format!("{root}/pod{uid}"),
        asked if asked == root || asked.starts_with(&format!("{root}/")) => asked.to_owned(),
        asked => format!("{root}/{asked}"),
    }
}

/// Limits that replace others: what is not limited any more is free.
fn changed(resources: &cri::LinuxContainerResources) -> Limits {
    let mut limits = limits(resources);
    limits.memory = limits.memory.or(Some(-1));
    limits.cpu_period = limits.cpu_period.or(Some(100_000));
    limits
}

fn limits(resources: &cri::LinuxContainerResources) -> Limits {
    let set = |n: i64| (n != 0).then_some(n);
    Limits {
        memory: set(resources.memory_limit_in_bytes),
        cpu_shares: set(resources.cpu_shares).and_then(|n| u64::try_from(n).ok()),
        cpu_quota: set(resources.cpu_quota),
        cpu_period: set(resources.cpu_period).and_then(|n| u64::try_from(n).ok()),
        cpuset: resources.cpuset_cpus.clone(),
        pids: resources.unified.get("pids.max").and_then(|t| t.parse().ok()),
        hugepages: resources.hugepage_limits.iter().map(|h| (h.page_size.clone(), h.limit)).collect(),
    }
}

/// A signal by name or number; SIGTERM for what is neither.
fn signal_number(text: &str) -> i32 {
    let name = text.trim().trim_start_matches("SIG");
    match name {
        "HUP" => libc::SIGHUP,
        "INT" => libc::SIGINT,
        "QUIT" => libc::SIGQUIT,
        "KILL" => libc::SIGKILL,
        "USR1" => libc::SIGUSR1,
        "USR2" => libc::SIGUSR2,
        "WINCH" => libc::SIGWINCH,
        "RTMIN+3" => 37,
        _ => name.parse().ok().filter(|n| (1..65).contains(n)).unwrap_or(libc::SIGTERM),
    }
}
