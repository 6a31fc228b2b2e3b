//! One probe of one container, again and again.

use super::verdict::Count;
use super::{Kind, Outcome, Rhythm, Target, Verdicts, ask};
use crate::cri::Cri;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use trireme_client::{EventKind, ObjectRef, Recorder};
use trireme_schema::Value;

/// A probe that could not be asked is asked again at once this often.
const TRIES: usize = 3;

/// One probe of one container.
pub(crate) struct Task {
    pub(crate) cri: Cri,
    pub(crate) recorder: Recorder,
    pub(crate) about: ObjectRef,
    pub(crate) target: Target,
    pub(crate) kind: Kind,
    pub(crate) probe: Value,
    /// How long the container has run already.
    pub(crate) ran: Duration,
    /// Whether it has started, for those that wait for it.
    pub(crate) started: watch::Sender<bool>,
    pub(crate) verdicts: Arc<Mutex<Verdicts>>,
    /// The worker, which wants to hear of news.
    pub(crate) changed: Arc<Notify>,
}

impl Task {
    /// Asks until it is dropped, or nothing more is to be found.
    pub(crate) async fn run(self) {
        let rhythm = Rhythm::of(&self.probe);
        if self.kind != Kind::Startup && self.started.subscribe().wait_for(|started| *started).await.is_err() {
            return;
        }
        tokio::time::sleep(rhythm.delay.saturating_sub(self.ran)).await;
        let mut count = Count::default();
        let mut ticks = tokio::time::interval(rhythm.period);
        // One that took long does not make the next come early.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let outcome = self.ask(rhythm.timeout).await;
            self.tell(&outcome);
            let Some(finding) = count.take(&outcome, &rhythm) else { continue };
            if self.note(finding) {
                return;
            }
        }
    }

    async fn ask(&self, timeout: Duration) -> Outcome {
        let mut outcome = Outcome::Unknown(String::new());
        for _ in 0..TRIES {
            outcome = ask(&self.cri, &self.target, &self.probe, timeout).await;
            if !matches!(outcome, Outcome::Unknown(_)) {
                break;
            }
        }
        outcome
    }

    fn tell(&self, outcome: &Outcome) {
        let title = self.kind.title();
        let (reason, text) = match outcome {
            Outcome::Success => return,
            Outcome::Warning(why) => ("ProbeWarning", format!("{title} probe warning: {why}")),
            Outcome::Failure(why) => ("Unhealthy", format!("{title} probe failed: {why}")),
            Outcome::Unknown(why) => {
                ("Unhealthy", format!("{title} probe errored and resulted in unknown state: {why}"))
            }
        };
        self.recorder.record(&self.about, EventKind::Warning, reason, text);
    }

    /// Takes a finding down; true when there is nothing more to find.
    fn note(&self, finding: bool) -> bool {
        let id = self.target.id.clone();
        let mut verdicts = self.verdicts.lock();
        let (news, done) = match (self.kind, finding) {
            (Kind::Readiness, true) => (verdicts.ready.insert(id), false),
            (Kind::Readiness, false) => (verdicts.ready.remove(&id), false),
            (Kind::Startup, true) => (verdicts.started.insert(id), true),
            (Kind::Liveness, true) => (false, false),
            (Kind::Liveness | Kind::Startup, false) => {
                verdicts.failed.insert(id, self.kind);
                (true, true)
            }
        };
        drop(verdicts);
        if self.kind == Kind::Startup && finding {
            self.started.send_replace(true);
        }
        if news {
            self.changed.notify_one();
        }
        done
    }
}
