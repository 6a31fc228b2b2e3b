//! The plugins, one aspect of placement each.

mod default_binder;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_declared_features;
mod node_name;
mod node_ports;
pub mod node_resources;
mod node_unschedulable;
pub mod pod_topology_spread;
mod priority_sort;
mod scheduling_gates;
mod taint_toleration;

use std::sync::Arc;

use crate::framework::{Enabled, MAX_SCORE, Plugin, Profile};
use inter_pod_affinity::InterPodAffinity;
use pod_topology_spread::{Defaults, Informed, PodTopologySpread, Workloads};

use crate::{Handle, Intake};

/// The plugins of the default profile in the order in which they are asked, with the weights of their scores.
pub fn default_profile(name: &str, handle: &Handle, _intake: &mut Intake) -> Profile {
    let mut plugins = pure_plugins(Arc::new(Informed::new(&handle.informers)));
    plugins.push((Arc::new(default_binder::DefaultBinder::new(handle.client.clone())), 0));
    profile(name, plugins)
}

/// The default profile without what needs the API.
pub fn pure(name: &str, workloads: Arc<dyn Workloads>) -> Profile {
    profile(name, pure_plugins(workloads))
}

fn profile(name: &str, plugins: Vec<(Arc<dyn Plugin>, i64)>) -> Profile {
    Profile::new(name, plugins.into_iter().map(|(plugin, weight)| Enabled::new(plugin, weight)).collect())
}

fn pure_plugins(workloads: Arc<dyn Workloads>) -> Vec<(Arc<dyn Plugin>, i64)> {
    vec![
        (Arc::new(scheduling_gates::SchedulingGates), 0),
        (Arc::new(priority_sort::PrioritySort), 0),
        (Arc::new(node_unschedulable::NodeUnschedulable), 0),
        (Arc::new(node_name::NodeName), 0),
        (Arc::new(taint_toleration::TaintToleration), 3),
        (Arc::new(node_affinity::NodeAffinity::default()), 2),
        (Arc::new(node_ports::NodePorts), 0),
        (Arc::new(node_resources::NodeResourcesFit::default()), 1),
        (Arc::new(PodTopologySpread::new(Defaults::System, workloads)), 2),
        (Arc::new(InterPodAffinity::default()), 2),
        (Arc::new(node_declared_features::NodeDeclaredFeatures), 0),
        (Arc::new(node_resources::NodeResourcesBalancedAllocation::default()), 1),
        (Arc::new(image_locality::ImageLocality), 1),
    ]
}

/// Scales raw scores to 0..=100 by their largest; `reverse` likes the small ones.
fn normalize(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if most <= 0 { 0 } else { *score * MAX_SCORE / most };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}
