//! Stopping containers: the hook, the turn, the signal, the end.

use super::hook;
use crate::cri::Cri;
use crate::probe::Target;
use crate::spec::is_sidecar;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use trireme_client::{EventKind, ObjectRef, Recorder};
use trireme_cri as cri;
use trireme_schema::Value;

/// A container is given at least this long, whatever was used up before it was told to end.
const LEAST: Duration = Duration::from_secs(2);
/// A runtime that cannot stop a container is asked again after this.
const AGAIN: Duration = Duration::from_secs(2);

/// What is needed to stop a container.
pub(super) struct Stop {
    pub(super) cri: Cri,
    pub(super) recorder: Recorder,
    pub(super) about: ObjectRef,
    pub(super) spec: Value,
    pub(super) id: String,
    pub(super) ip: String,
    /// Those that must have ended before.
    pub(super) after: BTreeSet<String>,
}

/// The containers that are being stopped, by id.
pub(super) struct Stops {
    changed: Arc<Notify>,
    running: watch::Sender<BTreeSet<String>>,
    tasks: HashMap<String, (Instant, AbortOnDropHandle<()>)>,
}

impl Stops {
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        Self { changed, running: watch::Sender::new(BTreeSet::new()), tasks: HashMap::new() }
    }

    /// Takes note of what runs: names for those that wait for their turn, ids for those that are done with.
    pub(super) fn sync(&mut self, names: BTreeSet<String>, ids: &BTreeSet<String>) {
        self.running.send_if_modified(|old| {
            let changed = *old != names;
            *old = names;
            changed
        });
        self.tasks.retain(|id, _| ids.contains(id));
    }

    /// Stops a container within `grace` seconds; one that is being stopped already may be given less, not more. True
    /// when it was not being stopped before.
    pub(super) fn start(&mut self, stop: Stop, grace: i64) -> bool {
        let deadline = Instant::now() + Duration::from_secs(grace.max(0) as u64);
        let known = self.tasks.get(&stop.id).map(|(deadline, _)| *deadline);
        if known.is_some_and(|known| known <= deadline + LEAST) {
            return false;
        }
        let (id, turn, changed) = (stop.id.clone(), self.running.subscribe(), self.changed.clone());
        let first = known.is_none();
        let task = tokio::spawn(async move {
            stop.run(deadline, turn, first).await;
            changed.notify_one();
        });
        self.tasks.insert(id, (deadline, AbortOnDropHandle::new(task)));
        first
    }
}

impl Stop {
    async fn run(self, deadline: Instant, mut turn: watch::Receiver<BTreeSet<String>>, hooked: bool) {
        if let Some(hook) = self.spec.at(&["lifecycle", "preStop"]).filter(|_| hooked && deadline > Instant::now()) {
            let target = Target { id: self.id.clone(), ip: self.ip.clone(), spec: self.spec.clone() };
            if let Ok(Err(why)) = tokio::time::timeout_at(deadline, hook::run(&self.cri, &target, hook)).await {
                tracing::debug!(container = %self.id, %why, "a preStop hook failed");
                self.recorder.record(&self.about, EventKind::Warning, "FailedPreStopHook", "PreStopHook failed");
            }
        }
        let my_turn = turn.wait_for(|running| running.is_disjoint(&self.after));
        let _ = tokio::time::timeout_at(deadline, my_turn).await;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(LEAST);
            let timeout = left.as_secs_f64().ceil() as i64;
            let request = cri::StopContainerRequest { container_id: self.id.clone(), timeout };
            let Err(status) = self.cri.runtime.clone().stop_container(request).await else { return };
            tracing::warn!(container = %self.id, status = %status.message(), "cannot stop a container");
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// The containers that must have ended before one is told to: sidecars go after the main containers, in the reverse of
/// the order in which they came (KEP-753).
pub(super) fn predecessors(pod: &Value, name: &str) -> BTreeSet<String> {
    if !is_sidecar(pod, name) {
        return BTreeSet::new();
    }
    let names = |list: &[Value]| list.iter().map(|c| c.str_at(&["name"]).to_owned()).collect::<Vec<_>>();
    let later = names(pod.list_at(&["spec", "initContainers"])).into_iter().skip_while(|n| n != name).skip(1);
    names(pod.list_at(&["spec", "containers"])).into_iter().chain(later.filter(|n| is_sidecar(pod, n))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn sidecars_end_after_the_main_containers_and_the_last_first() {
        let text = br#"{"spec":{"initContainers":[{"name":"a","restartPolicy":"Always"},{"name":"i"},
            {"name":"b","restartPolicy":"Always"}],"containers":[{"name":"c"}]}}"#;
        let pod = json::parse(text).unwrap();
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        for (name, want) in [("a", set(&["b", "c"])), ("b", set(&["c"])), ("c", set(&[])), ("i", set(&[]))] {
            assert_eq!(predecessors(&pod, name), want, "{name}");
        }
    }
}
