use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;
use trireme_client::Key;

use crate::PodInfo;

/// The first and the longest time that a pod waits after a failed attempt (upstream's defaults).
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// A pod that nothing seemed to help is tried again after this long all the same.
const STALE: Duration = Duration::from_secs(300);

/// What changed in the cluster, for deciding whether a pod that did not fit may fit now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A node came, or changed what it offers, its labels or its taints.
    Node,
    /// A pod left a node, so that its resources and ports are free.
    PodGone,
    /// A pod was placed, which may satisfy somebody's affinity.
    PodPlaced,
}

/// The pods that wait for a node.
#[derive(Default)]
pub struct Queue {
    waiting: HashMap<Key, Waiting>,
    ready: BTreeSet<(Reverse<i32>, u64, Key)>,
    /// Pods that have failed, by the time at which they may be tried again.
    later: BTreeMap<(Instant, Key), ()>,
    arrivals: u64,
    /// Counts hints, so that a pod whose attempt overlapped with one is tried again.
    hints: u64,
}

struct Waiting {
    pod: PodInfo,
    state: State,
    attempts: u32,
}

enum State {
    Ready(u64),
    /// An attempt is being made; it began when this many hints had been seen.
    Trying(u64),
    /// Failed; waits for a hint, and at the longest until the time.
    Failed {
        rejected_by: Vec<&'static str>,
        until: Instant,
    },
    /// Failed, and something has changed; waits for the end of its back-off.
    BackingOff(Instant),
    /// Held back by scheduling gates.
    Gated,
}

impl Queue {
    /// Adds a pod, or takes over its new state. A changed pod that had failed is tried again.
    pub fn add(&mut self, pod: PodInfo) {
        let key = pod.key.clone();
        let attempts = self.waiting.get(&key).map_or(0, |waiting| waiting.attempts);
        if let Some(waiting) = self.waiting.get_mut(&key)
            && let State::Trying(_) = waiting.state
        {
            // The attempt goes on with the old state; a hint makes the pod come back if it fails.
            waiting.pod = pod;
            self.hints += 1;
            return;
        }
        self.remove(&key);
        let state = if pod.gates.is_empty() { self.make_ready(&key, pod.priority) } else { State::Gated };
        self.waiting.insert(key, Waiting { pod, state, attempts });
    }

    /// Removes a pod: it is gone, or has been placed.
    pub fn remove(&mut self, key: &Key) {
        let Some(waiting) = self.waiting.remove(key) else { return };
        match waiting.state {
            State::Ready(arrival) => {
                self.ready.remove(&(Reverse(waiting.pod.priority), arrival, key.clone()));
            }
            State::Failed { until, .. } | State::BackingOff(until) => {
                self.later.remove(&(until, key.clone()));
            }
            State::Trying(_) | State::Gated => {}
        }
    }

    /// The next pod to try: the one of the highest priority that has waited longest.
    pub fn next(&mut self, now: Instant) -> Option<PodInfo> {
        self.promote(now);
        let (_, _, key) = self.ready.pop_first()?;
        let waiting = self.waiting.get_mut(&key)?;
        waiting.state = State::Trying(self.hints);
        waiting.attempts = waiting.attempts.saturating_add(1);
        Some(waiting.pod.clone())
    }

    /// When the next pod becomes ready by the passing of time.
    pub fn due(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((due, _), ())| *due)
    }

    /// The attempt failed: these plugins rejected the pod. None means that the attempt itself failed (a binding was
    /// refused, say), and the pod comes back after its back-off.
    pub fn failed(&mut self, key: &Key, rejected_by: Vec<&'static str>, now: Instant) {
        let hints = self.hints;
        let Some(waiting) = self.waiting.get_mut(key) else { return };
        let State::Trying(begun) = waiting.state else { return };
        let doublings = waiting.attempts.saturating_sub(1).min(16);
        let backoff = BACKOFF.0.saturating_mul(1 << doublings).min(BACKOFF.1);
        let (state, until) = if rejected_by.is_empty() || begun != hints {
            (State::BackingOff(now + backoff), now + backoff)
        } else {
            (State::Failed { rejected_by, until: now + STALE }, now + STALE)
        };
        waiting.state = state;
        self.later.insert((until, key.clone()), ());
    }

    /// Something changed: pods that it may help are tried again after their back-off. `helps` tells, of the plugins that
    /// rejected a pod, whether the change may make one of them accept it.
    pub fn hint(&mut self, now: Instant, helps: impl Fn(&PodInfo, &[&'static str]) -> bool) {
        self.hints += 1;
        let mut moved = Vec::new();
        for (key, waiting) in &mut self.waiting {
            let State::Failed { rejected_by, until } = &waiting.state else { continue };
            if !helps(&waiting.pod, rejected_by) {
                continue;
            }
            // The attempt failed at `until - STALE`; its back-off counts from then.
            let doublings = waiting.attempts.saturating_sub(1).min(16);
            let backoff = BACKOFF.0.saturating_mul(1 << doublings).min(BACKOFF.1);
            let ready = until.checked_sub(STALE).map_or(now, |failed| failed + backoff).max(now);
            moved.push((key.clone(), *until, ready));
            waiting.state = State::BackingOff(ready);
        }
        for (key, until, ready) in moved {
            self.later.remove(&(until, key.clone()));
            self.later.insert((ready, key), ());
        }
    }

    /// How many pods wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no pod waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn make_ready(&mut self, key: &Key, priority: i32) -> State {
        self.arrivals += 1;
        self.ready.insert((Reverse(priority), self.arrivals, key.clone()));
        State::Ready(self.arrivals)
    }

    fn promote(&mut self, now: Instant) {
        while self.due().is_some_and(|due| due <= now) {
            let Some(((_, key), ())) = self.later.pop_first() else { return };
            let Some(priority) = self.waiting.get(&key).map(|waiting| waiting.pod.priority) else { continue };
            let ready = self.make_ready(&key, priority);
            if let Some(waiting) = self.waiting.get_mut(&key) {
                waiting.state = ready;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, priority: i32) -> PodInfo {
        let view = serde_json::json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"priority": priority}});
        PodInfo::read(serde_json::from_value(view).unwrap()).unwrap()
    }

    fn next(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.next(now).map(|pod| pod.key.name.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn the_highest_priority_goes_first_and_then_the_oldest() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, priority) in [("a", 0), ("b", 0), ("c", 10)] {
            queue.add(pod(name, priority));
        }
        let order: Vec<_> = std::iter::from_fn(|| next(&mut queue, now)).collect();
        assert_eq!(order, ["c", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_failed_waits_for_a_change_that_helps_it_and_for_its_back_off() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0));
        let key = queue.next(now).unwrap().key;
        queue.failed(&key, vec!["NodePorts"], now);
        queue.hint(now, |_, rejected| rejected.contains(&"NodeAffinity"));
        assert_eq!(next(&mut queue, now + Duration::from_secs(20)), None);
        queue.hint(now, |_, rejected| rejected.contains(&"NodePorts"));
        assert_eq!(next(&mut queue, now), None);
        assert_eq!(next(&mut queue, now + Duration::from_secs(1)).as_deref(), Some("a"));
        // A second failure waits twice as long.
        queue.failed(&key, Vec::new(), now);
        assert_eq!(queue.due(), Some(now + Duration::from_secs(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_during_an_attempt_is_not_lost() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0));
        let key = queue.next(now).unwrap().key;
        queue.hint(now, |_, _| true);
        queue.failed(&key, vec!["NodePorts"], now);
        assert_eq!(next(&mut queue, now + Duration::from_secs(1)).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_gated_pod_waits_until_its_gates_are_gone() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let mut gated = pod("a", 0);
        gated.gates.push("example.com/gate".into());
        queue.add(gated);
        assert_eq!(next(&mut queue, now), None);
        queue.add(pod("a", 0));
        assert_eq!(next(&mut queue, now).as_deref(), Some("a"));
        queue.remove(&Key::new("n", "a"));
        assert!(queue.is_empty());
    }
}
