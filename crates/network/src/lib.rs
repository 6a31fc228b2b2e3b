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
//! Everything is made over netlink, and named after an [`InstanceId`], so that several clusters share a machine.

mod cni;
mod dns;
mod error;
mod instance;
mod netlink;
pub mod netns;
mod nft;
mod overlay;
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
pub use protocol::Protocol;
pub use proxy::{Endpoint, Place, Proxy, ProxyConfig, ProxyState, ServicePort, SyncReport, TrafficPolicy};
pub use teardown::teardown;
