use crate::framework::{Context, Status};
use crate::index::{Count, Nodes, Pods};
use crate::shape::Spread;
use crate::{NodeInfo, PodInfo};

/// The constraints that must hold, with what is there by domain.
#[derive(Clone)]
pub struct Required(Vec<Constraint>);

#[derive(Clone)]
struct Constraint {
    spread: Spread,
    nodes: Nodes,
    count: Count,
    /// The least number of pods of any domain; of all domains that are not there yet, none.
    least: i64,
    /// Whether the pod counts itself.
    own: i64,
}

impl Required {
    /// Counts what is there.
    pub fn of(cx: Context<'_>, constraints: Vec<Spread>) -> Self {
        let keys: Vec<Box<str>> = constraints.iter().map(|spread| spread.key.clone()).collect();
        let of = |spread: Spread| {
            let nodes = Nodes::of(cx.pod, keys.clone(), spread.honor_affinity, spread.honor_taints);
            let pods = Pods { selectors: vec![spread.pods.clone()], living: true };
            let own = i64::from(spread.pods.matches(&cx.pod.namespace, &cx.pod.labels, |_| None));
            let counted = nodes.clone();
            let count = cx.cluster.with_index(|index, namespaces| index.count(pods, counted, &spread.key, namespaces));
            let mut constraint = Constraint { spread, nodes, count, least: 0, own };
            constraint.find_least();
            constraint
        };
        Self(constraints.into_iter().map(of).collect())
    }

    /// Takes into account that a pod came to a node, or went.
    pub fn suppose(&mut self, cx: Context<'_>, other: &PodInfo, node: &NodeInfo, came: bool) {
        for constraint in &mut self.0 {
            let counted = !other.terminating
                && constraint.spread.pods.matches(&other.namespace, &other.labels, |name| cx.cluster.namespace(name))
                && constraint.nodes.include(&node.name, &node.spec);
            if counted && constraint.count.suppose(node.slot, came) {
                constraint.find_least();
            }
        }
    }

    /// Whether the pod may come to the node of a slot.
    pub fn verdict(&self, slot: usize) -> Result<(), Status> {
        for constraint in &self.0 {
            let Some(pods) = constraint.count.at(slot) else {
                return Err(Status::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            if i64::from(pods) + constraint.own - constraint.least > constraint.spread.max_skew {
                return Err(Status::unschedulable("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }
}

impl Constraint {
    fn find_least(&mut self) {
        let (mut least, mut domains) = (u32::MAX, 0_i64);
        for (pods, size) in self.count.pods.iter().zip(&self.count.sizes) {
            if *size > 0 {
                domains += 1;
                least = least.min(*pods);
            }
        }
        self.least = if domains < self.spread.min_domains || domains == 0 { 0 } else { i64::from(least) };
    }
}
