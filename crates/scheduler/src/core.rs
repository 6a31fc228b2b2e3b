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
    /// What was started to help.
    pub effect: Option<Effect>,
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
            self.forget(key);
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
            self.forget(&pod.key);
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
                self.queue.add(&*profiles, Arc::clone(&pod), None, now);
                self.tell(events::of_unscheduled(pod), now);
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
        let profiles = Arc::clone(&self.profiles);
        let Some(profile) = profiles.get(&attempt.pod.scheduler) else {
            return self.failed(attempt, Status::error("no profile is responsible for the pod"), now);
        };
        let pod = Arc::clone(&attempt.pod);
        let mut state = CycleState::default();
        let cx = Context { pod: &pod, cluster: &self.cluster, nominator: &self.nominator };
        match self.chooser.choose(cx, profile, &mut state) {
            Ok(chosen) => self.settle(profile, attempt, chosen, state, now),
            Err(Unfit::Failed(status)) => self.failed(attempt, status, now),
            Err(Unfit::Rejected(diagnosis)) => self.unfit(profile, attempt, *diagnosis, &state, now),
        }
    }

    fn settle(
        &mut self,
        profile: &Profile,
        attempt: Attempt,
        chosen: Chosen,
        mut state: CycleState,
        now: Instant,
    ) -> Decision {
        let Chosen { node, evaluated, feasible } = chosen;
        if let Err(status) = profile.reserve(&attempt.pod, &node, &mut state) {
            return self.failed(attempt, status, now);
        }
        self.cluster.assume(Arc::clone(&attempt.pod), &node);
        self.unnominate(&attempt.pod.uid);
        Decision::Placed(Placed { attempt, node, state, evaluated, feasible })
    }

    fn unfit(
        &mut self,
        profile: &Profile,
        attempt: Attempt,
        mut diagnosis: Diagnosis,
        state: &CycleState,
        now: Instant,
    ) -> Decision {
        let pod = Arc::clone(&attempt.pod);
        let mut failure = Failure {
            attempt,
            reason: "Unschedulable",
            message: String::new(),
            nominated: Nominated::Keep,
            victims: Vec::new(),
            effect: None,
        };
        let cx = Context { pod: &pod, cluster: &self.cluster, nominator: &self.nominator };
        let any = diagnosis.nodes > 0;
        for (_, enabled) in profile.at(Point::PostFilter).filter(|_| any) {
            match enabled.plugin.post_filter(cx, profile, state, &diagnosis) {
                PostFilter::Nominated(Nomination { node, victims }) => {
                    failure.nominated = Nominated::Node(node);
                    failure.victims = victims;
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
        failure.message = diagnosis.to_string();
        let profiles = Arc::clone(&self.profiles);
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
        Decision::Failed(Failure {
            attempt,
            reason: if rejected { "Unschedulable" } else { "SchedulerError" },
            message: status.to_string(),
            nominated: Nominated::Keep,
            victims: Vec::new(),
            effect: None,
        })
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
        if self.profiles.care(&event) {
            let profiles = Arc::clone(&self.profiles);
            self.queue.event(&*profiles, &Arc::new(event), now);
        }
    }

    /// Looks at a pod again that a plugin held back.
    pub fn help(&mut self, key: &Key, now: Instant) {
        let profiles = Arc::clone(&self.profiles);
        self.queue.help(&*profiles, key, now);
    }

    fn forget(&mut self, key: &Key) {
        if let Some(pod) = self.queue.remove(key) {
            self.unnominate(&pod.uid);
        }
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
        let profiles =
            Profiles::new([plugins::pure("default-scheduler", Arc::new(plugins::pod_topology_spread::Nobody))]);
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
        assert_eq!(decide(&mut core), Some(Err("0/2 nodes are available: 2 Insufficient cpu.".to_owned())));
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
