//! A node's pods: heard of by a watch, moved on by time, written as they change.

use crate::addresses::Addresses;
use crate::node::{self, Node};
use crate::pod::{Moved, Outside, Pod, Stage, after};
use crate::script::Script;
use crate::shape::{self, Head, HeadMeta};
use crate::status::{self, Place};
use crate::tally::{Gauge, Tally};
use crate::world::{Chance, JSON, STRATEGIC};
use bytes::Bytes;
use futures::StreamExt;
use http::Method;
use jiff::Timestamp;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use trireme_client::{Backoff, DeleteOptions, Error, Selection, WatchEvent, WatchStream};
use trireme_schema::{Value, json, time};

/// A call that failed is made again after this, and after twice as long each time that follows.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A node without addresses for pods looks again after this.
const ADDRESSES: Duration = Duration::from_secs(2);
/// So many events wait while calls are under way; a node has a few for each of its pods.
const MOST_WAITING: usize = 4096;

pub(crate) struct Work {
    node: Arc<Node>,
    pods: BTreeMap<Box<str>, Entry>,
    addresses: Option<Addresses>,
    /// Whether pods wait for the node to be given addresses, and when it looks for them again.
    waits: bool,
    look: Timestamp,
    /// The images that were pulled.
    images: BTreeSet<u64>,
    chance: SmallRng,
    /// The revision up to which all was heard.
    since: Option<String>,
}

/// A pod, and what is kept of it.
struct Entry {
    pod: Pod,
    namespace: Box<str>,
    name: Box<str>,
    generation: i64,
    /// The object, as much as is needed, packed.
    object: Box<[u8]>,
    /// The digest of the status that was written last.
    written: u64,
    /// Its place among the node's addresses.
    place: Option<u32>,
    on_host: bool,
    /// Whether others' conditions make it ready.
    gated: bool,
    /// The status has to be written.
    dirty: bool,
    /// The object was deleted for good.
    deleted: bool,
    /// So often the last call failed; before a time there is no other.
    failures: u8,
    not_before: Timestamp,
}

/// Why a watch is followed no longer.
enum Left {
    Stopped,
    Silent,
    Ended,
    Failed(Error),
}

impl Work {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        let chance = node.world.chance(node.index, Chance::Pods);
        let mut work = Self {
            pods: BTreeMap::new(),
            addresses: None,
            waits: false,
            look: Timestamp::MIN,
            images: BTreeSet::new(),
            chance,
            since: None,
            node,
        };
        let ranges = work.node.ranges.clone();
        work.set_ranges(&ranges);
        work
    }

    fn set_ranges(&mut self, ranges: &[String]) {
        let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
        self.addresses = Addresses::new(&ranges).ok();
    }

    /// Works while the node `answers`, until the simulation stops.
    pub(crate) async fn run(mut self, mut answers: watch::Receiver<bool>) {
        let stop = self.node.world.stop.clone();
        let selection = Selection {
            collection: "/api/v1/pods".into(),
            fields: Some(format!("spec.nodeName={}", self.node.name)),
            ..Selection::default()
        };
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                answer = async { answers.wait_for(|answers| *answers).await.is_ok() } => if !answer { return },
            }
            let mut events = self.node.client.watch(selection.clone(), self.since.clone());
            match self.follow(&mut events, &mut answers, &mut backoff).await {
                Left::Stopped => return,
                Left::Silent | Left::Ended => {}
                Left::Failed(error) => {
                    if error.is_expired() {
                        self.since = None;
                    }
                    tracing::debug!(node = self.node.name, %error, "a watch broke");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(backoff.step()) => {}
                    }
                }
            }
        }
    }

    async fn follow(
        &mut self,
        events: &mut WatchStream,
        answers: &mut watch::Receiver<bool>,
        backoff: &mut Backoff,
    ) -> Left {
        let stop = self.node.world.stop.clone();
        // Until the first objects have all come: those that came. Others that are known have gone meanwhile.
        let mut first = self.since.is_none().then(BTreeSet::new);
        let mut waiting: VecDeque<Option<Result<WatchEvent, Error>>> = VecDeque::new();
        loop {
            if waiting.is_empty() {
                let next = self.next();
                let wait = next.map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default());
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Left::Stopped,
                    // The sender lives as long as the node does.
                    silent = async { answers.wait_for(|answers| !*answers).await.is_ok() } => {
                        return if silent { Left::Silent } else { Left::Stopped };
                    }
                    event = events.next() => waiting.push_back(event),
                    () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                }
            } else if stop.is_cancelled() {
                return Left::Stopped;
            } else if !*answers.borrow() {
                return Left::Silent;
            }
            while let Some(event) = waiting.pop_front() {
                if let Some(left) = self.take_event(event, &mut first, backoff) {
                    return left;
                }
            }
            // Nodes share connections: events that nobody takes would hold up the answers to all of them.
            let settle = self.settle();
            tokio::pin!(settle);
            loop {
                let over = matches!(waiting.back(), Some(None | Some(Err(_))));
                tokio::select! {
                    biased;
                    () = &mut settle => break,
                    event = events.next(), if !over && waiting.len() < MOST_WAITING => waiting.push_back(event),
                }
            }
        }
    }

    /// Takes what a watch gave; tells why it is not followed further, if so.
    fn take_event(
        &mut self,
        event: Option<Result<WatchEvent, Error>>,
        first: &mut Option<BTreeSet<Box<str>>>,
        backoff: &mut Backoff,
    ) -> Option<Left> {
        let read = |bytes: &Bytes| {
            let head = serde_json::from_slice::<Head>(bytes).map(|head| head.metadata);
            head.map_err(|source| Left::Failed(Error::Decode { what: "a pod".into(), source }))
        };
        match event {
            None => return Some(Left::Ended),
            Some(Err(error)) => return Some(Left::Failed(error)),
            Some(Ok(WatchEvent::Bookmark { resource_version, initial_events_end })) => {
                backoff.reset();
                if initial_events_end && let Some(seen) = first.take() {
                    let gone: Vec<_> = self.pods.keys().filter(|uid| !seen.contains(*uid)).cloned().collect();
                    gone.iter().for_each(|uid| self.gone(uid));
                }
                if first.is_none() {
                    self.since = Some(resource_version);
                }
            }
            Some(Ok(WatchEvent::Applied(bytes))) => match read(&bytes) {
                Err(left) => return Some(left),
                Ok(meta) => {
                    match first {
                        Some(seen) => drop(seen.insert(meta.uid.clone())),
                        None => self.since = Some(meta.resource_version.clone()),
                    }
                    self.hear(meta, &bytes);
                }
            },
            Some(Ok(WatchEvent::Deleted(bytes))) => match read(&bytes) {
                Err(left) => return Some(left),
                Ok(meta) => {
                    if first.is_none() {
                        self.since = Some(meta.resource_version);
                    }
                    self.gone(&meta.uid);
                }
            },
        }
        None
    }

    /// Hears of a pod as it is now.
    fn hear(&mut self, meta: HeadMeta, bytes: &Bytes) {
        let now = Timestamp::now();
        if !self.pods.contains_key(&meta.uid) {
            let entry = self.take(&meta, bytes, now);
            self.pods.insert(meta.uid.clone(), entry);
        }
        let Some(entry) = self.pods.get_mut(&meta.uid) else { return };
        if entry.generation != meta.generation || entry.gated {
            let mut new = shape::slim(&json::parse(bytes).unwrap_or_default());
            shape::merged(&mut new, &shape::unpacked(&entry.object));
            entry.object = shape::packed(&new);
            entry.generation = meta.generation;
            entry.dirty = true;
        }
        if meta.deletion_timestamp.is_some() {
            let grace = Duration::from_secs(meta.deletion_grace_period_seconds.unwrap_or(0));
            self.change(&meta.uid, |pod| {
                pod.stop(now, grace);
                Moved::default()
            });
        }
    }

    /// Takes a pod that was not known: a new one, or one that a node of this name ran before.
    fn take(&mut self, meta: &HeadMeta, bytes: &Bytes, now: Timestamp) -> Entry {
        let world = Arc::clone(&self.node.world);
        let (options, tally) = (&world.options, &world.tally);
        let object = json::parse(bytes).unwrap_or_default();
        let script = Script::of(&object, &options.times, &mut self.chance);
        let late = self.pull(&object);
        let mut pod = Pod::new(script, &shape::probes(&object), late, now);
        let mut place = None;
        let mut dirty = true;
        let gauge = match object.str_at(&["status", "phase"]) {
            "Succeeded" | "Failed" => {
                pod.was_over(now);
                dirty = false;
                &tally.over
            }
            _ => match ran_before(&object) {
                None => {
                    tally.scheduled.add(1);
                    &tally.starting
                }
                Some((taken, running)) => {
                    let rate = options.trouble.fail_pods;
                    let chance = &mut self.chance;
                    pod.take_up(taken, &running, &mut outside(&mut || rate.draw(chance), &|_, _| true));
                    let address = object.str_at(&["status", "podIP"]).parse();
                    place = address.ok().and_then(|address| self.addresses.as_mut()?.reserve(address));
                    dirty = false;
                    &tally.running
                }
            },
        };
        gauge.change(1);
        Entry {
            pod,
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            generation: meta.generation,
            object: shape::packed(&shape::slim(&object)),
            written: 0,
            place,
            on_host: object.bool_at(&["spec", "hostNetwork"]),
            gated: !object.list_at(&["spec", "readinessGates"]).is_empty(),
            dirty,
            deleted: false,
            failures: 0,
            not_before: Timestamp::MIN,
        }
    }

    /// How long it takes to pull the images that the node does not have yet.
    fn pull(&mut self, object: &Value) -> Duration {
        let Some(span) = self.node.world.options.times.pull else { return Duration::ZERO };
        let mut late = Duration::ZERO;
        for image in shape::images(object) {
            if self.images.insert(digest(image.as_bytes())) {
                late = late.saturating_add(span.draw(&mut self.chance));
            }
        }
        late
    }

    /// Changes a pod, and counts what that makes of it.
    fn change(&mut self, uid: &str, change: impl FnOnce(&mut Pod) -> Moved) -> Moved {
        let tally = &self.node.world.tally;
        let Some(entry) = self.pods.get_mut(uid) else { return Moved::default() };
        gauge(tally, entry.pod.stage).change(-1);
        let moved = change(&mut entry.pod);
        gauge(tally, entry.pod.stage).change(1);
        entry.dirty |= moved.changed;
        tally.started.add(moved.started.into());
        tally.restarted.add(moved.restarted.into());
        moved
    }

    /// A pod is there no longer.
    fn gone(&mut self, uid: &str) {
        // Whatever it was, it is over.
        self.change(uid, |pod| {
            pod.was_over(Timestamp::now());
            Moved::default()
        });
        if let Some(entry) = self.pods.remove(uid) {
            self.node.world.tally.over.change(-1);
            self.node.world.tally.deleted.add(1);
            if let (Some(place), Some(addresses)) = (entry.place, &mut self.addresses) {
                addresses.free(place);
            }
        }
    }

    /// When there is something to do next.
    fn next(&self) -> Option<Timestamp> {
        self.pods.values().filter_map(Entry::next).min()
    }

    /// Does all that is to be done by now.
    async fn settle(&mut self) {
        let now = Timestamp::now();
        let due: Vec<Box<str>> = self
            .pods
            .iter()
            .filter(|(_, e)| e.next().is_some_and(|at| at <= now))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in due {
            if self.node.world.stop.is_cancelled() {
                return;
            }
            let done = self.move_on(&uid).await;
            let Some(entry) = self.pods.get_mut(&uid) else { continue };
            match done {
                Ok(()) => (entry.failures, entry.not_before) = (0, Timestamp::MIN),
                Err(pause) => {
                    let again = AGAIN.0.saturating_mul(1 << entry.failures.min(10)).min(AGAIN.1);
                    entry.failures = entry.failures.saturating_add(1);
                    entry.not_before = after(Timestamp::now(), pause.unwrap_or(again));
                }
            }
        }
    }

    /// Moves a pod on and writes what has become of it. An error is how long to wait, if not as usual.
    async fn move_on(&mut self, uid: &str) -> Result<(), Option<Duration>> {
        let now = Timestamp::now();
        let Some(entry) = self.pods.get(uid) else { return Ok(()) };
        if matches!(entry.pod.stage, Stage::Starting { at } if at <= now) && !entry.on_host && entry.place.is_none() {
            let place = self.address().await?;
            if let Some(entry) = self.pods.get_mut(uid) {
                entry.place = Some(place);
            }
        }
        let Some(entry) = self.pods.get(uid) else { return Ok(()) };
        let mut object = None;
        if entry.pod.next().is_some_and(|at| at <= now) {
            let slim = shape::unpacked(&entry.object);
            let rate = self.node.world.options.trouble.fail_pods;
            let mut chance = self.chance.clone();
            let moved = self.change(uid, |pod| {
                let restarts = |index: usize, code| {
                    let container = slim.list_at(&["spec", "containers"]).get(index);
                    container.is_some_and(|container| trireme_node::restarts(&slim, container, code))
                };
                pod.advance(now, &mut outside(&mut || rate.draw(&mut chance), &restarts))
            });
            self.chance = chance;
            object = Some((slim, moved));
        }
        let Some(entry) = self.pods.get(uid) else { return Ok(()) };
        if entry.dirty {
            let (slim, moved) = object.unwrap_or_else(|| (shape::unpacked(&entry.object), Moved::default()));
            self.write(uid, slim, moved.over).await?;
        }
        let ends = self.pods.get(uid).is_some_and(|entry| entry.pod.is_stopped() && !entry.deleted);
        if ends { self.delete(uid).await } else { Ok(()) }
    }

    /// A place among the node's addresses.
    async fn address(&mut self) -> Result<u32, Option<Duration>> {
        let now = Timestamp::now();
        if self.addresses.is_none() && self.look <= now {
            // All of its pods wait for the one answer.
            self.look = after(now, ADDRESSES);
            let path = format!("/api/v1/nodes/{}", self.node.name);
            let answer = self.node.client.request(Method::GET, &path, None).await.map_err(|_| None)?;
            let ranges = node::ranges(&json::parse(answer.body()).unwrap_or_default());
            self.set_ranges(&ranges);
        }
        let waits = self.addresses.is_none();
        if waits != self.waits {
            self.waits = waits;
            self.node.world.tally.without_addresses.change(if waits { 1 } else { -1 });
        }
        self.addresses.as_mut().and_then(Addresses::take).ok_or(Some(ADDRESSES))
    }

    async fn write(&mut self, uid: &str, mut slim: Value, over: bool) -> Result<(), Option<Duration>> {
        let Some(entry) = self.pods.get(uid) else { return Ok(()) };
        let ips = match (entry.on_host, entry.place, &self.addresses) {
            (true, ..) => vec![self.node.address.clone()],
            (false, Some(place), Some(addresses)) => addresses.at(place),
            _ => Vec::new(),
        };
        let place = Place { host: &self.node.address, ips: &ips };
        let status = status::of(&slim, &entry.pod, &place);
        if over {
            let tally = &self.node.world.tally;
            let counter = if status.str_at(&["phase"]) == "Succeeded" { &tally.succeeded } else { &tally.failed };
            counter.add(1);
        }
        let written = digest(&json::to_vec(&status));
        if written != entry.written {
            let mut patch = Value::object();
            patch.set_at(&["metadata", "uid"], uid);
            patch.set_at(&["status"], trireme_node::status::patch(slim.get("status").unwrap_or(&Value::Null), &status));
            let path = format!("/api/v1/namespaces/{}/pods/{}/status", entry.namespace, entry.name);
            let body = Some((STRATEGIC, Bytes::from(json::to_vec(&patch))));
            match self.node.client.request(Method::PATCH, &path, body).await {
                Ok(_) => {}
                // The pod is gone or another: the watch says so.
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => {
                    tracing::debug!(node = self.node.name, %error, "cannot write a pod's status");
                    return Err(None);
                }
            }
        }
        for field in ["phase", "conditions"] {
            slim.set_at(&["status", field], status.get(field).cloned().unwrap_or_default());
        }
        if let Some(entry) = self.pods.get_mut(uid) {
            (entry.object, entry.written, entry.dirty) = (shape::packed(&slim), written, false);
        }
        Ok(())
    }

    async fn delete(&mut self, uid: &str) -> Result<(), Option<Duration>> {
        let Some(entry) = self.pods.get(uid) else { return Ok(()) };
        let path = format!("/api/v1/namespaces/{}/pods/{}", entry.namespace, entry.name);
        let options = DeleteOptions::default().grace(0).uid(uid);
        let body = serde_json::to_vec(&options).map_err(|_| None)?;
        match self.node.client.request(Method::DELETE, &path, Some((JSON, body.into()))).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => {
                tracing::debug!(node = self.node.name, %error, "cannot delete a pod");
                return Err(None);
            }
        }
        if let Some(entry) = self.pods.get_mut(uid) {
            entry.deleted = true;
        }
        Ok(())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.waits {
            self.node.world.tally.without_addresses.change(-1);
        }
    }
}

impl Entry {
    fn next(&self) -> Option<Timestamp> {
        if self.deleted {
            return None;
        }
        let due = if self.dirty || self.pod.is_stopped() { Some(Timestamp::MIN) } else { self.pod.next() };
        due.map(|at| at.max(self.not_before))
    }
}

/// Where a pod is counted.
fn gauge(tally: &Tally, stage: Stage) -> &Gauge {
    match stage {
        Stage::Starting { .. } => &tally.starting,
        Stage::Running | Stage::Stopping { .. } => &tally.running,
        Stage::Over { .. } | Stage::Stopped { .. } => &tally.over,
    }
}

fn outside<'a>(
    chance: &'a mut dyn FnMut() -> Option<Duration>,
    restarts: &'a dyn Fn(usize, i32) -> bool,
) -> Outside<'a> {
    Outside { restarts, chance }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// When a pod was taken, and since when and in which attempt its containers run, if a node ran it before.
fn ran_before(pod: &Value) -> Option<(Timestamp, Vec<(Timestamp, u32)>)> {
    let taken = time::parse(pod.str_at(&["status", "startTime"])).ok()?;
    let running = |status: &Value| {
        let since = time::parse(status.str_at(&["state", "running", "startedAt"])).ok()?;
        let attempt = u32::try_from(status.int_at(&["restartCount"]).unwrap_or(0)).ok()?;
        Some((since, attempt))
    };
    let all: Option<Vec<_>> = pod.list_at(&["status", "containerStatuses"]).iter().map(running).collect();
    all.filter(|all| !all.is_empty()).map(|all| (taken, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_ran_before_when_all_of_its_containers_do() {
        let pod = |status: &str| json::parse(format!(r#"{{"status":{status}}}"#).as_bytes()).unwrap();
        let at = |text: &str| time::parse(text).unwrap();
        let running = r#"{"restartCount":2,"state":{"running":{"startedAt":"2026-01-01T00:00:05Z"}}}"#;
        let waiting = r#"{"restartCount":0,"state":{"waiting":{}}}"#;
        let status =
            |list: &str| pod(&format!(r#"{{"startTime":"2026-01-01T00:00:00Z","containerStatuses":[{list}]}}"#));
        let ran = ran_before(&status(running));
        assert_eq!(ran, Some((at("2026-01-01T00:00:00Z"), vec![(at("2026-01-01T00:00:05Z"), 2)])));
        assert_eq!(ran_before(&status(&format!("{running},{waiting}"))), None);
        assert_eq!(ran_before(&status("")), None);
        assert_eq!(ran_before(&pod("{}")), None);
    }
}
