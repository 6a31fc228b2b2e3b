use crate::NodeInfo;
use crate::framework::{Actions, Context, CycleState, Interest, Plugin, Point, Points, PreFilter, Source, Status};

/// A pod that uses a feature which older nodes lack goes only to nodes that say they have it (KEP-5328).
pub struct NodeDeclaredFeatures;

impl Plugin for NodeDeclaredFeatures {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatures"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter])
    }

    fn pre_filter(&self, cx: Context<'_>, _state: &mut CycleState) -> Result<PreFilter, Status> {
        Ok(if cx.pod.needed_features.is_empty() { PreFilter::Skip } else { PreFilter::Proceed })
    }

    fn filter(&self, cx: Context<'_>, _state: &CycleState, node: &NodeInfo) -> Result<(), Status> {
        let has = |feature: &str| node.spec.features.binary_search_by(|known| (**known).cmp(feature)).is_ok();
        if cx.pod.needed_features.iter().all(|feature| has(feature)) {
            return Ok(());
        }
        Err(Status::unresolvable("node(s) didn't match Pod's required features"))
    }

    fn interests(&self) -> Vec<Interest> {
        vec![Interest::of(Source::Node, Actions::ADD.and(Actions::NODE_FEATURES))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeSpec;
    use crate::testing::{pod, verdict};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn a_pod_without_a_user_namespace_of_the_hosts_network_goes_only_where_that_is_known() {
        let needing = pod("p", json!({"hostNetwork": true, "hostUsers": false}));
        let old = Arc::<NodeSpec>::default();
        let new =
            Arc::new(NodeSpec { features: vec!["UserNamespacesHostNetworkSupport".into()], ..NodeSpec::default() });
        assert!(verdict(&NodeDeclaredFeatures, &needing, &old).is_err());
        assert!(verdict(&NodeDeclaredFeatures, &needing, &new).is_ok());
        assert!(verdict(&NodeDeclaredFeatures, &pod("p", json!({"hostNetwork": true})), &old).is_ok());
    }
}
