use super::Weighed;
use crate::config::BalancedArgs;
use crate::framework::{Context, CycleState, MAX_SCORE, Plugin, Point, Points};
use crate::{NodeInfo, PodInfo};

/// Nodes on which resources would be used to a like share are liked, so that none is stranded.
pub struct NodeResourcesBalancedAllocation {
    /// Which resources. Their weights do not count.
    pub resources: Vec<Weighed>,
}

impl NodeResourcesBalancedAllocation {
    /// As a configuration says.
    pub fn new(args: &BalancedArgs) -> Self {
        Self { resources: Weighed::of(&args.resources) }
    }
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::Score])
    }

    fn score(&self, cx: Context<'_>, _state: &CycleState, node: &NodeInfo) -> i64 {
        let asked = |resource: &Weighed| cx.pod.requests.total.get(&resource.name);
        // Pods that ask for nothing would all go to the one node that is in balance.
        if self.resources.iter().all(|resource| asked(resource) == 0) {
            return 0;
        }
        balance(&self.resources, cx.pod, node)
    }
}

/// 100 less the standard deviation of the shares.
fn balance(resources: &[Weighed], pod: &PodInfo, node: &NodeInfo) -> i64 {
    let mut shares: Vec<f64> = Vec::with_capacity(resources.len());
    for resource in resources {
        let name = &*resource.name;
        let asked = pod.requests.total.get(name);
        let all = node.spec.allocatable.get(name);
        let looked_at = matches!(name, "cpu" | "memory" | "ephemeral-storage") || asked != 0;
        if all != 0 && looked_at {
            shares.push((node.requested.get(name).saturating_add(asked) as f64 / all as f64).min(1.0));
        }
    }
    let deviation = match shares.as_slice() {
        [one, other] => ((one - other) / 2.0).abs(),
        [] | [_] => 0.0,
        several => {
            let count = several.len() as f64;
            let mean = several.iter().sum::<f64>() / count;
            (several.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / count).sqrt()
        }
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod, scores};
    use serde_json::json;

    #[test]
    fn equal_shares_are_liked() {
        let asks = |cpu: &str, memory: &str| {
            pod("a", json!({"containers": [{"resources": {"requests": {"cpu": cpu, "memory": memory}}}]}))
        };
        let of = |cpu: &str, memory: &str| node(json!({}), json!({}), json!({"cpu": cpu, "memory": memory}));
        let nodes = [of("4", "4Gi"), of("2", "8Gi")];
        let plugin = NodeResourcesBalancedAllocation::new(&BalancedArgs::default());
        assert_eq!(scores(&plugin, &asks("2", "2Gi"), &nodes), [100, 62]);
        assert_eq!(scores(&plugin, &asks("0", "0"), &nodes), [0, 0]);
    }
}
