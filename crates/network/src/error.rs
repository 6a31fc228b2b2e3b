//! What can go wrong in the pod network.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::netlink::NetlinkError;

/// An error of the pod network, the service proxy or the overlay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a netlink request.
    #[error("{action}: {source}")]
    Netlink {
        /// What was being done, with the object's name.
        action: String,
        /// The kernel's answer.
        #[source]
        source: NetlinkError,
    },
    /// The kernel lacks a feature.
    #[error("the kernel has no support for {feature}: {hint}")]
    Unsupported {
        /// The missing feature.
        feature: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// A file could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A thread or a system call failed outside of any file.
    #[error("{action}: {source}")]
    System {
        /// What was being done.
        action: String,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The configuration cannot work.
    #[error("network configuration: {field}: {reason}")]
    Config {
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// No address is left.
    #[error("no free address left in pod CIDR {cidr}")]
    Exhausted {
        /// The pod CIDR that is full.
        cidr: ipnet::IpNet,
    },
    /// Two pods want the same host port.
    #[error("host port {protocol}/{port} (host IP {host_ip}) is already used by pod sandbox {holder}")]
    HostPortTaken {
        /// Transport protocol.
        protocol: crate::Protocol,
        /// The port.
        port: u16,
        /// The host address asked for.
        host_ip: IpAddr,
        /// Who has it.
        holder: String,
    },
    /// The runtime attaches pods itself, and was not asked to.
    #[error("pod sandbox {0}: the container runtime attaches pods itself")]
    AttachedElsewhere(String),
    /// A CNI plugin or its configuration failed.
    #[error(transparent)]
    Cni(#[from] crate::cni::CniError),
}

/// Result of the pod network.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds to a netlink error what was being done.
pub(crate) trait Context<T> {
    /// Names the action.
    fn context(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, NetlinkError> {
    fn context(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Netlink { action: action(), source })
    }
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::System { action: action(), source })
    }
}
