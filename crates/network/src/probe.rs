//! Which kernel features this machine lacks.
//!
//! Each feature is tried in a new network namespace that ends with its thread, so that nothing is left behind and no
//! list of module names has to be believed.

use std::os::fd::AsFd;

use crate::error::{Error, Result};
use crate::netlink::{ConntrackSocket, MacAddr, NetlinkError, NewLink, RouteSocket};
use crate::nft::{Batch, NftSocket};
use crate::{netns, proxy};

/// A kernel feature that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingFeature {
    /// The feature.
    pub feature: &'static str,
    /// What does not work without it.
    pub effect: &'static str,
    /// What the kernel said.
    pub reason: String,
}

/// Tries every kernel feature that this crate uses. An error means that not even that can be tried.
pub async fn probe() -> Result<Vec<MissingFeature>> {
    netns::run(None, || {
        netns::leave().map_err(|source| Error::System { action: "make a network namespace".into(), source })?;
        let trials: [(&str, &str, Trial); 5] = [
            ("bridge", "the embedded pod network", bridge),
            ("veth", "the embedded pod network", veth),
            ("vxlan", "pods of other nodes, except by host gateway", vxlan),
            ("nftables with nat, masq, fib, numgen, ct and reject", "services, host ports, masquerading", rules),
            ("conntrack over netlink", "UDP clients leave removed endpoints only when they fall silent", conntrack),
        ];
        let missing = trials.into_iter().filter_map(|(feature, effect, trial)| {
            trial().err().map(|error| MissingFeature { feature, effect, reason: error.to_string() })
        });
        Ok(missing.collect())
    })
    .await
}

type Trial = fn() -> Result<(), NetlinkError>;

const MAC: MacAddr = MacAddr([0x0a, 0x58, 0, 0, 0, 1]);

fn bridge() -> Result<(), NetlinkError> {
    RouteSocket::open()?.create_link(&NewLink::Bridge { name: "probe0", mac: MAC, mtu: 1500 })
}

fn veth() -> Result<(), NetlinkError> {
    let here = std::fs::File::open("/proc/thread-self/ns/net")?;
    let link =
        NewLink::Veth { name: "probe1", mtu: 1500, peer_name: "probe2", peer_mac: MAC, peer_netns: here.as_fd() };
    RouteSocket::open()?.create_link(&link)
}

fn vxlan() -> Result<(), NetlinkError> {
    let local = [127, 0, 0, 1].into();
    let link = NewLink::Vxlan { name: "probe3", mac: MAC, mtu: 1430, vni: 1, port: 8472, local };
    RouteSocket::open()?.create_link(&link)
}

fn rules() -> Result<(), NetlinkError> {
    let mut batch = Batch::new("probe");
    proxy::layout::create(&mut batch, &[]);
    proxy::layout::create_samples(&mut batch);
    NftSocket::open()?.commit(batch)
}

fn conntrack() -> Result<(), NetlinkError> {
    ConntrackSocket::open()?.udp_flows().map(|_| ())
}
