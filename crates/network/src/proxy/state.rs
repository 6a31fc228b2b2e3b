//! What the service proxy is told: one entry per port of a service.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::Protocol;

/// All services of the cluster as one node sees them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyState {
    /// The ports of all services.
    pub ports: Vec<ServicePort>,
}

/// Which endpoints serve traffic that comes in here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrafficPolicy {
    /// Those of the whole cluster.
    #[default]
    Cluster,
    /// Those on this node.
    Local,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePort {
    /// Namespace and name of the service, and the port's name: identity of this entry in logs and for affinity.
    pub service: String,
    /// Name of the port, empty when it has none.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The port on the service's addresses.
    pub port: u16,
    /// Cluster IPs, of one or both families.
    pub cluster_ips: Vec<IpAddr>,
    /// Port on every address of the node.
    pub node_port: Option<u16>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of the load balancer (`ipMode: VIP`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer's addresses; empty means everybody.
    pub load_balancer_source_ranges: Vec<IpNet>,
    /// `sessionAffinity: ClientIP` and how long it lasts.
    pub affinity: Option<Duration>,
    /// Policy for traffic from within the cluster to cluster IPs.
    pub internal_policy: TrafficPolicy,
    /// Policy for traffic to node ports, external IPs and load balancer addresses.
    pub external_policy: TrafficPolicy,
    /// Where a load balancer asks whether this node has endpoints.
    pub health_check_node_port: Option<u16>,
    /// Endpoints of this port, of all families.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint of a service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// Takes traffic.
    pub ready: bool,
    /// Would take traffic if it were not terminating.
    pub serving: bool,
    /// Its pod is being deleted.
    pub terminating: bool,
    /// Runs on this node.
    pub local: bool,
    /// Zones that should use it; empty without hints.
    pub zones: Vec<String>,
    /// Nodes that should use it; empty without hints.
    pub nodes: Vec<String>,
}

impl Endpoint {
    /// A ready endpoint on another node, without hints.
    pub fn ready(ip: IpAddr, port: u16) -> Self {
        Self {
            ip,
            port,
            ready: true,
            serving: true,
            terminating: false,
            local: false,
            zones: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// The same endpoint on this node.
    pub fn on_this_node(self) -> Self {
        Self { local: true, ..self }
    }
}

impl ServicePort {
    /// A port with nothing but its identity.
    pub fn new(service: &str, name: &str, protocol: Protocol, port: u16) -> Self {
        Self {
            service: service.to_owned(),
            name: name.to_owned(),
            protocol,
            port,
            cluster_ips: Vec::new(),
            node_port: None,
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            load_balancer_source_ranges: Vec::new(),
            affinity: None,
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            health_check_node_port: None,
            endpoints: Vec::new(),
        }
    }
}
