//! The parts of the local store together, and who holds what while work goes on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use tokio::sync::{Mutex as Gate, OwnedMutexGuard};

use super::blobs::BlobStore;
use super::digest::Digest;
use super::error::{ImageError, Result};
use super::files;
use super::options::ImagesOptions;
use super::record::Image;
use super::records::Records;
use super::rootfs::{RootfsRecord, RootfsStore};
use super::snapshots::Snapshots;
use super::wire::Wire;

/// Everything of one image store.
pub struct Store {
    /// The settings.
    pub options: ImagesOptions,
    /// Connections to registries.
    pub wire: Arc<Wire>,
    /// Content.
    pub blobs: BlobStore,
    /// Unpacked layers.
    pub snapshots: Snapshots,
    /// Root file systems.
    pub rootfs: RootfsStore,
    /// What is known. Never held across an await.
    pub state: Mutex<State>,
    /// Held by who collects: one at a time.
    pub collecting: Arc<Gate<()>>,
    // One fetch or unpacking of the same content at a time.
    gates: Mutex<HashMap<Digest, Weak<Gate<()>>>>,
    _lock: File,
}

/// What is known of the store.
pub struct State {
    /// Images.
    pub records: Records,
    /// Root file systems by container.
    pub rootfs: BTreeMap<String, RootfsRecord>,
    leases: HashMap<Digest, usize>,
}

/// Keeps content from being collected while work with it goes on.
pub struct Lease {
    store: Arc<Store>,
    held: Mutex<Vec<Digest>>,
}

/// Takes the lock. A process that this one is just starting holds a copy of it until it has become another program, so
/// that a store which was closed a moment ago may still seem to be in use: it is asked again for a second.
fn held(lock: &File) -> bool {
    const PAUSE: Duration = Duration::from_millis(20);
    const TRIES: usize = 50;
    for _ in 0..TRIES {
        if rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return true;
        }
        std::thread::sleep(PAUSE);
    }
    false
}

// === impl Store ===

impl Store {
    /// Opens the store, alone.
    pub fn open(options: ImagesOptions) -> Result<Arc<Store>> {
        let root = options.root.clone();
        files::make_dir(&root)?;
        let path = root.join("lock");
        let lock = File::create(&path).map_err(|error| ImageError::io("create", &path, error))?;
        if !held(&lock) {
            return Err(ImageError::Locked { root });
        }
        let blobs = BlobStore::open(&root)?;
        let snapshots = Snapshots::open(&root)?;
        let (rootfs, rootfs_records) = RootfsStore::open(&root)?;
        let records = Records::open(&root)?;
        // Half-fetched layers stay, to be gone on with.
        blobs.sweep()?;
        let state = State { records, rootfs: rootfs_records, leases: HashMap::new() };
        let (_, named) = state.needed();
        snapshots.settle(&named)?;
        Ok(Arc::new(Store {
            wire: Arc::new(Wire::new(options.registries.clone(), options.limits.clone(), options.proxy.clone())),
            options,
            blobs,
            snapshots,
            rootfs,
            state: Mutex::new(state),
            collecting: Arc::new(Gate::new(())),
            gates: Mutex::new(HashMap::new()),
            _lock: lock,
        }))
    }

    /// Waits until nobody else fetches or unpacks this content.
    pub async fn gate(&self, digest: Digest) -> OwnedMutexGuard<()> {
        let gate = {
            let mut gates = self.gates.lock();
            gates.retain(|_, gate| gate.strong_count() > 0);
            match gates.get(&digest).and_then(Weak::upgrade) {
                Some(gate) => gate,
                None => {
                    let gate = Arc::new(Gate::new(()));
                    gates.insert(digest, Arc::downgrade(&gate));
                    gate
                }
            }
        };
        gate.lock_owned().await
    }

    /// Remembers an image whose layers are unpacked: from here on it can be used, whatever happens.
    pub fn remember(&self, image: Image) -> Result<Arc<Image>> {
        self.snapshots.sync()?;
        self.state.lock().records.put(image)
    }

    /// A lease on nothing yet.
    pub fn lease(self: &Arc<Self>) -> Arc<Lease> {
        Arc::new(Lease { store: self.clone(), held: Mutex::new(Vec::new()) })
    }
}

/// Runs blocking work beside the runtime's threads.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ImageError::Cancelled)?
}

// === impl State ===

impl State {
    /// Whether somebody works with this content now.
    pub fn is_leased(&self, digest: Digest) -> bool {
        self.leases.contains_key(&digest)
    }

    /// Blobs and unpacked layers that are needed.
    pub fn needed(&self) -> (HashSet<Digest>, HashSet<Digest>) {
        let leased = || self.leases.keys().copied();
        let blobs = self.records.all().flat_map(|image| image.blobs()).chain(leased()).collect();
        let mut chains: HashSet<Digest> = self.records.all().flat_map(|image| image.chain_ids()).collect();
        chains.extend(self.rootfs.values().flat_map(|rootfs| rootfs.chain.iter().copied()));
        chains.extend(leased());
        (blobs, chains)
    }
}

// === impl Lease ===

impl Lease {
    /// Holds more, before it is looked for.
    pub fn hold(&self, digests: impl IntoIterator<Item = Digest>) {
        let mut held = self.held.lock();
        let mut state = self.store.state.lock();
        for digest in digests {
            *state.leases.entry(digest).or_default() += 1;
            held.push(digest);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.store.state.lock();
        for digest in self.held.get_mut().drain(..) {
            if let Some(count) = state.leases.get_mut(&digest) {
                *count -= 1;
                if *count == 0 {
                    state.leases.remove(&digest);
                }
            }
        }
    }
}
