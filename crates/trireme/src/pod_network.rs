//! The node's network: opened when the node has its addresses, then kept in step with services and nodes.

use crate::instance::Instance;
use crate::services::{self, Objects};
use crate::{Failure, cni_conf};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use trireme_client::{Client, Informer, InformerBuilder, Kind};
use trireme_network::{
    Dns, DnsConfig, HostPort, InstanceId, Network, NetworkConfig, Overlay, OverlayConfig, OverlayMode, Peer, Place,
    PodAttach, Protocol, Provider, Proxy, ProxyConfig, Upstream, netns,
};
use trireme_runtime::{SandboxAttach, SandboxLink, SandboxNetwork};
use trireme_schema::{Value, json};

/// How a node's network is set up.
#[derive(Clone, Debug)]
pub struct PodNetworkConfig {
    /// Names of links and tables are made of it, and state is kept in its directory.
    pub instance: Instance,
    /// Who attaches pods.
    pub pods: Pods,
    /// The node's name and address.
    pub node: (String, IpAddr),
    /// Addresses of all pods.
    pub cluster_cidr: ipnet::IpNet,
    /// Addresses of services.
    pub service_cidr: ipnet::IpNet,
    /// The address of cluster DNS.
    pub dns: IpAddr,
    /// The cluster's domain.
    pub domain: String,
    /// What the packets of this cluster are marked with on their way between nodes.
    pub vni: u32,
    /// Whether services are programmed here; else somebody else does.
    pub proxied: bool,
    /// Whether cluster DNS is answered here; else somebody else does.
    pub answered: bool,
    /// Where names outside the cluster are asked.
    pub resolv_conf: PathBuf,
}

/// Who gives pods their links and addresses.
#[derive(Clone, Debug)]
pub enum Pods {
    /// We do.
    Here,
    /// The container runtime, by its CNI configuration.
    Runtime {
        /// Where it looks for that, if we are to write it.
        conf_dir: Option<PathBuf>,
    },
}

/// The network of pods, as the runtime sees it.
pub struct PodNetwork {
    config: PodNetworkConfig,
    id: InstanceId,
    network: watch::Sender<Option<Network>>,
}

/// A pod that comes before the node has its addresses waits this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Linux's own port for VXLAN.
const VXLAN_PORT: u16 = 8472;
/// What the tunnel takes of a packet.
const TUNNEL: u32 = 50;

impl PodNetwork {
    /// A network that is not open yet.
    ///
    /// # Errors
    /// When the instance has a name of which none can be made for links.
    pub fn new(config: PodNetworkConfig) -> Result<Arc<Self>, Failure> {
        let id = config.instance.id().parse()?;
        Ok(Arc::new(Self { config, id, network: watch::Sender::new(None) }))
    }

    fn netns_path(&self, id: &str) -> PathBuf {
        self.config.instance.path("run/netns").join(id)
    }

    async fn opened(&self) -> Result<Network, String> {
        let mut network = self.network.subscribe();
        let opened = tokio::time::timeout(PATIENCE, network.wait_for(Option::is_some)).await;
        match opened {
            Ok(Ok(network)) => network.clone().ok_or_else(|| "the network has gone".to_owned()),
            _ => Err("the node has no pod addresses yet".to_owned()),
        }
    }

    /// Opens the network when the node has its addresses, and keeps it in step, until `stop`.
    ///
    /// # Errors
    /// When the kernel refuses something that no later try would get.
    pub async fn run(self: Arc<Self>, client: Client, stop: CancellationToken) -> Result<(), Failure> {
        let nodes = InformerBuilder::<Node>::all().start(client.clone(), stop.clone());
        let slices = InformerBuilder::<EndpointSlice>::all().start(client.clone(), stop.clone());
        let services = InformerBuilder::<Service>::all().start(client.clone(), stop.clone());
        let namespaces = InformerBuilder::<Namespace>::all().start(client, stop.clone());
        let changed = Arc::new(Notify::new());
        wake(&nodes, &changed);
        wake(&slices, &changed);
        wake(&services, &changed);
        wake(&namespaces, &changed);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = async { tokio::join!(nodes.synced(), slices.synced(), services.synced(), namespaces.synced()); } => {}
        }
        let pod_cidrs = loop {
            let cidrs = self.pod_cidrs(&nodes);
            if !cidrs.is_empty() {
                break cidrs;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = changed.notified() => {}
            }
        };
        let config = &self.config;
        let network = Network::open(NetworkConfig {
            instance: self.id,
            state_dir: config.instance.path("run/network"),
            netns: None,
            pod_cidrs: pod_cidrs.clone(),
            cluster_cidrs: vec![config.cluster_cidr],
            service_cidrs: vec![config.service_cidr],
            mtu: None,
            provider: match config.pods {
                Pods::Here => Provider::Embedded,
                Pods::Runtime { .. } => Provider::Runtime,
            },
        })
        .await?;
        if let Pods::Runtime { conf_dir: Some(dir) } = &config.pods {
            cni_conf::write(&config.instance, dir, &pod_cidrs, network.mtu())
                .map_err(|e| format!("cannot write a CNI configuration to {}: {e}", dir.display()))?;
        }
        let gateways = network.gateways();
        let dns = match config.answered {
            true => Some(self.dns(&gateways).await?),
            false => None,
        };
        let place = Place { node: config.node.0.clone(), zone: None };
        let proxy = ProxyConfig { instance: self.id, cluster_cidrs: vec![config.cluster_cidr], place, netns: None };
        let proxy = match config.proxied {
            true => Some(Proxy::open(proxy).await?),
            false => None,
        };
        self.network.send_replace(Some(network));
        let mut overlay: Option<Overlay> = None;
        loop {
            let objects = Objects {
                services: values(&services),
                slices: values(&slices),
                namespaces: namespaces.list().iter().map(|e| e.meta.key.name.to_string()).collect(),
            };
            let here = dns.as_ref().map(|_| (config.dns, &gateways[..]));
            let state = services::proxy_state(&objects, &config.node.0, here);
            if let Some(proxy) = &proxy
                && let Err(error) = proxy.sync(state).await
            {
                tracing::error!(%error, "services cannot be programmed");
            }
            if let Some(dns) = &dns
                && let Err(error) = dns.update(&services::dns_records(&objects))
            {
                tracing::error!(%error, "DNS records cannot be used");
            }
            let peers = self.peers(&nodes);
            if overlay.is_none() && !peers.is_empty() {
                // A cluster of one needs no tunnel.
                match self.overlay(pod_cidrs.clone()).await {
                    Ok(opened) => overlay = Some(opened),
                    Err(error) => tracing::error!(%error, "the tunnel to other nodes cannot be made"),
                }
            }
            if let Some(overlay) = &overlay
                && let Err(error) = overlay.sync(peers).await
            {
                tracing::error!(%error, "the way to other nodes cannot be made");
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = changed.notified() => {}
            }
        }
    }

    async fn dns(&self, gateways: &[IpAddr]) -> Result<Dns, Failure> {
        let config = &self.config;
        Ok(Dns::serve(DnsConfig {
            listen: gateways.iter().map(|ip| SocketAddr::new(*ip, 53)).collect(),
            netns: None,
            domain: config.domain.clone(),
            cluster_ips: vec![config.dns],
            reverse: vec![config.cluster_cidr, config.service_cidr],
            upstream: Upstream::File(config.resolv_conf.clone()),
        })
        .await?)
    }

    async fn overlay(&self, pod_cidrs: Vec<ipnet::IpNet>) -> Result<Overlay, Failure> {
        let mtu = 1500 - TUNNEL;
        let config = OverlayConfig {
            instance: self.id,
            netns: None,
            node_ip: self.config.node.1,
            pod_cidrs,
            mode: OverlayMode::Vxlan,
            vni: self.config.vni,
            port: VXLAN_PORT,
            mtu,
        };
        Ok(Overlay::open(config).await?)
    }

    fn pod_cidrs(&self, nodes: &Informer<Node>) -> Vec<ipnet::IpNet> {
        let node = nodes.get("", &self.config.node.0).and_then(|e| json::parse(&e.bytes).ok()).unwrap_or_default();
        cidrs(&node)
    }

    fn peers(&self, nodes: &Informer<Node>) -> Vec<Peer> {
        let others = values(nodes).into_iter().filter(|n| n.str_at(&["metadata", "name"]) != self.config.node.0);
        others
            .filter_map(|node| {
                let addresses = node.list_at(&["status", "addresses"]);
                let own = addresses.iter().find(|a| a.str_at(&["type"]) == "InternalIP")?;
                let pod_cidrs = cidrs(&node);
                if pod_cidrs.is_empty() {
                    return None;
                }
                let name = node.str_at(&["metadata", "name"]).to_owned();
                Some(Peer { name, node_ip: own.str_at(&["address"]).parse().ok()?, pod_cidrs, vtep_mac: None })
            })
            .collect()
    }
}

fn cidrs(node: &Value) -> Vec<ipnet::IpNet> {
    node.list_at(&["spec", "podCIDRs"]).iter().filter_map(|c| c.as_str()?.parse().ok()).collect()
}

fn wake<K: Kind>(informer: &Informer<K>, changed: &Arc<Notify>) {
    let changed = changed.clone();
    informer.subscribe(move |_| changed.notify_one());
}

fn values<K: Kind>(informer: &Informer<K>) -> Vec<Value> {
    informer.list().iter().filter_map(|e| json::parse(&e.bytes).ok()).collect()
}

impl SandboxNetwork for PodNetwork {
    fn attach(&self, sandbox: SandboxAttach) -> BoxFuture<'_, Result<SandboxLink, String>> {
        async move {
            let network = self.opened().await?;
            let path = self.netns_path(&sandbox.id);
            if let Some(above) = path.parent() {
                std::fs::create_dir_all(above).map_err(|e| e.to_string())?;
            }
            let made = path.clone();
            netns::run(None, move || netns::create(&made)).await.map_err(|e| e.to_string())?;
            let ports = sandbox.ports.iter().map(|(ip, host_port, container_port, protocol)| HostPort {
                host_ip: ip.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified()),
                host_port: *host_port,
                container_port: *container_port,
                protocol: match protocol {
                    1 => Protocol::Udp,
                    2 => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
            });
            let pod = PodAttach {
                sandbox: sandbox.id.clone(),
                namespace: sandbox.namespace,
                name: sandbox.name,
                uid: sandbox.uid,
                netns: path.clone(),
                interface: "eth0".into(),
                host_ports: ports.collect(),
            };
            match network.attach(pod).await {
                Ok(attachment) => Ok(SandboxLink { netns: path, ips: attachment.ips }),
                Err(error) => {
                    let _ = netns::run(None, move || netns::remove(&path)).await;
                    Err(error.to_string())
                }
            }
        }
        .boxed()
    }

    fn detach(&self, id: String) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let network = self.opened().await?;
            network.detach(&id).await.map_err(|e| e.to_string())?;
            let path = self.netns_path(&id);
            netns::run(None, move || netns::remove(&path)).await.map_err(|e| e.to_string())
        }
        .boxed()
    }

    fn trouble(&self) -> BoxFuture<'_, Option<String>> {
        async move {
            let network = self.network.borrow().clone();
            match network {
                // Pods wait for the addresses; the node need not be unready for the moment that it takes.
                None => None,
                Some(network) => network.status().await.err().map(|e| e.to_string()),
            }
        }
        .boxed()
    }
}
