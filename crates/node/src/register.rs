//! The Node object, its status and its lease.

use crate::calls;
use crate::config::NodeConfig;
use http::Method;
use jiff::Timestamp;
use std::fs;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use trireme_client::{Client, Error};
use trireme_schema::{Map, Value, time};

/// How often the lease is renewed (it lasts 40 seconds), and the status written at the least.
const RENEW: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i64 = 40;
const STATUS: Duration = Duration::from_secs(300);

fn number_after(text: &str, key: &str) -> Option<i64> {
    text.lines().find_map(|l| l.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// The machine's memory in bytes.
pub(crate) fn memory() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    number_after(&text, "MemTotal:").unwrap_or_default() * 1024
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or_default().trim().to_owned()
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What the runtime says of itself and of pods' network.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuntimeState {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Why pods cannot run; empty when they can.
    pub(crate) trouble: String,
}

fn resources(config: &NodeConfig) -> Value {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let disk = rustix::fs::statvfs(&config.root).map(|s| s.f_blocks * s.f_frsize).unwrap_or_default();
    let fields = [
        ("cpu", cores.to_string()),
        ("memory", format!("{}Ki", memory() / 1024)),
        ("ephemeral-storage", format!("{}Ki", disk / 1024)),
        ("pods", config.max_pods.to_string()),
        ("hugepages-1Gi", "0".to_owned()),
        ("hugepages-2Mi", "0".to_owned()),
    ];
    Value::Object(Map::from_iter(fields))
}

fn object<const N: usize>(fields: [(&str, &str); N]) -> Value {
    Value::Object(Map::from_iter(fields))
}

fn node_info(config: &NodeConfig, runtime: &RuntimeState) -> Value {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let os =
        release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"').to_owned();
    let uname = rustix::system::uname();
    let container = format!("{}://{}", runtime.name, runtime.version);
    object([
        ("machineID", &first_line("/etc/machine-id")),
        ("systemUUID", &first_line("/sys/class/dmi/id/product_uuid")),
        ("bootID", &first_line("/proc/sys/kernel/random/boot_id")),
        ("kernelVersion", &uname.release().to_string_lossy()),
        ("osImage", &os),
        ("containerRuntimeVersion", &container),
        ("kubeletVersion", &config.version),
        ("kubeProxyVersion", ""),
        ("operatingSystem", "linux"),
        ("architecture", arch()),
    ])
}

/// Whether memory, disk and process ids are short (upstream's default hard thresholds).
fn pressures(config: &NodeConfig) -> [(&'static str, bool, &'static str, &'static str); 3] {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = number_after(&text, "MemAvailable:").unwrap_or(i64::MAX / 2048) * 1024;
    let disk = rustix::fs::statvfs(&config.root).map(|s| s.f_bavail as f64 / (s.f_blocks.max(1)) as f64).unwrap_or(1.0);
    let most = first_line("/proc/sys/kernel/pid_max").parse::<f64>().unwrap_or(32_768.0);
    let load = first_line("/proc/loadavg");
    let used = load
        .split_whitespace()
        .nth(3)
        .and_then(|t| t.split('/').nth(1))
        .and_then(|t| t.parse::<f64>().ok())
        .unwrap_or(0.0);
    let memory = available < 100 << 20;
    let (disk, pids) = (disk < 0.10, used / most > 0.95);
    let pick =
        |bad: bool, yes: (&'static str, &'static str), no: (&'static str, &'static str)| if bad { yes } else { no };
    let m = pick(
        memory,
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    );
    let d = pick(
        disk,
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    );
    let p = pick(
        pids,
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    );
    [("MemoryPressure", memory, m.0, m.1), ("DiskPressure", disk, d.0, d.1), ("PIDPressure", pids, p.0, p.1)]
}

fn conditions(config: &NodeConfig, runtime: &RuntimeState, old: &Value) -> Value {
    let now = time::now();
    let mut out = Vec::new();
    let mut condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let before = old.list_at(&["status", "conditions"]).iter().find(|c| c.str_at(&["type"]) == kind);
        let since =
            before.filter(|c| c.str_at(&["status"]) == status).map(|c| c.str_at(&["lastTransitionTime"]).to_owned());
        let mut map = Map::from_iter([
            ("type", kind),
            ("status", status),
            ("reason", reason),
            ("message", message),
            ("lastHeartbeatTime", now.as_str()),
        ]);
        map.insert("lastTransitionTime", since.unwrap_or_else(|| now.clone()));
        out.push(Value::Object(map));
    };
    for (kind, bad, reason, message) in pressures(config) {
        condition(kind, if bad { "True" } else { "False" }, reason, message);
    }
    if runtime.trouble.is_empty() {
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status");
    } else {
        condition("Ready", "False", "KubeletNotReady", &runtime.trouble);
    }
    Value::Array(out)
}

fn status(config: &NodeConfig, runtime: &RuntimeState, old: &Value) -> Value {
    let mut status = Value::object();
    let ip = config.ip.to_string();
    let addresses = vec![
        object([("type", "InternalIP"), ("address", &ip)]),
        object([("type", "Hostname"), ("address", &config.name)]),
    ];
    status.set_at(&["addresses"], Value::Array(addresses));
    status.set_at(&["capacity"], resources(config));
    status.set_at(&["allocatable"], resources(config));
    status.set_at(&["conditions"], conditions(config, runtime, old));
    status.set_at(&["nodeInfo"], node_info(config, runtime));
    status.set_at(&["daemonEndpoints", "kubeletEndpoint", "Port"], i64::from(config.port));
    status
}

fn labels(config: &NodeConfig) -> Map {
    let mut labels = Map::from_iter([
        ("kubernetes.io/hostname", config.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch()),
    ]);
    for (key, value) in &config.labels {
        labels.insert(key.as_str(), value.as_str());
    }
    labels
}

/// Makes the Node object, or takes over the one that is there.
pub(crate) async fn register(config: &NodeConfig, client: &Client, runtime: &RuntimeState) -> Result<Value, Error> {
    let path = format!("/api/v1/nodes/{}", config.name);
    match calls::get(client, &path).await {
        Ok(_) => {
            let mut patch = Value::object();
            patch.set_at(&["metadata", "labels"], labels(config));
            calls::send(client, Method::PATCH, &path, calls::MERGE, &patch).await?;
        }
        Err(error) if error.is_not_found() => {
            let mut node = Value::object();
            node.set_at(&["kind"], "Node");
            node.set_at(&["apiVersion"], "v1");
            node.set_at(&["metadata", "name"], config.name.as_str());
            node.set_at(&["metadata", "labels"], labels(config));
            let taints = config.taints.iter().map(|(k, v, e)| object([("key", k), ("value", v), ("effect", e)]));
            let taints: Vec<Value> = taints.collect();
            if !taints.is_empty() {
                node.set_at(&["spec", "taints"], Value::Array(taints));
            }
            node.set_at(&["status"], status(config, runtime, &Value::Null));
            calls::send(client, Method::POST, "/api/v1/nodes", calls::JSON, &node).await?;
        }
        Err(error) => return Err(error),
    }
    write_status(config, client, runtime).await
}

async fn write_status(config: &NodeConfig, client: &Client, runtime: &RuntimeState) -> Result<Value, Error> {
    let path = format!("/api/v1/nodes/{}", config.name);
    let old = calls::get(client, &path).await?;
    let mut patch = Value::object();
    patch.set_at(&["status"], status(config, runtime, &old));
    calls::send(client, Method::PATCH, &format!("{path}/status"), calls::STRATEGIC, &patch).await
}

/// Renews the lease and writes the status, until `stop`.
pub(crate) async fn keep(
    config: NodeConfig,
    client: Client,
    mut state: tokio::sync::watch::Receiver<RuntimeState>,
    stop: CancellationToken,
) {
    let mut renewals = tokio::time::interval(RENEW);
    let mut statuses = tokio::time::interval(STATUS);
    // The first was written at registration.
    statuses.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = renewals.tick() => {
                if let Err(error) = renew(&config, &client).await {
                    tracing::warn!(%error, "cannot renew the node's lease");
                }
            }
            _ = statuses.tick() => report(&config, &client, &state).await,
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
                report(&config, &client, &state).await;
            }
        }
    }
}

async fn report(config: &NodeConfig, client: &Client, state: &tokio::sync::watch::Receiver<RuntimeState>) {
    let runtime = state.borrow().clone();
    if let Err(error) = write_status(config, client, &runtime).await {
        tracing::warn!(%error, "cannot write the node's status");
    }
}

async fn renew(config: &NodeConfig, client: &Client) -> Result<(), Error> {
    let all = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let mut lease = Value::object();
    lease.set_at(&["kind"], "Lease");
    lease.set_at(&["apiVersion"], "coordination.k8s.io/v1");
    lease.set_at(&["metadata", "name"], config.name.as_str());
    lease.set_at(&["metadata", "namespace"], "kube-node-lease");
    lease.set_at(&["spec", "holderIdentity"], config.name.as_str());
    lease.set_at(&["spec", "leaseDurationSeconds"], LEASE_SECONDS);
    lease.set_at(&["spec", "renewTime"], time::micros(Timestamp::now()));
    let path = format!("{all}/{}", config.name);
    match calls::send(client, Method::PATCH, &path, calls::MERGE, &lease).await {
        Err(error) if error.is_not_found() => {
            calls::send(client, Method::POST, all, calls::JSON, &lease).await.map(drop)
        }
        other => other.map(drop),
    }
}
