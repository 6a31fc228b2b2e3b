//! Keys that go by themselves (events after an hour).

use crate::record::Record;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Removes a key, unless it was written since.
pub(crate) trait Expire: Send + Sync {
    fn expire(&self, key: &Arc<str>, mod_revision: i64);
}

/// What expires when. One thread sleeps until the next deadline.
#[derive(Default)]
pub(crate) struct Expiry(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Keys and the revisions that wrote them, by second.
    due: BTreeMap<u64, Vec<(Arc<str>, i64)>>,
    closed: bool,
    running: bool,
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Expiry {
    pub(crate) fn note<'a>(&self, records: impl Iterator<Item = &'a Arc<Record>>) {
        let mut records = records.filter_map(|r| r.expires.map(|at| (at, r))).peekable();
        if records.peek().is_none() {
            return;
        }
        let mut state = self.0.state.lock();
        for (at, record) in records {
            state.due.entry(at).or_default().push((record.key.clone(), record.mod_revision));
        }
        drop(state);
        self.0.changed.notify_one();
    }

    pub(crate) fn close(&self) {
        self.0.state.lock().closed = true;
        self.0.changed.notify_one();
    }

    pub(crate) fn start<E: Expire + 'static>(&self, target: Weak<E>) -> std::io::Result<()> {
        if std::mem::replace(&mut self.0.state.lock().running, true) {
            return Ok(());
        }
        let inner = self.0.clone();
        let thread = std::thread::Builder::new().name("store-expiry".into());
        thread.spawn(move || inner.run(&target)).map(drop)
    }
}

impl Inner {
    fn run<E: Expire>(&self, target: &Weak<E>) {
        let mut state = self.state.lock();
        while !state.closed {
            let Some((&at, _)) = state.due.first_key_value() else {
                self.changed.wait(&mut state);
                continue;
            };
            let wait = Duration::from_secs(at).saturating_sub(now());
            if !wait.is_zero() {
                // Woken early when something is due sooner; the wall clock is read again in any case.
                self.changed.wait_for(&mut state, wait.min(Duration::from_secs(60)));
                continue;
            }
            let due = state.due.remove(&at).unwrap_or_default();
            parking_lot::MutexGuard::unlocked(&mut state, || {
                if let Some(target) = target.upgrade() {
                    due.iter().for_each(|(key, revision)| target.expire(key, *revision));
                }
            });
        }
    }
}
