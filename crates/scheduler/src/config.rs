//! `KubeSchedulerConfiguration` (kubescheduler.config.k8s.io/v1): read, defaulted as upstream does it, and checked.

mod args;
mod duration;
mod extender;
mod plugins;
mod validate;

use std::path::Path;

use serde::Deserialize;
use trireme_schema::{json, yaml};

pub use args::{
    BalancedArgs, DynamicResourcesArgs, FitArgs, InterPodAffinityArgs, NodeAffinityArgs, PluginArgs, PreemptionArgs,
    ResourceSpec, ShapePoint, SpreadArgs, VolumeBindingArgs,
};
pub use duration::Duration;
pub use extender::{Extender, ExtenderTls, ManagedResource};
pub use plugins::{Named, PluginSet, Plugins, Use};

/// How the scheduler behaves.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Configuration {
    /// `kubescheduler.config.k8s.io/v1`.
    pub api_version: String,
    /// `KubeSchedulerConfiguration`.
    pub kind: String,
    /// How many goroutines upstream uses; understood, and of no effect: a decision here is one thread's.
    pub parallelism: i32,
    /// Whether several schedulers agree on one.
    pub leader_election: LeaderElection,
    /// How upstream's clients behave; understood, and of no effect.
    pub client_connection: serde_json::Value,
    /// Addresses that upstream once served on; understood, and of no effect.
    pub health_bind_address: Option<String>,
    /// The same.
    pub metrics_bind_address: Option<String>,
    /// Upstream's profiling; understood, and of no effect.
    pub enable_profiling: Option<bool>,
    /// The same.
    pub enable_contention_profiling: Option<bool>,
    /// The share of nodes that is enough to choose from; absent or 0 adapts to the size of the cluster.
    pub percentage_of_nodes_to_score: Option<i32>,
    /// How long a pod waits after its first failed attempt.
    pub pod_initial_backoff_seconds: i64,
    /// How long it waits at most.
    pub pod_max_backoff_seconds: i64,
    /// Profiles; one of all defaults when there are none.
    pub profiles: Vec<ProfileConfig>,
    /// Services that take part in decisions.
    pub extenders: Vec<Extender>,
    /// Whether a follower keeps no picture of the cluster.
    pub delay_cache_until_active: bool,
}

/// How several schedulers agree on one.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LeaderElection {
    /// Whether they do.
    pub leader_elect: bool,
    /// How long a leader is trusted.
    pub lease_duration: Duration,
    /// For how long a leader tries to renew.
    pub renew_deadline: Duration,
    /// How often it is tried.
    pub retry_period: Duration,
    /// `leases`.
    pub resource_lock: String,
    /// Name of the lease.
    pub resource_name: String,
    /// Namespace of the lease.
    pub resource_namespace: String,
}

/// How pods of one scheduler name are placed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProfileConfig {
    /// The scheduler name.
    pub scheduler_name: Option<String>,
    /// The share of nodes that is enough to choose from, for this profile.
    pub percentage_of_nodes_to_score: Option<i32>,
    /// Which plugins, and where.
    pub plugins: Plugins,
    /// What plugins are told.
    pub plugin_config: Vec<PluginConfig>,
}

/// What a plugin is told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginConfig {
    /// The plugin.
    pub name: String,
    /// Its arguments.
    pub args: serde_json::Value,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadConfiguration(pub String);

/// The scheduler name of pods that give none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

impl Default for Configuration {
    fn default() -> Self {
        Self {
            api_version: String::new(),
            kind: String::new(),
            parallelism: 16,
            leader_election: LeaderElection::default(),
            client_connection: serde_json::Value::Null,
            health_bind_address: None,
            metrics_bind_address: None,
            enable_profiling: None,
            enable_contention_profiling: None,
            percentage_of_nodes_to_score: None,
            pod_initial_backoff_seconds: 1,
            pod_max_backoff_seconds: 10,
            profiles: Vec::new(),
            extenders: Vec::new(),
            delay_cache_until_active: false,
        }
    }
}

impl Default for LeaderElection {
    fn default() -> Self {
        Self {
            leader_elect: true,
            lease_duration: Duration::seconds(15),
            renew_deadline: Duration::seconds(10),
            retry_period: Duration::seconds(2),
            resource_lock: "leases".to_owned(),
            resource_name: "kube-scheduler".to_owned(),
            resource_namespace: "kube-system".to_owned(),
        }
    }
}

impl Configuration {
    /// Reads a file, in YAML or JSON, and checks it.
    ///
    /// # Errors
    /// What is wrong, with the file's name.
    pub fn read(path: &Path) -> Result<Self, BadConfiguration> {
        let wrong = |why: String| BadConfiguration(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(|error| wrong(error.0))
    }

    /// Reads a text, and checks it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(text: &str) -> Result<Self, BadConfiguration> {
        let value = yaml::parse(text).map_err(|error| BadConfiguration(error.to_string()))?;
        let (kind, version) = (value.str_at(&["kind"]), value.str_at(&["apiVersion"]));
        if kind != "KubeSchedulerConfiguration" {
            return Err(BadConfiguration(format!("kind is {kind:?}, not KubeSchedulerConfiguration")));
        }
        if version != "kubescheduler.config.k8s.io/v1" {
            return Err(BadConfiguration(format!(
                "no kind \"KubeSchedulerConfiguration\" is registered for version {version:?}"
            )));
        }
        let config: Self = serde_json::from_str(&json::to_string(&value))
            .map_err(|error| BadConfiguration(format!("strict decoding error: {error}")))?;
        config.finished()
    }

    /// Fills in what was left out, and checks the whole.
    fn finished(mut self) -> Result<Self, BadConfiguration> {
        if self.profiles.is_empty() {
            self.profiles.push(ProfileConfig::default());
        }
        // Only with one profile it is clear whose name is meant.
        if let [only] = self.profiles.as_mut_slice() {
            only.scheduler_name.get_or_insert_with(|| DEFAULT_SCHEDULER.to_owned());
        }
        let wrong: Vec<String> = validate::configuration(&self).iter().map(ToString::to_string).collect();
        match wrong.as_slice() {
            [] => Ok(self),
            [one] => Err(BadConfiguration(one.clone())),
            several => Err(BadConfiguration(format!("[{}]", several.join(", ")))),
        }
    }

    /// The configuration of who configures nothing.
    pub fn usual() -> Self {
        let profile = ProfileConfig { scheduler_name: Some(DEFAULT_SCHEDULER.to_owned()), ..ProfileConfig::default() };
        Self { profiles: vec![profile], ..Self::default() }
    }
}

#[cfg(test)]
mod tests;
