//! The plugins, one aspect of placement each, and the profiles that they make up.

mod default_binder;
pub mod default_preemption;
mod gang_scheduling;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_declared_features;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
pub mod pod_topology_spread;
mod priority_sort;
mod scheduling_gates;
mod taint_toleration;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::scheduling::v1alpha2::PodGroup;
use trireme_client::Client;

use crate::config::{BadConfiguration, Configuration, PluginArgs, ProfileConfig};
use crate::framework::{Enabled, MAX_SCORE, Plugin, Point, Points, Profile, Source};
use crate::{Handle, Intake};
use default_preemption::{Budgets, DefaultPreemption, Evict, Evictor, InformedBudgets, NoBudgets, Sampling};
use inter_pod_affinity::InterPodAffinity;
use pod_topology_spread::{Informed, Nobody, PodTopologySpread, Workloads};

/// The default plugins in the order in which they are asked, with the weights of their scores.
pub const DEFAULTS: &[(&str, i64)] = &[
    ("SchedulingGates", 0),
    ("PrioritySort", 0),
    ("NodeUnschedulable", 0),
    ("NodeName", 0),
    ("TaintToleration", 3),
    ("NodeAffinity", 2),
    ("NodePorts", 0),
    ("NodeResourcesFit", 1),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("NodeDeclaredFeatures", 0),
    ("GangScheduling", 0),
    ("DefaultPreemption", 0),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
    ("DefaultBinder", 0),
];

/// What plugins know of the world beside the picture of the cluster.
pub struct Sources {
    /// With which others a pod belongs.
    pub workloads: Arc<dyn Workloads>,
    /// Which pods must not be disrupted.
    pub budgets: Arc<dyn Budgets>,
    /// Removes pods; without it preemption only tells whom.
    pub evictor: Option<Arc<dyn Evict>>,
    /// Calls to the API; without them nothing is bound.
    pub client: Option<Client>,
}

impl Sources {
    /// Nothing beside the picture: for decisions without an API.
    pub fn none() -> Self {
        Self { workloads: Arc::new(Nobody), budgets: Arc::new(NoBudgets), evictor: None, client: None }
    }

    /// The API. A plugin that wants to hear of further objects says so here, with [`Intake::follow`].
    pub fn informed(handle: &Handle, intake: &mut Intake) -> Self {
        intake.follow_if_served::<PodGroup>(&handle.informers, Source::PodGroup);
        Self {
            workloads: Arc::new(Informed::new(&handle.informers)),
            budgets: Arc::new(InformedBudgets::new(&handle.informers)),
            evictor: Some(Arc::new(Evictor::new(handle.client.clone(), handle.approvals.clone()))),
            client: Some(handle.client.clone()),
        }
    }
}

/// Makes a plugin; `None` when there is none of that name.
pub fn make(name: &str, args: &PluginArgs, sources: &Sources) -> Option<Arc<dyn Plugin>> {
    Some(match name {
        "SchedulingGates" => Arc::new(scheduling_gates::SchedulingGates),
        "PrioritySort" => Arc::new(priority_sort::PrioritySort),
        "NodeUnschedulable" => Arc::new(node_unschedulable::NodeUnschedulable),
        "NodeName" => Arc::new(node_name::NodeName),
        "TaintToleration" => Arc::new(taint_toleration::TaintToleration),
        "NodeAffinity" => Arc::new(node_affinity::NodeAffinity {
            added: args.node_affinity.added_affinity.clone().unwrap_or_default(),
        }),
        "NodePorts" => Arc::new(node_ports::NodePorts),
        "NodeResourcesFit" => Arc::new(node_resources::NodeResourcesFit::new(&args.fit)),
        "PodTopologySpread" => Arc::new(PodTopologySpread::new(&args.spread, Arc::clone(&sources.workloads))),
        "InterPodAffinity" => Arc::new(InterPodAffinity {
            hard_weight: i64::from(args.inter_pod_affinity.hard_pod_affinity_weight),
            ignore_likes_of_others: args.inter_pod_affinity.ignore_preferred_terms_of_existing_pods,
        }),
        "NodeDeclaredFeatures" => Arc::new(node_declared_features::NodeDeclaredFeatures),
        "GangScheduling" => Arc::new(gang_scheduling::GangScheduling::default()),
        "DefaultPreemption" => Arc::new(DefaultPreemption::new(
            Sampling::of(&args.preemption),
            Arc::clone(&sources.budgets),
            sources.evictor.clone(),
        )),
        "NodeResourcesBalancedAllocation" => {
            Arc::new(node_resources::NodeResourcesBalancedAllocation::new(&args.balanced))
        }
        "ImageLocality" => Arc::new(image_locality::ImageLocality),
        "DefaultBinder" => Arc::new(default_binder::DefaultBinder::new(sources.client.clone())),
        _ => return None,
    })
}

/// The profiles of a configuration.
///
/// # Errors
/// A plugin that there is not, or a profile that could not work.
pub fn profiles(config: &Configuration, sources: &Sources) -> Result<Vec<Profile>, BadConfiguration> {
    config.profiles.iter().map(|profile| of(profile, config.percentage_of_nodes_to_score, sources)).collect()
}

/// The profile of who configures nothing.
pub fn usual(sources: &Sources) -> Profile {
    let mut config = Configuration::usual();
    let profile = config.profiles.pop().unwrap_or_default();
    // The defaults are complete.
    of(&profile, None, sources).unwrap_or_else(|_| Profile::new(crate::config::DEFAULT_SCHEDULER, Vec::new()))
}

fn of(config: &ProfileConfig, percentage: Option<i32>, sources: &Sources) -> Result<Profile, BadConfiguration> {
    let name = config.scheduler_name.as_deref().unwrap_or_default();
    let wrong = |why: String| BadConfiguration(format!("initializing profile {name:?}: {why}"));
    let (args, _) = PluginArgs::read(&config.plugin_config);
    let enabled = config.plugins.sets().flat_map(|(_, set)| set.enabled.iter().map(|named| named.name.as_str()));
    let mut made: BTreeMap<&str, Arc<dyn Plugin>> = BTreeMap::new();
    for plugin in DEFAULTS.iter().map(|(name, _)| *name).chain(enabled) {
        let made_now = make(plugin, &args, sources).ok_or_else(|| wrong(format!("{plugin:?} does not exist")))?;
        made.entry(plugin).or_insert(made_now);
    }
    let can = |name: &str| made.get(name).map_or(Points::default(), |plugin| plugin.points());
    for point in Point::ALL {
        for named in &config.plugins.at(point).enabled {
            if !can(&named.name).has(point) {
                let why = format!("plugin {:?} does not extend {} plugin", named.name, point.name());
                return Err(wrong(why));
            }
        }
    }
    let (uses, order) = config.plugins.expand(DEFAULTS, can);
    let at = |point: Point| order.iter().find(|(p, _)| *p == point).map_or(0, |(_, names)| names.len());
    if at(Point::QueueSort) != 1 {
        let count = at(Point::QueueSort);
        let why = format!("one queue sort plugin required for profile with scheduler name {name:?}, but got {count}");
        return Err(wrong(why));
    }
    if at(Point::Bind) == 0 {
        return Err(wrong(format!("at least one bind plugin is needed for profile with scheduler name {name:?}")));
    }
    // In the order of the defaults, so that a profile is the same however its configuration is written.
    let place = |name: &str| DEFAULTS.iter().position(|(known, _)| *known == name).unwrap_or(DEFAULTS.len());
    let mut names: Vec<&String> = uses.keys().collect();
    names.sort_by_key(|name| place(name));
    let plugins = names.into_iter().filter_map(|name| {
        let used = uses.get(name)?;
        let plugin = made.get(name.as_str())?;
        Some(Enabled { points: used.points, ..Enabled::new(Arc::clone(plugin), used.weight) })
    });
    let mut profile = Profile::new(name, plugins.collect());
    let percentage = config.percentage_of_nodes_to_score.or(percentage).unwrap_or(0);
    profile.percentage = u32::try_from(percentage).unwrap_or(0);
    for (point, names) in &order {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        profile = profile.ordered(*point, &names);
    }
    Ok(profile)
}

/// Scales raw scores to 0..=100 by their largest; `reverse` likes the small ones.
fn normalize(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if most <= 0 { 0 } else { *score * MAX_SCORE / most };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(body: &str) -> Result<Profile, String> {
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        let config = Configuration::parse(&format!("{head}{body}")).map_err(|error| error.0)?;
        let mut profiles = profiles(&config, &Sources::none()).map_err(|error| error.0)?;
        profiles.pop().ok_or_else(|| "no profile".to_owned())
    }

    fn at(profile: &Profile, point: Point) -> Vec<String> {
        profile.at(point).map(|(_, enabled)| format!("{}:{}", enabled.plugin.name(), enabled.weight)).collect()
    }

    #[test]
    fn the_usual_profile_is_upstreams() {
        let usual = usual(&Sources::none());
        assert_eq!(
            at(&usual, Point::Score),
            [
                "TaintToleration:3",
                "NodeAffinity:2",
                "NodeResourcesFit:1",
                "PodTopologySpread:2",
                "InterPodAffinity:2",
                "NodeResourcesBalancedAllocation:1",
                "ImageLocality:1"
            ]
        );
        assert_eq!(at(&usual, Point::PostFilter), ["DefaultPreemption:0"]);
        assert_eq!(at(&usual, Point::Bind), ["DefaultBinder:0"]);
    }

    #[test]
    fn a_configuration_changes_points_weights_and_order() {
        let changed = profile(
            "percentageOfNodesToScore: 30\nprofiles: [{schedulerName: packed, plugins: {score: {disabled: [{name: '*'}], \
             enabled: [{name: ImageLocality, weight: 4}, {name: NodeResourcesFit}]}, multiPoint: {disabled: \
             [{name: DefaultPreemption}]}}}]",
        )
        .unwrap();
        assert_eq!((&*changed.name, changed.percentage), ("packed", 30));
        assert_eq!(at(&changed, Point::Score), ["ImageLocality:4", "NodeResourcesFit:1"]);
        assert_eq!(changed.at(Point::PostFilter).count(), 0);
        assert_eq!(changed.at(Point::Filter).count(), usual(&Sources::none()).at(Point::Filter).count());
    }

    #[test]
    fn what_could_not_work_is_refused() {
        for (body, expected) in [
            ("profiles: [{plugins: {score: {enabled: [{name: X}]}}}]", "\"X\" does not exist"),
            ("profiles: [{plugins: {score: {enabled: [{name: NodePorts}]}}}]", "does not extend Score plugin"),
            ("profiles: [{plugins: {bind: {disabled: [{name: '*'}]}}}]", "at least one bind plugin is needed"),
            ("profiles: [{plugins: {queueSort: {disabled: [{name: '*'}]}}}]", "but got 0"),
        ] {
            let why = profile(body).map(|_| ()).unwrap_err();
            assert!(why.contains(expected), "{body}: {why}");
        }
    }
}
