use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{Client, Error, Patch};

/// How many events may wait to be written; what comes on top is dropped, with a warning.
const BACKLOG: usize = 1_000;
/// How many distinct events are remembered so that a repetition becomes a count.
const REMEMBERED: usize = 4_096;
/// A repetition after this long is a new event.
const FORGET: Duration = Duration::from_secs(600);

/// Normal or warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// For information.
    Normal,
    /// Something needs attention.
    Warning,
}

/// The object that an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// `group/version`.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Unique id.
    pub uid: String,
    /// Resource version, may be empty.
    pub resource_version: String,
    /// The part of the object, such as `spec.containers{web}`, may be empty.
    pub field_path: String,
}

/// Writes events without making its callers wait. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Recorded>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Recorded {
    about: ObjectRef,
    kind: EventKind,
    reason: String,
    message: String,
}

struct Seen {
    name: String,
    count: i32,
    last: jiff::Timestamp,
}

struct Writer {
    client: Client,
    source: EventSource,
    seen: HashMap<Recorded, Seen>,
}

impl Recorder {
    /// A recorder for a component, such as `kubelet`, on a host (empty for cluster components). Its task ends when the
    /// last clone is dropped.
    pub fn new(client: Client, component: &str, host: &str) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Recorded>(BACKLOG);
        let source =
            EventSource { component: Some(component.to_owned()), host: (!host.is_empty()).then(|| host.to_owned()) };
        let mut writer = Writer { client, source, seen: HashMap::new() };
        tokio::spawn(async move {
            while let Some(recorded) = waiting.recv().await {
                let about = recorded.about.name.clone();
                if let Err(error) = writer.write(recorded).await {
                    tracing::debug!(%error, about, "an event was not written");
                }
            }
        });
        Self { queue }
    }

    /// Records an event.
    pub fn record(&self, about: &ObjectRef, kind: EventKind, reason: &str, message: impl Into<String>) {
        // The API allows 1,024 characters in a message (core/v1 Event validation).
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(1_023) {
            message.truncate(end);
        }
        let recorded = Recorded { about: about.clone(), kind, reason: reason.to_owned(), message };
        if self.queue.try_send(recorded).is_err() {
            tracing::warn!(reason, about = about.name, "too many events at once, one is dropped");
        }
    }
}

impl Writer {
    async fn write(&mut self, recorded: Recorded) -> Result<(), Error> {
        let now = jiff::Timestamp::now();
        let namespace = if recorded.about.namespace.is_empty() { "default" } else { &recorded.about.namespace };
        let events = self.client.namespaced::<Event>(namespace);
        if let Some(seen) = self.seen.get_mut(&recorded)
            && now.duration_since(seen.last).unsigned_abs() < FORGET
        {
            seen.count = seen.count.saturating_add(1);
            seen.last = now;
            let patch = Patch::Merge(json!({ "count": seen.count, "lastTimestamp": Time(now) }));
            match events.patch(&seen.name, None, &patch).await {
                Err(error) if error.is_not_found() => {}
                other => return other.map(drop),
            }
        }
        // The name is unique by time, as client-go's recorder makes it: object name and a hexadecimal time.
        let name = format!("{}.{:x}", recorded.about.name, now.as_nanosecond());
        let event = self.event(&recorded, namespace, &name, now);
        events.create(&event).await?;
        if self.seen.len() >= REMEMBERED {
            self.seen.retain(|_, seen| now.duration_since(seen.last).unsigned_abs() < FORGET);
        }
        if self.seen.len() < REMEMBERED {
            self.seen.insert(recorded, Seen { name, count: 1, last: now });
        }
        Ok(())
    }

    fn event(&self, recorded: &Recorded, namespace: &str, name: &str, now: jiff::Timestamp) -> Event {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let about = &recorded.about;
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: some(&about.api_version),
                kind: some(&about.kind),
                namespace: some(&about.namespace),
                name: some(&about.name),
                uid: some(&about.uid),
                resource_version: some(&about.resource_version),
                field_path: some(&about.field_path),
            },
            reason: Some(recorded.reason.clone()),
            message: Some(recorded.message.clone()),
            type_: Some(format!("{:?}", recorded.kind)),
            source: Some(self.source.clone()),
            reporting_component: self.source.component.clone(),
            reporting_instance: self.source.host.clone(),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..Event::default()
        }
    }
}

impl ObjectRef {
    /// A reference to an object of a kind by its metadata.
    pub fn to<K: crate::Kind>(metadata: &ObjectMeta) -> Self {
        let resource = K::resource();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            api_version: resource.api_version(),
            kind: resource.kind.to_string(),
            namespace: text(&metadata.namespace),
            name: text(&metadata.name),
            uid: text(&metadata.uid),
            resource_version: text(&metadata.resource_version),
            field_path: String::new(),
        }
    }

    /// The same object, narrowed to a part of it.
    #[must_use]
    pub fn at(mut self, field_path: impl Into<String>) -> Self {
        self.field_path = field_path.into();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    #[test]
    fn a_reference_names_kind_and_version() {
        let meta = ObjectMeta { name: Some("a".into()), namespace: Some("n".into()), ..ObjectMeta::default() };
        let about = ObjectRef::to::<Pod>(&meta).at("spec.containers{web}");
        assert_eq!((about.api_version.as_str(), about.kind.as_str()), ("v1", "Pod"));
        assert_eq!(about.field_path, "spec.containers{web}");
    }
}
