//! The pod network behind the CNI seam: embedded, or run by external plugins.

mod attachment;
mod conflist;
mod embedded;
mod external;
mod host;
mod host_ports;
mod ipam;
mod records;
mod runtime;

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;

pub use attachment::{Attachment, HostPort, PodAttach};
pub use conflist::{CniError, ConfList, PluginRun};
pub use external::ExternalConfig;
pub(crate) use host::{link_error, teardown};
pub(crate) use ipam::gateway;

use crate::InstanceId;
use crate::error::{Error, Result};
use embedded::Embedded;
use external::External;
use runtime::Runtime;

/// How the pod network of a node is set up.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Whose network this is.
    pub instance: InstanceId,
    /// Folder for address allocations and results, below the cluster's data folder.
    pub state_dir: PathBuf,
    /// Network namespace of the node; `None` is the process's own.
    pub netns: Option<PathBuf>,
    /// The node's pod CIDRs, at most one of each family.
    pub pod_cidrs: Vec<IpNet>,
    /// Pod addresses of the whole cluster: traffic to them is not masqueraded.
    pub cluster_cidrs: Vec<IpNet>,
    /// Service addresses of the whole cluster. They are routed to the bridge, so that a machine without a default
    /// route reaches services too, and refused where no service has them.
    pub service_cidrs: Vec<IpNet>,
    /// MTU of pods; `None` takes that of the default route's link, less what the overlay needs.
    pub mtu: Option<u32>,
    /// Who does the work.
    pub provider: Provider,
}

/// Who attaches pods.
#[derive(Clone, Debug, Default)]
pub enum Provider {
    /// Trireme itself: a bridge, veth pairs, host-local addresses and host ports.
    #[default]
    Embedded,
    /// CNI plugins.
    External(ExternalConfig),
    /// The container runtime, as its own CNI configuration says. What is made here is the node's side: its address
    /// among the pods, the way to services, masquerading.
    Runtime,
}

/// The pod network of one node.
#[derive(Clone)]
pub struct Network {
    inner: Inner,
}

#[derive(Clone)]
enum Inner {
    Embedded(Arc<Embedded>),
    External(Arc<External>),
    Runtime(Arc<Runtime>),
}

// === impl Network ===

impl Network {
    /// Opens the network: makes the bridge and rules where they are missing, and finds the pods that are attached.
    pub async fn open(config: NetworkConfig) -> Result<Self> {
        let inner = match config.provider.clone() {
            Provider::Embedded => Inner::Embedded(Arc::new(Embedded::open(config).await?)),
            Provider::External(external) => {
                Inner::External(Arc::new(External::open(config.state_dir, config.netns, external)?))
            }
            Provider::Runtime => Inner::Runtime(Arc::new(Runtime::open(config).await?)),
        };
        Ok(Self { inner })
    }

    /// Gives a pod its addresses and link. A pod that is attached already is attached anew.
    pub async fn attach(&self, pod: PodAttach) -> Result<Attachment> {
        match &self.inner {
            Inner::Embedded(embedded) => embedded.attach(pod).await,
            Inner::External(external) => external.attach(pod).await,
            Inner::Runtime(_) => Err(Error::AttachedElsewhere(pod.sandbox)),
        }
    }

    /// Takes a pod's addresses and link away. A pod that is not attached is fine.
    pub async fn detach(&self, sandbox: &str) -> Result<()> {
        match &self.inner {
            Inner::Embedded(embedded) => embedded.detach(sandbox).await,
            Inner::External(external) => external.detach(sandbox).await,
            Inner::Runtime(_) => Ok(()),
        }
    }

    /// Whether a pod's network is as it was made.
    pub async fn check(&self, sandbox: &str) -> Result<()> {
        match &self.inner {
            Inner::Embedded(embedded) => embedded.check(sandbox).await,
            Inner::External(external) => external.check(sandbox).await,
            Inner::Runtime(_) => Err(Error::AttachedElsewhere(sandbox.to_owned())),
        }
    }

    /// Whether pods can be attached: an error says why not, for the node's NetworkReady condition.
    pub async fn status(&self) -> Result<()> {
        match &self.inner {
            Inner::Embedded(embedded) => embedded.status().await,
            Inner::External(external) => external.status().await,
            Inner::Runtime(runtime) => runtime.status().await,
        }
    }

    /// The attached pods, by sandbox.
    pub fn attachments(&self) -> Vec<Attachment> {
        match &self.inner {
            Inner::Embedded(embedded) => embedded.attachments(),
            Inner::External(external) => external.attachments(),
            Inner::Runtime(_) => Vec::new(),
        }
    }

    /// The node's addresses among the pods, where cluster DNS listens; none with external plugins.
    pub fn gateways(&self) -> Vec<std::net::IpAddr> {
        match &self.inner {
            Inner::Embedded(embedded) => embedded.gateways(),
            Inner::External(_) => Vec::new(),
            Inner::Runtime(runtime) => runtime.gateways(),
        }
    }

    /// What pods' MTU is, or is to be; none with external plugins.
    pub fn mtu(&self) -> Option<u32> {
        match &self.inner {
            Inner::Embedded(embedded) => Some(embedded.mtu()),
            Inner::External(_) => None,
            Inner::Runtime(runtime) => Some(runtime.mtu()),
        }
    }
}
