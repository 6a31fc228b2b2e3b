//! What an image service can be told, and what its operations are asked.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::credentials::Credentials;
use super::digest::Digest;
use super::manifest::{Platform, RunConfig};
use super::registries::Registries;

/// Settings of the image service.
#[derive(Debug, Clone)]
pub struct ImagesOptions {
    /// The directory of the store. One process at a time may open it.
    pub root: PathBuf,
    /// Mirrors, certificates and passwords by registry.
    pub registries: Registries,
    /// How patient pulls are.
    pub limits: PullLimits,
    /// The platform to choose from indexes.
    pub platform: Platform,
    /// The way out of this network.
    pub proxy: Proxy,
}

/// An HTTP proxy for registries that are spoken to over HTTPS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// `http://[name:password@]host:port`, what `HTTPS_PROXY` says.
    pub https: Option<String>,
    /// Whom to reach without it, what `NO_PROXY` says: names, addresses and networks with commas between. Loopback
    /// always is.
    pub except: String,
}

/// Deadlines and bounds of a pull.
#[derive(Debug, Clone)]
pub struct PullLimits {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until a registry begins to answer.
    pub response: Duration,
    /// The longest time without a byte. The kubelet's `image-pull-progress-deadline` is a minute too.
    pub stall: Duration,
    /// The whole pull; none for as long as bytes arrive.
    pub total: Option<Duration>,
    /// How often a request that may succeed later is sent.
    pub attempts: u32,
    /// The first pause between two attempts; it doubles.
    pub pause: Duration,
    /// Layers fetched at a time for one pull.
    pub parallel_layers: usize,
}

/// A pull.
#[derive(Clone, Default)]
pub struct PullRequest {
    /// The name, as a user writes it.
    pub image: String,
    /// Credentials for the registry of the name, tried instead of those of the configuration.
    pub credentials: Option<Credentials>,
    /// Called as bytes arrive. It must be quick.
    pub progress: Option<Progress>,
}

/// Who hears of the progress of a pull.
pub type Progress = Arc<dyn Fn(PullEvent) + Send + Sync>;

/// A step of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullEvent {
    /// The manifest is here: so many layers and bytes to come.
    Resolved {
        /// Layers of the image.
        layers: usize,
        /// Their bytes, compressed.
        bytes: u64,
    },
    /// A layer is present already.
    Present {
        /// The layer.
        layer: Digest,
    },
    /// Bytes of a layer arrived.
    Fetched {
        /// The layer.
        layer: Digest,
        /// Its bytes here.
        bytes: u64,
        /// All its bytes.
        total: u64,
    },
    /// A layer is unpacked.
    Unpacked {
        /// The layer.
        layer: Digest,
    },
}

/// An image to be made from files of this machine: one layer, reproducible (the same files give the same id).
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Its name.
    pub image: String,
    /// What the layer holds. Missing parent directories are made.
    pub entries: Vec<BuildEntry>,
    /// How to run it.
    pub run: RunConfig,
    /// Never collected.
    pub pinned: bool,
}

/// One entry of a built layer.
#[derive(Debug, Clone)]
pub struct BuildEntry {
    /// Where in the image: absolute, without `..`.
    pub path: PathBuf,
    /// Permissions; those of the source when none are given.
    pub mode: Option<u32>,
    /// Owner and group.
    pub owner: (u32, u32),
    /// The content.
    pub source: BuildSource,
}

/// Where a built entry comes from.
#[derive(Debug, Clone)]
pub enum BuildSource {
    /// A file, or a directory with everything below it, of this machine.
    Path(PathBuf),
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// An empty directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(PathBuf),
}

/// Which images garbage collection may take.
#[derive(Debug, Clone, Default)]
pub struct CollectPolicy {
    /// Bytes to free; images are taken in the order of their last use until that much is expected to be free.
    pub bytes: u64,
    /// Images used more recently are kept.
    pub minimum_age: Duration,
    /// Images that containers use, beyond those that this service mounted.
    pub in_use: HashSet<Digest>,
}

/// What garbage collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Images removed.
    pub images: Vec<Digest>,
    /// Blobs removed.
    pub blobs: usize,
    /// Unpacked layers removed.
    pub snapshots: usize,
    /// Bytes freed.
    pub bytes: u64,
}

/// A container's root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// Where it is mounted.
    pub path: PathBuf,
    /// What the container wrote.
    pub upper: PathBuf,
    /// The image that it was made of.
    pub image: Digest,
}

// === impl ImagesOptions ===

impl ImagesOptions {
    /// The defaults, for a store below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        ImagesOptions {
            root: root.into(),
            registries: Registries::default(),
            limits: PullLimits::default(),
            platform: Platform::host(),
            proxy: Proxy::default(),
        }
    }
}

impl Default for PullLimits {
    fn default() -> Self {
        PullLimits {
            connect: Duration::from_secs(10),
            response: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            total: None,
            attempts: 5,
            pause: Duration::from_millis(250),
            parallel_layers: 3,
        }
    }
}

// === impl PullRequest ===

impl PullRequest {
    /// A pull without credentials.
    pub fn new(image: impl Into<String>) -> Self {
        PullRequest { image: image.into(), ..PullRequest::default() }
    }
}

impl fmt::Debug for PullRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullRequest").field("image", &self.image).finish_non_exhaustive()
    }
}
