//! What would be if pods were not there.

use std::cmp::Reverse;
use std::sync::Arc;

use super::Budget;
use crate::framework::{Context, CycleState, Mask, Profile, Status};
use crate::{NodeInfo, PodInfo};

/// Pods that have to go so that another fits.
#[derive(Clone, Debug, Default)]
pub struct Victims {
    /// The pods, the most important first.
    pub pods: Vec<Arc<PodInfo>>,
    /// How many of them a disruption budget protects.
    pub violations: usize,
}

/// The pods of a node that would have to go: of all pods of lower priority as few and as unimportant as possible.
///
/// # Errors
/// Why the pod would not fit all the same.
pub fn victims(
    cx: Context<'_>,
    profile: &Profile,
    state: &CycleState,
    active: Mask,
    node: &NodeInfo,
    budgets: &[Budget],
) -> Result<Victims, Status> {
    let mut below: Vec<Arc<PodInfo>> =
        node.pods.iter().filter(|other| other.priority < cx.pod.priority).cloned().collect();
    if below.is_empty() {
        return Err(Status::unresolvable("No preemption victims found for incoming pod"));
    }
    let (mut node, mut state) = (node.clone(), state.clone());
    for pod in &below {
        node.remove(&pod.uid);
        profile.suppose(cx, &mut state, active, pod, &node, false);
    }
    profile.filter_with_nominated(cx, &state, &node, active)?;
    below.sort_by_key(|pod| importance(pod));
    let (protected, free) = split(below, budgets);
    let mut victims = Victims::default();
    for (pods, violates) in [(protected, true), (free, false)] {
        for pod in pods {
            node.add(Arc::clone(&pod));
            profile.suppose(cx, &mut state, active, &pod, &node, true);
            if profile.filter_with_nominated(cx, &state, &node, active).is_ok() {
                continue;
            }
            node.remove(&pod.uid);
            profile.suppose(cx, &mut state, active, &pod, &node, false);
            victims.violations += usize::from(violates);
            victims.pods.push(pod);
        }
    }
    victims.pods.sort_by_key(|pod| importance(pod));
    Ok(victims)
}

/// The more important pods come first: those of higher priority, then those that run longer.
fn importance(pod: &PodInfo) -> (Reverse<i32>, i64) {
    (Reverse(pod.priority), started(pod))
}

/// When a pod was started; one that was not yet is the youngest.
pub fn started(pod: &PodInfo) -> i64 {
    pod.started.unwrap_or(i64::MAX)
}

/// Pods whose removal a budget forbids, if they went in this order, and the others.
fn split(pods: Vec<Arc<PodInfo>>, budgets: &[Budget]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut allowed: Vec<i64> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut violates = false;
        for (budget, allowed) in budgets.iter().zip(&mut allowed) {
            if budget.protects(pod) {
                *allowed -= 1;
                violates |= *allowed < 0;
            }
        }
        violates
    })
}
