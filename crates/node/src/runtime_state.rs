//! What the runtime is and how it is.

use crate::cri::Cri;
use trireme_cri as cri;

/// What the runtime says of itself and of pods' network.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuntimeState {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Why pods cannot run; empty when they can.
    pub(crate) trouble: String,
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
        let bad = conditions.iter().filter(|c| !c.status);
        let trouble: Vec<String> = bad.map(trouble).collect();
        Ok(Self { name: version.runtime_name, version: version.runtime_version, trouble: trouble.join(", ") })
    }
}

fn trouble(condition: &cri::RuntimeCondition) -> String {
    let (kind, reason, message) = (&condition.r#type, &condition.reason, &condition.message);
    let what = if kind == "NetworkReady" { "container runtime network" } else { "container runtime" };
    format!("{what} not ready: {kind}=false reason:{reason} message:{message}")
}
