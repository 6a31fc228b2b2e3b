//! What plugins are told (`pluginConfig`).

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Duration, PluginConfig};
use crate::view::{NodeAffinity, SpreadConstraint};

/// The arguments of all plugins that have some.
#[derive(Clone, Debug, Default)]
pub struct PluginArgs {
    /// `DefaultPreemption`.
    pub preemption: PreemptionArgs,
    /// `InterPodAffinity`.
    pub inter_pod_affinity: InterPodAffinityArgs,
    /// `NodeAffinity`.
    pub node_affinity: NodeAffinityArgs,
    /// `NodeResourcesBalancedAllocation`.
    pub balanced: BalancedArgs,
    /// `NodeResourcesFit`.
    pub fit: FitArgs,
    /// `PodTopologySpread`.
    pub spread: SpreadArgs,
    /// `VolumeBinding`.
    pub volume_binding: VolumeBindingArgs,
    /// `DynamicResources`.
    pub dynamic_resources: DynamicResourcesArgs,
}

/// Arguments of `DefaultPreemption`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PreemptionArgs {
    /// Share of nodes on which preemption is tried, in percent.
    pub min_candidate_nodes_percentage: i32,
    /// At least so many.
    pub min_candidate_nodes_absolute: i32,
}

/// Arguments of `InterPodAffinity`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct InterPodAffinityArgs {
    /// How much a placed pod that needed this one likes it near.
    pub hard_pod_affinity_weight: i32,
    /// Whether likes of placed pods do not count for pods that have none themselves.
    pub ignore_preferred_terms_of_existing_pods: bool,
}

/// Arguments of `NodeAffinity`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct NodeAffinityArgs {
    /// What the profile asks of nodes.
    pub added_affinity: Option<NodeAffinity>,
}

/// Arguments of `NodeResourcesBalancedAllocation`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct BalancedArgs {
    /// Which resources.
    pub resources: Vec<ResourceSpec>,
}

/// A resource and how much it counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceSpec {
    /// Name.
    pub name: String,
    /// Weight; 0 stands for 1.
    pub weight: i64,
}

/// Arguments of `NodeResourcesFit`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FitArgs {
    /// Extended resources that are not looked at.
    pub ignored_resources: Vec<String>,
    /// Groups of extended resources that are not looked at.
    pub ignored_resource_groups: Vec<String>,
    /// Which nodes are liked.
    pub scoring_strategy: Option<ScoringStrategy>,
}

/// Which nodes are liked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ScoringStrategy {
    /// `LeastAllocated`, `MostAllocated` or `RequestedToCapacityRatio`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which resources.
    pub resources: Vec<ResourceSpec>,
    /// Of the last kind.
    pub requested_to_capacity_ratio: Option<Ratio>,
}

/// How much a share of use is liked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ratio {
    /// Corners of the function.
    pub shape: Vec<ShapePoint>,
}

/// A corner of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShapePoint {
    /// Percent.
    pub utilization: i64,
    /// 0 to 10.
    pub score: i64,
}

/// Arguments of `PodTopologySpread`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SpreadArgs {
    /// Constraints of pods that have none.
    pub default_constraints: Vec<SpreadConstraint>,
    /// `System` or `List`.
    pub defaulting_type: String,
}

/// Arguments of `VolumeBinding`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct VolumeBindingArgs {
    /// How long volumes may take to be bound.
    pub bind_timeout_seconds: i64,
    /// How much a share of use of a volume is liked.
    pub shape: Option<Vec<ShapePoint>>,
}

/// Arguments of `DynamicResources`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DynamicResourcesArgs {
    /// How long the look for devices on one node may take; 0 for ever.
    pub filter_timeout: Duration,
    /// How long devices may take to be made ready.
    pub binding_timeout: Duration,
}

impl Default for PreemptionArgs {
    fn default() -> Self {
        Self { min_candidate_nodes_percentage: 10, min_candidate_nodes_absolute: 100 }
    }
}

impl Default for InterPodAffinityArgs {
    fn default() -> Self {
        Self { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

impl Default for BalancedArgs {
    fn default() -> Self {
        Self { resources: usual_resources() }
    }
}

impl Default for SpreadArgs {
    fn default() -> Self {
        Self { default_constraints: Vec::new(), defaulting_type: "System".to_owned() }
    }
}

impl Default for VolumeBindingArgs {
    fn default() -> Self {
        Self { bind_timeout_seconds: 600, shape: None }
    }
}

impl Default for DynamicResourcesArgs {
    fn default() -> Self {
        Self { filter_timeout: Duration::seconds(10), binding_timeout: Duration::seconds(600) }
    }
}

fn usual_resources() -> Vec<ResourceSpec> {
    ["cpu", "memory"].map(|name| ResourceSpec { name: name.to_owned(), weight: 1 }).into()
}

impl PluginArgs {
    /// Reads a profile's `pluginConfig`. Arguments of plugins that are not ours are left alone.
    ///
    /// # Errors
    /// By place in the list, what cannot be read.
    pub fn read(list: &[PluginConfig]) -> (Self, Vec<(usize, String)>) {
        let mut all = Self::default();
        let mut wrong = Vec::new();
        for (at, config) in list.iter().enumerate() {
            let read = match config.name.as_str() {
                "DefaultPreemption" => read(config, &mut all.preemption),
                "InterPodAffinity" => read(config, &mut all.inter_pod_affinity),
                "NodeAffinity" => read(config, &mut all.node_affinity),
                "NodeResourcesBalancedAllocation" => read(config, &mut all.balanced),
                "NodeResourcesFit" => read(config, &mut all.fit),
                "PodTopologySpread" => read(config, &mut all.spread),
                "VolumeBinding" => read(config, &mut all.volume_binding),
                "DynamicResources" => read(config, &mut all.dynamic_resources),
                _ => Ok(()),
            };
            wrong.extend(read.err().map(|why| (at, why)));
        }
        all.fill_in();
        (all, wrong)
    }

    /// Upstream's defaults of what was left out.
    fn fill_in(&mut self) {
        let strategy = self
            .fit
            .scoring_strategy
            .get_or_insert_with(|| ScoringStrategy { kind: "LeastAllocated".to_owned(), ..ScoringStrategy::default() });
        if strategy.resources.is_empty() {
            strategy.resources = usual_resources();
        }
        if self.balanced.resources.is_empty() {
            self.balanced.resources = usual_resources();
        }
        for resource in strategy.resources.iter_mut().chain(&mut self.balanced.resources) {
            if resource.weight == 0 {
                resource.weight = 1;
            }
        }
    }
}

fn read<T: DeserializeOwned>(config: &PluginConfig, into: &mut T) -> Result<(), String> {
    let mut args = match &config.args {
        Value::Null => json!({}),
        args => args.clone(),
    };
    if let Some(args) = args.as_object_mut() {
        let kind = args.remove("kind");
        args.remove("apiVersion");
        let expected = format!("{}Args", config.name);
        if let Some(kind) = kind.filter(|kind| *kind != json!(expected)) {
            return Err(format!("args for plugin {} were not of type {expected}, got {kind}", config.name));
        }
    }
    *into = serde_json::from_value(args)
        .map_err(|error| format!("decoding args for plugin {}: strict decoding error: {error}", config.name))?;
    Ok(())
}
