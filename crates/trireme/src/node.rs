//! Wires runtime, network and node agent.

use crate::images::SOCKET;
use crate::instance::Instance;
use crate::life::Life;
use crate::pod_network::{PodNetwork, PodNetworkConfig, Pods};
use crate::progress::Progress;
use crate::shown::Shown;
use crate::streamer::Embedded;
use crate::{Failure, address, cli, external_runtime, version};
use futures::FutureExt;
use futures::future::BoxFuture;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use trireme_client::Client;
use trireme_cri::image_service_server::ImageServiceServer;
use trireme_cri::runtime_service_server::RuntimeServiceServer;
use trireme_node::{Cri, Node, NodeConfig, RuntimeEvents, api};
use trireme_pki::{Authority, Identity, Purpose, Subject, certificates};
use trireme_runtime::images::{Images, ImagesOptions};
use trireme_runtime::{Config, Runtime, SandboxAttach, SandboxLink, SandboxNetwork, Services, ShimCommand};
use trireme_streams::Streamer;

/// The hidden subcommand by which the binary becomes a shim.
pub const SHIM: &str = "__shim";
/// The runtime's socket, in the data directory.
pub const CRI_SOCKET: &str = "cri.sock";

/// What a node needs to know of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Addresses of pods.
    pub cluster_cidr: String,
    /// Addresses of services.
    pub service_cidr: String,
    /// The address of cluster DNS.
    pub dns: IpAddr,
    /// The cluster's domain.
    pub domain: String,
    /// Parts that nodes leave to others: `dns`, `proxy`.
    pub disabled: Vec<String>,
    /// PEM of the authority of clients.
    pub client_ca: String,
}

/// How a node speaks with its API server, and is known to it.
pub struct Access {
    /// As the node.
    pub client: Client,
    /// As the node's network.
    pub network: Client,
    /// What the node shows when the API server calls.
    pub serving: Arc<Shown>,
}

/// The node of this machine, running.
pub struct LocalNode {
    node: Node,
    images: Option<Images>,
    tasks: Vec<JoinHandle<()>>,
}

/// The node's name.
pub fn name(args: &cli::Node) -> String {
    args.node_name.clone().unwrap_or_else(address::host_name)
}

/// The node's address.
pub fn ip(args: &cli::Node) -> IpAddr {
    args.node_ip.unwrap_or_else(address::of_default_route)
}

/// The labels to register with.
///
/// # Errors
/// The one that is none.
pub fn labels(args: &cli::Node) -> Result<BTreeMap<String, String>, String> {
    Ok(pairs("node-label", &args.node_label)?.into_iter().collect())
}

/// What a flag says as `KEY=VALUE`.
///
/// # Errors
/// The one that is none.
pub fn pairs(flag: &str, texts: &[String]) -> Result<Vec<(String, String)>, String> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("--{flag} {text:?} is not KEY=VALUE"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(pair).collect()
}

/// The taints to register with: key, value, effect.
///
/// # Errors
/// The one that is none.
pub fn taints(args: &cli::Node) -> Result<Vec<(String, String, String)>, String> {
    triples("node-taint", &args.node_taint)
}

/// What a flag says as `KEY=VALUE:EFFECT`.
///
/// # Errors
/// The one that is none.
pub fn triples(flag: &str, texts: &[String]) -> Result<Vec<(String, String, String)>, String> {
    let taint = |text: &String| {
        let wrong = || format!("--{flag} {text:?} is not KEY=VALUE:EFFECT");
        let (rest, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
        if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
            return Err(wrong());
        }
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        Ok((key.to_owned(), value.to_owned(), effect.to_owned()))
    };
    texts.iter().map(taint).collect()
}

impl LocalNode {
    /// Starts it.
    ///
    /// # Errors
    /// One line that says what to do.
    pub async fn start(
        instance: &Instance,
        args: &cli::Node,
        cluster: &Cluster,
        access: Access,
        progress: &Progress,
        life: &Life,
    ) -> Result<Self, Failure> {
        let stop = &life.stop;
        let ip = ip(args);
        let name = name(args);
        let mut tasks = Vec::new();
        let network = PodNetwork::new(PodNetworkConfig {
            instance: instance.clone(),
            pods: match &args.container_runtime_endpoint {
                None => Pods::Here,
                Some(_) => Pods::Runtime { conf_dir: args.cni_conf_dir.clone() },
            },
            node: (name.clone(), ip),
            cluster_cidr: cluster.cluster_cidr.parse()?,
            service_cidr: cluster.service_cidr.parse()?,
            dns: cluster.dns,
            domain: cluster.domain.clone(),
            vni: vni(&cluster.client_ca),
            proxied: !cluster.disabled.iter().any(|part| part == "proxy"),
            answered: !cluster.disabled.iter().any(|part| part == "dns"),
            resolv_conf: args.resolv_conf.clone(),
        })?;
        let keeper = network.clone().run(access.network, stop.clone());
        let life = life.clone();
        tasks.push(tokio::spawn(async move {
            if let Err(error) = keeper.await {
                life.fail(format!("pods cannot have a network: {error}").into());
            }
        }));
        let mut streamer: Option<Arc<dyn Streamer>> = None;
        let mut images = None;
        let socket = match &args.container_runtime_endpoint {
            Some(endpoint) => {
                let socket = PathBuf::from(endpoint.trim_start_matches("unix://"));
                external_runtime::remember(instance, Some(&socket))?;
                socket
            }
            None => {
                external_runtime::remember(instance, None)?;
                let socket = instance.path(CRI_SOCKET);
                let options = crate::images::options(instance, &args.private_registry)?;
                let runtime = runtime(instance, options, network).await?;
                import(&runtime, instance, progress).await;
                tasks.push(crate::images::serve(runtime.images().clone(), &instance.path(SOCKET), stop.clone())?);
                images = Some(runtime.images().clone());
                tasks.push(serve_runtime(runtime.clone(), socket.clone(), stop)?);
                streamer = Some(Arc::new(Embedded(runtime)));
                socket
            }
        };
        let cri = Cri::connect(&socket)
            .await
            .map_err(|e| format!("cannot reach the container runtime at {}: {e}", socket.display()))?;

        let listener = match TcpListener::bind((ip, args.kubelet_port)).await {
            Ok(listener) => listener,
            // Another cluster's node is there; the port is published with the node, so any will do.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => TcpListener::bind((ip, 0)).await?,
            Err(error) => return Err(format!("cannot listen on {ip}:{}: {error}", args.kubelet_port).into()),
        };
        let port = listener.local_addr()?.port();
        let events = RuntimeEvents::default();
        let served = api::Api { cri: cri.clone(), streamer, events: events.clone(), client: access.client.clone() };
        tasks.push(tokio::spawn(served.serve(listener, tls(cluster, access.serving)?, stop.clone())));
        let config = NodeConfig {
            name,
            ip,
            port,
            root: instance.path("node"),
            labels: labels(args)?.into_iter().collect(),
            taints: taints(args)?,
            max_pods: args.max_pods,
            cluster_dns: vec![cluster.dns],
            cluster_domain: cluster.domain.clone(),
            resolv_conf: args.resolv_conf.clone(),
            version: format!("{}+trireme{}", version::KUBERNETES, version::TRIREME),
            eviction: args.eviction_hard.clone(),
            cgroup: cgroup(instance),
        };
        let node = Node::start(config, access.client, cri, events, stop.clone()).await?;
        Ok(Self { node, images, tasks })
    }

    /// The image store, if the runtime is our own.
    pub fn images(&self) -> Option<&Images> {
        self.images.as_ref()
    }

    /// Waits until all has ended.
    pub async fn ended(self) {
        self.node.ended().await;
        for task in self.tasks {
            // A task that panicked has said so in the log.
            let _ = task.await;
        }
    }
}

/// The VXLAN identifier of a cluster: all its nodes make the same one of its authority, and several clusters on one
/// machine have different ones.
fn vni(authority: &str) -> u32 {
    let digest = Sha256::digest(authority.as_bytes());
    // 24 bits (RFC 7348), and not 0.
    let number = digest.iter().take(3).fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    number.max(1)
}

/// Archives in this directory of the data directory are imported at the start.
const ARCHIVES: &str = "images-import";

async fn import(runtime: &Runtime, instance: &Instance, progress: &Progress) {
    match crate::images::import_dir(runtime.images(), &instance.path(ARCHIVES)).await {
        0 => {}
        1 => progress.done(&format!("1 image of {ARCHIVES}")),
        count => progress.done(&format!("{count} images of {ARCHIVES}")),
    }
}

/// The control group above all pods of an instance.
pub fn cgroup(instance: &Instance) -> String {
    format!("trireme-{}", instance.id())
}

/// A network for who only takes apart: what is left of the real one is removed as a whole.
struct NoNetwork;

impl SandboxNetwork for NoNetwork {
    fn attach(&self, _: SandboxAttach) -> BoxFuture<'_, Result<SandboxLink, String>> {
        async { Err("nothing is started any more".to_owned()) }.boxed()
    }

    fn detach(&self, _: String) -> BoxFuture<'_, Result<(), String>> {
        async { Ok(()) }.boxed()
    }

    fn trouble(&self) -> BoxFuture<'_, Option<String>> {
        async { None }.boxed()
    }
}

/// Stops all workloads of an instance whose Trireme does not run, and removes what they had of the machine.
///
/// # Errors
/// What cannot be removed.
pub async fn stop_workloads(instance: &Instance) -> Result<(), Failure> {
    if instance.path("runtime").is_dir() {
        let options = ImagesOptions::new(instance.path("images"));
        runtime(instance, options, Arc::new(NoNetwork)).await?.remove_all().await?;
    }
    external_runtime::stop(instance, &cgroup(instance)).await?;
    trireme_node::tear_down_all(&instance.path("node"));
    trireme_network::teardown(instance.id().parse()?, None, Some(&instance.path("run/netns"))).await?;
    // Addresses that were given out belong to nobody now.
    match std::fs::remove_dir_all(instance.path("run")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

async fn runtime(
    instance: &Instance,
    options: ImagesOptions,
    network: Arc<dyn SandboxNetwork>,
) -> Result<Arc<Runtime>, Failure> {
    let images = Images::open(options).await?;
    let config = Config {
        root: instance.path("runtime"),
        shim: ShimCommand { program: std::env::current_exe()?, args: vec![SHIM.to_owned()] },
        cgroup: cgroup(instance),
        version: version::TRIREME.to_owned(),
    };
    Ok(Runtime::open(config, images, network).await?)
}

/// Serves the embedded runtime on its socket.
fn serve_runtime(runtime: Arc<Runtime>, socket: PathBuf, stop: &CancellationToken) -> Result<JoinHandle<()>, Failure> {
    let services = Services::new(runtime, "");
    let listener = crate::sockets::listen(&socket)?;
    let stop = stop.clone();
    Ok(tokio::spawn(async move {
        /// Calls that are under way may take this long when Trireme stops; what they started goes on.
        const DRAIN: Duration = Duration::from_secs(5);
        let server = tonic::transport::Server::builder()
            .add_service(RuntimeServiceServer::new(services.clone()))
            .add_service(ImageServiceServer::new(services))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled());
        tokio::select! {
            result = server => if let Err(error) = result {
                tracing::error!(%error, "the runtime's socket is not served any more");
            },
            () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => {}
        }
    }))
}

/// The certificate of the node of a control plane, which holds the authority itself.
///
/// # Errors
/// When it cannot be made.
pub fn own_identity(authority: &Authority, args: &cli::Node, life: Duration) -> Result<Identity, Failure> {
    let (name, ip) = (name(args), ip(args));
    let subject = Subject::new(&format!("system:node:{name}"), &["system:nodes"]);
    let purpose = Purpose::Server { names: vec![name], addresses: vec![ip] };
    Ok(authority.issue(&subject, &purpose, life)?)
}

/// What the node shows, and whom it answers: clients of the cluster.
fn tls(cluster: &Cluster, serving: Arc<Shown>) -> Result<Arc<rustls::ServerConfig>, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&cluster.client_ca, "the client CA")? {
        roots.add(certificate)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(serving);
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_have_different_identifiers_of_24_bits() {
        let (a, b) = (vni("a"), vni("b"));
        assert!(a != b && a > 0 && a < 1 << 24 && b < 1 << 24);
        assert_eq!(a, vni("a"));
    }
}
