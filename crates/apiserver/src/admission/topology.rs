//! PodTopologyLabels (KEP-4742): a pod that is put onto a node gets the node's zone and region as labels.

use super::{Attributes, Operation};
use trireme_schema::{Status, Value};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// Labels pods that are made on a node, or bound to one.
pub(super) fn labels(attributes: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    let bound = attributes.operation == Operation::Update && attributes.is("", "pods", "binding");
    let node = object.str_at(&["spec", "nodeName"]).to_owned();
    if node.is_empty() || !(bound || attributes.creates("", "pods")) {
        return Ok(());
    }
    let Some(node) = attributes.server.read("", "nodes", "", &node) else { return Ok(()) };
    for label in LABELS {
        if let Some(value) = node.at(&["metadata", "labels", label]) {
            object.set_at(&["metadata", "labels", label], value.clone());
        }
    }
    Ok(())
}
