use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The first and the longest delay of a key that keeps failing.
const RETRY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(60));

/// Keys to work on. A key stands in the queue once however often it is added, and only one worker has it at a time: what
/// is added while a worker has it is worked on again afterwards.
pub struct Queue<T> {
    shared: Arc<Shared<T>>,
}

/// A key that a worker has. It is given back by [`Ticket::done`], [`Ticket::retry`] or [`Ticket::after`]; dropping it is
/// `done`.
pub struct Ticket<T: Clone + Eq + Hash + Ord> {
    key: Option<T>,
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    ready: VecDeque<T>,
    waiting: HashSet<T>,
    working: HashSet<T>,
    again: HashSet<T>,
    later: BinaryHeap<Reverse<(Instant, T)>>,
    failures: HashMap<T, u32>,
    closed: bool,
}

// === impl Queue ===

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Clone + Eq + Hash + Ord> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Eq + Hash + Ord> Queue<T> {
    /// An empty queue. It is bounded by the number of distinct keys.
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            working: HashSet::new(),
            again: HashSet::new(),
            later: BinaryHeap::new(),
            failures: HashMap::new(),
            closed: false,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }) }
    }

    /// Adds a key.
    pub fn add(&self, key: T) {
        self.shared.state.lock().add(key);
        self.shared.changed.notify_one();
    }

    /// Adds a key once `delay` has passed.
    pub fn add_after(&self, key: T, delay: Duration) {
        self.shared.state.lock().later.push(Reverse((Instant::now() + delay, key)));
        self.shared.changed.notify_one();
    }

    /// Waits for a key to work on; `None` once the queue is closed.
    pub async fn next(&self) -> Option<Ticket<T>> {
        loop {
            let due = {
                let mut state = self.shared.state.lock();
                if state.closed {
                    return None;
                }
                let due = state.promote();
                if let Some(key) = state.ready.pop_front() {
                    state.waiting.remove(&key);
                    state.working.insert(key.clone());
                    if !state.ready.is_empty() || due.is_some() {
                        self.shared.changed.notify_one();
                    }
                    return Some(Ticket { key: Some(key), shared: Arc::clone(&self.shared) });
                }
                due
            };
            match due {
                Some(due) => {
                    let _ = tokio::time::timeout_at(due, self.shared.changed.notified()).await;
                }
                None => self.shared.changed.notified().await,
            }
        }
    }

    /// Ends the work: every waiting [`Queue::next`] gives `None`.
    pub fn close(&self) {
        self.shared.state.lock().closed = true;
        // Waiters that come later see `closed`; a stored permit wakes one that is between its check and its wait.
        self.shared.changed.notify_waiters();
        self.shared.changed.notify_one();
    }

    /// How many keys wait for a worker.
    pub fn len(&self) -> usize {
        self.shared.state.lock().ready.len()
    }

    /// Whether no key waits for a worker.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Clone + Eq + Hash + Ord> State<T> {
    fn add(&mut self, key: T) {
        if self.working.contains(&key) {
            self.again.insert(key);
        } else if self.waiting.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    /// Moves what is due to the ready keys and says when the next is due.
    fn promote(&mut self) -> Option<Instant> {
        let now = Instant::now();
        while let Some(Reverse((due, _))) = self.later.peek() {
            if *due > now {
                return Some(*due);
            }
            if let Some(Reverse((_, key))) = self.later.pop() {
                self.add(key);
            }
        }
        None
    }

    fn give_back(&mut self, key: &T) {
        self.working.remove(key);
        if self.again.remove(key) {
            self.add(key.clone());
        }
    }
}

// === impl Ticket ===

impl<T: Clone + Eq + Hash + Ord> Ticket<T> {
    /// The key.
    pub fn key(&self) -> &T {
        // The key is taken only by the methods that consume the ticket, and by `drop`.
        match &self.key {
            Some(key) => key,
            None => unreachable!("a ticket holds its key until it is consumed"),
        }
    }

    /// The work is done, and the key has no failures any more.
    pub fn done(self) {}

    /// The work failed: the key comes back, later the more often it has failed in a row. Gives the delay.
    pub fn retry(mut self) -> Duration {
        let Some(key) = self.key.take() else { return Duration::ZERO };
        let mut state = self.shared.state.lock();
        let failures = state.failures.entry(key.clone()).or_insert(0);
        let delay = RETRY.0.saturating_mul(1u32.checked_shl(*failures).unwrap_or(u32::MAX)).min(RETRY.1);
        *failures = failures.saturating_add(1).min(30);
        state.later.push(Reverse((Instant::now() + delay, key.clone())));
        state.give_back(&key);
        drop(state);
        self.shared.changed.notify_one();
        delay
    }

    /// The work is done for now and must be looked at again after `delay`.
    pub fn after(self, delay: Duration) {
        if let Some(key) = self.key.clone() {
            self.shared.state.lock().later.push(Reverse((Instant::now() + delay, key)));
        }
    }
}

impl<T: Clone + Eq + Hash + Ord> Drop for Ticket<T> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let mut state = self.shared.state.lock();
        state.failures.remove(&key);
        state.give_back(&key);
        drop(state);
        self.shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_with_one_worker_at_a_time_and_comes_back_when_added_meanwhile() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        let ticket = queue.next().await.unwrap();
        assert!(queue.is_empty());
        queue.add("a");
        assert!(queue.is_empty());
        ticket.done();
        assert_eq!(*queue.next().await.unwrap().key(), "a");
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_back_ever_later_and_a_success_forgets_them() {
        let queue = Queue::new();
        queue.add("a");
        assert_eq!(queue.next().await.unwrap().retry(), Duration::from_millis(5));
        assert_eq!(queue.next().await.unwrap().retry(), Duration::from_millis(10));
        queue.next().await.unwrap().done();
        queue.add("a");
        assert_eq!(queue.next().await.unwrap().retry(), Duration::from_millis(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_key_does_not_hold_up_others_and_closing_ends_all_waits() {
        let queue = Queue::new();
        queue.add_after("late", Duration::from_secs(5));
        queue.add("now");
        assert_eq!(*queue.next().await.unwrap().key(), "now");
        let begun = Instant::now();
        assert_eq!(*queue.next().await.unwrap().key(), "late");
        assert!(begun.elapsed() >= Duration::from_secs(5));
        let (a, b) = (
            tokio::spawn({
                let q = queue.clone();
                async move { q.next().await.is_none() }
            }),
            queue.clone(),
        );
        tokio::task::yield_now().await;
        b.close();
        assert!(a.await.unwrap());
        assert!(queue.next().await.is_none());
    }
}
