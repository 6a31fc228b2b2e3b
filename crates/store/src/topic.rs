//! A topic: the keys that are listed and watched together, now and a while back.

use crate::error::TooOld;
use crate::record::Record;
use arc_swap::ArcSwap;
use imbl::OrdMap;
use parking_lot::RwLock;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What happened to a key.
#[derive(Clone, Debug)]
pub enum Change {
    /// It was set.
    Put(Arc<Record>),
    /// It was removed; its last state, written at the revision of the removal.
    Delete(Arc<Record>),
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub revision: i64,
    /// What.
    pub change: Change,
    /// What the key held before.
    pub previous: Option<Arc<Record>>,
    at: Instant,
}

impl Event {
    /// Something that happened just now.
    pub fn new(revision: i64, change: Change, previous: Option<Arc<Record>>) -> Self {
        Self { revision, change, previous, at: Instant::now() }
    }

    /// The state after the event; of a removed key, its last.
    pub fn record(&self) -> &Arc<Record> {
        match &self.change {
            Change::Put(record) | Change::Delete(record) => record,
        }
    }

    fn size(&self) -> usize {
        self.record().value.len() + 200
    }
}

/// All keys of a topic at one revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Sorted by key.
    pub keys: OrdMap<Arc<str>, Arc<Record>>,
    /// The last event of the topic that it holds.
    pub revision: i64,
}

impl Snapshot {
    /// Keys with a prefix, in order, after `start` where that is given.
    pub fn range<'a>(&'a self, prefix: &'a str, after: Option<&str>) -> impl Iterator<Item = &'a Arc<Record>> {
        use std::ops::Bound;
        let from: Arc<str> = Arc::from(after.unwrap_or(prefix));
        let bound = if after.is_some() { Bound::Excluded(from) } else { Bound::Included(from) };
        self.keys.range((bound, Bound::Unbounded)).map(|(_, r)| r).take_while(move |r| r.key.starts_with(prefix))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// For how long events are kept, at least, where the bounds below allow it.
const KEPT_FOR: Duration = Duration::from_secs(300);
const KEPT_ALWAYS: usize = 1_000;
const MOST_EVENTS: usize = 100_000;
const MOST_BYTES: usize = 32 << 20;

#[derive(Debug)]
struct History {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Events up to this revision are gone.
    forgotten: i64,
}

/// A topic.
#[derive(Debug)]
pub struct Topic {
    now: ArcSwap<Snapshot>,
    history: RwLock<History>,
    latest: watch::Sender<i64>,
}

impl Topic {
    pub(crate) fn new(keys: OrdMap<Arc<str>, Arc<Record>>, revision: i64) -> Self {
        Self {
            now: ArcSwap::from_pointee(Snapshot { keys, revision }),
            history: RwLock::new(History { events: VecDeque::new(), bytes: 0, forgotten: revision }),
            latest: watch::Sender::new(revision),
        }
    }

    /// The state now, in O(1).
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.now.load_full()
    }

    /// The state at a past revision, by taking back what happened since.
    ///
    /// # Errors
    /// When events since then are no longer kept.
    pub fn snapshot_at(&self, revision: i64) -> Result<Arc<Snapshot>, TooOld> {
        let history = self.history.read();
        let now = self.now.load_full();
        if revision >= now.revision {
            return Ok(now);
        }
        if revision < history.forgotten {
            return Err(TooOld { asked: revision, oldest: history.forgotten });
        }
        let mut keys = now.keys.clone();
        for event in history.events.iter().rev().take_while(|e| e.revision > revision) {
            let key = &event.record().key;
            match &event.previous {
                Some(record) => keys.insert(key.clone(), record.clone()),
                None => keys.remove(key),
            };
        }
        Ok(Arc::new(Snapshot { keys, revision }))
    }

    /// Events after `revision` of keys with a prefix.
    ///
    /// # Errors
    /// When events since then are no longer kept.
    pub fn watch(self: &Arc<Self>, prefix: &str, revision: i64) -> Result<Watch, TooOld> {
        let forgotten = self.history.read().forgotten;
        if revision < forgotten {
            return Err(TooOld { asked: revision, oldest: forgotten });
        }
        let latest = self.latest.subscribe();
        Ok(Watch { topic: self.clone(), prefix: prefix.to_owned(), seen: revision, latest, ready: VecDeque::new() })
    }

    /// Lets events up to a revision go.
    pub fn forget(&self, revision: i64) {
        let mut history = self.history.write();
        while history.events.front().is_some_and(|e| e.revision <= revision) {
            history.drop_oldest();
        }
        history.forgotten = history.forgotten.max(revision);
    }

    /// Replaces the state; who watches has to begin anew.
    pub(crate) fn reset(&self, keys: OrdMap<Arc<str>, Arc<Record>>, revision: i64) {
        let mut history = self.history.write();
        *history = History { events: VecDeque::new(), bytes: 0, forgotten: revision };
        self.now.store(Arc::new(Snapshot { keys, revision }));
        drop(history);
        self.latest.send_replace(revision);
    }

    /// Adds the events after one revision, up to another.
    pub(crate) fn events(&self, after: i64, until: i64, out: &mut Vec<Arc<Event>>) -> Result<(), TooOld> {
        let history = self.history.read();
        if after < history.forgotten {
            return Err(TooOld { asked: after, oldest: history.forgotten });
        }
        let from = history.events.partition_point(|e| e.revision <= after);
        out.extend(history.events.iter().skip(from).take_while(|e| e.revision <= until).cloned());
        Ok(())
    }

    /// Makes committed events visible.
    pub(crate) fn publish(&self, events: &[Arc<Event>]) {
        let Some(last) = events.last() else { return };
        let mut history = self.history.write();
        let mut keys = self.now.load().keys.clone();
        for event in events {
            match &event.change {
                Change::Put(record) => keys.insert(record.key.clone(), record.clone()),
                Change::Delete(record) => keys.remove(&record.key),
            };
            history.bytes += event.size();
            history.events.push_back(event.clone());
        }
        while history.too_long(last.at) {
            history.drop_oldest();
        }
        self.now.store(Arc::new(Snapshot { keys, revision: last.revision }));
        drop(history);
        self.latest.send_replace(last.revision);
    }
}

impl History {
    fn too_long(&self, now: Instant) -> bool {
        let Some(oldest) = self.events.front() else { return false };
        let many = self.events.len() > KEPT_ALWAYS;
        let old = now.saturating_duration_since(oldest.at) > KEPT_FOR;
        self.events.len() > MOST_EVENTS || (self.bytes > MOST_BYTES && self.events.len() > 1) || (many && old)
    }

    fn drop_oldest(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes = self.bytes.saturating_sub(event.size());
            self.forgotten = self.forgotten.max(event.revision);
        }
    }
}

/// A reader of a topic's events. It holds no queue: one that is too slow finds its events gone, and harms nobody.
#[derive(Debug)]
pub struct Watch {
    topic: Arc<Topic>,
    prefix: String,
    seen: i64,
    latest: watch::Receiver<i64>,
    ready: VecDeque<Arc<Event>>,
}

/// Events taken from the history at once.
const AT_ONCE: usize = 256;

impl Watch {
    /// The next event; waits for it. Cancel-safe.
    ///
    /// # Errors
    /// When the reader was too slow.
    pub async fn next(&mut self) -> Result<Arc<Event>, TooOld> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            if self.latest.changed().await.is_err() {
                // The topic lives as long as this reader; the sender cannot go first.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The next event, if there is one already.
    ///
    /// # Errors
    /// When the reader was too slow.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, TooOld> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let newest = *self.latest.borrow_and_update();
            if newest <= self.seen {
                return Ok(None);
            }
            self.refill()?;
        }
    }

    /// All events up to this revision have been given out or have another prefix.
    pub fn revision(&self) -> i64 {
        match self.ready.front() {
            Some(event) => event.revision - 1,
            None => self.seen,
        }
    }

    fn refill(&mut self) -> Result<(), TooOld> {
        let history = self.topic.history.read();
        if self.seen < history.forgotten {
            return Err(TooOld { asked: self.seen, oldest: history.forgotten });
        }
        let from = history.events.partition_point(|e| e.revision <= self.seen);
        let mut last = None;
        for (n, event) in history.events.iter().skip(from).enumerate() {
            // A revision is taken whole.
            if n >= AT_ONCE && last != Some(event.revision) {
                break;
            }
            last = Some(event.revision);
            if event.record().key.starts_with(&self.prefix) {
                self.ready.push_back(event.clone());
            }
        }
        match last {
            Some(revision) => self.seen = revision,
            None => self.seen = self.topic.now.load().revision.max(self.seen),
        }
        Ok(())
    }
}
