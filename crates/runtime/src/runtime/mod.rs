//! Sandboxes and containers: the state, and what is done to it.

mod adopt;
mod container;
mod limits;
mod sandbox;
mod session;
mod spec;

use crate::cgroup::Cgroups;
use crate::images::{ImageError, Images};
use crate::link::ShimCommand;
use crate::network::SandboxNetwork;
use crate::record::{self, Container, Sandbox};
use crate::shim::Exit;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};
use trireme_cri as cri;

pub use session::Session;

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
