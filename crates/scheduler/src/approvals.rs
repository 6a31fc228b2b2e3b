use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::framework::Status;

/// Pods that have a node and wait for the approval of plugins (`Permit`). Plugins hold this to approve and to reject.
#[derive(Clone, Default)]
pub struct Approvals(Arc<Mutex<HashMap<Box<str>, Waiting>>>);

struct Waiting {
    node: Box<str>,
    plugins: Vec<&'static str>,
    decided: oneshot::Sender<Result<(), Status>>,
}

/// The wait of one pod.
pub struct Wait {
    decided: oneshot::Receiver<Result<(), Status>>,
    /// When the first plugin's patience ends, with its name.
    deadline: (Instant, &'static str),
    approvals: Approvals,
    uid: Box<str>,
}

impl Approvals {
    /// A pod, by its uid, waits for these plugins, this long each.
    pub fn wait(&self, uid: &str, node: &str, plugins: Vec<(&'static str, Duration)>) -> Option<Wait> {
        let now = Instant::now();
        let deadline = plugins.iter().map(|(name, patience)| (now + *patience, *name)).min()?;
        let (sender, decided) = oneshot::channel();
        let names = plugins.into_iter().map(|(name, _)| name).collect();
        self.0.lock().insert(uid.into(), Waiting { node: node.into(), plugins: names, decided: sender });
        Some(Wait { decided, deadline, approvals: self.clone(), uid: uid.into() })
    }

    /// A plugin approves; the last one lets the pod go on.
    pub fn approve(&self, uid: &str, plugin: &str) {
        let mut waiting = self.0.lock();
        let Some(pod) = waiting.get_mut(uid) else { return };
        pod.plugins.retain(|name| *name != plugin);
        if pod.plugins.is_empty()
            && let Some(pod) = waiting.remove(uid)
        {
            // Who no longer waits has stopped for another reason.
            let _ = pod.decided.send(Ok(()));
        }
    }

    /// A plugin rejects; gives whether the pod was waiting.
    pub fn reject(&self, uid: &str, status: Status) -> bool {
        let Some(pod) = self.0.lock().remove(uid) else { return false };
        // Who no longer waits has stopped for another reason.
        let _ = pod.decided.send(Err(status));
        true
    }

    /// The uids of pods that wait, with the nodes that they have.
    pub fn waiting(&self) -> Vec<(Box<str>, Box<str>)> {
        self.0.lock().iter().map(|(uid, pod)| (uid.clone(), pod.node.clone())).collect()
    }
}

impl Wait {
    /// Waits for the decision.
    ///
    /// # Errors
    /// A rejection, or that time is up.
    pub async fn decided(self) -> Result<(), Status> {
        let (deadline, plugin) = self.deadline;
        tokio::select! {
            decided = self.decided => decided.unwrap_or_else(|_| Err(Status::error("the scheduler stops"))),
            () = tokio::time::sleep_until(deadline) => {
                self.approvals.0.lock().remove(&self.uid);
                Err(Status::unschedulable(format!("rejected due to timeout after waiting at plugin {plugin}")).by(plugin))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_plugins_must_approve_in_time() {
        let approvals = Approvals::default();
        let minute = Duration::from_secs(60);
        let wait = approvals.wait("u", "n1", vec![("A", minute), ("B", minute)]).unwrap();
        approvals.approve("u", "A");
        assert_eq!(approvals.waiting().len(), 1);
        approvals.approve("u", "B");
        assert!(wait.decided().await.is_ok());
        let late = approvals.wait("u", "n1", vec![("A", minute), ("B", minute * 2)]).unwrap();
        assert_eq!(late.decided().await.unwrap_err().plugin, "A");
        assert!(approvals.waiting().is_empty());
        let rejected = approvals.wait("u", "n1", vec![("A", minute)]).unwrap();
        assert!(approvals.reject("u", Status::unschedulable("no").by("A")));
        assert_eq!(rejected.decided().await.unwrap_err().to_string(), "no");
    }
}
