//! The state as the log tells it.

use crate::cache::{Cache, topic_of};
use crate::error::OpenError;
use crate::log::Frame;
use crate::record::Record;
use crate::seal::Seal;
use crate::topic::{Change, Event, Topic};
use bytes::Bytes;
use imbl::OrdMap;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Built frame by frame.
pub(crate) struct Replay {
    seal: Arc<dyn Seal>,
    /// Keys whose newest value cannot be opened, and why.
    sealed: BTreeMap<Box<str>, String>,
    revision: i64,
    base: i64,
    events: HashMap<Box<str>, Vec<Arc<Event>>>,
    keys: BTreeMap<Box<str>, OrdMap<Arc<str>, Arc<Record>>>,
}

/// Events of a topic that are kept from before a restart, so that watches go on.
const KEPT: usize = 1_000;

impl Replay {
    pub(crate) fn new(seal: Arc<dyn Seal>) -> Self {
        Self { seal, sealed: BTreeMap::new(), revision: 0, base: 0, events: HashMap::new(), keys: BTreeMap::new() }
    }

    /// Whether all that is there could be opened. An old value that a newer one has replaced is missed by nobody: so keys
    /// can be retired before the log has forgotten what they sealed.
    ///
    /// # Errors
    /// The first that could not.
    pub(crate) fn opened(&self) -> Result<(), OpenError> {
        match self.sealed.first_key_value() {
            None => Ok(()),
            Some((key, why)) => {
                Err(OpenError::Sealed { key: key.to_string(), others: self.sealed.len() - 1, why: why.clone() })
            }
        }
    }

    pub(crate) fn frame(&mut self, frame: &Frame<'_>, base: bool) {
        self.revision = self.revision.max(frame.revision);
        if base {
            self.base = self.base.max(frame.revision);
        }
        for entry in &frame.entries {
            let value = match self.seal.open(entry.key, entry.value) {
                Ok(value) => {
                    self.sealed.remove(entry.key);
                    value
                }
                // What a removed key held last is only history.
                Err(_) if entry.deleted => {
                    self.sealed.remove(entry.key);
                    Bytes::new()
                }
                Err(why) => {
                    self.sealed.insert(entry.key.into(), why);
                    continue;
                }
            };
            let numbers = (entry.create_revision, entry.mod_revision, entry.version);
            let record = Record::new(entry.key.into(), value, numbers.0, numbers.1, numbers.2);
            let record = Arc::new(record.expiring((entry.expires > 0).then_some(entry.expires)));
            let name = topic_of(entry.key);
            if !self.keys.contains_key(name) {
                self.keys.insert(name.into(), OrdMap::new());
            }
            let Some(keys) = self.keys.get_mut(name) else { continue };
            if base {
                keys.insert(record.key.clone(), record);
                continue;
            }
            let (change, previous) = if entry.deleted {
                let previous = keys.remove(&record.key);
                (Change::Delete(record), previous)
            } else {
                let previous = keys.insert(record.key.clone(), record.clone());
                (Change::Put(record), previous)
            };
            let events = self.events.entry(name.into()).or_default();
            events.push(Arc::new(Event::new(frame.revision, change, previous)));
            if events.len() >= 2 * KEPT {
                events.drain(..KEPT);
            }
        }
    }

    /// All keys.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.keys.values().flat_map(|keys| keys.values())
    }

    /// Topics whose history begins with the events that are kept.
    pub(crate) fn cache(mut self) -> Cache {
        let revision = self.revision.max(1);
        let mut topics = BTreeMap::new();
        for (name, mut keys) in self.keys {
            let events = self.events.remove(&name).unwrap_or_default();
            for event in events.iter().rev() {
                match &event.previous {
                    Some(record) => keys.insert(record.key.clone(), record.clone()),
                    None => keys.remove(&event.record().key),
                };
            }
            let forgotten = events.first().map_or(self.revision, |e| e.revision - 1).max(self.base);
            let topic = Topic::new(keys, forgotten);
            topic.publish(&events);
            topics.insert(name, Arc::new(topic));
        }
        Cache::new(topics, self.base, revision)
    }
}
