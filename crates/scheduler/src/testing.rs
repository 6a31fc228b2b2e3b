//! Pods and nodes for tests.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::framework::{Context, CycleState, Plugin, PreFilter, PreScore, Status};
use crate::shape::Shapes;
use crate::{Cluster, NodeInfo, NodeSpec, Nominator, PodInfo};

/// A pod of the namespace `n` with this `spec`; its uid is its name.
pub fn pod(name: &str, spec: Value) -> Arc<PodInfo> {
    full(json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "spec": spec}))
}

/// A pod of the namespace `n` with labels.
pub fn labelled(name: &str, labels: Value, spec: Value) -> Arc<PodInfo> {
    full(json!({"metadata": {"name": name, "namespace": "n", "uid": name, "labels": labels}, "spec": spec}))
}

/// A whole pod.
pub fn full(pod: Value) -> Arc<PodInfo> {
    Arc::new(PodInfo::read(serde_json::from_value(pod).unwrap(), &mut Shapes::default()).unwrap())
}

/// What a node with these labels, `spec` and `allocatable` says of itself.
pub fn node(labels: Value, spec: Value, allocatable: Value) -> Arc<NodeSpec> {
    let node = json!({"metadata": {"labels": labels}, "spec": spec, "status": {"allocatable": allocatable}});
    Arc::new(NodeSpec::read(serde_json::from_value(node).unwrap()).unwrap())
}

/// A node with room for all.
pub fn roomy(labels: Value) -> Arc<NodeSpec> {
    node(labels, json!({}), json!({"cpu": "64", "memory": "256Gi", "pods": "110"}))
}

/// What a plugin says of a node with nothing on it.
pub fn verdict(plugin: &dyn Plugin, pod: &Arc<PodInfo>, node: &Arc<NodeSpec>) -> Result<(), Status> {
    verdict_on(plugin, pod, &NodeInfo { name: "n1".into(), spec: Arc::clone(node), ..NodeInfo::default() })
}

/// What a plugin says of a node.
pub fn verdict_on(plugin: &dyn Plugin, pod: &Arc<PodInfo>, node: &NodeInfo) -> Result<(), Status> {
    let (cluster, nominator) = (Cluster::default(), Nominator::default());
    let cx = Context { pod, cluster: &cluster, nominator: &nominator };
    let mut state = CycleState::default();
    if let PreFilter::Skip = plugin.pre_filter(cx, &mut state)? {
        return Ok(());
    }
    plugin.filter(cx, &state, node)
}

/// A node that holds these pods.
pub fn holding(pods: &[Arc<PodInfo>]) -> NodeInfo {
    let mut node = NodeInfo::default();
    for pod in pods {
        node.add(Arc::clone(pod));
    }
    node
}

/// How much a plugin likes nodes.
pub fn scores(plugin: &dyn Plugin, pod: &Arc<PodInfo>, nodes: &[Arc<NodeSpec>]) -> Vec<i64> {
    let (mut cluster, nominator) = (Cluster::default(), Nominator::default());
    for (at, node) in nodes.iter().enumerate() {
        cluster.set_node(&format!("n{at}"), Arc::clone(node));
    }
    let cx = Context { pod, cluster: &cluster, nominator: &nominator };
    let nodes: Vec<&NodeInfo> = cluster.nodes().collect();
    let mut state = CycleState::default();
    assert_eq!(plugin.pre_score(cx, &mut state, &nodes).unwrap(), PreScore::Proceed);
    let mut scores: Vec<i64> = nodes.iter().map(|node| plugin.score(cx, &state, node)).collect();
    if plugin.normalizes() {
        plugin.normalize(&state, &nodes, &mut scores);
    }
    scores
}

/// A cluster in which plugins are tried.
#[derive(Default)]
pub struct Lab {
    /// The cluster.
    pub cluster: Cluster,
    /// Pods for which room is being made.
    pub nominator: Nominator,
}

impl Lab {
    fn context<'a>(&'a self, pod: &'a Arc<PodInfo>) -> Context<'a> {
        Context { pod, cluster: &self.cluster, nominator: &self.nominator }
    }

    /// What a plugin says of each node.
    pub fn verdicts(&self, plugin: &dyn Plugin, pod: &Arc<PodInfo>) -> Vec<Result<(), Status>> {
        let cx = self.context(pod);
        let mut state = CycleState::default();
        match plugin.pre_filter(cx, &mut state) {
            Ok(PreFilter::Skip) => self.cluster.nodes().map(|_| Ok(())).collect(),
            Ok(_) => self.cluster.nodes().map(|node| plugin.filter(cx, &state, node)).collect(),
            Err(status) => self.cluster.nodes().map(|_| Err(status.clone())).collect(),
        }
    }

    /// What a plugin says of each node if another pod were on a node, or were not.
    pub fn verdicts_if(
        &self,
        plugin: &dyn Plugin,
        pod: &Arc<PodInfo>,
        other: &Arc<PodInfo>,
        on: &str,
        there: bool,
    ) -> Vec<Result<(), Status>> {
        let cx = self.context(pod);
        let mut state = CycleState::default();
        let found = plugin.pre_filter(cx, &mut state).unwrap();
        let node = self.cluster.node(on).unwrap();
        match found {
            // The framework does not tell plugins that have nothing to say; those that might must not skip.
            PreFilter::Skip => {}
            _ if there => plugin.add_pod(cx, &mut state, other, node),
            _ => plugin.remove_pod(cx, &mut state, other, node),
        }
        self.cluster.nodes().map(|node| plugin.filter(cx, &state, node)).collect()
    }

    /// How much a plugin likes each node.
    pub fn scores(&self, plugin: &dyn Plugin, pod: &Arc<PodInfo>) -> Vec<i64> {
        let cx = self.context(pod);
        let nodes: Vec<&NodeInfo> = self.cluster.nodes().collect();
        let mut state = CycleState::default();
        if plugin.indifferent(pod, &self.cluster) || plugin.pre_score(cx, &mut state, &nodes).unwrap() == PreScore::Skip
        {
            return vec![0; nodes.len()];
        }
        let mut scores: Vec<i64> = nodes.iter().map(|node| plugin.score(cx, &state, node)).collect();
        if plugin.normalizes() {
            plugin.normalize(&state, &nodes, &mut scores);
        }
        scores
    }
}
