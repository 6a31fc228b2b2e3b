//! The probes of a pod's containers.

use super::Shared;
use crate::probe::{Kind, Target, Task, Verdicts};
use crate::spec;
use crate::status::Note;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;
use trireme_schema::Value;

/// The probes of a pod's containers, by container id.
pub(super) struct Probes {
    changed: Arc<Notify>,
    verdicts: Arc<Mutex<Verdicts>>,
    sets: HashMap<String, Vec<(Kind, AbortOnDropHandle<()>)>>,
    ending: bool,
}

impl Probes {
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        Self { changed, verdicts: Arc::default(), sets: HashMap::new(), ending: false }
    }

    /// What a container's probes say: whether it has started, and whether it is ready.
    pub(super) fn say(&self, id: &str, spec: &Value) -> (bool, bool) {
        let verdicts = self.verdicts.lock();
        let started = spec.get(Kind::Startup.field()).is_none() || verdicts.started.contains(id);
        let ready = spec.get(Kind::Readiness.field()).is_none() || verdicts.ready.contains(id);
        (started, started && ready)
    }

    /// Takes up what was found of a container before the agent was started again.
    pub(super) fn recall(&self, id: &str, before: &Value) {
        if self.sets.contains_key(id) || !before.str_at(&["containerID"]).ends_with(&format!("://{id}")) {
            return;
        }
        let mut verdicts = self.verdicts.lock();
        if before.bool_at(&["started"]) {
            verdicts.started.insert(id.to_owned());
        }
        if before.bool_at(&["ready"]) {
            verdicts.ready.insert(id.to_owned());
        }
    }

    /// Those that a probe wants ended.
    pub(super) fn take_failed(&self) -> Vec<(String, Kind)> {
        self.verdicts.lock().failed.drain().collect()
    }

    /// From now on containers may end: nobody asks whether they live.
    pub(super) fn let_end(&mut self) {
        self.ending = true;
        self.sets.values_mut().for_each(|set| set.retain(|(kind, _)| *kind == Kind::Readiness));
        self.verdicts.lock().failed.clear();
    }

    /// Starts the probes of containers that run, and ends those of containers that do not.
    pub(super) fn sync(&mut self, shared: &Shared, pod: &Value, notes: &BTreeMap<String, Note>, ips: &[String]) {
        let running = notes.iter().filter_map(|(name, note)| Some((name, note.running()?)));
        let mut alive = Vec::new();
        for (name, container) in running {
            let Some(spec) = spec::container(pod, name) else { continue };
            alive.push(container.id.clone());
            if self.ending || self.sets.contains_key(&container.id) {
                continue;
            }
            let now = jiff::Timestamp::now().as_nanosecond() as i64;
            let ran = Duration::from_nanos((now - container.started_at).max(0) as u64);
            let has_started = self.say(&container.id, spec).0;
            let started = watch::Sender::new(has_started);
            let kinds = Kind::ALL.into_iter().filter(|k| !(has_started && *k == Kind::Startup));
            let tasks = kinds.filter_map(|kind| {
                let task = Task {
                    cri: shared.cri.clone(),
                    recorder: shared.recorder.clone(),
                    about: spec::reference(pod).at(spec::field_path(pod, name)),
                    target: Target {
                        id: container.id.clone(),
                        ip: ips.first().cloned().unwrap_or_default(),
                        spec: spec.clone(),
                    },
                    kind,
                    probe: spec.get(kind.field())?.clone(),
                    ran,
                    started: started.clone(),
                    verdicts: self.verdicts.clone(),
                    changed: self.changed.clone(),
                };
                Some((kind, AbortOnDropHandle::new(tokio::spawn(task.run()))))
            });
            self.sets.insert(container.id.clone(), tasks.collect());
        }
        self.sets.retain(|id, _| alive.contains(id));
        self.verdicts.lock().retain(&alive);
    }
}
