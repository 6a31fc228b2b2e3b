use std::borrow::Cow;

use rand::Rng;

use crate::{Cluster, Diagnosis, Hint, NodeInfo, PodInfo};

/// The highest score of a node by one plugin.
pub const MAX_SCORE: i64 = 100;
/// Below this many nodes all of them are looked at.
const ALWAYS_ALL: usize = 100;

/// Why a node cannot take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What the user is told, such as `Insufficient cpu`. Several when several things are missing.
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether removing pods from the node could help.
    pub preemptable: bool,
}

/// The scores of one plugin for the nodes that are left, in their order.
pub type Scores = Vec<i64>;

/// One aspect of placement. Every method has a default that does not care.
pub trait Plugin: Send + Sync {
    /// Name, as upstream's configuration calls it.
    fn name(&self) -> &'static str;

    /// Whether the plugin has anything to say about this pod. Asked once per decision, so that the plugin costs nothing
    /// for the others.
    fn concerns(&self, _pod: &PodInfo, _cluster: &Cluster) -> bool {
        true
    }

    /// Names of the only nodes that can take the pod, if the plugin knows them beforehand.
    fn only_nodes(&self, _pod: &PodInfo) -> Option<Vec<String>> {
        None
    }

    /// Whether a node can take the pod.
    fn filter(&self, _pod: &PodInfo, _node: &NodeInfo, _cluster: &Cluster) -> Result<(), Rejection> {
        Ok(())
    }

    /// How much each of these nodes is liked: 0 to [`MAX_SCORE`]. `None` when all are liked alike.
    fn score(&self, _pod: &PodInfo, _nodes: &[&NodeInfo], _cluster: &Cluster) -> Option<Scores> {
        None
    }

    /// Weight of the scores.
    fn weight(&self) -> i64 {
        1
    }

    /// Whether a change may turn a rejection by this plugin into acceptance.
    fn helped_by(&self, _pod: &PodInfo, _hint: Hint) -> bool {
        false
    }
}

/// The plugins of a profile, and how far a decision looks.
pub struct Framework {
    plugins: Vec<Box<dyn Plugin>>,
    /// Where the next decision begins, so that all nodes get their turn when not all are looked at.
    start: usize,
}

impl Rejection {
    /// A rejection for one reason that nothing but a change of the node or the pod can help.
    pub fn of(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], preemptable: false }
    }

    /// A rejection that the removal of other pods may help.
    pub fn preemptable(reasons: Vec<Cow<'static, str>>) -> Self {
        Self { reasons, preemptable: true }
    }
}

impl Framework {
    /// A framework of these plugins, asked in this order.
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self { plugins, start: 0 }
    }

    /// Chooses a node for a pod, or says for each node why not.
    pub fn choose(&mut self, pod: &PodInfo, cluster: &Cluster, rng: &mut impl Rng) -> Result<Box<str>, Diagnosis> {
        let mut diagnosis = Diagnosis::new(cluster.nodes().len());
        let concerned: Vec<&dyn Plugin> =
            self.plugins.iter().map(AsRef::as_ref).filter(|plugin| plugin.concerns(pod, cluster)).collect();
        let feasible = match concerned.iter().find_map(|plugin| Some((plugin.name(), plugin.only_nodes(pod)?))) {
            Some((by, names)) => {
                let nodes: Vec<&NodeInfo> = names.iter().filter_map(|name| cluster.node(name)).collect();
                diagnosis.others(by, cluster.nodes().len() - nodes.len());
                filter(pod, &nodes, 0, usize::MAX, &concerned, cluster, &mut diagnosis).0
            }
            None => {
                let nodes: Vec<&NodeInfo> = cluster.nodes().iter().collect();
                let enough = enough(nodes.len());
                let (feasible, looked_at) =
                    filter(pod, &nodes, self.start, enough, &concerned, cluster, &mut diagnosis);
                self.start = (self.start + looked_at) % nodes.len().max(1);
                feasible
            }
        };
        match feasible.as_slice() {
            [] => Err(diagnosis),
            [only] => Ok(only.name.clone()),
            several => Ok(best(pod, several, &concerned, cluster, rng).name.clone()),
        }
    }

    /// Whether a change may help a pod that these plugins rejected.
    pub fn helps(&self, pod: &PodInfo, rejected_by: &[&'static str], hint: Hint) -> bool {
        self.plugins.iter().any(|plugin| rejected_by.contains(&plugin.name()) && plugin.helped_by(pod, hint))
    }
}

/// How many fitting nodes are enough to choose from: all of a small cluster, then a share that falls from 50 % to 5 %
/// (upstream's percentageOfNodesToScore 0).
fn enough(nodes: usize) -> usize {
    if nodes < ALWAYS_ALL {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(ALWAYS_ALL)
}

fn filter<'a>(
    pod: &PodInfo,
    nodes: &[&'a NodeInfo],
    start: usize,
    enough: usize,
    plugins: &[&dyn Plugin],
    cluster: &Cluster,
    diagnosis: &mut Diagnosis,
) -> (Vec<&'a NodeInfo>, usize) {
    let mut feasible = Vec::new();
    let mut looked_at = 0;
    let (before, from_start) = nodes.split_at(start.min(nodes.len()));
    for node in from_start.iter().chain(before) {
        if feasible.len() >= enough {
            break;
        }
        looked_at += 1;
        let rejected = plugins
            .iter()
            .find_map(|plugin| plugin.filter(pod, node, cluster).err().map(|rejection| (plugin.name(), rejection)));
        match rejected {
            None => feasible.push(*node),
            Some((by, rejection)) => diagnosis.reject(by, rejection),
        }
    }
    (feasible, looked_at)
}

/// The node with the highest score; among equals one at random, so that pods spread.
fn best<'a>(
    pod: &PodInfo,
    nodes: &[&'a NodeInfo],
    plugins: &[&dyn Plugin],
    cluster: &Cluster,
    rng: &mut impl Rng,
) -> &'a NodeInfo {
    let mut totals = vec![0i64; nodes.len()];
    for plugin in plugins {
        if let Some(scores) = plugin.score(pod, nodes, cluster) {
            for (total, score) in totals.iter_mut().zip(scores) {
                *total += score.clamp(0, MAX_SCORE) * plugin.weight();
            }
        }
    }
    let mut chosen = (nodes[0], i64::MIN);
    let mut equals = 0u32;
    for (node, total) in nodes.iter().zip(totals) {
        if total > chosen.1 {
            chosen = (node, total);
            equals = 1;
        } else if total == chosen.1 {
            // Reservoir sampling: each of n equals is kept with the chance 1/n.
            equals += 1;
            if rng.random_ratio(1, equals) {
                chosen.0 = node;
            }
        }
    }
    chosen.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_clusters_are_looked_at_in_part() {
        assert_eq!(enough(50), 50);
        assert_eq!(enough(1_000), 420);
        assert_eq!(enough(5_000), 500);
        assert_eq!(enough(20_000), 1_000);
    }
}
