//! `trireme up` and `trireme server`, and how they are stopped.

use crate::Failure;
use crate::cli::{Common, Server, Uninstall};
use crate::control_plane::{ControlPlane, KUBECONFIG};
use crate::instance::Instance;
use crate::node::{self, Cluster, LocalNode};
use crate::progress::Progress;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use trireme_apiserver::User;
use trireme_telemetry::LogConfig;

/// Runs until it is told to stop.
pub fn run(common: &Common, args: &Server, demo: bool) -> Result<(), Failure> {
    if demo {
        return Err("--demo needs the node, which this build does not have yet".into());
    }
    trireme_telemetry::start(&LogConfig { level: common.log_level.clone(), format: common.log_format })?;
    let progress = Progress::start();
    let instance = Instance::open(&common.data_dir)?;
    let _lock = instance.lock()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let plane = ControlPlane::start(&instance, args, &stop).await?;
        progress.done(&format!("API server at {}", plane.url));
        let dns =
            args.cluster_dns.or_else(|| args.service_cidr.nth(10)).ok_or("--service-cidr is too small for DNS")?;
        plane.publish_dns(dns).await?;
        let mut node = None;
        if !args.disable.iter().any(|d| d == "node") {
            let name = node::name(&args.node);
            let user = User::new(&format!("system:node:{name}"), &["system:nodes"]);
            let cluster = Cluster {
                cluster_cidr: args.cluster_cidr.to_string(),
                service_cidr: args.service_cidr.to_string(),
                dns,
                domain: args.cluster_domain.clone(),
                server_ca: &plane.pki.server_ca,
                client_ca: plane.pki.client_ca.certificate().to_owned(),
            };
            let client = plane.client(user, "kubelet");
            let network = plane.client(User::new("system:trireme:network", &[]), "trireme-network");
            node = Some(LocalNode::start(&instance, &args.node, &cluster, client, network, &progress, &stop).await?);
            progress.done(&format!("Node {name}"));
        }
        let kubeconfig = instance.path(KUBECONFIG);
        progress.say(&format!("\n  export KUBECONFIG={}\n  kubectl get all -A\n", kubeconfig.display()));
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        progress.say("stopping");
        stop.cancel();
        if let Some(node) = node {
            node.ended().await;
        }
        plane.ended().await;
        Ok(())
    })
}

/// How long a process may take to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stops Trireme and the workloads.
pub fn down(common: &Common) -> Result<(), Failure> {
    let instance = Instance::existing(&common.data_dir)?;
    stop_process(&instance)?;
    let _lock = instance.lock()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(node::stop_workloads(&instance))
}

/// Stops the process that runs on the data directory, and waits until it is gone.
fn stop_process(instance: &Instance) -> Result<(), Failure> {
    let Some(pid) = instance.running()? else { return Ok(()) };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("the lock file names no process")?;
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        // Gone in between.
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(format!("cannot reach process {pid:?}: {error}").into()),
    };
    pidfd_send_signal(&process, Signal::TERM)?;
    let mut fds = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
    let deadline = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    if rustix::event::poll(&mut fds, Some(&deadline))? == 0 {
        return Err(format!("process {} did not stop within {} s", pid.as_raw_nonzero(), PATIENCE.as_secs()).into());
    }
    Ok(())
}

/// Removes what Trireme made.
pub fn uninstall(common: &Common, args: &Uninstall) -> Result<(), Failure> {
    if !args.yes {
        return Err(format!("this removes {} and all that is in it; say --yes", common.data_dir.display()).into());
    }
    down(common)?;
    let dir = Instance::existing(&common.data_dir)?.dir().to_owned();
    // Only a directory of ours is removed, whatever was typed.
    if !dir.join("pki").is_dir() || !dir.join("store").is_dir() {
        return Err(format!("{} is no data directory of Trireme", dir.display()).into());
    }
    std::fs::remove_dir_all(&dir).map_err(|e| format!("cannot remove {}: {e}", dir.display()))?;
    Ok(())
}
