//! From informers to the scheduler's task.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use trireme_client::{Entry, Informer, Informers, Key, Kind};

use crate::framework::{Object, Source};
use crate::view::{Namespace, Node, Pod};

/// What the scheduler reads of the API.
pub struct Intake {
    /// Pods.
    pub pods: Informer<Pod>,
    /// Nodes.
    pub nodes: Informer<Node>,
    /// Namespaces.
    pub namespaces: Informer<Namespace>,
    dirty: Arc<Dirty>,
    synced: Vec<BoxFuture<'static, ()>>,
}

/// The keys of changed objects, each once however often it has changed: what is read then is the newest state.
#[derive(Default)]
pub struct Dirty {
    changed: Mutex<Changed>,
    notify: Notify,
}

/// What has changed since the last look.
#[derive(Default)]
pub struct Changed {
    /// Pods.
    pub pods: HashSet<Key>,
    /// Nodes.
    pub nodes: HashSet<Key>,
    /// Namespaces.
    pub namespaces: HashSet<Key>,
    /// Other objects, as they were at the last look and as they are.
    pub objects: HashMap<(Source, Key), (Option<Object>, Option<Object>)>,
}

impl Intake {
    /// Follows pods, nodes and namespaces.
    pub fn start(informers: &Informers) -> Self {
        let dirty = Arc::new(Dirty::default());
        let (pods, nodes) = (informers.get::<Pod>(), informers.get::<Node>());
        let namespaces = informers.get::<Namespace>();
        watch(&pods, &dirty, |changed| &mut changed.pods);
        watch(&nodes, &dirty, |changed| &mut changed.nodes);
        watch(&namespaces, &dirty, |changed| &mut changed.namespaces);
        Self { pods, nodes, namespaces, dirty, synced: Vec::new() }
    }

    /// Follows another kind of object, whose changes are told to plugins. Nothing is decided before they are known.
    pub fn follow<K: Kind>(&mut self, informers: &Informers, source: Source) {
        let informer = self.follow_if_served::<K>(informers, source);
        self.synced.push(Box::pin(async move { informer.synced().await }));
    }

    /// The same of a kind that the server may not serve, as those of alpha versions: decisions do not wait for it.
    pub fn follow_if_served<K: Kind>(&mut self, informers: &Informers, source: Source) -> Informer<K> {
        let informer = informers.get::<K>();
        let dirty = Arc::clone(&self.dirty);
        informer.subscribe(move |change| {
            let Some(entry) = change.latest() else { return };
            let object = |entry: &Arc<Entry<K>>| Object { key: entry.meta.key.clone(), bytes: entry.bytes.clone() };
            let (old, new) = (change.old.as_ref().map(object), change.new.as_ref().map(object));
            let mut changed = dirty.changed.lock();
            changed.objects.entry((source, entry.meta.key.clone())).or_insert((old, None)).1 = new;
            drop(changed);
            dirty.notify.notify_one();
        });
        informer
    }

    /// Waits until what was there at the start is known.
    pub async fn synced(&mut self) {
        tokio::join!(self.pods.synced(), self.nodes.synced(), self.namespaces.synced());
        for synced in self.synced.drain(..) {
            synced.await;
        }
    }

    /// What has changed since the last look.
    pub fn take(&self) -> Changed {
        std::mem::take(&mut *self.dirty.changed.lock())
    }

    /// The place where changes are told.
    pub fn dirty(&self) -> Arc<Dirty> {
        Arc::clone(&self.dirty)
    }
}

impl Dirty {
    /// Waits for a change.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

fn watch<K: Kind>(
    informer: &Informer<K>,
    dirty: &Arc<Dirty>,
    of: impl Fn(&mut Changed) -> &mut HashSet<Key> + Send + Sync + 'static,
) {
    let dirty = Arc::clone(dirty);
    informer.subscribe(move |change| {
        if let Some(entry) = change.latest() {
            of(&mut dirty.changed.lock()).insert(entry.meta.key.clone());
            dirty.notify.notify_one();
        }
    });
}
