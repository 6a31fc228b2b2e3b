//! How long pods wait, as the administrator's watch shows it: when they are made, bound, and run.

use crate::Histogram;
use crate::world::World;
use futures::StreamExt;
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trireme_client::{Backoff, Error, Selection, WatchEvent};

/// Times between what a pod goes through. What was not seen to happen is in none of them.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// From when a pod is made until it is bound to a node.
    pub created_to_bound: Histogram,
    /// From when it is bound until it runs.
    pub bound_to_running: Histogram,
    /// Both together.
    pub created_to_running: Histogram,
}

/// What was seen of pods.
#[derive(Debug, Default)]
pub(crate) struct Observer(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    pods: HashMap<Box<str>, Trace>,
    latencies: Latencies,
    waiting: u64,
}

/// What was seen of one pod, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trace {
    /// It is bound to no node; when it was made, if that was seen.
    Waiting(Option<Instant>),
    /// It is bound to one of ours: when it was made, and when it was bound.
    Bound(Option<Instant>, Instant),
    /// There is nothing more to see.
    Done,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    uid: Box<str>,
    #[serde(default)]
    resource_version: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    node_name: Box<str>,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: Box<str>,
}

impl Seen {
    /// A pod as it is now; `first` says that it was there before anybody looked.
    fn apply(&mut self, pod: &Pod, ours: bool, first: bool, now: Instant) {
        let bound = !pod.spec.node_name.is_empty();
        let before = self.pods.get(&pod.metadata.uid).copied();
        let over = matches!(&*pod.status.phase, "Succeeded" | "Failed");
        let made = (!first).then_some(now);
        let next = match before {
            None if !bound && !over => Trace::Waiting(made),
            // Made with its node: nobody bound it.
            None if ours && !first && &*pod.status.phase == "Pending" => Trace::Bound(made, now),
            None => Trace::Done,
            Some(Trace::Waiting(_)) if over || (bound && !ours) => Trace::Done,
            Some(Trace::Waiting(made)) if bound => {
                if let Some(made) = made {
                    self.latencies.created_to_bound.add(now - made);
                }
                Trace::Bound(made, now)
            }
            Some(same) => same,
        };
        let next = match next {
            Trace::Bound(made, bound) if &*pod.status.phase == "Running" => {
                self.latencies.bound_to_running.add(now - bound);
                if let Some(made) = made {
                    self.latencies.created_to_running.add(now - made);
                }
                Trace::Done
            }
            Trace::Bound(..) if over => Trace::Done,
            next => next,
        };
        self.put(&pod.metadata.uid, Some(next));
    }

    fn put(&mut self, uid: &str, next: Option<Trace>) {
        let waits = |trace: Option<&Trace>| u64::from(matches!(trace, Some(Trace::Waiting(_))));
        self.waiting += waits(next.as_ref());
        let before = match next {
            Some(next) => self.pods.insert(uid.into(), next),
            None => self.pods.remove(uid),
        };
        self.waiting -= waits(before.as_ref());
    }
}

impl Observer {
    pub(crate) fn latencies(&self) -> Latencies {
        self.0.lock().latencies.clone()
    }

    /// Pods of the cluster that are bound to no node.
    pub(crate) fn waiting(&self) -> u64 {
        self.0.lock().waiting
    }

    /// Watches until the simulation stops.
    pub(crate) async fn run(&self, world: Arc<World>) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        let mut since = None;
        while !world.stop.is_cancelled() {
            let watched = tokio::select! {
                () = world.stop.cancelled() => return,
                watched = self.follow(&world, &mut since, &mut backoff) => watched,
            };
            if let Err(error) = watched {
                if error.is_expired() {
                    since = None;
                }
                tracing::debug!(%error, "the watch of pods broke");
                tokio::select! {
                    () = world.stop.cancelled() => return,
                    () = tokio::time::sleep(backoff.step()) => {}
                }
            }
        }
    }

    async fn follow(&self, world: &World, since: &mut Option<String>, backoff: &mut Backoff) -> Result<(), Error> {
        let selection = Selection { collection: "/api/v1/pods".into(), ..Selection::default() };
        let mut first = since.is_none().then(HashSet::new);
        let mut events = world.admin().watch(selection, since.clone());
        let read = |bytes: &[u8]| {
            serde_json::from_slice::<Pod>(bytes).map_err(|source| Error::Decode { what: "a pod".into(), source })
        };
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Applied(bytes) => {
                    let pod = read(&bytes)?;
                    let ours = world.options.is_ours(&pod.spec.node_name);
                    self.0.lock().apply(&pod, ours, first.is_some(), Instant::now());
                    match &mut first {
                        Some(seen) => drop(seen.insert(pod.metadata.uid)),
                        None => *since = Some(pod.metadata.resource_version),
                    }
                }
                WatchEvent::Deleted(bytes) => {
                    let pod = read(&bytes)?;
                    self.0.lock().put(&pod.metadata.uid, None);
                    if first.is_none() {
                        *since = Some(pod.metadata.resource_version);
                    }
                }
                WatchEvent::Bookmark { resource_version, initial_events_end } => {
                    backoff.reset();
                    if initial_events_end && let Some(there) = first.take() {
                        let mut seen = self.0.lock();
                        let gone: Vec<_> = seen.pods.keys().filter(|uid| !there.contains(*uid)).cloned().collect();
                        gone.iter().for_each(|uid| seen.put(uid, None));
                    }
                    if first.is_none() {
                        *since = Some(resource_version);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, node: &str, phase: &str) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"uid": uid}, "spec": {"nodeName": node}, "status": {"phase": phase}
        }))
        .unwrap()
    }

    fn counts(seen: &Seen) -> [u64; 4] {
        let times = &seen.latencies;
        [times.created_to_bound.count(), times.bound_to_running.count(), times.created_to_running.count(), seen.waiting]
    }

    #[test]
    fn times_are_those_between_what_was_seen() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        seen.apply(&pod("a", "", "Pending"), false, false, at(0));
        assert_eq!(counts(&seen), [0, 0, 0, 1]);
        seen.apply(&pod("a", "ours", "Pending"), true, false, at(100));
        assert_eq!(counts(&seen), [1, 0, 0, 0]);
        seen.apply(&pod("a", "ours", "Running"), true, false, at(400));
        seen.apply(&pod("a", "ours", "Running"), true, false, at(900));
        assert_eq!(counts(&seen), [1, 1, 1, 0]);
        let most = |times: &Histogram| times.most().as_millis();
        assert_eq!(
            [&seen.latencies.created_to_bound, &seen.latencies.bound_to_running, &seen.latencies.created_to_running]
                .map(most),
            [100, 300, 400]
        );
    }

    #[test]
    fn what_was_not_seen_is_not_told() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        // It was there before; nobody knows for how long.
        seen.apply(&pod("a", "", "Pending"), false, true, now);
        seen.apply(&pod("a", "ours", "Pending"), true, false, now);
        seen.apply(&pod("a", "ours", "Running"), true, false, now);
        assert_eq!(counts(&seen), [0, 1, 0, 0]);
        // It ran before, or on nodes of others.
        seen.apply(&pod("b", "ours", "Running"), true, true, now);
        seen.apply(&pod("c", "", "Pending"), false, false, now);
        seen.apply(&pod("c", "other", "Pending"), false, false, now);
        seen.apply(&pod("c", "other", "Running"), false, false, now);
        assert_eq!(counts(&seen), [0, 1, 0, 0]);
        seen.apply(&pod("d", "", "Pending"), false, false, now);
        seen.put("d", None);
        assert_eq!(counts(&seen), [0, 1, 0, 0]);
    }
}
