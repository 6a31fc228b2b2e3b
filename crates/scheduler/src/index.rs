use std::collections::HashMap;
use std::sync::Arc;

use crate::{Labels, NodeSpec, PodInfo};

/// Counts for affinity and spreading, kept up to date by changes.
#[derive(Default)]
pub struct Index {}

impl Index {
    /// A pod was placed on the node of a slot.
    pub fn add_pod(&mut self, _pod: &Arc<PodInfo>, _slot: usize, _namespaces: &HashMap<Box<str>, Labels>) {}

    /// A pod was taken off the node of a slot.
    pub fn remove_pod(&mut self, _pod: &Arc<PodInfo>, _slot: usize) {}

    /// The node of a slot is new, changed, or gone.
    pub fn set_node(&mut self, _slot: usize, _name: &str, _spec: Option<&Arc<NodeSpec>>) {}

    /// The labels of a namespace changed.
    pub fn namespaces_changed(&mut self) {}
}
