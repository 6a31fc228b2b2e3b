//! The objects that a node writes about itself.

use crate::options::Options;
use crate::status::RUNTIME;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::net::{IpAddr, Ipv4Addr};
use trireme_schema::time;

/// Says of a node that there is no machine.
pub(crate) const LABEL: &str = "trireme.dev/simulated";
/// As real nodes have it.
const LEASE_SECONDS: u64 = 40;

/// A node's address: of the range for measurements, which nobody routes (RFC 2544).
pub(crate) fn address(index: usize) -> IpAddr {
    let first = Ipv4Addr::new(198, 18, 0, 1).to_bits();
    Ipv4Addr::from_bits(first.wrapping_add(u32::try_from(index).unwrap_or(u32::MAX))).into()
}

fn labels(options: &Options, index: usize) -> Map<String, Value> {
    let name = options.name(index);
    let arch = trireme_node::arch();
    let mut labels = Map::new();
    let mut add = |key: &str, value: &str| drop(labels.insert(key.to_owned(), value.into()));
    for (key, value) in [
        ("kubernetes.io/hostname", name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
        (LABEL, "true"),
    ] {
        add(key, value);
    }
    if let Some(zone) = options.zone(index) {
        add("topology.kubernetes.io/zone", &zone.name);
        if let Some(region) = &zone.region {
            add("topology.kubernetes.io/region", region);
        }
    }
    options.labels.iter().for_each(|(key, value)| add(key, value));
    labels
}

/// The node as it registers.
pub(crate) fn node(options: &Options, index: usize, now: Timestamp) -> Value {
    let taint = |(key, value, effect): &(String, String, String)| json!({"key": key, "value": value, "effect": effect});
    let mut node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": options.name(index), "labels": labels(options, index)},
        "status": status(options, index, now, now),
    });
    if !options.taints.is_empty() {
        node["spec"] = json!({"taints": options.taints.iter().map(taint).collect::<Vec<_>>()});
    }
    node
}

/// What is written over a node of this name that is there already.
pub(crate) fn relabelled(options: &Options, index: usize) -> Value {
    json!({"metadata": {"labels": labels(options, index)}})
}

/// A node's status, whose conditions have been as they are since a time.
pub(crate) fn status(options: &Options, index: usize, since: Timestamp, now: Timestamp) -> Value {
    let (since, now) = (time::seconds(since), time::seconds(now));
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
               "lastHeartbeatTime": now, "lastTransitionTime": since})
    };
    let size = &options.size;
    let has = json!({
        "cpu": size.cpu, "memory": size.memory, "ephemeral-storage": size.storage, "pods": size.pods.to_string(),
    });
    json!({
        "addresses": [
            {"type": "InternalIP", "address": address(index).to_string()},
            {"type": "Hostname", "address": options.name(index)},
        ],
        "capacity": has,
        "allocatable": has,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ],
        "nodeInfo": {
            "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": RUNTIME, "osImage": RUNTIME,
            "containerRuntimeVersion": format!("{RUNTIME}://{}", options.version),
            "kubeletVersion": format!("{}+trireme{}", options.kubernetes, options.version),
            "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": trireme_node::arch(),
        },
    })
}

fn lease_spec(name: &str, now: Timestamp) -> Value {
    json!({"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": time::micros(now)})
}

/// What renews a node's lease.
pub(crate) fn renewal(name: &str, now: Timestamp) -> Value {
    json!({"spec": lease_spec(name, now)})
}

/// A node's lease, which goes with its node.
pub(crate) fn lease(name: &str, uid: &str, now: Timestamp) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": "kube-node-lease",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}],
        },
        "spec": lease_spec(name, now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options;

    #[test]
    fn a_node_says_that_it_is_simulated_and_where_it_is() {
        let mut options = options::some(20);
        options.taints.push(("k".into(), "v".into(), "NoSchedule".into()));
        let node = node(&options, 2, Timestamp::UNIX_EPOCH);
        let labels = &node["metadata"]["labels"];
        assert_eq!(node["metadata"]["name"], "s-02");
        assert_eq!(labels[LABEL], "true");
        assert_eq!(labels["topology.kubernetes.io/zone"], "a");
        assert_eq!(labels["topology.kubernetes.io/region"], "eu");
        assert_eq!(labels["x"], "y");
        assert_eq!(node["spec"]["taints"][0]["effect"], "NoSchedule");
        assert_eq!(node["status"]["nodeInfo"]["containerRuntimeVersion"], "simulated://1.2.3");
        assert_eq!(node["status"]["addresses"][0]["address"], "198.18.0.3");
        assert_eq!(node["status"]["allocatable"]["pods"], "110");
    }

    #[test]
    fn addresses_of_nodes_differ() {
        assert_eq!(address(0).to_string(), "198.18.0.1");
        assert_eq!(address(5000).to_string(), "198.18.19.137");
    }
}
