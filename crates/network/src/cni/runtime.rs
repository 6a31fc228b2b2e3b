//! The network of pods that the container runtime attaches: the node's side alone.

use std::net::IpAddr;
use std::sync::Arc;

use super::NetworkConfig;
use super::host;
use super::ipam::gateway;
use crate::error::Result;
use crate::netns;

/// The node's side of a network whose pods a runtime attaches.
pub(super) struct Runtime {
    config: Arc<NetworkConfig>,
    mtu: u32,
}

// === impl Runtime ===

impl Runtime {
    pub(super) async fn open(config: NetworkConfig) -> Result<Self> {
        host::validate(&config)?;
        let config = Arc::new(config);
        let own = Arc::clone(&config);
        let mtu = netns::run(config.netns.clone(), move || {
            let mtu = host::prepare(&mut host::open_socket()?, &own)?;
            host::write_table(&own, &[]).map(|_| mtu)
        })
        .await?;
        Ok(Self { config, mtu })
    }

    pub(super) async fn status(&self) -> Result<()> {
        let config = Arc::clone(&self.config);
        netns::run(self.config.netns.clone(), move || host::status(&config)).await
    }

    pub(super) fn gateways(&self) -> Vec<IpAddr> {
        self.config.pod_cidrs.iter().map(gateway).collect()
    }

    pub(super) fn mtu(&self) -> u32 {
        self.mtu
    }
}
