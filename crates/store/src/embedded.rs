//! The engine on local disk: orders transactions, and reads from the state in memory.

use crate::cache::{Cache, topic_of};
use crate::engine::{Batch, Engine, Page, Range};
use crate::error::{CommitError, Damage, OpenError, ReadError, TooOld};
use crate::expiry::{Expire, Expiry};
use crate::log::{self, Frame, Segment};
use crate::record::Record;
use crate::replay::Replay;
use crate::seal::{Plain, Seal};
use crate::topic::{Change, Event};
use crate::txn::{Committed, Op, Txn};
use crate::writer::Writer;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// A log, a thread that writes it, and the state that it leads to. Closes when it is dropped.
pub struct Embedded {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    _lock: File,
    pub(crate) sequencer: Mutex<Sequencer>,
    pub(crate) work: Condvar,
    pub(crate) cache: Arc<Cache>,
    pub(crate) seal: Arc<dyn Seal>,
    expiry: Expiry,
}

/// Transactions in their order, not all on disk yet.
pub(crate) struct Sequencer {
    /// The newest value of keys whose change is not yet published.
    pub(crate) ahead: HashMap<Arc<str>, (i64, Option<Arc<Record>>)>,
    pub(crate) revision: i64,
    pub(crate) batch: Flush,
    pub(crate) closed: bool,
}

/// What is written together.
#[derive(Default)]
pub(crate) struct Flush {
    /// The first revision.
    first: i64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) events: Vec<Arc<Event>>,
    pub(crate) waiting: Vec<(Answer, Committed)>,
}

pub(crate) type Answer = oneshot::Sender<Result<Committed, CommitError>>;

/// Beyond this, writers are told to come back.
const MOST_WAITING: usize = 64 << 20;

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.sequencer.lock().closed = true;
        self.shared.work.notify_all();
        self.shared.expiry.close();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Embedded {
    /// Opens or makes a log in a directory, in which values stand as they are; also tells what of it could not be read.
    ///
    /// # Errors
    /// When another process has it, the disk refuses, or a file is not ours.
    pub fn open(dir: &Path) -> Result<(Self, Vec<Damage>), OpenError> {
        Self::open_sealed(dir, Arc::new(Plain))
    }

    /// The same with values that are sealed.
    ///
    /// # Errors
    /// The same, and when a value cannot be opened.
    pub fn open_sealed(dir: &Path, seal: Arc<dyn Seal>) -> Result<(Self, Vec<Damage>), OpenError> {
        let io = |source| OpenError::Io { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        let lock_path = dir.join("lock");
        let lock = File::create(&lock_path).map_err(|source| OpenError::Io { path: lock_path.clone(), source })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(OpenError::Locked(dir.to_owned())),
            Err(std::fs::TryLockError::Error(source)) => return Err(OpenError::Io { path: lock_path, source }),
        }
        let mut replay = Replay::new(seal.clone());
        let found = log::recover(dir, |frame, base| replay.frame(frame, base))?;
        replay.opened()?;
        let segment = Segment::open(dir, found.segment, found.end)?;
        let expiry = Expiry::default();
        expiry.note(replay.records());
        let live = replay.records().map(|r| r.size()).sum();
        let cache = Arc::new(replay.cache());
        let sequencer =
            Sequencer { ahead: HashMap::new(), revision: cache.revision(), batch: Flush::default(), closed: false };
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            _lock: lock,
            sequencer: Mutex::new(sequencer),
            work: Condvar::new(),
            cache,
            seal,
            expiry,
        });
        shared.expiry.start(Arc::downgrade(&shared)).map_err(io)?;
        let mut writer = Writer::new(shared.clone(), segment, found.bytes, live);
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || writer.run()).map_err(io)?;
        Ok((Self { shared, writer: Some(thread) }, found.damage))
    }

    /// The state in memory, which is always complete up to the newest acknowledged revision.
    pub(crate) fn cache(&self) -> Arc<Cache> {
        self.shared.cache.clone()
    }
}

impl Engine for Embedded {
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>> {
        async move { self.shared.submit(txn)?.await.unwrap_or(Err(CommitError::Closed)) }.boxed()
    }

    fn range(&self, range: Range) -> BoxFuture<'_, Result<Page, ReadError>> {
        let page = read(&self.shared.cache, &range);
        async move { page.map_err(ReadError::TooOld) }.boxed()
    }

    fn watch(&self, after: i64) -> BoxStream<'static, Result<Batch, ReadError>> {
        let (cache, revisions) = (self.cache(), self.shared.cache.revisions());
        futures::stream::unfold((cache, revisions, after), |(cache, mut revisions, seen)| async move {
            let now = *revisions.wait_for(|&now| now > seen).await.ok()?;
            let batch = events(&cache, seen, now).map_err(ReadError::TooOld);
            Some((batch, (cache, revisions, now)))
        })
        .boxed()
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), ReadError>> {
        for (_, topic) in self.shared.cache.topics("") {
            topic.forget(revision);
        }
        async { Ok(()) }.boxed()
    }
}

fn read(cache: &Cache, range: &Range) -> Result<Page, TooOld> {
    // Topics may already be ahead of this; each is taken back to it.
    let revision = if range.revision > 0 { range.revision } else { cache.revision() };
    let limit = if range.limit > 0 { range.limit } else { usize::MAX };
    let mut page = Page { records: Vec::new(), revision, more: false };
    for (_, topic) in cache.topics(&range.prefix) {
        let snapshot = topic.snapshot_at(revision)?;
        for record in snapshot.keys.values() {
            let wanted = record.key.starts_with(&range.prefix)
                && range.after.as_deref().is_none_or(|after| *record.key > *after);
            if wanted && page.records.len() == limit {
                page.more = true;
                return Ok(page);
            }
            page.records.extend(wanted.then(|| record.clone()));
        }
    }
    Ok(page)
}

/// What happened in all topics between two revisions.
fn events(cache: &Cache, after: i64, until: i64) -> Result<Batch, TooOld> {
    let mut events = Vec::new();
    for (_, topic) in cache.topics("") {
        topic.events(after, until, &mut events)?;
    }
    events.sort_by_key(|e| e.revision);
    Ok(Batch { events, revision: until })
}

impl Shared {
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
        let mut events = Vec::with_capacity(txn.ops.len());
        let mut records = Vec::with_capacity(txn.ops.len());
        for op in txn.ops {
            let previous = self.head(sequencer, op.key());
            let Some(change) = change(op, previous.as_deref(), revision) else {
                records.push(None);
                continue;
            };
            let event = Event::new(revision, change, previous);
            records.push(Some(event.record().clone()));
            events.push(Arc::new(event));
        }
        let (done, hears) = oneshot::channel();
        if events.is_empty() {
            let _ = done.send(Ok(Committed { revision: sequencer.revision, records }));
            return Ok(hears);
        }
        let sealed = events.iter().map(|event| self.sealed(event.record())).collect::<Result<Vec<_>, _>>()?;
        for event in &events {
            let record = event.record();
            let kept = matches!(event.change, Change::Put(_)).then(|| record.clone());
            sequencer.ahead.insert(record.key.clone(), (revision, kept));
        }
        let batch = &mut sequencer.batch;
        if batch.waiting.is_empty() {
            batch.first = revision;
        }
        let deleted = |e: &Event| matches!(e.change, Change::Delete(_));
        let entries = events.iter().zip(&sealed).map(|(e, value)| e.record().entry(value, deleted(e))).collect();
        log::encode(&Frame { revision, flush: batch.first, entries }, &mut batch.bytes);
        batch.events.append(&mut events);
        batch.waiting.push((done, Committed { revision, records }));
        sequencer.revision = revision;
        drop(guard);
        self.work.notify_one();
        Ok(hears)
    }

    /// A value as it goes to the disk.
    fn sealed(&self, record: &Record) -> Result<Bytes, CommitError> {
        let sealed = self.seal.seal(&record.key, &record.value);
        sealed.map_err(|why| CommitError::Sealed { key: record.key.to_string(), why })
    }

    /// The newest value of a key, on disk or on its way.
    fn head(&self, sequencer: &Sequencer, key: &Arc<str>) -> Option<Arc<Record>> {
        match sequencer.ahead.get(key) {
            Some((_, record)) => record.clone(),
            None => self.cache.topic(topic_of(key)).snapshot().keys.get(key).cloned(),
        }
    }

    pub(crate) fn publish(&self, events: &[Arc<Event>], revision: i64) {
        self.cache.publish(events, revision);
        self.expiry.note(events.iter().filter(|e| matches!(e.change, Change::Put(_))).map(|e| e.record()));
    }
}

/// What an operation does to a key; `None` for nothing.
fn change(op: Op, old: Option<&Record>, revision: i64) -> Option<Change> {
    match (op, old) {
        (Op::Delete { .. }, None) => None,
        (Op::Delete { key, last }, Some(old)) => {
            let value = last.as_ref().map_or_else(|| old.value.clone(), |last| last.fill(revision));
            Some(Change::Delete(Arc::new(Record::new(key, value, old.create_revision, revision, old.version))))
        }
        (Op::Put { key, value, expires }, old) => {
            let create = old.map_or(revision, |r| r.create_revision);
            let version = old.map_or(0, |r| r.version) + 1;
            let record = Record::new(key, value.fill(revision), create, revision, version);
            Some(Change::Put(Arc::new(record.expiring(expires))))
        }
    }
}

impl Expire for Shared {
    fn expire(&self, key: &Arc<str>, mod_revision: i64) {
        // The outcome needs nobody: a changed key has a new expiry of its own, a full disk keeps the key.
        drop(self.submit(Txn::delete(key.clone(), mod_revision, None)));
    }
}
