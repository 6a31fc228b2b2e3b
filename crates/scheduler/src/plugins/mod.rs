//! The plugins, one aspect of placement each.

mod image_locality;
pub(crate) mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_balanced;
mod node_resources_fit;
mod node_unschedulable;
mod taint_toleration;

use crate::Plugin;

/// The plugins of the default profile, in the order in which they are asked.
pub fn defaults() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(node_unschedulable::NodeUnschedulable),
        Box::new(node_name::NodeName),
        Box::new(taint_toleration::TaintToleration),
        Box::new(node_affinity::NodeAffinity),
        Box::new(node_ports::NodePorts),
        Box::new(node_resources_fit::NodeResourcesFit),
        Box::new(node_resources_balanced::NodeResourcesBalanced),
        Box::new(image_locality::ImageLocality),
    ]
}

/// Scales raw scores to 0..=100 by their largest; `reverse` likes the small ones. `None` when all are zero and nothing
/// would be told apart.
fn normalize(mut raw: Vec<i64>, reverse: bool) -> Option<Vec<i64>> {
    let most = raw.iter().copied().max().unwrap_or(0);
    if most <= 0 {
        return None;
    }
    for score in &mut raw {
        let scaled = *score * crate::framework::MAX_SCORE / most;
        *score = if reverse { crate::framework::MAX_SCORE - scaled } else { scaled };
    }
    Some(raw)
}
