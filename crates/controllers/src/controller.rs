use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trireme_client::{Change, Informer, Key, Queue};

use crate::{Error, Options};

/// When a key must be looked at again although nothing has happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// When something happens to it.
    Never,
    /// After this time.
    After(Duration),
}

/// A reconciler: it reads the state around a key and makes one idempotent step towards what is desired.
pub(crate) trait Controller: Send + Sync + Sized + 'static {
    /// The name by which the controller is known and can be disabled; upstream's.
    const NAME: &'static str;
    /// The service account in `kube-system` as which it acts, with the bootstrap role of that name; none for the manager
    /// itself.
    const ACCOUNT: Option<&'static str>;
    /// How many keys are worked on at once.
    const WORKERS: usize = 5;

    /// Whether there is anything to do with these options.
    fn enabled(_: &Options) -> bool {
        true
    }

    /// Says which objects are followed, and which keys an event about one touches.
    fn watch(self: &Arc<Self>, watches: &mut Watches);

    /// Makes the step for one key.
    fn reconcile(&self, key: &Key) -> impl Future<Output = Result<Requeue, Error>> + Send;
}

/// What a controller follows.
pub(crate) struct Watches {
    queue: Queue<Key>,
    synced: Vec<BoxFuture<'static, ()>>,
}

impl Requeue {
    /// After so many seconds; at once (with the next free worker) when that is in the past.
    pub(crate) fn seconds(seconds: i64) -> Self {
        Requeue::After(Duration::from_secs(u64::try_from(seconds.max(0)).unwrap_or(0)))
    }

    /// The earlier of two.
    pub(crate) fn or_sooner(self, other: Self) -> Self {
        match (self, other) {
            (Requeue::After(a), Requeue::After(b)) => Requeue::After(a.min(b)),
            (Requeue::Never, other) => other,
            (own, Requeue::Never) => own,
        }
    }
}

// === impl Watches ===

impl Watches {
    /// Follows an informer; `touched` gives the keys that a change touches.
    pub(crate) fn on<K: Send + Sync + 'static>(
        &mut self,
        informer: &Informer<K>,
        touched: impl Fn(&Change<K>) -> Vec<Key> + Send + Sync + 'static,
    ) {
        let queue = self.queue.clone();
        informer.subscribe(move |change| touched(change).into_iter().for_each(|key| queue.add(key)));
        self.needs(informer);
    }

    /// Follows an informer whose objects are themselves the keys.
    pub(crate) fn on_itself<K: Send + Sync + 'static>(&mut self, informer: &Informer<K>) {
        self.on(informer, |change| change.latest().map(|entry| entry.meta.key.clone()).into_iter().collect());
    }

    /// Waits for an informer before the work begins, without following it.
    pub(crate) fn needs<K: Send + Sync + 'static>(&mut self, informer: &Informer<K>) {
        let informer = informer.clone();
        self.synced.push(Box::pin(async move { informer.synced().await }));
    }

    /// Waits for something else before the work begins.
    pub(crate) fn wait_for(&mut self, ready: impl Future<Output = ()> + Send + 'static) {
        self.synced.push(Box::pin(ready));
    }

    /// Adds a key that is there from the start.
    pub(crate) fn start_with(&mut self, key: Key) {
        self.queue.add(key);
    }

    /// The queue itself, for controllers that learn of keys in other ways.
    pub(crate) fn queue(&self) -> Queue<Key> {
        self.queue.clone()
    }
}

/// Runs a controller until shutdown: its informers fill the queue, and workers empty it.
pub(crate) async fn run<C: Controller>(controller: C, shutdown: CancellationToken) {
    let controller = Arc::new(controller);
    let queue = Queue::new();
    let mut watches = Watches { queue: queue.clone(), synced: Vec::new() };
    controller.watch(&mut watches);
    // A decision with half a picture would create what exists, or delete what is needed.
    tokio::select! {
        () = shutdown.cancelled() => return,
        _ = futures::future::join_all(watches.synced) => {}
    }
    tracing::debug!(controller = C::NAME, "started");
    let timers = Arc::new(Timers::default());
    let mut workers = JoinSet::new();
    for _ in 0..C::WORKERS {
        workers.spawn(work(Arc::clone(&controller), queue.clone(), Arc::clone(&timers)));
    }
    shutdown.cancelled().await;
    queue.close();
    while workers.join_next().await.is_some() {}
}

async fn work<C: Controller>(controller: Arc<C>, queue: Queue<Key>, timers: Arc<Timers>) {
    while let Some(ticket) = queue.next().await {
        timers.fired(ticket.key());
        match controller.reconcile(ticket.key()).await {
            Ok(Requeue::After(delay)) if timers.is_earliest(ticket.key(), delay) => ticket.after(delay),
            Ok(_) => ticket.done(),
            Err(error) => {
                let key = ticket.key().clone();
                let race = error.is_race();
                let delay = ticket.retry();
                if race {
                    tracing::debug!(controller = C::NAME, %key, %error, ?delay, "raced, trying again");
                } else {
                    tracing::warn!(controller = C::NAME, %key, %error, ?delay, "failed, trying again");
                }
            }
        }
    }
}

/// When each key comes back by itself. Every look at a key asks for the next one: without this, a key that is looked at
/// for other reasons, too, would come back ever more often.
#[derive(Default)]
struct Timers {
    due: Mutex<HashMap<Key, Instant>>,
}

impl Timers {
    /// Forgets the time of a key that has come.
    fn fired(&self, key: &Key) {
        let mut due = self.due.lock();
        if due.get(key).is_some_and(|at| *at <= Instant::now()) {
            due.remove(key);
        }
    }

    /// Whether the key must be put down for this time: not when it comes back earlier anyway.
    fn is_earliest(&self, key: &Key, delay: Duration) -> bool {
        let at = Instant::now() + delay;
        let mut due = self.due.lock();
        if due.get(key).is_some_and(|known| *known <= at) {
            return false;
        }
        due.insert(key.clone(), at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Ticking(Arc<AtomicUsize>);

    impl Controller for Ticking {
        const NAME: &'static str = "ticking";
        const ACCOUNT: Option<&'static str> = None;

        fn watch(self: &Arc<Self>, watches: &mut Watches) {
            let queue = watches.queue();
            // The same key is looked at for other reasons again and again.
            tokio::spawn(async move {
                for _ in 0..50 {
                    queue.add(Key::new("", "a"));
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }

        async fn reconcile(&self, _: &Key) -> Result<Requeue, Error> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Requeue::After(Duration::from_secs(10)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_looked_at_often_does_not_come_back_ever_more_often() {
        let looks = Arc::new(AtomicUsize::new(0));
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(Ticking(Arc::clone(&looks)), shutdown.clone()));
        tokio::time::sleep(Duration::from_secs(105)).await;
        let looked = looks.load(Ordering::Relaxed);
        assert!((55..=62).contains(&looked), "{looked} looks");
        shutdown.cancel();
        running.await.unwrap();
    }
}
