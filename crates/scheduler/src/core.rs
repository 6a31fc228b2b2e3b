//! The scheduler without the API: all state, and every decision.

use std::sync::Arc;

use rand::rngs::SmallRng;
use tokio::time::Instant;
use trireme_client::Key;

use crate::cycle::{Chooser, Chosen, Unfit};
use crate::framework::{
    Change, ClusterEvent, Context, CycleState, Effect, Nomination, Object, Point, PostFilter, Profile, Source, Status,
};
use crate::queue::{Attempt, Backoff, Outcome, Queue};
use crate::report::Nominated;
use crate::resources::BadQuantity;
use crate::shape::Shapes;
use crate::{Cluster, Diagnosis, Labels, NodeSpec, Nominator, PodInfo, Profiles, events, view};

/// All state of a scheduler.
pub struct Core {
    /// The cluster as it is, with what has been decided.
    pub cluster: Cluster,
    /// Pods that wait.
    pub queue: Queue,
    /// Pods for which room is being made.
    pub nominator: Nominator,
    profiles: Arc<Profiles>,
    chooser: Chooser,
    shapes: Shapes,
}

/// What came of an attempt.
pub enum Decision {
    /// The pod has a node: it counts there from now on.
    Placed(Placed),
    /// It has not, and waits again.
    Failed(Failure),
}

/// A pod that has a node.
pub struct Placed {
    /// The pod.
    pub attempt: Attempt,
    /// Its node.
    pub node: Box<str>,
    /// What plugins keep of the decision.
    pub state: CycleState,
    /// How many nodes were looked at.
    pub evaluated: usize,
    /// How many fitted.
    pub feasible: usize,
}

/// A pod that has no node.
pub struct Failure {
    /// The pod.
    pub attempt: Attempt,
    /// `Unschedulable` or `SchedulerError`.
    pub reason: &'static str,
    /// Why, for the user.
    pub message: String,
    /// The node on which room is made.
    pub nominated: Nominated,
    /// Pods that have to go.
    pub victims: Vec<Arc<PodInfo>>,
    /// Pods for which room was being made there before.
    pub displaced: Vec<Arc<PodInfo>>,
    /// What was started to help.
    pub effect: Option<Effect>,
}

/// An attempt that led to no node.
struct Missed {
    attempt: Attempt,
    unfit: Unfit,
    state: CycleState,
}

impl Failure {
    fn of(attempt: Attempt, reason: &'static str, message: String) -> Self {
        Self {
            attempt,
            reason,
            message,
            nominated: Nominated::Keep,
            victims: Vec::new(),
            displaced: Vec::new(),
            effect: None,
        }
    }
}

impl Core {
    /// Without pods and nodes.
    pub fn new(profiles: Arc<Profiles>, backoff: Backoff, rng: SmallRng) -> Self {
        Self {
            cluster: Cluster::default(),
            queue: Queue::new(backoff),
            nominator: Nominator::default(),
            profiles,
            chooser: Chooser::new(rng),
            shapes: Shapes::default(),
        }
    }

    /// The profiles.
    pub fn profiles(&self) -> &Arc<Profiles> {
        &self.profiles
    }

    /// A node is as given, or gone.
    ///
    /// # Errors
    /// A node that cannot be read stays as it was.
    pub fn node_changed(&mut self, name: &str, node: Option<view::Node>, now: Instant) -> Result<(), BadQuantity> {
        let new = node.map(NodeSpec::read).transpose()?.map(Arc::new);
        self.set_node(name, new, now);
        Ok(())
    }

    /// A node says this of itself, or is gone.
    pub fn set_node(&mut self, name: &str, new: Option<Arc<NodeSpec>>, now: Instant) {
        let there = self.cluster.node(name).is_some();
        let old = match &new {
            // Most changes are of conditions, which scheduling does not look at.
            Some(new) if self.cluster.node(name).is_some_and(|node| node.spec == *new) => return,
            Some(new) => self.cluster.set_node(name, Arc::clone(new)),
            None => self.cluster.remove_node(name),
        };
        if let Some(event) = events::of_node(name, old.filter(|_| there), new) {
            self.tell(event, now);
        }
    }

    /// A namespace has these labels, or is gone.
    pub fn namespace_changed(&mut self, name: &str, labels: Option<Labels>, now: Instant) {
        self.cluster.set_namespace(name, labels);
        let change = Change::Object { old: None, new: None };
        self.tell(ClusterEvent { source: Source::Namespace, actions: crate::framework::Actions::UPDATE, change }, now);
    }

    /// Another object changed.
    pub fn object_changed(&mut self, source: Source, old: Option<Object>, new: Option<Object>, now: Instant) {
        use crate::framework::Actions;
        let actions = match (&old, &new) {
            (None, None) => return,
            (None, Some(_)) => Actions::ADD,
            (Some(_), None) => Actions::DELETE,
            (Some(_), Some(_)) => Actions::OTHER,
        };
        self.tell(ClusterEvent { source, actions, change: Change::Object { old, new } }, now);
    }

    /// A pod is as given, or gone.
    ///
    /// # Errors
    /// A pod that cannot be read is left out.
    pub fn pod_changed(&mut self, key: &Key, pod: Option<view::Pod>, now: Instant) -> Result<(), BadQuantity> {
        // A pod that has ended takes nothing any more.
        let Some(pod) = pod.filter(|pod| !matches!(&*pod.status.phase, "Succeeded" | "Failed")) else {
            if let Some(gone) = self.forget(key) {
                self.tell(events::of_unscheduled_gone(gone), now);
            }
            if let Some(gone) = self.cluster.remove(key)
                && let Some(event) = events::of_assigned(Some(gone), None)
            {
                self.tell(event, now);
            }
            return Ok(());
        };
        let info = Arc::new(PodInfo::read(pod, &mut self.shapes)?);
        match info.node.clone() {
            None => self.unbound_pod_changed(info, now),
            Some(node) => self.bound_pod_changed(info, &node, now),
        }
        Ok(())
    }

    fn bound_pod_changed(&mut self, pod: Arc<PodInfo>, node: &str, now: Instant) {
        self.forget(&pod.key);
        let known = self.cluster.pod(&pod.key).cloned();
        let elsewhere = self.cluster.node_of(&pod.key) != Some(node);
        let old = known.filter(|known| !elsewhere && known.uid == pod.uid);
        self.cluster.place(Arc::clone(&pod), node);
        if let Some(event) = events::of_assigned(old, Some(pod)) {
            self.tell(event, now);
        }
    }

    fn unbound_pod_changed(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let ours = self.profiles.get(&pod.scheduler).is_some();
        // Our own decision for this very pod is on its way; a pod of the same name made anew is another pod.
        if self.cluster.is_assumed(&pod.key) {
            if self.cluster.pod(&pod.key).is_some_and(|assumed| assumed.uid == pod.uid) {
                return;
            }
            self.cluster.remove(&pod.key);
        }
        if !ours || pod.terminating {
            if let Some(gone) = self.forget(&pod.key) {
                self.tell(events::of_unscheduled_gone(gone), now);
            }
            return;
        }
        if let Some(node) = &pod.nominated {
            self.nominate(&pod, node);
        }
        let profiles = Arc::clone(&self.profiles);
        match self.queue.get(&pod.key).cloned() {
            Some(old) if old.uid == pod.uid => {
                let event = Arc::new(events::of_target(old, Arc::clone(&pod)));
                let matters = !event.actions.is_empty();
                self.queue.add(&*profiles, pod, matters.then_some(&event), now);
            }
            _ => {
                let event = events::of_unscheduled(Arc::clone(&pod));
                self.observe(&event);
                self.queue.add(&*profiles, pod, None, now);
                self.look_again(event, now);
            }
        }
    }

    /// The next pod to try.
    pub fn next(&mut self, now: Instant) -> Option<Attempt> {
        let profiles = Arc::clone(&self.profiles);
        self.queue.next(&*profiles, now)
    }

    /// Tries to place a pod.
    pub fn decide(&mut self, attempt: Attempt, now: Instant) -> Decision {
        match self.try_to_place(attempt) {
            Ok(placed) => Decision::Placed(placed),
            Err(missed) => self.missed(missed, now),
        }
    }

    /// Tries to place a pod, and with it all pods that are placed together with it: all of them, or as many as their
    /// group asks for, or none.
    pub fn decide_together(&mut self, attempt: Attempt, now: Instant) -> Vec<Decision> {
        let profiles = Arc::clone(&self.profiles);
        let profile = profiles.get(&attempt.pod.scheduler);
        let Some(gang) = profile.and_then(|profile| profile.gang(&attempt.pod)) else {
            return vec![self.decide(attempt, now)];
        };
        let already = gang.pods.iter().filter(|key| self.cluster.node_of(key).is_some()).count();
        let others = gang.pods.iter().filter(|key| **key != attempt.pod.key);
        let others: Vec<Attempt> = others.filter_map(|key| self.queue.take(key, now)).collect();
        let (mut placed, mut missed) = (Vec::new(), Vec::new());
        for attempt in std::iter::once(attempt).chain(others) {
            match self.try_to_place(attempt) {
                Ok(done) => placed.push(done),
                Err(miss) => missed.push(miss),
            }
        }
        let count = already + placed.len();
        if count >= gang.min_count {
            let placed: Vec<Decision> = placed.into_iter().map(Decision::Placed).collect();
            return placed.into_iter().chain(missed.into_iter().map(|miss| self.missed(miss, now))).collect();
        }
        let why = format!("minCount ({}) cannot be satisfied: {count} scheduled, 0 remaining", gang.min_count);
        self.give_back(placed, missed, &why, now)
    }

    /// A gang does not fit: what was placed of it is taken back.
    fn give_back(&mut self, placed: Vec<Placed>, missed: Vec<Missed>, why: &str, now: Instant) -> Vec<Decision> {
        let profiles = Arc::clone(&self.profiles);
        let mut rejected_by = vec!["GangScheduling"];
        let mut waiting: Vec<(Attempt, String)> = Vec::new();
        for Missed { attempt, unfit, .. } in missed {
            let own = match unfit {
                Unfit::Failed(status) => status.to_string(),
                Unfit::Rejected(diagnosis) => {
                    rejected_by.extend(diagnosis.rejected_by());
                    diagnosis.to_string()
                }
            };
            waiting.push((attempt, format!("{own} {why}")));
        }
        for mut placed in placed {
            if let Some(profile) = profiles.get(&placed.attempt.pod.scheduler) {
                profile.unreserve(&placed.attempt.pod, &placed.node, &mut placed.state);
            }
            self.cluster.remove(&placed.attempt.pod.key);
            waiting.push((placed.attempt, why.to_owned()));
        }
        rejected_by.sort_unstable();
        rejected_by.dedup();
        let fail = |(attempt, message): (Attempt, String)| {
            let outcome = Outcome::Rejected(rejected_by.clone());
            self.queue.failed(&*profiles, &attempt.pod.key, outcome, now);
            Decision::Failed(Failure::of(attempt, "Unschedulable", message))
        };
        waiting.into_iter().map(fail).collect()
    }

    fn try_to_place(&mut self, attempt: Attempt) -> Result<Placed, Missed> {
        let profiles = Arc::clone(&self.profiles);
        let mut state = CycleState::default();
        let Some(profile) = profiles.get(&attempt.pod.scheduler) else {
            let unfit = Unfit::Failed(Status::error("no profile is responsible for the pod"));
            return Err(Missed { attempt, unfit, state });
        };
        let pod = Arc::clone(&attempt.pod);
        let cx = Context { pod: &pod, cluster: &self.cluster, nominator: &self.nominator };
        let Chosen { node, evaluated, feasible } = match self.chooser.choose(cx, profile, &mut state) {
            Ok(chosen) => chosen,
            Err(unfit) => return Err(Missed { attempt, unfit, state }),
        };
        if let Err(status) = profile.reserve(&pod, &node, &mut state) {
            return Err(Missed { attempt, unfit: Unfit::Failed(status), state });
        }
        self.cluster.assume(Arc::clone(&pod), &node);
        self.unnominate(&pod.uid);
        Ok(Placed { attempt, node, state, evaluated, feasible })
    }

    fn missed(&mut self, missed: Missed, now: Instant) -> Decision {
        let Missed { attempt, unfit, state } = missed;
        match unfit {
            Unfit::Failed(status) => self.failed(attempt, status, now),
            Unfit::Rejected(diagnosis) => self.unfit(attempt, *diagnosis, &state, now),
        }
    }

    fn unfit(&mut self, attempt: Attempt, mut diagnosis: Diagnosis, state: &CycleState, now: Instant) -> Decision {
        let profiles = Arc::clone(&self.profiles);
        let pod = Arc::clone(&attempt.pod);
        let Some(profile) = profiles.get(&pod.scheduler) else {
            return self.failed(attempt, Status::error("no profile is responsible for the pod"), now);
        };
        let mut failure = Failure::of(attempt, "Unschedulable", String::new());
        let cx = Context { pod: &pod, cluster: &self.cluster, nominator: &self.nominator };
        let any = diagnosis.nodes > 0;
        for (_, enabled) in profile.at(Point::PostFilter).filter(|_| any) {
            match enabled.plugin.post_filter(cx, profile, state, &diagnosis) {
                PostFilter::Nominated(nomination) => {
                    let Nomination { node, victims, displaced, effect } = nomination;
                    failure.nominated = Nominated::Node(node);
                    (failure.victims, failure.displaced, failure.effect) = (victims, displaced, effect);
                    break;
                }
                PostFilter::Started(effect) => {
                    failure.effect = Some(effect);
                    break;
                }
                PostFilter::Helpless(why) => diagnosis.add_after(&why),
                PostFilter::Clear(why) => {
                    diagnosis.add_after(&why);
                    failure.nominated = Nominated::Clear;
                }
            }
        }
        match &failure.nominated {
            Nominated::Keep => {}
            Nominated::Clear => self.unnominate(&pod.uid),
            Nominated::Node(node) => self.nominate(&pod, &node.clone()),
        }
        for displaced in &failure.displaced {
            self.unnominate(&displaced.uid);
        }
        failure.message = diagnosis.to_string();
        let mut rejected_by = diagnosis.rejected_by();
        if diagnosis.nodes == 0 {
            // Any node that comes may help.
            rejected_by = profile.at(Point::Filter).map(|(_, enabled)| enabled.plugin.name()).collect();
        }
        self.queue.failed(&*profiles, &pod.key, Outcome::Rejected(rejected_by), now);
        Decision::Failed(failure)
    }

    /// An attempt went wrong, or was rejected after a node was chosen.
    fn failed(&mut self, attempt: Attempt, status: Status, now: Instant) -> Decision {
        let profiles = Arc::clone(&self.profiles);
        let rejected = status.is_rejection() && !status.plugin.is_empty();
        let outcome = if rejected { Outcome::Rejected(vec![status.plugin]) } else { Outcome::Failed };
        self.queue.failed(&*profiles, &attempt.pod.key, outcome, now);
        let reason = if rejected { "Unschedulable" } else { "SchedulerError" };
        Decision::Failed(Failure::of(attempt, reason, status.to_string()))
    }

    /// A pod that had a node is bound.
    pub fn bound(&mut self, key: &Key) {
        self.queue.remove(key);
    }

    /// A pod that had a node could not be bound after all. `None` when it is of no interest any more.
    pub fn unbound(&mut self, placed: &mut Placed, status: &Status, now: Instant) -> Option<Failure> {
        let pod = Arc::clone(&placed.attempt.pod);
        let profiles = Arc::clone(&self.profiles);
        if let Some(profile) = profiles.get(&pod.scheduler) {
            profile.unreserve(&pod, &placed.node, &mut placed.state);
        }
        let ours = self.cluster.is_assumed(&pod.key) && self.cluster.pod(&pod.key).is_some_and(|p| p.uid == pod.uid);
        if ours {
            self.cluster.remove(&pod.key);
        }
        let waits = self.queue.get(&pod.key).is_some_and(|waiting| waiting.uid == pod.uid);
        let failure = waits.then(|| match self.failed(placed.attempt.clone(), status.clone(), now) {
            Decision::Failed(failure) => Some(failure),
            Decision::Placed(_) => None,
        });
        if ours && let Some(event) = events::of_assigned(Some(pod), None) {
            self.tell(event, now);
        }
        failure.flatten()
    }

    /// Something changed.
    pub fn tell(&mut self, event: ClusterEvent, now: Instant) {
        self.observe(&event);
        self.look_again(event, now);
    }

    fn observe(&self, event: &ClusterEvent) {
        for enabled in self.profiles.iter().flat_map(Profile::plugins) {
            enabled.plugin.observe(event);
        }
    }

    fn look_again(&mut self, event: ClusterEvent, now: Instant) {
        if self.profiles.care(&event) {
            let profiles = Arc::clone(&self.profiles);
            self.queue.event(&*profiles, &Arc::new(event), now);
        }
    }

    /// Looks at a pod again that was held back at a gate.
    pub fn release(&mut self, key: &Key, now: Instant) {
        let profiles = Arc::clone(&self.profiles);
        self.queue.release(&*profiles, key, now);
    }

    /// Tries a pod again, as soon as its back-off allows.
    pub fn help(&mut self, key: &Key, now: Instant) {
        let profiles = Arc::clone(&self.profiles);
        self.queue.help(&*profiles, key, now);
    }

    fn forget(&mut self, key: &Key) -> Option<Arc<PodInfo>> {
        let pod = self.queue.remove(key)?;
        self.unnominate(&pod.uid);
        Some(pod)
    }

    fn nominate(&mut self, pod: &Arc<PodInfo>, node: &str) {
        if self.nominator.node_of(&pod.uid) == Some(node) {
            return;
        }
        if let Some(before) = self.nominator.nominate(Arc::clone(pod), node) {
            self.cluster.touch(&before);
        }
        self.cluster.touch(node);
    }

    fn unnominate(&mut self, uid: &str) {
        if let Some(node) = self.nominator.remove(uid) {
            self.cluster.touch(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins;
    use crate::testing::node;
    use rand::SeedableRng;
    use serde_json::{Value, json};

    fn core() -> Core {
        let profiles = Profiles::new([plugins::usual(&plugins::Sources::none())]);
        Core::new(Arc::new(profiles), Backoff::default(), SmallRng::seed_from_u64(1))
    }

    fn change(core: &mut Core, name: &str, cpu: &str, on: &str) {
        let pod = json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "spec": {
            "schedulerName": "default-scheduler", "nodeName": on,
            "containers": [{"resources": {"requests": {"cpu": cpu}}}]}});
        core.pod_changed(&Key::new("n", name), Some(read(pod)), Instant::now()).unwrap();
    }

    fn read(pod: Value) -> view::Pod {
        serde_json::from_value(pod).unwrap()
    }

    fn decide(core: &mut Core) -> Option<Result<String, String>> {
        let attempt = core.next(Instant::now())?;
        Some(match core.decide(attempt, Instant::now()) {
            Decision::Placed(placed) => Ok(placed.node.to_string()),
            Decision::Failed(failure) => Err(failure.message),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn pods_go_where_there_is_room_and_wait_where_there_is_none() {
        let mut core = core();
        for name in ["n1", "n2"] {
            core.set_node(name, Some(node(json!({}), json!({}), json!({"cpu": "1", "pods": "10"}))), Instant::now());
        }
        for name in ["a", "b", "c"] {
            change(&mut core, name, "600m", "");
        }
        let mut nodes = [decide(&mut core).unwrap().unwrap(), decide(&mut core).unwrap().unwrap()];
        nodes.sort();
        assert_eq!(nodes, ["n1", "n2"]);
        let message = "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
                       2 No preemption victims found for incoming pod.";
        assert_eq!(decide(&mut core), Some(Err(message.to_owned())));
        assert_eq!(decide(&mut core), None);
        core.pod_changed(&Key::new("n", "a"), None, Instant::now()).unwrap();
        assert!(decide(&mut core).unwrap().is_ok(), "the room of a is free");
    }

    #[tokio::test(start_paused = true)]
    async fn without_nodes_a_pod_waits_for_one() {
        let mut core = core();
        change(&mut core, "a", "1", "");
        assert_eq!(decide(&mut core), Some(Err("no nodes available to schedule pods".to_owned())));
        core.set_node("n1", Some(node(json!({}), json!({}), json!({"cpu": "1", "pods": "10"}))), Instant::now());
        assert_eq!(decide(&mut core), Some(Ok("n1".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_binding_that_fails_gives_the_room_back() {
        let mut core = core();
        core.set_node("n1", Some(node(json!({}), json!({}), json!({"cpu": "1", "pods": "10"}))), Instant::now());
        change(&mut core, "a", "1", "");
        let attempt = core.next(Instant::now()).unwrap();
        let Decision::Placed(mut placed) = core.decide(attempt, Instant::now()) else { panic!("no node") };
        change(&mut core, "b", "1", "");
        assert!(decide(&mut core).unwrap().is_err());
        let failure = core.unbound(&mut placed, &Status::error("refused"), Instant::now()).unwrap();
        assert_eq!((failure.reason, failure.message.as_str()), ("SchedulerError", "refused"));
        assert_eq!(decide(&mut core), Some(Ok("n1".to_owned())), "b is helped while a backs off");
    }
}
