//! Upstream's checks of a configuration.

use std::collections::BTreeMap;

use trireme_schema::field::{Error, Path};
use trireme_schema::names;

use super::args::{ResourceSpec, ShapePoint};
use super::{Configuration, Extender, LeaderElection, PluginArgs, ProfileConfig};

/// Plugins that this version of the configuration does not know any more.
const REMOVED: [&str; 4] = ["AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits"];
const VERSION: &str = "kubescheduler.config.k8s.io/v1";

/// Everything that is wrong.
pub fn configuration(config: &Configuration) -> Vec<Error> {
    let mut wrong = Vec::new();
    leader_election(&config.leader_election, &Path::new("leaderElection"), &mut wrong);
    if config.parallelism <= 0 {
        let why = "should be an integer value greater than zero";
        wrong.push(Error::invalid(&Path::new("parallelism"), i64::from(config.parallelism), why));
    }
    profiles(&config.profiles, &mut wrong);
    percentage(config.percentage_of_nodes_to_score, &Path::new("percentageOfNodesToScore"), &mut wrong);
    let (first, most) = (config.pod_initial_backoff_seconds, config.pod_max_backoff_seconds);
    if first <= 0 {
        wrong.push(Error::invalid(&Path::new("podInitialBackoffSeconds"), first, "must be greater than 0"));
    }
    if most < first {
        let why = "must be greater than or equal to PodInitialBackoffSeconds";
        wrong.push(Error::invalid(&Path::new("podMaxBackoffSeconds"), most, why));
    }
    let path = Path::new("extenders");
    extenders(&config.extenders, &path, &mut wrong);
    if wrong.is_empty() && !config.extenders.is_empty() {
        // Better told than left out of every decision.
        wrong.push(Error::forbidden(&path, "this scheduler does not call extenders"));
    }
    wrong
}

fn leader_election(config: &LeaderElection, path: &Path, wrong: &mut Vec<Error>) {
    if !config.leader_elect {
        return;
    }
    let (lease, renew, retry) = (config.lease_duration.0, config.renew_deadline.0, config.retry_period.0);
    let seconds = |duration: std::time::Duration| format!("{}s", duration.as_secs_f64());
    if lease.is_zero() {
        wrong.push(Error::invalid(&path.child("leaseDuration"), seconds(lease), "must be greater than zero"));
    }
    if renew.is_zero() {
        wrong.push(Error::invalid(&path.child("renewDeadline"), seconds(renew), "must be greater than zero"));
    }
    if retry.is_zero() {
        wrong.push(Error::invalid(&path.child("retryPeriod"), seconds(retry), "must be greater than zero"));
    }
    if lease <= renew {
        let why = "LeaseDuration must be greater than RenewDeadline";
        wrong.push(Error::invalid(&path.child("leaseDuration"), seconds(renew), why));
    }
    for (name, value) in [
        ("resourceLock", &config.resource_lock),
        ("resourceNamespace", &config.resource_namespace),
        ("resourceName", &config.resource_name),
    ] {
        if value.is_empty() {
            wrong.push(Error::required(&path.child(name), format!("{name} is required")));
        }
    }
    if config.resource_lock != "leases" {
        let why = "resourceLock value must be \"leases\"";
        wrong.push(Error::invalid(&path.child("resourceLock"), config.resource_lock.as_str(), why));
    }
}

fn profiles(profiles: &[ProfileConfig], wrong: &mut Vec<Error>) {
    let path = Path::new("profiles");
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, profile) in profiles.iter().enumerate() {
        let path_here = path.index(at);
        let name = profile.scheduler_name.as_deref().unwrap_or_default();
        if name.is_empty() {
            wrong.push(Error::required(&path_here.child("schedulerName"), ""));
        }
        percentage(profile.percentage_of_nodes_to_score, &path_here.child("percentageOfNodesToScore"), wrong);
        plugins(profile, &path_here, wrong);
        if let Some(known) = names.insert(name, at) {
            let other = path.index(known).child("schedulerName").to_string();
            wrong.push(Error::duplicate(&path_here.child("schedulerName"), other));
        }
    }
    let Some(first) = profiles.first() else { return };
    let sorting = first.plugins.queue_sort.enabled.len();
    if sorting > 1 {
        let enabled = path.index(0).child("plugins").child("queueSort").child("Enabled");
        let count = i64::try_from(sorting).unwrap_or(i64::MAX);
        wrong.push(Error::invalid(&enabled, count, "only one queue sort plugin can be enabled"));
    }
    for (at, profile) in profiles.iter().enumerate().skip(1) {
        if profile.plugins.queue_sort != first.plugins.queue_sort {
            let path = path.index(at).child("plugins").child("queueSort");
            wrong.push(Error::invalid(&path, "", "must be the same for all profiles"));
        }
    }
}

fn percentage(percentage: Option<i32>, path: &Path, wrong: &mut Vec<Error>) {
    if let Some(percentage) = percentage.filter(|percentage| !(0..=100).contains(percentage)) {
        wrong.push(Error::invalid(path, i64::from(percentage), "not in valid range [0-100]"));
    }
}

fn plugins(profile: &ProfileConfig, path: &Path, wrong: &mut Vec<Error>) {
    let removed = |name: &str| REMOVED.contains(&name);
    let why = || format!("was invalid in version \"{VERSION}\" (KubeSchedulerConfiguration is version \"{VERSION}\")");
    for (set, plugins) in profile.plugins.sets() {
        for (at, plugin) in plugins.enabled.iter().enumerate().filter(|(_, plugin)| removed(&plugin.name)) {
            let path = path.child("plugins").child(set).child("enabled").index(at);
            wrong.push(Error::invalid(&path, plugin.name.as_str(), why()));
        }
    }
    let (args, unreadable) = PluginArgs::read(&profile.plugin_config);
    let list = path.child("pluginConfig");
    for (at, config) in profile.plugin_config.iter().enumerate() {
        let path = list.index(at);
        if profile.plugin_config.iter().take(at).any(|other| other.name == config.name) {
            wrong.push(Error::duplicate(&path, config.name.as_str()));
        }
        if removed(&config.name) {
            wrong.push(Error::invalid(&path, config.name.as_str(), why()));
        }
        if let Some((_, error)) = unreadable.iter().find(|(place, _)| *place == at) {
            wrong.push(Error::invalid(&path.child("args"), config.name.as_str(), error.clone()));
        } else {
            plugin_args(&config.name, &args, &path.child("args"), wrong);
        }
    }
}

fn plugin_args(name: &str, args: &PluginArgs, path: &Path, wrong: &mut Vec<Error>) {
    match name {
        "DefaultPreemption" => preemption(args, path, wrong),
        "InterPodAffinity" => {
            let weight = args.inter_pod_affinity.hard_pod_affinity_weight;
            if !(0..=100).contains(&weight) {
                let path = path.child("hardPodAffinityWeight");
                wrong.push(Error::invalid(&path, i64::from(weight), "not in valid range [0, 100]"));
            }
        }
        "NodeResourcesBalancedAllocation" => {
            let list = &args.balanced.resources;
            for (at, resource) in list.iter().enumerate() {
                let path = path.child("resources").index(at);
                if list.iter().take(at).any(|other| other.name == resource.name) {
                    wrong.push(Error::duplicate(&path.child("name"), resource.name.as_str()));
                }
                if resource.weight != 1 {
                    wrong.push(Error::invalid(&path.child("weight"), resource.weight, "must be 1"));
                }
            }
        }
        "NodeResourcesFit" => fit(args, path, wrong),
        "PodTopologySpread" => spread(args, path, wrong),
        "VolumeBinding" => {
            let timeout = args.volume_binding.bind_timeout_seconds;
            if timeout < 0 {
                let why = "invalid BindTimeoutSeconds, should not be a negative value";
                wrong.push(Error::invalid(&path.child("bindTimeoutSeconds"), timeout, why));
            }
            if args.volume_binding.shape.is_some() {
                let why = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring";
                wrong.push(Error::invalid(&path.child("shape"), "", why));
            }
        }
        "DynamicResources" => {
            let timeout = args.dynamic_resources.binding_timeout.0;
            if timeout < std::time::Duration::from_secs(1) {
                let shown = format!("{}s", timeout.as_secs_f64());
                wrong.push(Error::invalid(&path.child("bindingTimeout"), shown, "must be at least 1 second"));
            }
        }
        _ => {}
    }
}

fn preemption(args: &PluginArgs, path: &Path, wrong: &mut Vec<Error>) {
    let (percentage, absolute) =
        (args.preemption.min_candidate_nodes_percentage, args.preemption.min_candidate_nodes_absolute);
    let (of_percentage, of_absolute) =
        (path.child("minCandidateNodesPercentage"), path.child("minCandidateNodesAbsolute"));
    if !(0..=100).contains(&percentage) {
        wrong.push(Error::invalid(&of_percentage, i64::from(percentage), "not in valid range [0, 100]"));
    }
    if absolute < 0 {
        wrong.push(Error::invalid(&of_absolute, i64::from(absolute), "not in valid range [0, inf)"));
    }
    if percentage == 0 && absolute == 0 {
        let why = "cannot be zero at the same time as minCandidateNodesAbsolute";
        wrong.push(Error::invalid(&of_percentage, 0_i64, why));
        let why = "cannot be zero at the same time as minCandidateNodesPercentage";
        wrong.push(Error::invalid(&of_absolute, 0_i64, why));
    }
}

fn fit(args: &PluginArgs, path: &Path, wrong: &mut Vec<Error>) {
    for (at, resource) in args.fit.ignored_resources.iter().enumerate() {
        label_name(resource, &path.child("ignoredResources").index(at), wrong);
    }
    for (at, group) in args.fit.ignored_resource_groups.iter().enumerate() {
        let path = path.child("ignoredResourceGroups").index(at);
        if group.contains('/') {
            wrong.push(Error::invalid(&path, group.as_str(), "resource group name can't contain '/'"));
        }
        label_name(group, &path, wrong);
    }
    let Some(strategy) = &args.fit.scoring_strategy else { return };
    let path = path.child("scoringStrategy");
    let known = ["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"];
    if !known.contains(&strategy.kind.as_str()) {
        wrong.push(Error::not_supported(&path.child("type"), strategy.kind.as_str(), &known));
    }
    resources(&strategy.resources, &path.child("resources"), wrong);
    let ratio = path.child("requestedToCapacityRatio");
    match (&strategy.requested_to_capacity_ratio, strategy.kind == "RequestedToCapacityRatio") {
        (Some(given), true) => shape(&given.shape, &ratio.child("shape"), wrong),
        (None, true) => {
            wrong.push(Error::required(&ratio, "must be specified when type is RequestedToCapacityRatio"));
        }
        (Some(_), false) => {
            wrong.push(Error::forbidden(&ratio, "must be nil when type is not RequestedToCapacityRatio"));
        }
        (None, false) => {}
    }
}

fn resources(list: &[ResourceSpec], path: &Path, wrong: &mut Vec<Error>) {
    for (at, resource) in list.iter().enumerate().filter(|(_, resource)| !(1..=100).contains(&resource.weight)) {
        let why = format!("resource weight of {} not in valid range (0, 100]", resource.name);
        wrong.push(Error::invalid(&path.index(at).child("weight"), resource.weight, why));
    }
}

fn shape(points: &[ShapePoint], path: &Path, wrong: &mut Vec<Error>) {
    if points.is_empty() {
        wrong.push(Error::required(path, "at least one point must be specified"));
        return;
    }
    let unsorted = points.windows(2).position(|pair| matches!(pair, [a, b] if a.utilization >= b.utilization));
    if let Some((at, point)) = unsorted.and_then(|at| Some((at + 1, points.get(at + 1)?))) {
        let path = path.index(at).child("utilization");
        wrong.push(Error::invalid(&path, point.utilization, "values must be sorted in increasing order"));
    }
    for (at, point) in points.iter().enumerate() {
        if !(0..=100).contains(&point.utilization) {
            let path = path.index(at).child("utilization");
            wrong.push(Error::invalid(&path, point.utilization, "not in valid range [0, 100]"));
        }
        if !(0..=10).contains(&point.score) {
            let path = path.index(at).child("score");
            wrong.push(Error::invalid(&path, point.score, "not in valid range [0, 10]"));
        }
    }
}

fn spread(args: &PluginArgs, path: &Path, wrong: &mut Vec<Error>) {
    let (kind, constraints) = (args.spread.defaulting_type.as_str(), &args.spread.default_constraints);
    let of_kind = path.child("defaultingType");
    match kind {
        "System" if !constraints.is_empty() => {
            wrong.push(Error::invalid(&of_kind, kind, "when .defaultConstraints are not empty"));
        }
        "System" | "List" => {}
        _ => wrong.push(Error::not_supported(&of_kind, kind, &["System", "List"])),
    }
    let list = path.child("defaultConstraints");
    for (at, constraint) in constraints.iter().enumerate() {
        let path = list.index(at);
        if constraint.max_skew <= 0 {
            let skew = i64::from(constraint.max_skew);
            wrong.push(Error::invalid(&path.child("maxSkew"), skew, "not in valid range (0, inf)"));
        }
        let of_key = path.child("topologyKey");
        if constraint.topology_key.is_empty() {
            wrong.push(Error::required(&of_key, "can not be empty"));
        } else {
            label_name(&constraint.topology_key, &of_key, wrong);
        }
        let (when, of_when) = (&*constraint.when_unsatisfiable, path.child("whenUnsatisfiable"));
        match when {
            "" => wrong.push(Error::required(&of_when, "can not be empty")),
            "DoNotSchedule" | "ScheduleAnyway" => {}
            _ => wrong.push(Error::not_supported(&of_when, when, &["DoNotSchedule", "ScheduleAnyway"])),
        }
        if constraint.label_selector.is_some() {
            let why = "constraint must not define a selector, as they deduced for each pod";
            wrong.push(Error::forbidden(&path.child("labelSelector"), why));
        }
        let same = |other: &&crate::view::SpreadConstraint| {
            other.topology_key == constraint.topology_key && other.when_unsatisfiable == constraint.when_unsatisfiable
        };
        if constraints.iter().take(at).any(|other| same(&other)) {
            wrong.push(Error::duplicate(&path, format!("{{{}, {when}}}", constraint.topology_key)));
        }
    }
}

fn label_name(name: &str, path: &Path, wrong: &mut Vec<Error>) {
    wrong.extend(names::qualified_name(name).into_iter().map(|why| Error::invalid(path, name, why)));
}

fn extenders(extenders: &[Extender], path: &Path, wrong: &mut Vec<Error>) {
    let mut managed: Vec<&str> = Vec::new();
    for (at, extender) in extenders.iter().enumerate() {
        let path = path.index(at);
        if !extender.prioritize_verb.is_empty() && extender.weight <= 0 {
            let why = "must have a positive weight applied to it";
            wrong.push(Error::invalid(&path.child("weight"), extender.weight, why));
        }
        for (at, resource) in extender.managed_resources.iter().enumerate() {
            let path = path.child("managedResources").index(at).child("name");
            let name = resource.name.as_str();
            let before = wrong.len();
            label_name(name, &path, wrong);
            let native = !name.contains('/') || name.contains("kubernetes.io/") || name.starts_with("requests.");
            if wrong.len() == before && native {
                wrong.push(Error::invalid(&path, name, "is an invalid extended resource name"));
            }
            if managed.contains(&name) {
                wrong.push(Error::invalid(&path, name, "duplicate extender managed resource name"));
            }
            managed.push(name);
        }
    }
    let binders = extenders.iter().filter(|extender| !extender.bind_verb.is_empty()).count();
    if binders > 1 {
        let found = format!("found {binders} extenders implementing bind");
        wrong.push(Error::invalid(path, found, "only one extender can implement bind"));
    }
}
