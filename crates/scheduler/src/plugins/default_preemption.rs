//! Pods of low priority make room for one of a higher.

mod budgets;
mod dry_run;
mod evict;
mod pick;

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

pub use budgets::{Budget, Budgets, InformedBudgets, NoBudgets};
pub use dry_run::Victims;
pub use evict::{Evict, Evictor};

use crate::config::PreemptionArgs;
use crate::cycle::Active;
use crate::diagnosis::Diagnosis;
use crate::framework::{
    Code, Context, CycleState, Mask, Nomination, Plugin, Point, Points, PostFilter, Profile, Reach, Rejections, Status,
};
use crate::{NodeInfo, PodInfo, PodShape};

/// Finds the node on which the fewest and least important pods have to go.
pub struct DefaultPreemption {
    sampling: Sampling,
    budgets: Arc<dyn Budgets>,
    evictor: Option<Arc<dyn Evict>>,
    /// Pods for which others are being removed just now, by uid.
    preempting: Arc<Mutex<HashSet<Box<str>>>>,
    state: Mutex<State>,
}

/// How many nodes are enough to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Share of the nodes in percent (`minCandidateNodesPercentage`).
    pub percentage: u32,
    /// At least so many (`minCandidateNodesAbsolute`).
    pub absolute: u32,
}

struct State {
    rng: SmallRng,
    memo: Memo,
}

/// What was found for pods of one shape, so that the next pod of the shape need not try again on nodes that are as they
/// were.
#[derive(Default)]
struct Memo {
    shape: Weak<PodShape>,
    budgets: u64,
    by_slot: Vec<Option<(u64, Tried)>>,
}

/// What came of a node.
type Tried = Arc<Result<Victims, Status>>;

impl Default for Sampling {
    /// Upstream's defaults.
    fn default() -> Self {
        Self { percentage: 10, absolute: 100 }
    }
}

impl Sampling {
    /// As a configuration says.
    pub fn of(args: &PreemptionArgs) -> Self {
        let number = |number: i32| u32::try_from(number).unwrap_or(0);
        Self {
            percentage: number(args.min_candidate_nodes_percentage),
            absolute: number(args.min_candidate_nodes_absolute),
        }
    }

    fn enough(self, nodes: usize) -> usize {
        (nodes * self.percentage as usize / 100).max(self.absolute as usize).min(nodes)
    }
}

impl DefaultPreemption {
    /// With these budgets; without an evictor nothing is removed, and the caller sees who should be.
    pub fn new(sampling: Sampling, budgets: Arc<dyn Budgets>, evictor: Option<Arc<dyn Evict>>) -> Self {
        let state = State { rng: SmallRng::from_os_rng(), memo: Memo::default() };
        Self { sampling, budgets, evictor, preempting: Arc::default(), state: Mutex::new(state) }
    }

    /// Why the pod may not preempt others now.
    fn ineligible(cx: Context<'_>, rejections: &dyn Rejections) -> Option<&'static str> {
        if !cx.pod.may_preempt {
            return Some("not eligible due to preemptionPolicy=Never.");
        }
        let nominated = cx.nominator.node_of(&cx.pod.uid).or(cx.pod.nominated.as_deref())?;
        let node = cx.cluster.node(nominated)?;
        // On a node that will not do in any case nothing is waited for.
        if rejections.of(node.slot).is_some_and(|status| status.code == Code::Unresolvable) {
            return None;
        }
        let leaving = |other: &Arc<PodInfo>| other.terminating && other.preempted && other.priority < cx.pod.priority;
        node.pods.iter().any(leaving).then_some("not eligible due to a terminating pod on the nominated node.")
    }

    /// Tries nodes until enough are found on which room can be made; gives all that were tried.
    fn candidates(
        &self,
        cx: Context<'_>,
        profile: &Profile,
        state: &CycleState,
        rejections: &dyn Rejections,
    ) -> Vec<(usize, Tried)> {
        let slots: Vec<usize> = cx
            .cluster
            .nodes()
            .map(|node| node.slot)
            .filter(|slot| rejections.of(*slot).is_some_and(|status| status.code == Code::Unschedulable))
            .collect();
        if slots.is_empty() {
            return Vec::new();
        }
        let active = state.get::<Active>().map_or(Mask::ALL, |active| active.0);
        let local = profile
            .at(Point::Filter)
            .filter(|(at, _)| active.has(*at))
            .all(|(_, enabled)| enabled.plugin.reach(cx.pod) == Reach::Node);
        let (version, budgets) = self.budgets.all();
        let mut own = self.state.lock();
        let start = own.rng.random_range(0..slots.len());
        if !own.memo.is_for(cx.pod, version) {
            own.memo = Memo { shape: Arc::downgrade(&cx.pod.shape), budgets: version, by_slot: Vec::new() };
        }
        let enough = self.sampling.enough(slots.len());
        let (mut candidates, mut fitting, mut peaceful) = (Vec::new(), 0, false);
        for slot in slots.iter().skip(start).chain(slots.iter().take(start)) {
            let Some(node) = cx.cluster.at(*slot) else { continue };
            let known = own.memo.by_slot.get(*slot).and_then(Option::as_ref);
            let known = known.filter(|(generation, _)| local && *generation == node.generation);
            let found = match known {
                Some((_, found)) => Arc::clone(found),
                None => {
                    let found = Arc::new(dry_run::victims(cx, profile, state, active, node, &budgets));
                    own.memo.put(*slot, node.generation, &found);
                    found
                }
            };
            if let Ok(victims) = &*found {
                peaceful |= victims.violations == 0;
                fitting += 1;
            }
            candidates.push((*slot, found));
            if peaceful && fitting >= enough {
                break;
            }
        }
        candidates
    }

    fn nominate(&self, cx: Context<'_>, node: &NodeInfo, victims: &Victims) -> Nomination {
        let pods = victims.pods.clone();
        let effect = self.evictor.as_ref().map(|evictor| {
            let evicted = evictor.evict(cx.pod, &pods, &node.name);
            let (preempting, uid) = (Arc::clone(&self.preempting), cx.pod.uid.clone());
            preempting.lock().insert(uid.clone());
            let effect: crate::framework::Effect = Box::pin(async move {
                evicted.await;
                preempting.lock().remove(&uid);
            });
            effect
        });
        // Others that were to come here with less right look for another place.
        let displaced = cx.nominator.on(&node.name).iter().filter(|other| other.priority < cx.pod.priority);
        Nomination { node: node.name.clone(), victims: pods, displaced: displaced.cloned().collect(), effect }
    }
}

impl Memo {
    fn put(&mut self, slot: usize, generation: u64, found: &Tried) {
        if self.by_slot.len() <= slot {
            self.by_slot.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.by_slot.get_mut(slot) {
            *place = Some((generation, Arc::clone(found)));
        }
    }

    fn is_for(&self, pod: &PodInfo, budgets: u64) -> bool {
        self.budgets == budgets && self.shape.strong_count() > 0 && self.shape.as_ptr() == Arc::as_ptr(&pod.shape)
    }
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreEnqueue, Point::PostFilter])
    }

    fn pre_enqueue(&self, pod: &Arc<PodInfo>) -> Result<(), Status> {
        if self.preempting.lock().contains(&pod.uid) {
            return Err(Status::unschedulable("waiting for the preemption for this pod to be finished"));
        }
        Ok(())
    }

    fn post_filter(
        &self,
        cx: Context<'_>,
        profile: &Profile,
        state: &CycleState,
        rejections: &dyn Rejections,
    ) -> PostFilter {
        if let Some(why) = Self::ineligible(cx, rejections) {
            return PostFilter::Helpless(format!("preemption: {why}"));
        }
        let candidates = self.candidates(cx, profile, state, rejections);
        let best = pick::best(&candidates);
        match best.and_then(|(slot, found)| Some((cx.cluster.at(*slot)?, (**found).as_ref().ok()?))) {
            Some((node, victims)) => PostFilter::Nominated(self.nominate(cx, node, victims)),
            None => {
                let mut tried = Diagnosis::new(cx.cluster.len());
                for (slot, found) in &candidates {
                    if let Err(status) = &**found {
                        tried.reject(*slot, status.clone());
                    }
                }
                tried.set_absent(Status::unresolvable("Preemption is not helpful for scheduling"));
                PostFilter::Clear(format!("preemption: {tried}"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
