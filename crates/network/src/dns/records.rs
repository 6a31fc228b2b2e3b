//! What cluster DNS is told.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::Protocol;

/// All names of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsRecords {
    /// Namespaces that exist: a name in one without services still exists.
    pub namespaces: BTreeSet<String>,
    /// Services.
    pub services: Vec<DnsService>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsService {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// What the name stands for.
    pub target: DnsTarget,
    /// The service's ports.
    pub ports: Vec<DnsPort>,
    /// Endpoints that may be named: the ready ones, and all with `publishNotReadyAddresses`.
    pub endpoints: Vec<DnsEndpoint>,
}

/// What a service's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsTarget {
    /// Its cluster IPs.
    ClusterIps(Vec<IpAddr>),
    /// Its endpoints.
    Headless,
    /// Another name.
    External(String),
}

/// A port of a service or of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DnsPort {
    /// Name, empty when it has none.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Number.
    pub port: u16,
}

/// An endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsEndpoint {
    /// Address.
    pub ip: IpAddr,
    /// The pod's hostname, where it has one; otherwise the address names the endpoint.
    pub hostname: Option<String>,
    /// Ports of this endpoint.
    pub ports: Vec<DnsPort>,
}

impl DnsEndpoint {
    /// The label before the service's name: the hostname, or the address with dashes.
    pub fn label(&self) -> String {
        match (&self.hostname, self.ip) {
            (Some(hostname), _) if !hostname.is_empty() => hostname.to_ascii_lowercase(),
            (_, IpAddr::V4(ip)) => ip.to_string().replace('.', "-"),
            (_, IpAddr::V6(ip)) => ip.to_string().replace(':', "-"),
        }
    }
}
