//! `trireme up` and `trireme server`: control plane and node in one process.

use crate::cli::{Common, Server};
use crate::control_plane::{ControlPlane, KUBECONFIG};
use crate::instance::Instance;
use crate::node::{self, Access, Cluster, LocalNode};
use crate::progress::Progress;
use crate::signals::Signals;
use crate::{Failure, cluster_info, demo};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
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
    crate::disable::check(&args.disable)?;
    if demo && (disabled(args, "node") || args.node.container_runtime_endpoint.is_some()) {
        return Err("--demo needs the node and Trireme's own runtime".into());
    }
    trireme_telemetry::start(&LogConfig { level: common.log_level.clone(), format: common.log_format })?;
    let progress = Progress::start();
    let instance = Instance::open(&common.data_dir)?;
    let _lock = instance.lock()?;
    until_told(&progress, async |stop| {
        let running = start(&instance, args, &progress, &stop).await?;
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

/// Starts something that runs until a signal comes, and then ends it. A second signal ends the process at once.
///
/// # Errors
/// What kept it from starting.
pub fn until_told<E: Future<Output = ()>>(
    progress: &Progress,
    start: impl AsyncFnOnce(CancellationToken) -> Result<E, Failure>,
) -> Result<(), Failure> {
    /// All that runs has ended by then, or is left.
    const PATIENCE: Duration = Duration::from_secs(20);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::take()?;
        let stop = CancellationToken::new();
        let ended = tokio::select! {
            started = start(stop.clone()) => started?,
            // Whatever was made so far is found again by the next start, as after a crash.
            () = signals.next() => return Ok(()),
        };
        signals.next().await;
        progress.say("stopping; the workloads run on (Ctrl-C again to quit at once)");
        stop.cancel();
        tokio::select! {
            () = ended => Ok(()),
            () = signals.next() => Err("stopped at once".into()),
            () = tokio::time::sleep(PATIENCE) => Err(format!("not all had ended after {} s", PATIENCE.as_secs()).into()),
        }
    });
    // Threads that still wait for the kernel must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn start(
    instance: &Instance,
    args: &Server,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<Running, Failure> {
    let plane = ControlPlane::start(instance, args, stop).await?;
    progress.done(&format!("API server at {}", plane.url));
    let dns = args.cluster_dns.or_else(|| args.service_cidr.nth(10)).ok_or("--service-cidr is too small for DNS")?;
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
            serving: node::own_certificate(&plane.pki.server_ca, &name, node::ip(&args.node))?,
        };
        local = Some(LocalNode::start(instance, &args.node, &cluster, access, progress, stop).await?);
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
