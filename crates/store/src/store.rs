//! The store as its users meet it: an engine, and the state in memory that it feeds.

use crate::cache::Cache;
use crate::embedded::Embedded;
use crate::engine::{Engine, Range};
use crate::error::{CommitError, Damage, OpenError, ReadError};
use crate::record::Record;
use crate::seal::{Plain, Seal};
use crate::topic::Topic;
use crate::txn::{Committed, Txn};
use futures::StreamExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// Reads come from memory, writes go to the engine. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Store {
    cache: Arc<Cache>,
    engine: Arc<dyn Engine>,
    damage: Arc<[Damage]>,
    _feeder: Option<Arc<Feeder>>,
}

/// How long a write waits until it is seen in memory, once the engine has it.
const VISIBLE: Duration = Duration::from_secs(10);

impl Store {
    /// Opens or makes a store in a directory.
    ///
    /// # Errors
    /// When another process has it, the disk refuses, or a file is not ours.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_sealed(dir, Arc::new(Plain))
    }

    /// The same, with values that are sealed on the disk.
    ///
    /// # Errors
    /// The same, and when a value cannot be opened.
    pub fn open_sealed(dir: &Path, seal: Arc<dyn Seal>) -> Result<Self, OpenError> {
        let (engine, damage) = Embedded::open_sealed(dir, seal)?;
        // The embedded engine's own state is the cache: there is no second copy.
        Ok(Self { cache: engine.cache(), engine: Arc::new(engine), damage: damage.into(), _feeder: None })
    }

    /// A store on any engine: reads its state, then follows its events.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn over(engine: Arc<dyn Engine>) -> Result<Self, ReadError> {
        let page = engine.range(Range::default()).await?;
        let cache = Arc::new(Cache::of(page.records, page.revision));
        let task = tokio::spawn(feed(engine.clone(), cache.clone()));
        let feeder = Some(Arc::new(Feeder(task.abort_handle())));
        Ok(Self { cache, engine, damage: Arc::new([]), _feeder: feeder })
    }

    /// What could not be read when the store was opened.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Does a transaction; returns when it is durable and visible.
    ///
    /// # Errors
    /// A failed comparison, or a disk that refuses: nothing was changed.
    pub async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let done = self.engine.commit(txn).await?;
        if !self.cache.wait_for(done.revision, VISIBLE).await {
            return Err(CommitError::Unavailable(format!("revision {} was written and is not seen", done.revision)));
        }
        Ok(done)
    }

    /// Lets go of the states before a revision.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn compact(&self, revision: i64) -> Result<(), ReadError> {
        self.engine.compact(revision).await
    }

    /// A topic; an unknown one is empty.
    pub fn topic(&self, name: &str) -> Arc<Topic> {
        self.cache.topic(name)
    }

    /// What a key holds.
    pub fn get(&self, key: &str) -> Option<Arc<Record>> {
        self.cache.get(key)
    }

    /// The newest revision that is visible.
    pub fn revision(&self) -> i64 {
        self.cache.revision()
    }

    /// Waits until a revision is visible; false when `deadline` passes first.
    pub async fn wait_for(&self, revision: i64, deadline: Duration) -> bool {
        self.cache.wait_for(revision, deadline).await
    }

    /// The names of all topics that hold or held keys.
    pub fn topics(&self) -> Vec<String> {
        self.cache.topics("").into_iter().map(|(name, _)| name).collect()
    }
}

/// Ends the following of an engine with the store.
struct Feeder(AbortHandle);

impl Drop for Feeder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Follows an engine for ever. When its events are gone, the state is read anew, and watchers are told to do so too.
async fn feed(engine: Arc<dyn Engine>, cache: Arc<Cache>) {
    const LONGEST: Duration = Duration::from_secs(5);
    let mut pause = Duration::from_millis(50);
    loop {
        let mut events = engine.watch(cache.revision());
        let mut lost = None;
        while let Some(batch) = events.next().await {
            match batch {
                Ok(batch) => {
                    pause = Duration::from_millis(50);
                    cache.publish(&batch.events, batch.revision);
                }
                Err(error) => {
                    lost = Some(error);
                    break;
                }
            }
        }
        if let Some(ReadError::TooOld(_)) = lost
            && let Ok(page) = engine.range(Range::default()).await
        {
            cache.reset(page.records, page.revision);
            continue;
        }
        tracing::warn!(error = ?lost, retry = ?pause, "the store's events have stopped");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}
