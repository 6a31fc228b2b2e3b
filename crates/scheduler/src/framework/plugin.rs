use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use trireme_client::Key;

use super::{ClusterEvent, CycleState, Hint, Interest, Points, Profile, Status};
use crate::{Cluster, NodeInfo, Nominator, PodInfo};

/// The highest score of a node by one plugin.
pub const MAX_SCORE: i64 = 100;

/// What a decision is about.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The pod.
    pub pod: &'a Arc<PodInfo>,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Pods for which room is being made.
    pub nominator: &'a Nominator,
}

/// What a plugin's answers for a pod depend on, beside the pod's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// On the node alone ([`NodeInfo`]). What was found for one pod is used for all of its shape, until the node or the
    /// plugin's [`Plugin::epoch`] changes.
    Node,
    /// On more of the cluster, all of which is in the cycle state: asked anew in every decision, but the answers for
    /// other plugins may still be used again.
    Cluster,
    /// On who the pod is: nothing is used again.
    Pod,
}

/// What `pre_filter` found.
#[derive(Debug)]
pub enum PreFilter {
    /// Nodes are to be looked at.
    Proceed,
    /// The plugin has nothing to say about this pod; its `filter` is not called.
    Skip,
    /// Only these nodes can take the pod.
    Only(Vec<Box<str>>),
}

/// What `pre_score` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreScore {
    /// Nodes are to be compared.
    Proceed,
    /// The plugin has nothing to say about this pod; its `score` is not called.
    Skip,
}

/// Why nodes were rejected, for those who want to help.
pub trait Rejections {
    /// The status of the node in a slot; `None` when it was not rejected.
    fn of(&self, slot: usize) -> Option<&Status>;
}

/// Pods that are placed together or not at all.
#[derive(Clone, Debug)]
pub struct Gang {
    /// Namespace and name of the group.
    pub key: Key,
    /// How many must be placed.
    pub min_count: usize,
    /// The pods that there are, those that have a node included.
    pub pods: Vec<Key>,
}

/// What happens in the background.
pub type Effect = BoxFuture<'static, ()>;

/// What could be done so that the pod fits.
pub struct Nomination {
    /// The node on which there will be room.
    pub node: Box<str>,
    /// Pods that have to go first.
    pub victims: Vec<Arc<PodInfo>>,
    /// Pods that were to come there with less right, and look for another place.
    pub displaced: Vec<Arc<PodInfo>>,
    /// Removes the pods in the background.
    pub effect: Option<Effect>,
}

/// What `post_filter` found.
pub enum PostFilter {
    /// There will be room.
    Nominated(Nomination),
    /// Something was started that may help; the plugin's events tell when.
    Started(Effect),
    /// Nothing helps; why, for the user.
    Helpless(String),
    /// Nothing helps, and a node that was nominated before is of no use any more. Why, for the user.
    Clear(String),
}

/// What `permit` says.
pub enum Permission {
    /// Go on.
    Granted,
    /// Wait for somebody to approve, this long at most.
    Wait(Duration),
}

/// Work of a plugin outside the scheduler's own task.
pub type Work = BoxFuture<'static, Result<(), Status>>;

/// One aspect of placement. A plugin says in [`Plugin::points`] where it takes part; everything has a default that does
/// not care.
///
/// All but the returned futures runs on the scheduler's task: it must not block.
pub trait Plugin: Send + Sync {
    /// Name, as upstream's configuration calls it.
    fn name(&self) -> &'static str;

    /// Where the plugin takes part.
    fn points(&self) -> Points;

    /// `PreEnqueue`: whether the pod may be tried at all. A pod that may not is looked at again when it changes and on
    /// the plugin's events.
    ///
    /// # Errors
    /// Why not.
    fn pre_enqueue(&self, _pod: &Arc<PodInfo>) -> Result<(), Status> {
        Ok(())
    }

    /// Something changed; for plugins that keep a picture of their own. Called before pods are looked at again.
    fn observe(&self, _event: &ClusterEvent) {}

    /// The pods with which this one is placed.
    fn gang(&self, _pod: &PodInfo) -> Option<Gang> {
        None
    }

    /// `QueueSort`: pods of a higher rank go first; among equals the one that has waited longest.
    fn rank(&self, _pod: &PodInfo) -> i64 {
        0
    }

    /// Which changes may help pods that the plugin rejected. Asked once.
    fn interests(&self) -> Vec<Interest> {
        Vec::new()
    }

    /// Whether one of those changes may help this pod.
    fn hint(&self, _pod: &Arc<PodInfo>, _event: &ClusterEvent) -> Hint {
        Hint::Queue
    }

    /// What the plugin's answers for this pod depend on.
    fn reach(&self, _pod: &PodInfo) -> Reach {
        Reach::Node
    }

    /// For [`Reach::Node`]: changes whenever answers may change for a reason that is not the node's.
    fn epoch(&self, _pod: &PodInfo, _cluster: &Cluster) -> u64 {
        0
    }

    /// `PreFilter`: prepares `filter`.
    ///
    /// # Errors
    /// Why no node can take the pod.
    fn pre_filter(&self, _cx: Context<'_>, _state: &mut CycleState) -> Result<PreFilter, Status> {
        Ok(PreFilter::Proceed)
    }

    /// Takes into the state that a pod were on a node. Only called when `pre_filter` did not skip.
    fn add_pod(&self, _cx: Context<'_>, _state: &mut CycleState, _added: &Arc<PodInfo>, _node: &NodeInfo) {}

    /// Takes into the state that a pod were not on a node.
    fn remove_pod(&self, _cx: Context<'_>, _state: &mut CycleState, _removed: &Arc<PodInfo>, _node: &NodeInfo) {}

    /// `Filter`: whether a node can take the pod. `node` may be a "what if" of the one in the cluster.
    ///
    /// # Errors
    /// Why not.
    fn filter(&self, _cx: Context<'_>, _state: &CycleState, _node: &NodeInfo) -> Result<(), Status> {
        Ok(())
    }

    /// `PostFilter`: what could be done for a pod that no node can take.
    fn post_filter(
        &self,
        _cx: Context<'_>,
        _profile: &Profile,
        _state: &CycleState,
        _rejections: &dyn Rejections,
    ) -> PostFilter {
        PostFilter::Helpless(String::new())
    }

    /// `PreScore`: prepares `score` for these nodes.
    ///
    /// # Errors
    /// What went wrong.
    fn pre_score(&self, _cx: Context<'_>, _state: &mut CycleState, _nodes: &[&NodeInfo]) -> Result<PreScore, Status> {
        Ok(PreScore::Proceed)
    }

    /// `Score`: how much a node is liked; 0 to [`MAX_SCORE`], or any number that `normalize` brings there.
    fn score(&self, _cx: Context<'_>, _state: &CycleState, _node: &NodeInfo) -> i64 {
        0
    }

    /// Whether the plugin will not tell nodes apart for this pod: then `pre_score` and `score` are not called.
    fn indifferent(&self, _pod: &Arc<PodInfo>, _cluster: &Cluster) -> bool {
        false
    }

    /// Whether `normalize` does something. For the others scores of different nodes stand for themselves.
    fn normalizes(&self) -> bool {
        false
    }

    /// Brings the scores of all nodes that are left to 0 to [`MAX_SCORE`].
    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeInfo], _scores: &mut [i64]) {}

    /// `Reserve`: a node has been chosen.
    ///
    /// # Errors
    /// Why it cannot be; everything reserved is given back.
    fn reserve(&self, _pod: &Arc<PodInfo>, _node: &str, _state: &mut CycleState) -> Result<(), Status> {
        Ok(())
    }

    /// Gives back what was reserved; also called when nothing was.
    fn unreserve(&self, _pod: &Arc<PodInfo>, _node: &str, _state: &mut CycleState) {}

    /// `Permit`: whether the pod may be bound now.
    ///
    /// # Errors
    /// Why it may not be.
    fn permit(&self, _pod: &Arc<PodInfo>, _node: &str, _state: &CycleState) -> Result<Permission, Status> {
        Ok(Permission::Granted)
    }

    /// `PreBind`: what has to happen before the binding; `None` when there is nothing.
    fn pre_bind(&self, _pod: &Arc<PodInfo>, _node: &str, _state: &CycleState) -> Option<Work> {
        None
    }

    /// `Bind`: binds the pod; `None` when the plugin does not do it for this pod.
    fn bind(&self, _pod: &Arc<PodInfo>, _node: &str) -> Option<Work> {
        None
    }

    /// `PostBind`: the pod has been bound.
    fn post_bind(&self, _pod: &Arc<PodInfo>, _node: &str) {}
}
