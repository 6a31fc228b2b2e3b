use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trireme_client::Key;

use super::in_flight::InFlight;
use crate::PodInfo;
use crate::framework::{ClusterEvent, Hint, Status};

/// How long pods wait after failed attempts.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first failure; doubled with each.
    pub first: Duration,
    /// At most.
    pub most: Duration,
    /// A pod that nothing seemed to help is tried again after this long all the same.
    pub stale: Duration,
}

/// What plugins say about waiting pods.
pub trait Rules {
    /// Whether a pod may be tried at all.
    ///
    /// # Errors
    /// Why not.
    fn gate(&self, pod: &Arc<PodInfo>) -> Result<(), Status>;
    /// Pods of a higher rank go first.
    fn rank(&self, pod: &PodInfo) -> i64;
    /// Whether an event may help a pod that these plugins rejected.
    fn hint(&self, pod: &Arc<PodInfo>, rejected_by: &[&'static str], event: &ClusterEvent) -> Hint;
    /// Whether `hint` says the same for all pods of this one's shape.
    fn alike(&self, pod: &PodInfo, rejected_by: &[&'static str]) -> bool;
}

/// A pod that is being tried.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The pod.
    pub pod: Arc<PodInfo>,
    /// How many attempts there were, this one included.
    pub attempts: u32,
    /// When the pod was tried first.
    pub first: Instant,
}

/// How an attempt failed.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// These plugins rejected the pod.
    Rejected(Vec<&'static str>),
    /// The attempt itself failed.
    Failed,
}

/// The pods that wait for a node.
pub struct Queue {
    backoff: Backoff,
    pods: HashMap<Key, Waiting>,
    ready: BTreeMap<(Reverse<i64>, u64), Key>,
    /// Pods that wait for the end of their back-off.
    later: BTreeMap<(Instant, u64), Key>,
    /// Pods that wait for an event, by when they failed.
    unfit: BTreeMap<(Instant, u64), Key>,
    /// The same, those together that an event helps or does not help together.
    alike: HashMap<Group, BTreeSet<Key>>,
    /// How many wait at a gate.
    gated: usize,
    in_flight: InFlight,
    arrivals: u64,
}

/// Pods that were rejected by the same plugins, and of which these say the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Group {
    shape: usize,
    rejected_by: Vec<&'static str>,
    /// Set where plugins tell pods of a shape apart.
    uid: Option<Box<str>>,
}

struct Waiting {
    pod: Arc<PodInfo>,
    rank: i64,
    place: Place,
    attempts: u32,
    /// Failures in a row that were no rejections.
    errors: u32,
    rejections: u32,
    first: Option<Instant>,
}

enum Place {
    Ready(u64),
    Trying(u64),
    Later { until: Instant, number: u64, error: bool },
    Unfit { since: Instant, number: u64, group: Group },
    Gated(Group),
}

impl Default for Backoff {
    /// Upstream's defaults.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), most: Duration::from_secs(10), stale: Duration::from_secs(300) }
    }
}

impl Backoff {
    fn after(&self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.most)
    }
}

impl Queue {
    /// An empty queue.
    pub fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            pods: HashMap::new(),
            ready: BTreeMap::new(),
            later: BTreeMap::new(),
            unfit: BTreeMap::new(),
            alike: HashMap::new(),
            gated: 0,
            in_flight: InFlight::default(),
            arrivals: 0,
        }
    }

    /// Adds a pod, or takes over its new state; `event` tells how it changed. Gives the state before.
    pub fn add(&mut self, rules: &dyn Rules, pod: Arc<PodInfo>, event: Option<&Arc<ClusterEvent>>, now: Instant) {
        let key = pod.key.clone();
        let rank = rules.rank(&pod);
        match self.pods.get_mut(&key) {
            // A pod of the same name made anew is another pod.
            Some(known) if known.pod.uid != pod.uid => {
                self.remove(&key);
                self.add(rules, pod, None, now);
            }
            None => {
                let waiting =
                    Waiting { pod, rank, place: Place::Ready(0), attempts: 0, errors: 0, rejections: 0, first: None };
                self.pods.insert(key.clone(), waiting);
                self.make_ready(rules, &key);
            }
            Some(known) => {
                known.pod = pod;
                if known.rank != rank
                    && let Place::Ready(arrival) = known.place
                {
                    self.ready.remove(&(Reverse(known.rank), arrival));
                    self.ready.insert((Reverse(rank), arrival), key.clone());
                }
                known.rank = rank;
                if let Some(event) = event {
                    self.target_changed(rules, &key, event, now);
                }
            }
        }
    }

    /// Removes a pod: it is gone, or has been placed.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<PodInfo>> {
        self.unplace(key);
        self.pods.remove(key).map(|waiting| waiting.pod)
    }

    /// A pod that waits.
    pub fn get(&self, key: &Key) -> Option<&Arc<PodInfo>> {
        self.pods.get(key).map(|waiting| &waiting.pod)
    }

    /// The pods that wait.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.pods.values().map(|waiting| &waiting.pod)
    }

    /// The next pod to try: the one of the highest rank that has waited longest. With nobody else ready, one that waits
    /// for the end of its back-off after a rejection goes before its time (KEP-5142).
    pub fn next(&mut self, rules: &dyn Rules, now: Instant) -> Option<Attempt> {
        self.promote(rules, now);
        if let Some((_, key)) = self.ready.pop_first() {
            return self.attempt(&key, now);
        }
        let early = self.later.iter().find_map(|(_, key)| {
            let early = matches!(self.pods.get(key)?.place, Place::Later { error: false, .. });
            early.then(|| key.clone())
        })?;
        self.take(&early, now)
    }

    /// Takes a pod out of its turn, if it is ready or backs off; for pods that are tried together with another.
    pub fn take(&mut self, key: &Key, now: Instant) -> Option<Attempt> {
        if !matches!(self.pods.get(key)?.place, Place::Ready(_) | Place::Later { .. }) {
            return None;
        }
        self.unplace(key);
        self.attempt(key, now)
    }

    fn attempt(&mut self, key: &Key, now: Instant) -> Option<Attempt> {
        let begun = self.in_flight.begin();
        let waiting = self.pods.get_mut(key)?;
        waiting.place = Place::Trying(begun);
        waiting.attempts = waiting.attempts.saturating_add(1);
        let first = *waiting.first.get_or_insert(now);
        Some(Attempt { pod: Arc::clone(&waiting.pod), attempts: waiting.attempts, first })
    }

    /// When the next pod becomes ready by the passing of time.
    pub fn due(&self) -> Option<Instant> {
        let stale = self.unfit.first_key_value().map(|((since, _), _)| *since + self.backoff.stale);
        let later = self.later.first_key_value().map(|((until, _), _)| *until);
        later.into_iter().chain(stale).min()
    }

    /// An attempt failed.
    pub fn failed(&mut self, rules: &dyn Rules, key: &Key, outcome: Outcome, now: Instant) {
        let Some(waiting) = self.pods.get_mut(key) else { return };
        let Place::Trying(begun) = waiting.place else { return };
        match outcome {
            Outcome::Failed => {
                waiting.errors = waiting.errors.saturating_add(1);
                let until = now + self.backoff.after(waiting.errors);
                self.in_flight.end(begun);
                self.wait_until(key, until, true);
            }
            Outcome::Rejected(rejected_by) => {
                waiting.errors = 0;
                waiting.rejections = waiting.rejections.saturating_add(1);
                let helped = match self.in_flight.since(begun) {
                    None => true,
                    Some(mut events) => {
                        let pod = &waiting.pod;
                        events.any(|event| rules.hint(pod, &rejected_by, event) == Hint::Queue)
                    }
                };
                let until = now + self.backoff.after(waiting.rejections);
                self.in_flight.end(begun);
                if helped || rejected_by.is_empty() {
                    self.wait_until(key, until, false);
                } else {
                    self.shelve(rules, key, rejected_by, now);
                }
            }
        }
    }

    /// Something changed: pods that it may help are tried again after their back-off.
    pub fn event(&mut self, rules: &dyn Rules, event: &Arc<ClusterEvent>, now: Instant) {
        self.in_flight.push(event);
        let mut helped = Vec::new();
        for (group, keys) in &self.alike {
            let one = keys.first().and_then(|key| self.pods.get(key));
            if one.is_some_and(|one| rules.hint(&one.pod, &group.rejected_by, event) == Hint::Queue) {
                helped.extend(keys.iter().cloned());
            }
        }
        for key in helped {
            self.help(rules, &key, now);
        }
    }

    /// Tries a pod again that waits for an event or at a gate, as soon as its back-off allows.
    pub fn help(&mut self, rules: &dyn Rules, key: &Key, now: Instant) {
        let Some(waiting) = self.pods.get(key) else { return };
        let failed = match waiting.place {
            Place::Unfit { since, .. } => Some(since),
            Place::Gated(_) => None,
            _ => return,
        };
        let until = failed.map(|failed| failed + self.backoff.after(waiting.rejections));
        self.unplace(key);
        match until.filter(|until| *until > now) {
            Some(until) => self.wait_until(key, until, false),
            None => self.make_ready(rules, key),
        }
    }

    /// Looks again at a pod that waits at a gate.
    pub fn release(&mut self, rules: &dyn Rules, key: &Key, now: Instant) {
        if self.pods.get(key).is_some_and(|waiting| matches!(waiting.place, Place::Gated(_))) {
            self.help(rules, key, now);
        }
    }

    /// How many pods are ready, back off, wait for an event, and wait at a gate.
    pub fn counts(&self) -> (usize, usize, usize, usize) {
        (self.ready.len(), self.later.len(), self.unfit.len(), self.gated)
    }

    /// How many events are kept for attempts under way.
    pub fn events_kept(&self) -> usize {
        self.in_flight.len()
    }

    /// How many pods wait.
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether no pod waits.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    fn target_changed(&mut self, rules: &dyn Rules, key: &Key, event: &Arc<ClusterEvent>, now: Instant) {
        let Some(waiting) = self.pods.get(key) else { return };
        match &waiting.place {
            Place::Trying(_) => self.in_flight.push(event),
            // Its gates may be gone, or it may be held back by others now.
            Place::Gated(_) => self.help(rules, key, now),
            Place::Ready(_) | Place::Later { .. } if rules.gate(&waiting.pod).is_err() => {
                self.unplace(key);
                self.make_ready(rules, key);
            }
            Place::Unfit { group, .. } if rules.hint(&waiting.pod, &group.rejected_by, event) == Hint::Queue => {
                self.help(rules, key, now);
            }
            Place::Unfit { since, group, .. } => {
                // The pod may be of another shape now.
                let (since, rejected_by) = (*since, group.rejected_by.clone());
                self.unplace(key);
                self.shelve(rules, key, rejected_by, since);
            }
            Place::Ready(_) | Place::Later { .. } => {}
        }
    }

    /// Takes a pod out of all lists; it must be put into one again, or removed.
    fn unplace(&mut self, key: &Key) {
        let Some(waiting) = self.pods.get(key) else { return };
        let group = match &waiting.place {
            Place::Ready(arrival) => {
                self.ready.remove(&(Reverse(waiting.rank), *arrival));
                return;
            }
            Place::Trying(begun) => return self.in_flight.end(*begun),
            Place::Later { until, number, .. } => {
                self.later.remove(&(*until, *number));
                return;
            }
            Place::Unfit { since, number, group } => {
                self.unfit.remove(&(*since, *number));
                group
            }
            Place::Gated(group) => {
                self.gated -= 1;
                group
            }
        };
        if let Some(keys) = self.alike.get_mut(group) {
            keys.remove(key);
            if keys.is_empty() {
                let group = group.clone();
                self.alike.remove(&group);
            }
        }
    }

    fn make_ready(&mut self, rules: &dyn Rules, key: &Key) {
        self.arrivals += 1;
        let number = self.arrivals;
        let Some(waiting) = self.pods.get_mut(key) else { return };
        match rules.gate(&waiting.pod) {
            Ok(()) => {
                waiting.place = Place::Ready(number);
                self.ready.insert((Reverse(waiting.rank), number), key.clone());
            }
            Err(status) => {
                let group = Group::of(rules, &waiting.pod, vec![status.plugin]);
                self.alike.entry(group.clone()).or_default().insert(key.clone());
                self.gated += 1;
                waiting.place = Place::Gated(group);
            }
        }
    }

    fn wait_until(&mut self, key: &Key, until: Instant, error: bool) {
        self.arrivals += 1;
        let Some(waiting) = self.pods.get_mut(key) else { return };
        waiting.place = Place::Later { until, number: self.arrivals, error };
        self.later.insert((until, self.arrivals), key.clone());
    }

    fn shelve(&mut self, rules: &dyn Rules, key: &Key, rejected_by: Vec<&'static str>, since: Instant) {
        self.arrivals += 1;
        let Some(waiting) = self.pods.get_mut(key) else { return };
        let group = Group::of(rules, &waiting.pod, rejected_by);
        self.alike.entry(group.clone()).or_default().insert(key.clone());
        self.unfit.insert((since, self.arrivals), key.clone());
        waiting.place = Place::Unfit { since, number: self.arrivals, group };
    }

    fn promote(&mut self, rules: &dyn Rules, now: Instant) {
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            let key = first.remove();
            self.make_ready(rules, &key);
        }
        while let Some(((since, _), key)) = self.unfit.first_key_value()
            && *since + self.backoff.stale <= now
        {
            let key = key.clone();
            self.help(rules, &key, now);
        }
    }
}

impl Group {
    fn of(rules: &dyn Rules, pod: &PodInfo, rejected_by: Vec<&'static str>) -> Self {
        let uid = (!rules.alike(pod, &rejected_by)).then(|| pod.uid.clone());
        Self { shape: Arc::as_ptr(&pod.shape) as usize, rejected_by, uid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::{Actions, Change, Source};
    use crate::testing::pod;
    use serde_json::json;

    /// An event helps pods that were rejected by the plugin of its source's name; pods with gates wait.
    struct ByName;

    impl Rules for ByName {
        fn gate(&self, pod: &Arc<PodInfo>) -> Result<(), Status> {
            if pod.gates.is_empty() { Ok(()) } else { Err(Status::unresolvable("gated").by("SchedulingGates")) }
        }

        fn rank(&self, pod: &PodInfo) -> i64 {
            i64::from(pod.priority)
        }

        fn hint(&self, _: &Arc<PodInfo>, rejected_by: &[&'static str], event: &ClusterEvent) -> Hint {
            if rejected_by.contains(&event.source.name()) { Hint::Queue } else { Hint::Skip }
        }

        fn alike(&self, _: &PodInfo, _: &[&'static str]) -> bool {
            true
        }
    }

    fn with_priority(name: &str, priority: i32) -> Arc<PodInfo> {
        pod(name, json!({"priority": priority}))
    }

    fn event(source: Source) -> Arc<ClusterEvent> {
        Arc::new(ClusterEvent { source, actions: Actions::ADD, change: Change::Object { old: None, new: None } })
    }

    fn next(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.next(&ByName, now).map(|attempt| attempt.pod.key.name.to_string())
    }

    fn rejected(plugin: &'static str) -> Outcome {
        Outcome::Rejected(vec![plugin])
    }

    #[tokio::test(start_paused = true)]
    async fn the_highest_priority_goes_first_and_then_the_oldest() {
        let (mut queue, now) = (Queue::new(Backoff::default()), Instant::now());
        for (name, priority) in [("a", 0), ("b", 0), ("c", 10)] {
            queue.add(&ByName, with_priority(name, priority), None, now);
        }
        let order: Vec<_> = std::iter::from_fn(|| next(&mut queue, now)).collect();
        assert_eq!(order, ["c", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_pod_waits_for_a_change_that_helps_it() {
        let (mut queue, now) = (Queue::new(Backoff::default()), Instant::now());
        queue.add(&ByName, with_priority("a", 0), None, now);
        let key = queue.next(&ByName, now).unwrap().pod.key.clone();
        queue.failed(&ByName, &key, rejected("Node"), now);
        queue.event(&ByName, &event(Source::PodGroup), now);
        assert_eq!(next(&mut queue, now + Duration::from_secs(20)), None);
        queue.event(&ByName, &event(Source::Node), now);
        queue.add(&ByName, with_priority("b", 0), None, now);
        assert_eq!(next(&mut queue, now).as_deref(), Some("b"), "it backs off");
        assert_eq!(next(&mut queue, now).as_deref(), Some("a"), "nobody else is ready");
        // A second failure waits twice as long.
        queue.failed(&ByName, &key, rejected("Node"), now);
        queue.event(&ByName, &event(Source::Node), now);
        assert_eq!(queue.due(), Some(now + Duration::from_secs(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_error_the_back_off_is_kept() {
        let (mut queue, now) = (Queue::new(Backoff::default()), Instant::now());
        queue.add(&ByName, with_priority("a", 0), None, now);
        let key = queue.next(&ByName, now).unwrap().pod.key.clone();
        queue.failed(&ByName, &key, Outcome::Failed, now);
        assert_eq!(next(&mut queue, now), None);
        assert_eq!(next(&mut queue, now + Duration::from_secs(1)).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_during_an_attempt_is_not_lost() {
        let (mut queue, now) = (Queue::new(Backoff::default()), Instant::now());
        for name in ["a", "b"] {
            queue.add(&ByName, with_priority(name, 0), None, now);
        }
        let a = queue.next(&ByName, now).unwrap().pod.key.clone();
        queue.event(&ByName, &event(Source::Node), now);
        let b = queue.next(&ByName, now).unwrap().pod.key.clone();
        queue.failed(&ByName, &a, rejected("Node"), now);
        queue.failed(&ByName, &b, rejected("Node"), now);
        assert_eq!(queue.counts(), (0, 1, 1, 0), "the event came before b was tried");
        assert_eq!(queue.events_kept(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_nothing_helps_is_tried_again_in_the_end() {
        let (mut queue, now) = (Queue::new(Backoff::default()), Instant::now());
        queue.add(&ByName, with_priority("a", 0), None, now);
        let key = queue.next(&ByName, now).unwrap().pod.key.clone();
        queue.failed(&ByName, &key, rejected("Node"), now);
        assert_eq!(queue.due(), Some(now + Duration::from_secs(300)));
        assert_eq!(next(&mut queue, now + Duration::from_secs(300)).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_gated_pod_waits_until_its_gates_are_gone() {
        let (mut queue, now) = (Queue::new(Backoff::default()), Instant::now());
        queue.add(&ByName, pod("a", json!({"schedulingGates": [{"name": "example.com/gate"}]})), None, now);
        assert_eq!(next(&mut queue, now), None);
        assert_eq!(queue.counts(), (0, 0, 0, 1));
        queue.add(&ByName, pod("a", json!({})), Some(&event(Source::TargetPod)), now);
        assert_eq!(next(&mut queue, now).as_deref(), Some("a"));
        queue.remove(&Key::new("n", "a"));
        assert!(queue.is_empty());
    }
}
