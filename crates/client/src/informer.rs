use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Backoff, Client, Entry, Error, Key, Kind, Selection, WatchEvent};

/// A change to one object of an informer. `old` and `new` are never both absent.
pub struct Change<K> {
    /// The object before, absent when it is new.
    pub old: Option<Arc<Entry<K>>>,
    /// The object now, absent when it is gone.
    pub new: Option<Arc<Entry<K>>>,
}

/// Keeps a selection of objects up to date.
///
/// The informer stops when its shutdown token is cancelled. Handlers run on the informer's task: they enqueue keys and
/// return.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

type Handler<K> = Arc<dyn Fn(&Change<K>) + Send + Sync>;
type IndexFn<K> = Box<dyn Fn(&Entry<K>) -> Vec<String> + Send + Sync>;

struct Shared<K> {
    state: RwLock<State<K>>,
    synced: watch::Sender<bool>,
}

struct State<K> {
    entries: BTreeMap<Key, Arc<Entry<K>>>,
    indexes: Vec<Index<K>>,
    handlers: Vec<Handler<K>>,
}

struct Index<K> {
    name: &'static str,
    of: IndexFn<K>,
    keys: HashMap<String, BTreeSet<Key>>,
}

/// Describes an informer before it starts.
pub struct InformerBuilder<K> {
    selection: Selection,
    indexes: Vec<Index<K>>,
}

/// The informers of a process: one per kind, shared by all components that watch the whole of it.
pub struct Informers {
    client: Client,
    shutdown: CancellationToken,
    by_kind: Mutex<HashMap<TypeId, Box<dyn Any + Send + Sync>>>,
}

/// The index that every informer has: by the uid of the managing owner.
const BY_CONTROLLER: &str = "controller";

// === impl InformerBuilder ===

impl<K: Kind> InformerBuilder<K> {
    /// All objects of a kind.
    pub fn all() -> Self {
        Self::of(Selection { collection: K::resource().collection(None), ..Selection::default() })
    }
}

impl<K: Send + Sync + 'static> InformerBuilder<K> {
    /// The objects of a selection.
    pub fn of(selection: Selection) -> Self {
        let by_controller =
            |entry: &Entry<K>| entry.meta.controller.iter().map(|owner| owner.uid.to_string()).collect::<Vec<_>>();
        Self { selection, indexes: Vec::new() }.index(BY_CONTROLLER, by_controller)
    }

    /// Narrows the selection by labels (text form of a selector).
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.selection.labels = Some(selector.to_owned());
        self
    }

    /// Narrows the selection by fields (text form of a selector).
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.selection.fields = Some(selector.to_owned());
        self
    }

    /// Adds an index: `of` gives the values under which an object is found.
    #[must_use]
    pub fn index(mut self, name: &'static str, of: impl Fn(&Entry<K>) -> Vec<String> + Send + Sync + 'static) -> Self {
        self.indexes.push(Index { name, of: Box::new(of), keys: HashMap::new() });
        self
    }

    /// Starts following the selection, until the token is cancelled.
    pub fn start(self, client: Client, shutdown: CancellationToken) -> Informer<K> {
        let shared = Arc::new(Shared {
            state: RwLock::new(State { entries: BTreeMap::new(), indexes: self.indexes, handlers: Vec::new() }),
            synced: watch::Sender::new(false),
        });
        tokio::spawn(follow(Arc::clone(&shared), client, self.selection, shutdown));
        Informer { shared }
    }
}

// === impl Informer ===

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K: Send + Sync + 'static> Informer<K> {
    /// Calls `handler` for every object that is there and for every change from now on. A change that happens while the
    /// handler is being added may be seen twice.
    pub fn subscribe(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let handler: Handler<K> = Arc::new(handler);
        let present: Vec<_> = {
            let mut state = self.shared.state.write();
            state.handlers.push(Arc::clone(&handler));
            state.entries.values().cloned().collect()
        };
        for entry in present {
            handler(&Change { old: None, new: Some(entry) });
        }
    }

    /// Waits until the objects that were there at the start are known.
    pub async fn synced(&self) {
        // The sender lives as long as the informer that we hold, so the wait cannot fail.
        let _ = self.shared.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Whether the objects that were there at the start are known.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Entry<K>>> {
        self.find(&Key::new(namespace, name))
    }

    /// One object by its key.
    pub fn find(&self, key: &Key) -> Option<Arc<Entry<K>>> {
        self.shared.state.read().entries.get(key).cloned()
    }

    /// All objects, in the order of their keys.
    pub fn list(&self) -> Vec<Arc<Entry<K>>> {
        self.shared.state.read().entries.values().cloned().collect()
    }

    /// The objects of a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<Entry<K>>> {
        let state = self.shared.state.read();
        state
            .entries
            .range(Key::new(namespace, "")..)
            .take_while(|(key, _)| &*key.namespace == namespace)
            .map(|(_, entry)| Arc::clone(entry))
            .collect()
    }

    /// The objects whose managing owner has this uid.
    pub fn controlled_by(&self, uid: &str) -> Vec<Arc<Entry<K>>> {
        self.by_index(BY_CONTROLLER, uid)
    }

    /// The objects that an index holds under a value; none when there is no such index.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<Entry<K>>> {
        let state = self.shared.state.read();
        let keys = state.indexes.iter().find(|i| i.name == index).and_then(|i| i.keys.get(value));
        keys.into_iter().flatten().filter_map(|key| state.entries.get(key).cloned()).collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.shared.state.read().entries.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

// === impl Informers ===

impl Informers {
    /// Informers that read through `client` and stop with `shutdown`.
    pub fn new(client: Client, shutdown: CancellationToken) -> Self {
        Self { client, shutdown, by_kind: Mutex::new(HashMap::new()) }
    }

    /// The shared informer of a kind, started at its first use.
    pub fn get<K: Kind>(&self) -> Informer<K> {
        self.get_with(|builder| builder)
    }

    /// The shared informer of a kind; when this is its first use it is started with what `configure` adds, such as
    /// indexes. All users of a kind must agree on them.
    pub fn get_with<K: Kind>(&self, configure: impl FnOnce(InformerBuilder<K>) -> InformerBuilder<K>) -> Informer<K> {
        let mut by_kind = self.by_kind.lock();
        if let Some(informer) = by_kind.get(&TypeId::of::<K>()).and_then(|any| any.downcast_ref::<Informer<K>>()) {
            return informer.clone();
        }
        let informer = configure(InformerBuilder::all()).start(self.client.clone(), self.shutdown.clone());
        by_kind.insert(TypeId::of::<K>(), Box::new(informer.clone()));
        informer
    }
}

// === the following task ===

async fn follow<K: Send + Sync + 'static>(
    shared: Arc<Shared<K>>,
    client: Client,
    selection: Selection,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
    let mut since: Option<String> = None;
    while !shutdown.is_cancelled() {
        let watched = tokio::select! {
            () = shutdown.cancelled() => return,
            watched = follow_once(&shared, &client, &selection, &mut since, &mut backoff) => watched,
        };
        if let Err(error) = watched {
            if error.is_expired() {
                since = None;
            }
            tracing::debug!(collection = selection.collection, %error, "watch ended, watching again");
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(backoff.step()) => {}
            }
        }
    }
}

/// Follows one watch to its end. `since` moves with what was delivered, so that the next watch goes on from there.
async fn follow_once<K: Send + Sync + 'static>(
    shared: &Shared<K>,
    client: &Client,
    selection: &Selection,
    since: &mut Option<String>,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    // While the initial objects arrive, the keys seen; what is not among them at their end has been deleted meanwhile.
    let mut initial = since.is_none().then(BTreeSet::new);
    let mut events = client.watch(selection.clone(), since.clone());
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Applied(bytes) => {
                let entry = Entry::new(bytes)?;
                if let Some(seen) = &mut initial {
                    seen.insert(entry.meta.key.clone());
                } else {
                    *since = Some(entry.meta.resource_version.to_string());
                }
                shared.apply(entry);
            }
            WatchEvent::Deleted(bytes) => {
                let entry = Entry::new(bytes)?;
                if initial.is_none() {
                    *since = Some(entry.meta.resource_version.to_string());
                }
                let key = entry.meta.key.clone();
                shared.remove(&key, Some(entry));
            }
            WatchEvent::Bookmark { resource_version, initial_events_end } => {
                if initial_events_end && let Some(seen) = initial.take() {
                    shared.retain(&seen);
                    shared.synced.send_replace(true);
                }
                if initial.is_none() {
                    *since = Some(resource_version);
                }
                backoff.reset();
            }
        }
    }
    Ok(())
}

impl<K: Send + Sync + 'static> Shared<K> {
    fn apply(&self, entry: Entry<K>) {
        let entry = Arc::new(entry);
        let (old, handlers) = {
            let mut state = self.state.write();
            let old = state.entries.get(&entry.meta.key).cloned();
            if old.as_ref().is_some_and(|old| {
                old.meta.resource_version == entry.meta.resource_version && old.meta.uid == entry.meta.uid
            }) {
                return;
            }
            state.reindex(old.as_deref(), Some(&entry));
            state.entries.insert(entry.meta.key.clone(), Arc::clone(&entry));
            (old, state.handlers.clone())
        };
        let change = Change { old, new: Some(entry) };
        handlers.iter().for_each(|handler| handler(&change));
    }

    /// Removes an object; handlers see its `last` state when the server sent one.
    fn remove(&self, key: &Key, last: Option<Entry<K>>) {
        let (old, handlers) = {
            let mut state = self.state.write();
            let Some(old) = state.entries.remove(key) else { return };
            state.reindex(Some(&old), None);
            (old, state.handlers.clone())
        };
        let change = Change { old: Some(last.map_or(old, Arc::new)), new: None };
        handlers.iter().for_each(|handler| handler(&change));
    }

    fn retain(&self, seen: &BTreeSet<Key>) {
        let gone: Vec<Key> = self.state.read().entries.keys().filter(|key| !seen.contains(key)).cloned().collect();
        gone.iter().for_each(|key| self.remove(key, None));
    }
}

impl<K> State<K> {
    fn reindex(&mut self, old: Option<&Entry<K>>, new: Option<&Entry<K>>) {
        for index in &mut self.indexes {
            if let Some(old) = old {
                for value in (index.of)(old) {
                    if let Some(keys) = index.keys.get_mut(&value) {
                        keys.remove(&old.meta.key);
                        if keys.is_empty() {
                            index.keys.remove(&value);
                        }
                    }
                }
            }
            if let Some(new) = new {
                for value in (index.of)(new) {
                    index.keys.entry(value).or_default().insert(new.meta.key.clone());
                }
            }
        }
    }
}

impl<K> Change<K> {
    /// The object as it is now, or as it was last.
    pub fn latest(&self) -> Option<&Arc<Entry<K>>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Request, Response, Transport, WatchStream};
    use bytes::Bytes;
    use futures::future::BoxFuture;
    use k8s_openapi::api::core::v1::ConfigMap;
    use tokio::sync::mpsc;

    /// Hands out one prepared stream of events per watch.
    struct Scripted(Mutex<Vec<mpsc::Receiver<Result<WatchEvent, Error>>>>, Mutex<Vec<Option<String>>>);

    impl Transport for Scripted {
        fn send(&self, _: Request) -> BoxFuture<'static, Result<Response, Error>> {
            Box::pin(async { Err(Error::Unreachable("scripted".into())) })
        }

        fn watch(&self, _: Selection, since: Option<String>) -> WatchStream {
            self.1.lock().push(since);
            match self.0.lock().pop() {
                Some(events) => tokio_stream(events),
                None => futures::stream::pending().boxed(),
            }
        }
    }

    fn tokio_stream(events: mpsc::Receiver<Result<WatchEvent, Error>>) -> WatchStream {
        futures::stream::unfold(events, |mut events| async { events.recv().await.map(|event| (event, events)) }).boxed()
    }

    fn object(name: &str, revision: u32) -> Bytes {
        format!(r#"{{"metadata":{{"name":"{name}","namespace":"n","uid":"{name}","resourceVersion":"{revision}"}}}}"#)
            .into()
    }

    #[tokio::test]
    async fn a_relist_removes_what_is_gone_and_a_resumed_watch_goes_on_where_it_stopped() {
        let (first, first_events) = mpsc::channel(10);
        let (second, second_events) = mpsc::channel(10);
        let (third, third_events) = mpsc::channel(10);
        let transport =
            Arc::new(Scripted(Mutex::new(vec![third_events, second_events, first_events]), Mutex::new(Vec::new())));
        let end = |revision: &str| WatchEvent::Bookmark { resource_version: revision.into(), initial_events_end: true };

        first.send(Ok(WatchEvent::Applied(object("a", 1)))).await.unwrap();
        first.send(Ok(WatchEvent::Applied(object("b", 2)))).await.unwrap();
        first.send(Ok(end("2"))).await.unwrap();
        first.send(Ok(WatchEvent::Applied(object("c", 3)))).await.unwrap();
        drop(first);
        let gone = k8s_openapi::apimachinery::pkg::apis::meta::v1::Status { code: Some(410), ..Default::default() };
        second.send(Err(Error::Api(Box::new(gone)))).await.unwrap();
        drop(second);
        third.send(Ok(WatchEvent::Applied(object("b", 4)))).await.unwrap();
        third.send(Ok(end("4"))).await.unwrap();

        let shutdown = CancellationToken::new();
        let client = Client::new(Arc::clone(&transport) as Arc<dyn Transport>, "test");
        let informer = InformerBuilder::<ConfigMap>::all().start(client, shutdown.clone());
        let (changed, mut changes) = mpsc::unbounded_channel();
        informer.subscribe(move |change| {
            let name = change.latest().map(|entry| entry.meta.key.name.to_string());
            let _ = changed.send((name, change.new.is_some()));
        });
        let mut seen = Vec::new();
        while seen.len() < 6 {
            seen.push(changes.recv().await.unwrap());
        }
        let text: Vec<_> = seen.iter().map(|(name, there)| (name.as_deref().unwrap(), *there)).collect();
        assert_eq!(text, [("a", true), ("b", true), ("c", true), ("b", true), ("a", false), ("c", false)]);
        assert_eq!(*transport.1.lock(), [None, Some("3".to_owned()), None]);
        assert_eq!(informer.in_namespace("n").len(), 1);
        shutdown.cancel();
    }
}
