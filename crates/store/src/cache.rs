//! The state in memory: topics, and the revision up to which they are complete.

use crate::record::Record;
use crate::topic::{Event, Topic};
use imbl::OrdMap;
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What readers see.
pub(crate) struct Cache {
    topics: RwLock<BTreeMap<Box<str>, Arc<Topic>>>,
    /// Nothing is known of events before this.
    base: i64,
    revision: watch::Sender<i64>,
}

/// The part of a key that names its topic.
pub(crate) fn topic_of(key: &str) -> &str {
    key.split_once('/').map_or(key, |(topic, _)| topic)
}

impl Cache {
    pub(crate) fn new(topics: BTreeMap<Box<str>, Arc<Topic>>, base: i64, revision: i64) -> Self {
        Self { topics: RwLock::new(topics), base, revision: watch::Sender::new(revision) }
    }

    /// A state without history.
    pub(crate) fn of(records: Vec<Arc<Record>>, revision: i64) -> Self {
        let topics = by_topic(records).into_iter();
        let topics = topics.map(|(name, keys)| (name, Arc::new(Topic::new(keys, revision)))).collect();
        Self::new(topics, revision, revision)
    }

    /// Replaces the state; watchers have to begin anew.
    pub(crate) fn reset(&self, records: Vec<Arc<Record>>, revision: i64) {
        let mut keys = by_topic(records);
        for (name, topic) in self.topics.read().iter() {
            topic.reset(keys.remove(name).unwrap_or_default(), revision);
        }
        for (name, keys) in keys {
            self.topic(&name).reset(keys, revision);
        }
        self.revision.send_replace(revision);
    }

    pub(crate) fn topic(&self, name: &str) -> Arc<Topic> {
        if let Some(topic) = self.topics.read().get(name) {
            return topic.clone();
        }
        let mut topics = self.topics.write();
        topics.entry(name.into()).or_insert_with(|| Arc::new(Topic::new(OrdMap::new(), self.base))).clone()
    }

    /// All topics whose keys can begin with a prefix.
    pub(crate) fn topics(&self, prefix: &str) -> Vec<(String, Arc<Topic>)> {
        let topics = self.topics.read();
        let fits = |name: &str| match prefix.split_once('/') {
            Some((topic, _)) => name == topic,
            None => name.starts_with(prefix),
        };
        topics.iter().filter(|(name, _)| fits(name)).map(|(name, topic)| (name.to_string(), topic.clone())).collect()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Record>> {
        self.topic(topic_of(key)).snapshot().keys.get(key).cloned()
    }

    /// Makes events visible, then their revision.
    pub(crate) fn publish(&self, events: &[Arc<Event>], revision: i64) {
        let mut topics: HashMap<&str, Vec<Arc<Event>>> = HashMap::new();
        for event in events {
            topics.entry(topic_of(&event.record().key)).or_default().push(event.clone());
        }
        for (name, events) in topics {
            self.topic(name).publish(&events);
        }
        self.revision.send_replace(revision);
    }

    pub(crate) fn revision(&self) -> i64 {
        *self.revision.borrow()
    }

    pub(crate) fn revisions(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    /// Waits until a revision is visible; false when `deadline` passes first.
    pub(crate) async fn wait_for(&self, revision: i64, deadline: Duration) -> bool {
        if self.revision() >= revision {
            return true;
        }
        let mut changes = self.revisions();
        let reached = changes.wait_for(|&now| now >= revision);
        matches!(tokio::time::timeout(deadline, reached).await, Ok(Ok(_)))
    }
}

fn by_topic(records: Vec<Arc<Record>>) -> BTreeMap<Box<str>, OrdMap<Arc<str>, Arc<Record>>> {
    let mut out: BTreeMap<Box<str>, OrdMap<Arc<str>, Arc<Record>>> = BTreeMap::new();
    for record in records {
        out.entry(topic_of(&record.key).into()).or_default().insert(record.key.clone(), record);
    }
    out
}
