//! What happens at the container runtime, told to all who wait for it.
//!
//! A runtime with a stream of events (CRI `GetContainerEvents`) tells by itself. One without it is asked each second what
//! there is, as upstream's generic PLEG does, and only what changed is told: two short calls, however many pods there are.

use crate::cri::{Cri, label};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use trireme_cri as cri;

/// A runtime without a stream of events is asked this often (upstream: one second).
const RELIST: Duration = Duration::from_secs(1);
/// A broken stream is opened again after this.
const REOPEN: Duration = Duration::from_secs(1);
/// Who is further behind is told that anything may have happened.
const WAITING: usize = 1024;

/// Where something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// In the pod of this UID.
    To(String),
    /// It is not known where.
    Anywhere,
}

/// What happens at the runtime. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RuntimeEvents(broadcast::Sender<Happened>);

/// One who hears of it.
#[derive(Debug)]
pub(crate) struct Heard(broadcast::Receiver<Happened>);

impl Default for RuntimeEvents {
    fn default() -> Self {
        Self(broadcast::Sender::new(WAITING))
    }
}

impl Heard {
    /// The next thing that happens.
    pub(crate) async fn next(&mut self) -> Happened {
        match self.0.recv().await {
            Ok(happened) => happened,
            Err(RecvError::Lagged(_)) => Happened::Anywhere,
            // Nobody tells any more: whoever hears ends by other means.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl RuntimeEvents {
    /// Hears what happens from now on.
    pub(crate) fn hear(&self) -> Heard {
        Heard(self.0.subscribe())
    }

    /// Tells all who hear.
    pub(crate) fn tell(&self, happened: Happened) {
        // That nobody listens is no error.
        let _ = self.0.send(happened);
    }

    /// Listens to the runtime until `stop`.
    pub(crate) async fn keep(self, cri: Cri, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.listen(cri)).await;
    }

    async fn listen(&self, cri: Cri) {
        loop {
            match cri.runtime.clone().get_container_events(cri::GetEventsRequest {}).await {
                Ok(stream) => {
                    // What happened while nobody listened.
                    self.tell(Happened::Anywhere);
                    self.pass_on(stream.into_inner()).await;
                }
                Err(status) if status.code() == tonic::Code::Unimplemented => return self.relist(cri).await,
                Err(_) => {}
            }
            tokio::time::sleep(REOPEN).await;
        }
    }

    async fn pass_on(&self, mut stream: tonic::Streaming<cri::ContainerEventResponse>) {
        while let Ok(Some(event)) = stream.message().await {
            let uid = event.pod_sandbox_status.and_then(|s| s.metadata).map(|m| m.uid);
            self.tell(uid.filter(|uid| !uid.is_empty()).map_or(Happened::Anywhere, Happened::To));
        }
    }

    async fn relist(&self, cri: Cri) {
        let mut before = None;
        loop {
            match States::list(&cri).await {
                Ok(now) => {
                    match &before {
                        Some(before) => {
                            now.changed_since(before).into_iter().for_each(|uid| self.tell(Happened::To(uid)))
                        }
                        None => self.tell(Happened::Anywhere),
                    }
                    before = Some(now);
                }
                // The workers see for themselves what the runtime says.
                Err(_) => {
                    before = None;
                    self.tell(Happened::Anywhere);
                }
            }
            tokio::time::sleep(RELIST).await;
        }
    }
}

/// The state of each sandbox and container, by the pod's UID.
#[derive(Debug, Default, PartialEq, Eq)]
struct States(HashMap<String, BTreeMap<String, i32>>);

impl States {
    async fn list(cri: &Cri) -> Result<Self, tonic::Status> {
        let (mut one, mut other) = (cri.runtime.clone(), cri.runtime.clone());
        let (sandboxes, containers) = tokio::try_join!(
            one.list_pod_sandbox(cri::ListPodSandboxRequest::default()),
            other.list_containers(cri::ListContainersRequest::default())
        )?;
        let mut states = Self::default();
        for mut sandbox in sandboxes.into_inner().items {
            states.note(sandbox.labels.remove(label::UID), sandbox.id, sandbox.state);
        }
        for mut container in containers.into_inner().containers {
            states.note(container.labels.remove(label::UID), container.id, container.state);
        }
        Ok(states)
    }

    fn note(&mut self, uid: Option<String>, id: String, state: i32) {
        // One without a UID is no pod's.
        if let Some(uid) = uid {
            self.0.entry(uid).or_default().insert(id, state);
        }
    }

    /// The pods in which something came, went or changed.
    fn changed_since(&self, before: &Self) -> BTreeSet<String> {
        let uids: BTreeSet<&String> = self.0.keys().chain(before.0.keys()).collect();
        uids.into_iter().filter(|uid| self.0.get(*uid) != before.0.get(*uid)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(all: &[(&str, &str, i32)]) -> States {
        let mut states = States::default();
        all.iter().for_each(|(uid, id, state)| states.note(Some((*uid).into()), (*id).into(), *state));
        states
    }

    #[test]
    fn only_pods_in_which_something_changed_are_told_of() {
        let before = states(&[("a", "1", 1), ("b", "2", 1), ("c", "3", 1), ("d", "4", 1)]);
        let now = states(&[("a", "1", 1), ("b", "2", 2), ("c", "3", 1), ("c", "5", 0), ("e", "6", 1)]);
        assert_eq!(now.changed_since(&before).into_iter().collect::<Vec<_>>(), ["b", "c", "d", "e"]);
        assert!(now.changed_since(&now).is_empty());
    }

    #[tokio::test]
    async fn who_is_too_slow_hears_that_anything_may_have_happened() {
        let events = RuntimeEvents::default();
        let mut heard = events.hear();
        for _ in 0..=WAITING {
            events.tell(Happened::To("a".into()));
        }
        assert_eq!(heard.next().await, Happened::Anywhere);
        assert_eq!(heard.next().await, Happened::To("a".into()));
    }
}
