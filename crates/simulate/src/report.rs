use crate::Histogram;
use crate::calls::Call;
use crate::control_plane::Usage;
use crate::observer::Latencies;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

mod text;

/// How a simulation went. All of it was seen or counted; what was not is absent.
#[derive(Clone, Debug)]
pub struct Report {
    /// How long it took.
    pub time: Duration,
    /// What chance began with.
    pub seed: u64,
    /// Nodes.
    pub nodes: NodeCounts,
    /// Pods.
    pub pods: PodCounts,
    /// How long pods waited.
    pub latencies: Latencies,
    /// Calls of nodes.
    pub calls: BTreeMap<Call, Histogram>,
    /// Watches that nodes opened.
    pub watches: u64,
    /// What the control plane took.
    pub control_plane: Usage,
    /// Our own memory in bytes: in the end, and the most.
    pub memory: Option<(u64, u64)>,
}

/// Numbers of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeCounts {
    /// So many were wanted.
    pub asked: usize,
    /// So many registered.
    pub registered: u64,
    /// So many answered in the end.
    pub ready: u64,
    /// How often one was not heard of for a while.
    pub flaps: u64,
    /// So many were killed.
    pub killed: u64,
    /// So many had pods in the end for which they have no addresses, since they were given no range.
    pub without_addresses: u64,
}

/// Numbers of pods on simulated nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodCounts {
    /// So many were bound to our nodes.
    pub scheduled: u64,
    /// So many started.
    pub started: u64,
    /// So many ended well.
    pub succeeded: u64,
    /// So many failed.
    pub failed: u64,
    /// How often a container was started again.
    pub restarted: u64,
    /// So many were deleted.
    pub deleted: u64,
    /// So many were pending in the end, in the cluster.
    pub pending: u64,
    /// So many ran in the end.
    pub running: u64,
}

const PERCENTILES: [(&str, f64); 3] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0)];

/// To the microsecond: more is not measured.
fn seconds(time: Duration) -> Value {
    let micros = u32::try_from(time.as_micros()).map_or(time.as_secs_f64(), |micros| f64::from(micros) / 1e6);
    micros.into()
}

fn summary(times: &Histogram) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("count".into(), times.count().into());
    for (name, percent) in PERCENTILES {
        if let Some(time) = times.percentile(percent) {
            map.insert(format!("{name}Seconds"), seconds(time));
        }
    }
    if times.count() > 0 {
        map.insert("maxSeconds".into(), seconds(times.most()));
    }
    map
}

fn with_rows(times: &Histogram) -> Value {
    let mut map = summary(times);
    let rows = times.rows().into_iter().map(|row| json!({"upToSeconds": seconds(row.up_to), "count": row.count}));
    map.insert("histogram".into(), rows.collect());
    map.into()
}

impl Report {
    /// As data: times in seconds, memory in bytes.
    pub fn value(&self) -> Value {
        let (nodes, pods, latencies) = (&self.nodes, &self.pods, &self.latencies);
        let call = |(call, times): (&Call, &Histogram)| {
            let mut map = summary(times);
            map.insert("resource".into(), call.resource.into());
            map.insert("verb".into(), call.verb.into());
            if let Some(code) = call.code {
                map.insert("code".into(), code.into());
            }
            Value::from(map)
        };
        let mut value = json!({
            "seconds": seconds(self.time),
            "seed": self.seed,
            "nodes": {
                "asked": nodes.asked, "registered": nodes.registered, "ready": nodes.ready, "flaps": nodes.flaps,
                "killed": nodes.killed, "withoutAddresses": nodes.without_addresses,
            },
            "pods": {
                "scheduled": pods.scheduled, "started": pods.started, "succeeded": pods.succeeded,
                "failed": pods.failed, "restarted": pods.restarted, "deleted": pods.deleted,
                "pending": pods.pending, "running": pods.running,
            },
            "latencies": {
                "createdToBound": with_rows(&latencies.created_to_bound),
                "boundToRunning": with_rows(&latencies.bound_to_running),
                "createdToRunning": with_rows(&latencies.created_to_running),
            },
            "calls": self.calls.iter().map(call).collect::<Vec<_>>(),
            "watches": self.watches,
        });
        let mut control_plane = Map::new();
        if let Some(memory) = self.control_plane.memory {
            let range = json!({"first": memory.first, "last": memory.last, "max": memory.most});
            control_plane.insert("memoryBytes".into(), range);
        }
        if let Some((cpu, time)) = self.control_plane.cpu {
            control_plane.insert("cpuSeconds".into(), cpu.into());
            control_plane.insert("cpuMeasuredSeconds".into(), seconds(time));
        }
        if !control_plane.is_empty() {
            value["controlPlane"] = control_plane.into();
        }
        if let Some((now, most)) = self.memory {
            value["self"] = json!({"memoryBytes": {"last": now, "max": most}});
        }
        value
    }
}

#[cfg(test)]
pub(crate) fn example() -> Report {
    let mut times = Histogram::default();
    [20, 40, 80, 2000].into_iter().for_each(|millis| times.add(Duration::from_millis(millis)));
    let call = |code| Call { resource: "leases", verb: "patch", code };
    Report {
        time: Duration::from_secs(123),
        seed: 1,
        nodes: NodeCounts { asked: 5, registered: 5, ready: 4, flaps: 2, killed: 1, without_addresses: 0 },
        pods: PodCounts {
            scheduled: 4,
            started: 4,
            succeeded: 1,
            failed: 0,
            restarted: 3,
            deleted: 0,
            pending: 0,
            running: 3,
        },
        latencies: Latencies { created_to_bound: times.clone(), ..Latencies::default() },
        calls: [(call(Some(200)), times.clone()), (call(None), times)].into(),
        watches: 5,
        control_plane: Usage { memory: None, cpu: Some((12.0, Duration::from_secs(120))) },
        memory: Some((50_000_000, 60_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_seen_is_absent() {
        let value = example().value();
        assert_eq!(value["latencies"]["createdToBound"]["count"], 4);
        assert_eq!(value["latencies"]["createdToBound"]["maxSeconds"], 2.0);
        assert_eq!(value["latencies"]["boundToRunning"]["count"], 0);
        assert!(value["latencies"]["boundToRunning"].get("p50Seconds").is_none());
        assert!(value["controlPlane"].get("memoryBytes").is_none());
        assert_eq!(value["controlPlane"]["cpuSeconds"], 12.0);
        assert!(value["calls"][0].get("code").is_none(), "no answer came");
        assert_eq!(value["calls"][1]["code"], 200);
    }
}
