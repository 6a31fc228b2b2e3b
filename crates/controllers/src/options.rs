use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use trireme_pki::Authority;

/// How the controllers behave.
#[derive(Clone)]
pub struct Options {
    /// Names of controllers that are not run (see [`crate::Controllers::names`]).
    pub disable: BTreeSet<String>,
    /// Address ranges that are cut into one range per node; none when somebody else gives nodes their ranges.
    pub cluster_cidrs: Vec<CidrRange>,
    /// The prefix length of a node's IPv4 and IPv6 range.
    pub node_mask: (u8, u8),
    /// Ranges of Service addresses: the default ServiceCIDR `kubernetes` is made of them; none when somebody else makes it.
    pub service_cidrs: Vec<String>,
    /// PEM of the authority that pods trust the API server by (`kube-root-ca.crt`).
    pub root_ca: String,
    /// PEM of the key (ECDSA P-256) that signs the tokens in secrets; none when there are no such tokens.
    pub service_account_key: Option<String>,
    /// What signs the certificates of kubelets and of API clients.
    pub client_signer: Option<Arc<Authority>>,
    /// What signs the serving certificates of kubelets.
    pub serving_signer: Option<Arc<Authority>>,
    /// Names and addresses of the API server, for which no node gets a serving certificate.
    pub server_names: BTreeSet<String>,
    /// How long signed certificates are valid at most.
    pub certificate_life: Duration,
    /// After this long without a sign of life a node's state is unknown (upstream's 50 s).
    pub node_grace: Duration,
    /// How long a node that never reported may take (upstream's 60 s).
    pub node_startup_grace: Duration,
    /// How many ended pods may stay before the oldest are removed.
    pub terminated_pods: usize,
    /// How targets are scaled by what is measured.
    pub autoscaling: Autoscaling,
}

/// How targets are scaled by what is measured; the defaults are upstream's.
#[derive(Clone, Copy, Debug)]
pub struct Autoscaling {
    /// How often each autoscaler is looked at.
    pub sync_period: Duration,
    /// For so long a target is not made smaller than what was recommended meanwhile.
    pub downscale_stabilization: Duration,
    /// By how much usage may differ from its target, as a part of one, before anything is done.
    pub tolerance: f64,
    /// For so long after a pod's start its use of CPU may come of the start.
    pub cpu_initialization: Duration,
    /// A pod that became unready within this time from its start counts as never ready.
    pub initial_readiness: Duration,
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            sync_period: Duration::from_secs(15),
            downscale_stabilization: Duration::from_secs(300),
            tolerance: 0.1,
            cpu_initialization: Duration::from_secs(300),
            initial_readiness: Duration::from_secs(30),
        }
    }
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CidrRange {
    /// The first address.
    pub address: IpAddr,
    /// Length of the prefix.
    pub prefix: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            disable: BTreeSet::new(),
            cluster_cidrs: Vec::new(),
            node_mask: (24, 64),
            service_cidrs: Vec::new(),
            root_ca: String::new(),
            service_account_key: None,
            client_signer: None,
            serving_signer: None,
            server_names: BTreeSet::new(),
            certificate_life: Duration::from_secs(365 * 86_400),
            node_grace: Duration::from_secs(50),
            node_startup_grace: Duration::from_secs(60),
            terminated_pods: 12_500,
            autoscaling: Autoscaling::default(),
        }
    }
}

impl std::str::FromStr for CidrRange {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || crate::Error::Invalid {
            object: "options".to_owned(),
            field: "clusterCIDR",
            reason: format!("{text:?} is not a CIDR"),
        };
        let (address, prefix) = text.split_once('/').ok_or_else(refused)?;
        let address: IpAddr = address.parse().map_err(|_| refused())?;
        let prefix: u8 = prefix.parse().map_err(|_| refused())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix > most {
            return Err(refused());
        }
        Ok(Self { address, prefix })
    }
}
