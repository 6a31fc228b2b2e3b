//! `trireme up` and `trireme server`: control plane and node in one process.

use crate::cli::{Common, Server};
use crate::control_plane::{self, ControlPlane, KUBECONFIG};
use crate::instance::Instance;
use crate::life::{Life, until_told};
use crate::node::{self, Access, Cluster, LocalNode};
use crate::progress::Progress;
use crate::usage::{self, Usage};
use crate::{Failure, certificates, cluster_info, demo};
use std::time::Duration;
use trireme_apiserver::User;
use trireme_client::Client;
use trireme_telemetry::LogConfig;

/// What runs until the process ends.
struct Running {
    plane: ControlPlane,
    node: Option<LocalNode>,
}

/// Runs until it is told to stop.
///
/// # Errors
/// One line that says what to do.
pub fn run(common: &Common, args: &Server, demo: bool) -> Result<(), Failure> {
    usage::none(usage::server(args))?;
    if !disabled(args, "node") {
        usage::root()?;
    }
    if demo && (disabled(args, "node") || args.node.container_runtime_endpoint.is_some()) {
        return Err(Usage("--demo needs the node and Trireme's own runtime".into()).into());
    }
    trireme_telemetry::start(&LogConfig { level: common.log_level.clone(), format: common.log_format })?;
    let progress = Progress::start();
    let instance = Instance::open(&common.data_dir)?;
    let _lock = instance.lock()?;
    until_told(&progress, async |life| {
        let running = start(&instance, args, &progress, &life).await?;
        if demo {
            show(&running, args, &progress).await;
        }
        let kubeconfig = instance.path(KUBECONFIG);
        progress.say(&format!("\n  export KUBECONFIG={}\n  kubectl get all -A\n", kubeconfig.display()));
        Ok(async move {
            if let Some(node) = running.node {
                node.ended().await;
            }
            running.plane.ended().await;
        })
    })
}

async fn start(instance: &Instance, args: &Server, progress: &Progress, life: &Life) -> Result<Running, Failure> {
    let plane = ControlPlane::start(instance, args, &life.stop).await?;
    progress.done(&format!("API server at {}", plane.url));
    let dns = usage::dns(args).ok_or("--service-cidr is too small for DNS")?;
    if !disabled(args, "dns") {
        plane.publish_dns(dns).await?;
    }
    let cluster = Cluster {
        cluster_cidr: args.cluster_cidr.to_string(),
        service_cidr: args.service_cidr.to_string(),
        dns,
        domain: args.cluster_domain.clone(),
        disabled: args.disable.iter().filter(|part| *part == "dns" || *part == "proxy").cloned().collect(),
        client_ca: plane.pki.client_ca.certificate().to_owned(),
    };
    let administrator = plane.client(User::new("system:apiserver", &["system:masters"]), "trireme");
    cluster_info::publish(&administrator, &cluster).await?;
    let mut local = None;
    if !disabled(args, "node") {
        let name = node::name(&args.node);
        let access = Access {
            client: plane.client(User::new(&format!("system:node:{name}"), &["system:nodes"]), "kubelet"),
            network: plane.client(User::new("system:trireme:network", &[]), "trireme-network"),
            serving: certificates::keep_own_node(
                control_plane::same(&plane.pki.server_ca)?,
                args.node.clone(),
                Duration::from_secs(args.certificate_life),
                life.stop.clone(),
            )?,
        };
        local = Some(LocalNode::start(instance, &args.node, &cluster, access, progress, life).await?);
        progress.done(&format!("Node {name}"));
    }
    ready(&administrator).await?;
    progress.done("Ready");
    Ok(Running { plane, node: local })
}

fn disabled(args: &Server, name: &str) -> bool {
    args.disable.iter().any(|d| d == name)
}

/// Nothing is called ready before the API server says so itself.
async fn ready(client: &Client) -> Result<(), Failure> {
    client
        .request(http::Method::GET, "/readyz", None)
        .await
        .map_err(|e| format!("the API server is not ready: {e}"))?;
    Ok(())
}

/// The demo; a cluster without it is a cluster still.
async fn show(running: &Running, args: &Server, progress: &Progress) {
    let shown = async {
        let images = running.node.as_ref().and_then(LocalNode::images).ok_or("there is no image store")?;
        demo::build(images).await?;
        progress.done("Demo image, made from this program");
        let client = running.plane.client(User::new("system:admin", &["system:masters"]), "trireme-demo");
        demo::deploy(&client, node::ip(&args.node)).await
    };
    let result: Result<String, Failure> = shown.await;
    match result {
        Ok(url) => {
            progress.done("Demo in the namespace demo");
            progress.say(&format!("\n  {url}"));
        }
        Err(error) => progress.say(&format!("  the demo does not run: {error}")),
    }
}
