//! The store: sequencing, group commit, publication.

use crate::engine::Engine;
use crate::error::{CommitError, OpenError};
use crate::expiry::{Expire, Expiry};
use crate::log::{self, Entry, Frame, Segment};
use crate::record::Record;
use crate::topic::{Change, Event, Topic};
use crate::txn::{Committed, Op, Txn};
use futures::FutureExt;
use futures::future::BoxFuture;
use imbl::OrdMap;
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// A store on local disk. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    _closer: Arc<Closer>,
}

struct Shared {
    dir: PathBuf,
    _lock: File,
    sequencer: Mutex<Sequencer>,
    work: Condvar,
    topics: RwLock<HashMap<Box<str>, Arc<Topic>>>,
    revision: watch::Sender<i64>,
    expiry: Expiry,
}

/// Transactions in their order, not all on disk yet.
struct Sequencer {
    /// The newest value of keys whose change is not yet published.
    ahead: HashMap<Arc<str>, (i64, Option<Arc<Record>>)>,
    revision: i64,
    batch: Batch,
    closed: bool,
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    events: Vec<Arc<Event>>,
    waiting: Vec<(oneshot::Sender<Result<Committed, CommitError>>, Committed)>,
}

/// Beyond this, writers are told to come back.
const MOST_WAITING: usize = 64 << 20;
/// A checkpoint is written when the log is this much larger than what it would leave.
const SLACK: u64 = 64 << 20;

/// Wakes the writer to its end when the last handle goes.
struct Closer {
    shared: Arc<Shared>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.shared.sequencer.lock().closed = true;
        self.shared.work.notify_all();
        self.shared.expiry.close();
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
    }
}

fn topic_of(key: &str) -> &str {
    key.split('/').next().unwrap_or(key)
}

impl Store {
    /// Opens or makes a store in a directory.
    ///
    /// # Errors
    /// When another process has it, the disk refuses, or a file is corrupt.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        let lock_path = dir.join("lock");
        let lock = File::create(&lock_path).map_err(|source| OpenError::Io { path: lock_path.clone(), source })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(OpenError::Locked(dir.to_owned())),
            Err(std::fs::TryLockError::Error(source)) => return Err(OpenError::Io { path: lock_path, source }),
        }
        let mut replay = Replay::default();
        let found = log::recover(dir, |frame, base| replay.frame(frame, base))?;
        for path in &found.stale {
            std::fs::remove_file(path).map_err(|source| OpenError::Io { path: path.clone(), source })?;
        }
        let segment = Segment::open(dir, found.segment, found.end)?;
        let revision = replay.revision.max(1);
        let expiry = Expiry::new(replay.expiring());
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            _lock: lock,
            sequencer: Mutex::new(Sequencer {
                ahead: HashMap::new(),
                revision,
                batch: Batch::default(),
                closed: false,
            }),
            work: Condvar::new(),
            topics: RwLock::new(replay.topics()),
            revision: watch::Sender::new(revision),
            expiry,
        });
        let mut writer = Writer { shared: shared.clone(), segment, log_bytes: found.bytes };
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || writer.run()).map_err(io)?;
        let closer = Arc::new(Closer { shared: shared.clone(), writer: Mutex::new(Some(thread)) });
        let store = Self { shared, _closer: closer };
        store.shared.expiry.start(Arc::downgrade(&store.shared)).map_err(io)?;
        Ok(store)
    }

    /// Does a transaction; returns when it is durable and visible.
    ///
    /// # Errors
    /// A failed comparison, or a disk that refuses: nothing was changed.
    pub async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        self.shared.submit(txn)?.await.unwrap_or(Err(CommitError::Closed))
    }

    /// A topic; an unknown one is empty.
    pub fn topic(&self, name: &str) -> Arc<Topic> {
        self.shared.topic(name)
    }

    /// What a key holds.
    pub fn get(&self, key: &str) -> Option<Arc<Record>> {
        self.shared.topic(topic_of(key)).snapshot().keys.get(key).cloned()
    }

    /// The newest revision that is visible.
    pub fn revision(&self) -> i64 {
        *self.shared.revision.borrow()
    }

    /// Waits until a revision is visible; false when `deadline` passes first.
    pub async fn wait_for(&self, revision: i64, deadline: Duration) -> bool {
        let mut changes = self.shared.revision.subscribe();
        let reached = changes.wait_for(|&now| now >= revision);
        matches!(tokio::time::timeout(deadline, reached).await, Ok(Ok(_)))
    }

    /// The names of all topics that hold or held keys.
    pub fn topics(&self) -> Vec<String> {
        self.shared.topics.read().keys().map(|name| name.to_string()).collect()
    }
}

impl Engine for Store {
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Store::commit(self, txn).boxed()
    }
}

impl Shared {
    fn topic(&self, name: &str) -> Arc<Topic> {
        if let Some(topic) = self.topics.read().get(name) {
            return topic.clone();
        }
        let mut topics = self.topics.write();
        // Nothing was ever written to it: its history is whole from the beginning.
        topics.entry(name.into()).or_insert_with(|| Arc::new(Topic::new(OrdMap::new(), 0))).clone()
    }

    /// Orders a transaction; the receiver hears when it is on disk.
    fn submit(&self, txn: Txn) -> Result<oneshot::Receiver<Result<Committed, CommitError>>, CommitError> {
        let mut guard = self.sequencer.lock();
        let sequencer = &mut *guard;
        if sequencer.closed {
            return Err(CommitError::Closed);
        }
        if sequencer.batch.bytes.len() > MOST_WAITING {
            return Err(CommitError::Busy);
        }
        for compare in &txn.compare {
            let current = self.head(sequencer, &compare.key);
            if current.as_ref().map_or(0, |r| r.mod_revision) != compare.mod_revision {
                return Err(CommitError::Conflict { key: compare.key.to_string(), current });
            }
        }
        let revision = sequencer.revision + 1;
        let mut frame = Frame { revision, entries: Vec::new() };
        let mut records = Vec::with_capacity(txn.ops.len());
        for op in txn.ops {
            let previous = self.head(sequencer, op.key());
            let change = match (&op, &previous) {
                (Op::Delete { .. }, None) => {
                    records.push(None);
                    continue;
                }
                (Op::Delete { key, last }, Some(old)) => {
                    let value = last.as_ref().map_or_else(|| old.value.clone(), |last| last.fill(revision));
                    let (create, version) = (old.create_revision, old.version);
                    Change::Delete(Arc::new(Record::new(key.clone(), value, create, revision, version)))
                }
                (Op::Put { key, value, expires }, old) => {
                    let create = old.as_ref().map_or(revision, |r| r.create_revision);
                    let version = old.as_ref().map_or(0, |r| r.version) + 1;
                    let record = Record::new(key.clone(), value.fill(revision), create, revision, version);
                    Change::Put(Arc::new(record.expiring(*expires)))
                }
            };
            let event = Event::new(revision, change, previous);
            let record = event.record().clone();
            let deleted = matches!(event.change, Change::Delete(_));
            frame.entries.push(entry(&record, deleted));
            sequencer.ahead.insert(record.key.clone(), (revision, (!deleted).then(|| record.clone())));
            sequencer.batch.events.push(Arc::new(event));
            records.push(Some(record));
        }
        let (done, hears) = oneshot::channel();
        if frame.entries.is_empty() {
            let now = sequencer.revision;
            let _ = done.send(Ok(Committed { revision: now, records }));
            return Ok(hears);
        }
        log::encode(&frame, &mut sequencer.batch.bytes);
        sequencer.revision = revision;
        sequencer.batch.waiting.push((done, Committed { revision, records }));
        drop(guard);
        self.work.notify_one();
        Ok(hears)
    }

    /// The newest value of a key, on disk or on its way.
    fn head(&self, sequencer: &Sequencer, key: &Arc<str>) -> Option<Arc<Record>> {
        match sequencer.ahead.get(key) {
            Some((_, record)) => record.clone(),
            None => self.topic(topic_of(key)).snapshot().keys.get(key).cloned(),
        }
    }

    fn publish(&self, events: Vec<Arc<Event>>, revision: i64) {
        let mut by_topic: BTreeMap<&str, Vec<Arc<Event>>> = BTreeMap::new();
        for event in &events {
            by_topic.entry(topic_of(&event.record().key)).or_default().push(event.clone());
        }
        for (name, events) in by_topic {
            self.topic(name).publish(&events);
        }
        self.expiry.note(events.iter().filter_map(|e| match &e.change {
            Change::Put(record) => record.expires.map(|at| (at, record.clone())),
            Change::Delete(_) => None,
        }));
        self.revision.send_replace(revision);
    }
}

impl Expire for Shared {
    fn expire(&self, record: &Record) {
        let txn = Txn::delete(record.key.clone(), record.mod_revision, None);
        // The outcome needs nobody: a changed key has a new expiry of its own, a full disk keeps the key.
        drop(self.submit(txn));
    }
}

fn entry(record: &Record, deleted: bool) -> Entry {
    Entry {
        key: record.key.to_string(),
        value: record.value.to_vec(),
        deleted,
        create_revision: record.create_revision,
        mod_revision: record.mod_revision,
        version: record.version,
        expires: record.expires.unwrap_or_default(),
    }
}

struct Writer {
    shared: Arc<Shared>,
    segment: Segment,
    log_bytes: u64,
}

impl Writer {
    fn run(&mut self) {
        loop {
            let batch = {
                let mut sequencer = self.shared.sequencer.lock();
                while sequencer.batch.waiting.is_empty() {
                    if sequencer.closed {
                        return;
                    }
                    self.shared.work.wait(&mut sequencer);
                }
                std::mem::take(&mut sequencer.batch)
            };
            self.write(batch);
        }
    }

    fn write(&mut self, batch: Batch) {
        if let Err(error) = self.segment.append(&batch.bytes) {
            return self.refuse(batch, &error);
        }
        self.log_bytes += batch.bytes.len() as u64;
        let Some(revision) = batch.waiting.last().map(|(_, committed)| committed.revision) else { return };
        self.shared.publish(batch.events, revision);
        self.shared.sequencer.lock().ahead.retain(|_, (at, _)| *at > revision);
        for (done, committed) in batch.waiting {
            let _ = done.send(Ok(committed));
        }
        self.checkpoint_if_large();
    }

    /// Nothing of the batch happened, nor of what was ordered after it.
    fn refuse(&mut self, batch: Batch, error: &std::io::Error) {
        let full = error.kind() == std::io::ErrorKind::StorageFull;
        let refusal = CommitError::Disk { path: self.segment.path.clone(), why: error.to_string(), full };
        tracing::error!(error = %refusal, "a write was refused");
        let later = {
            let mut sequencer = self.shared.sequencer.lock();
            sequencer.ahead.clear();
            sequencer.revision = *self.shared.revision.borrow();
            std::mem::take(&mut sequencer.batch)
        };
        for (done, _) in batch.waiting.into_iter().chain(later.waiting) {
            let _ = done.send(Err(refusal.clone()));
        }
    }

    fn checkpoint_if_large(&mut self) {
        if self.log_bytes < SLACK || self.segment.size() == 0 {
            return;
        }
        let topics: Vec<_> = self.shared.topics.read().values().map(|t| t.snapshot()).collect();
        let live: u64 = topics.iter().flat_map(|t| t.keys.values()).map(|r| r.value.len() as u64 + 100).sum();
        if self.log_bytes < live + SLACK {
            return;
        }
        let number = self.segment.number;
        match Segment::open(&self.shared.dir, number + 1, 0) {
            Ok(next) => self.segment = next,
            Err(error) => {
                tracing::warn!(%error, "cannot begin a new log segment");
                return;
            }
        }
        let revision = *self.shared.revision.borrow();
        let dir = self.shared.dir.clone();
        self.log_bytes = 0;
        let frames = move || {
            let records = topics.iter().flat_map(|t| t.keys.values().cloned()).collect::<Vec<_>>();
            let written = log::checkpoint(
                &dir,
                number,
                records.chunks(64).map(|c| Frame { revision, entries: c.iter().map(|r| entry(r, false)).collect() }),
            );
            if let Err(error) = written {
                tracing::warn!(%error, "cannot write a checkpoint; the log stays as it is");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("store-checkpoint".into()).spawn(frames) {
            tracing::warn!(%error, "cannot start the checkpoint");
        }
    }
}

/// The state as the log tells it.
#[derive(Default)]
struct Replay {
    revision: i64,
    base: i64,
    topics: HashMap<Box<str>, Vec<Arc<Event>>>,
    keys: HashMap<Box<str>, OrdMap<Arc<str>, Arc<Record>>>,
}

/// Events of a topic that are kept from before a restart, so that watches go on.
const KEPT: usize = 1_000;

impl Replay {
    fn frame(&mut self, frame: Frame, base: bool) {
        self.revision = self.revision.max(frame.revision);
        for entry in frame.entries {
            let name: Box<str> = topic_of(&entry.key).into();
            let key: Arc<str> = entry.key.into();
            let record = Record::new(key, entry.value.into(), entry.create_revision, entry.mod_revision, entry.version);
            let record = Arc::new(record.expiring((entry.expires > 0).then_some(entry.expires)));
            if base {
                self.base = self.base.max(frame.revision);
                self.keys.entry(name).or_default().insert(record.key.clone(), record);
                continue;
            }
            let keys = self.keys.entry(name.clone()).or_default();
            let previous = keys.get(&record.key).cloned();
            let change = if entry.deleted {
                keys.remove(&record.key);
                Change::Delete(record)
            } else {
                keys.insert(record.key.clone(), record.clone());
                Change::Put(record)
            };
            let events = self.topics.entry(name).or_default();
            events.push(Arc::new(Event::new(frame.revision, change, previous)));
            if events.len() >= 2 * KEPT {
                events.drain(..KEPT);
            }
        }
    }

    fn expiring(&self) -> Vec<(u64, Arc<Record>)> {
        let all = self.keys.values().flat_map(|keys| keys.values());
        all.filter_map(|r| r.expires.map(|at| (at, r.clone()))).collect()
    }

    /// Topics whose history begins before the events that are kept.
    fn topics(mut self) -> HashMap<Box<str>, Arc<Topic>> {
        let mut out = HashMap::new();
        for (name, mut keys) in std::mem::take(&mut self.keys) {
            let events = self.topics.remove(&name).unwrap_or_default();
            for event in events.iter().rev() {
                match &event.previous {
                    Some(record) => keys.insert(record.key.clone(), record.clone()),
                    None => keys.remove(&event.record().key),
                };
            }
            let forgotten = events.first().map_or(self.revision, |e| e.revision - 1).max(self.base);
            let topic = Topic::new(keys, forgotten);
            topic.publish(&events);
            out.insert(name, Arc::new(topic));
        }
        out
    }
}
