//! The status of the Node object: written when it changes, and every five minutes.

use crate::calls;
use crate::config::NodeConfig;
use crate::cri::Cri;
use crate::eviction::{Pressure, Short};
use crate::machine::{allocatable, capacity, node_info};
use crate::runtime_state::RuntimeState;
use http::Method;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trireme_client::{Client, Error};
use trireme_cri as cri;
use trireme_schema::{Map, Value, time};

/// The machine is looked at this often.
const LOOK: Duration = Duration::from_secs(10);
/// The status is written at least this often.
const HEARTBEAT: Duration = Duration::from_secs(300);
/// As many images are told of.
const MOST_IMAGES: usize = 50;

fn object<const N: usize>(fields: [(&str, &str); N]) -> Value {
    Value::Object(Map::from_iter(fields))
}

/// What the node may be short of: its condition's reason and message when it is, and when it is not.
const PRESSURES: [(Pressure, [(&str, &str); 2]); 3] = [
    (
        Pressure::Memory,
        [
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ],
    ),
    (
        Pressure::Disk,
        [
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ],
    ),
    (
        Pressure::Pids,
        [
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ],
    ),
];

fn conditions(runtime: &RuntimeState, short: &BTreeSet<Pressure>, old: &Value) -> Value {
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
    for (pressure, [yes, no]) in PRESSURES {
        let (status, (reason, message)) = if short.contains(&pressure) { ("True", yes) } else { ("False", no) };
        condition(pressure.condition(), status, reason, message);
    }
    if runtime.trouble.is_empty() {
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status");
    } else {
        condition("Ready", "False", "KubeletNotReady", &runtime.trouble);
    }
    Value::Array(out)
}

/// The images, the largest first.
fn images(all: &[cri::Image]) -> Value {
    let mut all: Vec<&cri::Image> = all.iter().collect();
    all.sort_by_key(|i| std::cmp::Reverse(i.size));
    let names = |i: &cri::Image| -> Vec<Value> {
        // Upstream tells five names of an image at the most.
        i.repo_digests.iter().chain(&i.repo_tags).take(5).map(|n| n.as_str().into()).collect()
    };
    let told = all.into_iter().take(MOST_IMAGES).map(|i| {
        let mut image = Value::object();
        image.set_at(&["names"], Value::Array(names(i)));
        image.set_at(&["sizeBytes"], i.size as i64);
        image
    });
    Value::Array(told.collect())
}

/// The status of the node; `old` is the object as it was.
pub(crate) fn status(
    config: &NodeConfig,
    runtime: &RuntimeState,
    short: &BTreeSet<Pressure>,
    found: &[cri::Image],
    old: &Value,
) -> Value {
    let mut status = Value::object();
    let ip = config.ip.to_string();
    let addresses = vec![
        object([("type", "InternalIP"), ("address", &ip)]),
        object([("type", "Hostname"), ("address", &config.name)]),
    ];
    status.set_at(&["addresses"], Value::Array(addresses));
    status.set_at(&["capacity"], capacity(config));
    status.set_at(&["allocatable"], allocatable(config));
    status.set_at(&["conditions"], conditions(runtime, short, old));
    status.set_at(&["nodeInfo"], node_info(config, runtime));
    status.set_at(&["daemonEndpoints", "kubeletEndpoint", "Port"], i64::from(config.port));
    status.set_at(&["images"], images(found));
    status
}

/// The status without the times at which it was looked at.
fn timeless(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(conditions) = status.at_mut(&["conditions"]).and_then(Value::as_array_mut) {
        for condition in conditions {
            condition.remove_at(&["lastHeartbeatTime"]);
        }
    }
    status
}

/// Writes the node's status until `stop`.
pub(crate) struct Keeper {
    pub(crate) config: NodeConfig,
    pub(crate) client: Client,
    pub(crate) cri: Cri,
    pub(crate) runtime: watch::Receiver<RuntimeState>,
    pub(crate) short: Short,
}

impl Keeper {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut written: Option<(Value, Instant)> = None;
        loop {
            if let Err(error) = self.write(&mut written).await {
                tracing::warn!(%error, "cannot write the node's status");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.runtime.changed() => if changed.is_err() {
                    return;
                },
                changed = self.short.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Writes the status, if it is another than was written last, or that was long ago.
    async fn write(&mut self, written: &mut Option<(Value, Instant)>) -> Result<(), Error> {
        let runtime = self.runtime.borrow_and_update().clone();
        let short = self.short.borrow_and_update().clone();
        let found = self.cri.images.clone().list_images(cri::ListImagesRequest::default()).await;
        let found = found.map(|answer| answer.into_inner().images).unwrap_or_default();
        let recent = written.as_ref().filter(|(_, at)| at.elapsed() < HEARTBEAT);
        if let Some((last, _)) = recent {
            let mut before = Value::object();
            before.set_at(&["status"], last.clone());
            if timeless(&status(&self.config, &runtime, &short, &found, &before)) == *last {
                return Ok(());
            }
        }
        let path = format!("/api/v1/nodes/{}", self.config.name);
        let old = calls::get(&self.client, &path).await?;
        let status = status(&self.config, &runtime, &short, &found, &old);
        let mut patch = Value::object();
        patch.set_at(&["status"], status.clone());
        calls::send(&self.client, Method::PATCH, &format!("{path}/status"), calls::STRATEGIC, &patch).await?;
        *written = Some((timeless(&status), Instant::now()));
        Ok(())
    }
}
