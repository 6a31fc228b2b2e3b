//! How a node is set up.

use crate::eviction::Thresholds;
use std::net::IpAddr;
use std::path::PathBuf;

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's name.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// The port of its API.
    pub port: u16,
    /// Where pods' directories and logs are kept.
    pub root: PathBuf,
    /// Labels to register with.
    pub labels: Vec<(String, String)>,
    /// Taints to register with: key, value, effect.
    pub taints: Vec<(String, String, String)>,
    /// The most pods.
    pub max_pods: u32,
    /// The cluster's DNS server.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// The host's resolver configuration.
    pub resolv_conf: PathBuf,
    /// What it says of its version.
    pub version: String,
    /// From where on pods are evicted.
    pub eviction: Thresholds,
    /// The group above those of pods.
    pub cgroup: String,
}
