//! Watches: a snapshot where one is wanted, then events as they come.

use crate::catalogue::Served;
use crate::options::{self, ListOptions};
use crate::request::Query;
use crate::selection::Selection;
use crate::server::ApiServer;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use trireme_schema::Status;
use trireme_store::{Change, Event, Record, Watch};

/// What a watcher gets.
#[derive(Clone, Debug)]
pub enum Item {
    /// It is there now.
    Added(Arc<Record>),
    /// It changed.
    Modified(Arc<Record>),
    /// It is gone, or no longer selected.
    Deleted(Arc<Record>),
    /// It is no longer selected: its last selected state at the revision of the change.
    Left(Arc<Record>, i64),
    /// Everything up to this revision was sent; the flag marks the end of the first state.
    Bookmark(i64, bool),
    /// The watch cannot go on.
    Failed(Status),
}

/// Bookmarks come about every minute.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// A watch without a timeout of its own ends after half an hour to an hour, so that load can move.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// A watch that is open.
pub struct Watching {
    served: Arc<Served>,
    selection: Selection,
    server: Arc<ApiServer>,
    first: VecDeque<Item>,
    /// What comes next, while it is made what this watcher gets.
    next: Option<Item>,
    events: Watch,
    bookmarks: Option<Instant>,
    ends: Instant,
    ended: bool,
}

impl ApiServer {
    /// Opens a watch.
    ///
    /// # Errors
    /// 410 when the revision is too old, 4xx for parameters that make no sense.
    pub async fn watch(
        self: &Arc<Self>,
        served: &Arc<Served>,
        namespace: &str,
        query: &Query,
    ) -> Result<Watching, Status> {
        let selection = Selection::read(served, query)?;
        let options = ListOptions::read(query, true)?;
        let asked = options::known_revision(&options.revision)?;
        let (bookmarks, initial) = (options.bookmarks, options.initial);
        let topic = self.store.topic(&served.topic);
        let prefix = served.prefix(namespace);
        let mut first = VecDeque::new();
        let wants_state = initial == Some(true) || (initial.is_none() && matches!(asked, None | Some(0)));
        let from = if wants_state {
            self.reach(asked.unwrap_or(0)).await?;
            let seen = self.store.revision();
            let now = topic.snapshot();
            let revision = now.revision.max(seen);
            first.extend(now.range(&prefix, None).filter(|r| selection.holds(served, r)).cloned().map(Item::Added));
            if initial == Some(true) && bookmarks {
                first.push_back(Item::Bookmark(revision, true));
            }
            now.revision
        } else {
            match asked {
                Some(revision) if revision > 0 => revision,
                _ => self.store.revision(),
            }
        };
        let events = topic
            .watch(&prefix, from)
            .map_err(|e| Status::expired(format!("too old resource version: {} ({})", e.asked, e.oldest)))?;
        let longest = LONGEST + Duration::from_secs(rand::random_range(0..LONGEST.as_secs()));
        let ends = Instant::now() + options.timeout.map_or(longest, Duration::from_secs);
        Ok(Watching {
            served: served.clone(),
            selection,
            server: self.clone(),
            first,
            next: None,
            events,
            bookmarks: bookmarks.then(|| Instant::now() + BOOKMARKS),
            ends,
            ended: false,
        })
    }
}

/// When what is watched is served no longer, or in another way; never for what is built in.
async fn replaced(served: &Served) {
    match &served.custom {
        Some(custom) => custom.definition.replaced.cancelled().await,
        None => std::future::pending().await,
    }
}

impl Watching {
    /// The next item; `None` when the watch ends. Cancel-safe.
    pub async fn next(&mut self) -> Option<Item> {
        if self.served.custom.as_ref().is_none_or(|custom| !custom.converts()) {
            return self.upcoming().await;
        }
        if self.next.is_none() {
            self.next = self.upcoming().await;
        }
        let item = match self.next.clone()? {
            Item::Added(r) => self.converted(r).await.map(Item::Added),
            Item::Modified(r) => self.converted(r).await.map(Item::Modified),
            Item::Deleted(r) => self.converted(r).await.map(Item::Deleted),
            Item::Left(r, revision) => self.converted(r).await.map(|r| Item::Left(r, revision)),
            other @ (Item::Bookmark(..) | Item::Failed(_)) => Ok(other),
        };
        self.next = None;
        Some(item.unwrap_or_else(|status| {
            self.ended = true;
            self.first.clear();
            Item::Failed(status)
        }))
    }

    async fn converted(&self, record: Arc<Record>) -> Result<Arc<Record>, Status> {
        self.server.one_in_version(&self.served, record).await
    }

    async fn upcoming(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.first.pop_front() {
                return Some(item);
            }
            if self.ended {
                return None;
            }
            let bookmark = self.bookmarks.unwrap_or(self.ends);
            tokio::select! {
                biased;
                () = self.server.stopping.cancelled() => self.ended = true,
                () = replaced(&self.served) => self.ended = true,
                event = self.events.next() => match event {
                    Ok(event) => {
                        if let Some(item) = self.transition(&event) {
                            return Some(item);
                        }
                    }
                    Err(gone) => {
                        self.ended = true;
                        let status = Status::expired(format!("too old resource version: {} ({})", gone.asked, gone.oldest));
                        return Some(Item::Failed(status));
                    }
                },
                () = tokio::time::sleep_until(self.ends) => self.ended = true,
                () = tokio::time::sleep_until(bookmark), if self.bookmarks.is_some() => {
                    self.bookmarks = Some(Instant::now() + BOOKMARKS);
                    if let Some(revision) = self.progress() {
                        return Some(Item::Bookmark(revision, false));
                    }
                }
            }
        }
    }

    /// The revision up to which nothing is outstanding; `None` while events wait.
    fn progress(&mut self) -> Option<i64> {
        let now = self.server.store.revision();
        match self.events.try_next() {
            Ok(None) => Some(now.max(self.events.revision())),
            Ok(Some(event)) => {
                self.first.extend(self.transition(&event));
                None
            }
            Err(_) => None,
        }
    }

    /// What an event is to this watcher: an object may enter or leave what is selected.
    fn transition(&self, event: &Event) -> Option<Item> {
        let before = event.previous.as_ref().filter(|r| self.selection.holds(&self.served, r));
        match &event.change {
            Change::Delete(last) => before.map(|_| Item::Deleted(last.clone())),
            Change::Put(record) => match (before, self.selection.holds(&self.served, record)) {
                (None, true) => Some(Item::Added(record.clone())),
                (Some(_), true) => Some(Item::Modified(record.clone())),
                (Some(last), false) => Some(Item::Left(last.clone(), event.revision)),
                (None, false) => None,
            },
        }
    }

    /// The resource.
    pub fn served(&self) -> &Arc<Served> {
        &self.served
    }

    /// An item's object as JSON.
    pub fn object(&self, item: &Item) -> Bytes {
        match item {
            Item::Added(r) | Item::Modified(r) | Item::Deleted(r) => self.server.present(&self.served, r),
            Item::Left(r, revision) => {
                let mut value = self.served.read(&self.server.present(&self.served, r));
                value.set_at(&["metadata", "resourceVersion"], revision.to_string());
                self.served.write(&value).into()
            }
            Item::Bookmark(revision, end) => bookmark(&self.served, *revision, *end).into(),
            Item::Failed(status) => trireme_schema::json::to_vec(&status.to_value()).into(),
        }
    }
}

/// The object of a bookmark: empty but for kind and resourceVersion.
fn bookmark(served: &Served, revision: i64, end: bool) -> Vec<u8> {
    let mut value = trireme_schema::Value::object();
    value.set_at(&["kind"], served.kind());
    value.set_at(&["apiVersion"], served.resource.gv.to_string());
    value.set_at(&["metadata", "resourceVersion"], revision.to_string());
    if end {
        value.set_at(&["metadata", "annotations", "k8s.io/initial-events-end"], "true");
    }
    served.write(&value)
}

impl Item {
    /// The record that is sent as it is stored.
    pub fn stored(&self) -> Option<&Arc<Record>> {
        match self {
            Item::Added(record) | Item::Modified(record) | Item::Deleted(record) => Some(record),
            Item::Left(..) | Item::Bookmark(..) | Item::Failed(_) => None,
        }
    }

    /// The event's type on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Item::Added(_) => "ADDED",
            Item::Modified(_) => "MODIFIED",
            Item::Deleted(_) | Item::Left(..) => "DELETED",
            Item::Bookmark(..) => "BOOKMARK",
            Item::Failed(_) => "ERROR",
        }
    }
}
