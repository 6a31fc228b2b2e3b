//! What a sandbox needs of the network.

use futures::future::BoxFuture;
use std::net::IpAddr;
use std::path::PathBuf;

/// A sandbox that is to be connected.
#[derive(Clone, Debug, Default)]
pub struct SandboxAttach {
    /// The sandbox.
    pub id: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// Ports of the host that lead to it: host address, host port, container port, protocol (0 TCP, 1 UDP, 2 SCTP).
    pub ports: Vec<(String, u16, u16, i32)>,
}

/// Where a sandbox is connected.
#[derive(Clone, Debug, Default)]
pub struct SandboxLink {
    /// Its network namespace.
    pub netns: PathBuf,
    /// Its addresses, the first being the one that is shown first.
    pub ips: Vec<IpAddr>,
}

/// Connects sandboxes.
pub trait SandboxNetwork: Send + Sync {
    /// Makes a network namespace with an address.
    fn attach(&self, sandbox: SandboxAttach) -> BoxFuture<'_, Result<SandboxLink, String>>;
    /// Takes a sandbox's address and namespace away; what is gone already is no error.
    fn detach(&self, id: String) -> BoxFuture<'_, Result<(), String>>;
    /// Why pods cannot be connected now; `None` when they can.
    fn trouble(&self) -> BoxFuture<'_, Option<String>>;
}
