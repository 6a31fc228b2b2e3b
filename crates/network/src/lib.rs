//! Pod network, service proxy and cluster DNS.
//!
//! Fed with plain desired state; knows nothing of Kubernetes objects. In the order in which a packet meets them:
//!
//! - [`Network`] gives a pod its address and link;
//! - [`Overlay`] carries packets between nodes;
//! - [`Proxy`] turns service addresses into pod addresses;
//! - [`Dns`] turns names into addresses;
//! - [`teardown`] removes all of it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use trireme_network::{Network, NetworkConfig, PodAttach, Provider};
//!
//! let network = Network::open(NetworkConfig {
//!     instance: "0a1b2c3d".parse()?,
//!     state_dir: "/var/lib/trireme/network".into(),
//!     netns: None,
//!     pod_cidrs: vec!["10.42.0.0/24".parse()?],
//!     cluster_cidrs: vec!["10.42.0.0/16".parse()?],
//!     service_cidrs: vec!["10.43.0.0/16".parse()?],
//!     mtu: None,
//!     provider: Provider::Embedded,
//! })
//! .await?;
//! let pod = PodAttach {
//!     sandbox: "3f2a".into(),
//!     namespace: "default".into(),
//!     name: "web".into(),
//!     uid: "c0ffee".into(),
//!     netns: "/run/netns/web".into(),
//!     interface: "eth0".into(),
//!     host_ports: Vec::new(),
//! };
//! println!("{:?}", network.attach(pod).await?.ips);
//! # Ok(())
//! # }
//! ```
//!
//! Everything is made over netlink, and named after an [`InstanceId`], so that several clusters share a machine.

mod cni;
mod dns;
mod error;
mod instance;
mod netlink;
pub mod netns;
mod nft;
mod overlay;
mod probe;
mod protocol;
mod proxy;
mod sysctl;
mod teardown;

pub use cni::{
    Attachment, CniError, ConfList, ExternalConfig, HostPort, Network, NetworkConfig, PluginRun, PodAttach, Provider,
};
pub use dns::{Dns, DnsConfig, DnsEndpoint, DnsPort, DnsRecords, DnsService, DnsTarget, Upstream};
pub use error::{Error, Result};
pub use instance::{InstanceId, InvalidInstanceId};
pub use netlink::{MacAddr, NetlinkError};
pub use overlay::{Overlay, OverlayConfig, OverlayMode, Peer, vtep_mac};
pub use probe::{MissingFeature, probe};
pub use protocol::Protocol;
pub use proxy::{Endpoint, Place, Proxy, ProxyConfig, ProxyState, ServicePort, SyncReport, TrafficPolicy};
pub use teardown::teardown;
