//! What a pod asks of the network, and what it gets.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{MacAddr, Protocol};

/// A port of the host that leads to a port of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// The host's address; `None` stands for all of them.
    pub host_ip: Option<IpAddr>,
    /// The host's port.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// A pod to be attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAttach {
    /// Id of the pod's sandbox: the key of everything about it.
    pub sandbox: String,
    /// The pod's namespace, for plugins that want it.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// The pod's network namespace.
    pub netns: PathBuf,
    /// Name of the link inside of the pod.
    pub interface: String,
    /// Host ports.
    pub host_ports: Vec<HostPort>,
}

/// An attached pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The pod.
    pub pod: PodAttach,
    /// Its addresses, the primary family first.
    pub ips: Vec<IpAddr>,
    /// The addresses that its default routes lead to.
    pub gateways: Vec<IpAddr>,
    /// Hardware address of its link.
    pub mac: Option<MacAddr>,
    /// The host's end of its link.
    pub host_link: Option<String>,
}

impl Attachment {
    /// Whether a sandbox id can be part of a file's name.
    pub(crate) fn is_plain(sandbox: &str) -> bool {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !sandbox.is_empty() && sandbox.len() <= 200 && !sandbox.starts_with('.') && sandbox.bytes().all(plain)
    }
}
