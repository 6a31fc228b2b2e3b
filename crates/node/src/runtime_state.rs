//! What the runtime is and how it is.

use crate::cri::Cri;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trireme_cri as cri;

/// A runtime is asked this often (upstream: five seconds), and more often until pods can run.
const LOOK: Duration = Duration::from_secs(5);
const LOOK_IN_TROUBLE: Duration = Duration::from_secs(1);

/// The condition of pods' network (CRI's `RuntimeCondition`).
const NETWORK: &str = "NetworkReady";

/// What the runtime says of itself and of pods' network.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuntimeState {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Why pods cannot run; empty when they can.
    pub(crate) trouble: String,
    /// Why pods have no network; empty when they have.
    pub(crate) network: String,
}

impl RuntimeState {
    /// Asks the runtime.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn ask(cri: &Cri) -> Result<Self, String> {
        let text = |s: tonic::Status| s.message().to_owned();
        let version = cri.runtime.clone().version(cri::VersionRequest::default()).await.map_err(text)?.into_inner();
        let status =
            cri.runtime.clone().status(cri::StatusRequest { verbose: false }).await.map_err(text)?.into_inner();
        let conditions = status.status.unwrap_or_default().conditions;
        let bad: Vec<_> = conditions.iter().filter(|c| !c.status).collect();
        let network = bad.iter().find(|c| c.r#type == NETWORK).map(|c| trouble(c)).unwrap_or_default();
        let trouble: Vec<String> = bad.into_iter().map(trouble).collect();
        Ok(Self { name: version.runtime_name, version: version.runtime_version, trouble: trouble.join(", "), network })
    }
}

/// Asks it again and again, and tells when pods can run or cannot any more, until `stop`.
pub(crate) async fn keep(cri: Cri, states: watch::Sender<RuntimeState>, stop: CancellationToken) {
    loop {
        let pause = if states.borrow().trouble.is_empty() { LOOK } else { LOOK_IN_TROUBLE };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let new = RuntimeState::ask(&cri).await.unwrap_or_else(|why| RuntimeState {
            trouble: format!("container runtime is down: {why}"),
            ..states.borrow().clone()
        });
        states.send_if_modified(|old| {
            let changed = old.trouble != new.trouble;
            *old = new;
            changed
        });
    }
}

fn trouble(condition: &cri::RuntimeCondition) -> String {
    let (kind, reason, message) = (&condition.r#type, &condition.reason, &condition.message);
    let what = if kind == NETWORK { "container runtime network" } else { "container runtime" };
    format!("{what} not ready: {kind}=false reason:{reason} message:{message}")
}
