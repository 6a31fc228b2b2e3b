//! From a decision to a bound pod.

use std::sync::Arc;
use std::time::Duration;

use crate::approvals::Wait;
use crate::framework::{CycleState, Permission, Point, Profile, Status, Work};
use crate::{Approvals, PodInfo};

/// What is still to be done for a pod that has a node.
pub struct Steps {
    wait: Option<Wait>,
    before: Vec<(&'static str, Work)>,
    bind: Option<(&'static str, Work)>,
}

impl Steps {
    /// Asks the plugins of a profile.
    ///
    /// # Errors
    /// A plugin does not permit the pod to be bound.
    pub fn plan(
        profile: &Profile,
        pod: &Arc<PodInfo>,
        node: &str,
        state: &CycleState,
        approvals: &Approvals,
    ) -> Result<Self, Status> {
        let mut waits: Vec<(&'static str, Duration)> = Vec::new();
        for (_, enabled) in profile.at(Point::Permit) {
            let name = enabled.plugin.name();
            if let Permission::Wait(patience) = enabled.plugin.permit(pod, node, state).map_err(|s| s.by(name))? {
                waits.push((name, patience.min(MOST_PATIENCE)));
            }
        }
        let before = profile
            .at(Point::PreBind)
            .filter_map(|(_, enabled)| Some((enabled.plugin.name(), enabled.plugin.pre_bind(pod, node, state)?)));
        let bind = profile
            .at(Point::Bind)
            .find_map(|(_, enabled)| Some((enabled.plugin.name(), enabled.plugin.bind(pod, node)?)));
        Ok(Self { wait: approvals.wait(&pod.uid, node, waits), before: before.collect(), bind })
    }

    /// Whether the pod is bound without further ado.
    pub fn are_immediate(&self) -> bool {
        self.wait.is_none() && self.before.is_empty()
    }

    /// Does them.
    ///
    /// # Errors
    /// The first that failed.
    pub async fn run(self) -> Result<(), Status> {
        if let Some(wait) = self.wait {
            wait.decided().await?;
        }
        for (name, work) in self.before {
            work.await.map_err(|status| status.by(name))?;
        }
        match self.bind {
            Some((name, work)) => work.await.map_err(|status| status.by(name)),
            None => Err(Status::error("no plugin binds the pod")),
        }
    }
}

/// The longest that a pod waits for approval (upstream's maxTimeout).
const MOST_PATIENCE: Duration = Duration::from_secs(15 * 60);
