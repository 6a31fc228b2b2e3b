use crate::{Cluster, Hint, NodeInfo, Plugin, PodInfo, Rejection, Scores};

/// Tainted nodes take only pods that tolerate the taint; taints of preference are avoided.
pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, _cluster: &Cluster) -> Result<(), Rejection> {
        let repels = |effect: &str| effect == "NoSchedule" || effect == "NoExecute";
        match node.taints.iter().find(|taint| repels(&taint.effect) && !pod.tolerates(taint)) {
            None => Ok(()),
            Some(_) => Err(Rejection::of("node(s) had untolerated taint(s)")),
        }
    }

    fn score(&self, pod: &PodInfo, nodes: &[&NodeInfo], _cluster: &Cluster) -> Option<Scores> {
        let disliked = |node: &&NodeInfo| {
            let count = node.taints.iter().filter(|t| &*t.effect == "PreferNoSchedule" && !pod.tolerates(t)).count();
            i64::try_from(count).unwrap_or(i64::MAX)
        };
        super::normalize(nodes.iter().map(disliked).collect(), true)
    }

    fn weight(&self) -> i64 {
        3
    }

    fn helped_by(&self, _pod: &PodInfo, hint: Hint) -> bool {
        hint == Hint::Node
    }
}
