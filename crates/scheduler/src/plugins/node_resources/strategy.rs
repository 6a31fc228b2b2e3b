use crate::config::{FitArgs, ResourceSpec, ShapePoint};
use crate::framework::MAX_SCORE;
use crate::{NodeInfo, PodInfo};

/// A resource and how much it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighed {
    /// Name.
    pub name: Box<str>,
    /// Weight, 1 to 100.
    pub weight: i64,
}

/// Which nodes are liked (`scoringStrategy`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The emptier ones.
    LeastAllocated(Vec<Weighed>),
    /// The fuller ones.
    MostAllocated(Vec<Weighed>),
    /// As a function says.
    RequestedToCapacityRatio(Vec<Weighed>, Vec<ShapePoint>),
}

/// What a resource would be used, of how much.
struct Used {
    requested: i64,
    allocatable: i64,
    weight: i64,
}

impl Weighed {
    /// CPU and memory alike.
    pub fn defaults() -> Vec<Self> {
        ["cpu", "memory"].map(|name| Self { name: name.into(), weight: 1 }).into()
    }
}

impl Default for Strategy {
    fn default() -> Self {
        Self::LeastAllocated(Weighed::defaults())
    }
}

impl Weighed {
    /// As a configuration says.
    pub fn of(resources: &[ResourceSpec]) -> Vec<Self> {
        resources.iter().map(|spec| Self { name: spec.name.as_str().into(), weight: spec.weight }).collect()
    }
}

impl Strategy {
    /// As a configuration says.
    pub fn of(args: &FitArgs) -> Self {
        let Some(strategy) = &args.scoring_strategy else { return Self::default() };
        let resources = Weighed::of(&strategy.resources);
        match strategy.kind.as_str() {
            "MostAllocated" => Self::MostAllocated(resources),
            "RequestedToCapacityRatio" => {
                let shape = strategy.requested_to_capacity_ratio.as_ref().map(|ratio| ratio.shape.clone());
                Self::RequestedToCapacityRatio(resources, shape.unwrap_or_default())
            }
            _ => Self::LeastAllocated(resources),
        }
    }

    /// How much a node is liked, 0 to 100.
    pub fn score(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let used = |resources: &[Weighed]| {
            let used: Vec<Used> = resources.iter().map(|resource| Used::of(resource, pod, node)).collect();
            used.into_iter().filter(|used| used.allocatable != 0)
        };
        match self {
            Self::LeastAllocated(resources) => average(used(resources), |used| {
                if used.requested > used.allocatable {
                    0
                } else {
                    (used.allocatable - used.requested) * MAX_SCORE / used.allocatable
                }
            }),
            Self::MostAllocated(resources) => {
                average(used(resources), |used| used.requested.min(used.allocatable) * MAX_SCORE / used.allocatable)
            }
            Self::RequestedToCapacityRatio(resources, shape) => {
                let (mut sum, mut weights) = (0, 0);
                for used in used(resources) {
                    let percent = if used.requested > used.allocatable {
                        MAX_SCORE
                    } else {
                        used.requested * MAX_SCORE / used.allocatable
                    };
                    let score = along(shape, percent);
                    // What scores nothing is left out of the average.
                    if score > 0 {
                        sum += score * used.weight;
                        weights += used.weight;
                    }
                }
                if weights == 0 { 0 } else { (sum as f64 / weights as f64).round() as i64 }
            }
        }
    }
}

impl Used {
    fn of(resource: &Weighed, pod: &PodInfo, node: &NodeInfo) -> Self {
        let (requests, all) = (&pod.requests, &node.spec.allocatable);
        let (requested, allocatable) = match &*resource.name {
            "cpu" => (node.non_zero_milli_cpu.saturating_add(requests.non_zero_milli_cpu), all.milli_cpu),
            "memory" => (node.non_zero_memory.saturating_add(requests.non_zero_memory), all.memory),
            "ephemeral-storage" => (
                node.requested.ephemeral_storage.saturating_add(requests.total.ephemeral_storage),
                all.ephemeral_storage,
            ),
            // A resource that the pod does not ask for says nothing about where to put it.
            name => match requests.total.extended(name) {
                0 => (0, 0),
                asked => (node.requested.extended(name).saturating_add(asked), all.extended(name)),
            },
        };
        Self { requested, allocatable, weight: resource.weight }
    }
}

fn average(used: impl Iterator<Item = Used>, score: impl Fn(&Used) -> i64) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    for used in used {
        sum += score(&used) * used.weight;
        weights += used.weight;
    }
    if weights == 0 { 0 } else { sum / weights }
}

/// The value of a function of straight pieces.
fn along(shape: &[ShapePoint], percent: i64) -> i64 {
    // Scores of the configuration go to 10.
    let scaled = |point: &ShapePoint| point.score * (MAX_SCORE / 10);
    for (at, point) in shape.iter().enumerate() {
        if percent <= point.utilization {
            let Some(before) = at.checked_sub(1).and_then(|at| shape.get(at)) else { return scaled(point) };
            let width = point.utilization - before.utilization;
            return scaled(before) + (scaled(point) - scaled(before)) * (percent - before.utilization) / width.max(1);
        }
    }
    shape.last().map_or(0, scaled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::json;

    fn score(strategy: &Strategy, cpu: &str, used_cpu: &str) -> i64 {
        let asks = |name: &str, cpu: &str| {
            pod(name, json!({"containers": [{"resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}]}))
        };
        let spec = node(json!({}), json!({}), json!({"cpu": "4", "memory": "4Gi", "pods": "10"}));
        let mut node = NodeInfo { spec, ..NodeInfo::default() };
        node.add(asks("b", used_cpu));
        strategy.score(&asks("a", cpu), &node)
    }

    #[test]
    fn strategies_are_upstreams() {
        let cpu_only = || vec![Weighed { name: "cpu".into(), weight: 1 }];
        let shape = |points: &[(i64, i64)]| {
            points.iter().map(|(utilization, score)| ShapePoint { utilization: *utilization, score: *score }).collect()
        };
        for (strategy, cpu, used, expected) in [
            (Strategy::default(), "1", "1", 50),
            (Strategy::default(), "2", "1", (25 + 50) / 2),
            (Strategy::default(), "4", "1", 25),
            (Strategy::LeastAllocated(cpu_only()), "1", "0", 75),
            (Strategy::MostAllocated(Weighed::defaults()), "2", "1", (75 + 50) / 2),
            (Strategy::MostAllocated(cpu_only()), "4", "1", 100),
            (Strategy::RequestedToCapacityRatio(cpu_only(), shape(&[(0, 0), (100, 10)])), "2", "1", 75),
            (Strategy::RequestedToCapacityRatio(cpu_only(), shape(&[(0, 10), (50, 2), (100, 0)])), "1", "0", 60),
            (Strategy::RequestedToCapacityRatio(cpu_only(), shape(&[(0, 10), (100, 0)])), "4", "1", 0),
        ] {
            assert_eq!(score(&strategy, cpu, used), expected, "{strategy:?} {cpu} {used}");
        }
    }
}
