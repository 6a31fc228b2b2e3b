use crate::framework::{Plugin, Points};

/// A pod that names its node is already bound, and never comes here: the plugin stands for upstream's of this name, so
/// that configurations that list it are understood.
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn points(&self) -> Points {
        Points::of(&[])
    }
}
