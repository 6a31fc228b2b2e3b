use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use trireme_client::Key;

use crate::resources::BadQuantity;
use crate::view;
use crate::{NodeInfo, Resources};

/// What scheduling keeps of a pod.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// Namespace and name.
    pub key: Key,
    /// Unique id.
    pub uid: Box<str>,
    /// Resource version, for events.
    pub resource_version: Box<str>,
    /// Priority.
    pub priority: i32,
    /// What the pod takes of a node.
    pub requests: Resources,
    /// Ports that the pod takes of a node.
    pub host_ports: Vec<HostPort>,
    /// Labels, for the affinity and spreading of other pods.
    pub labels: BTreeMap<String, String>,
    /// What the pod asks of nodes; absent for most pods.
    pub wishes: Option<Box<Wishes>>,
    /// Tolerated taints.
    pub tolerations: Vec<Toleration>,
    /// Images that the pod runs.
    pub images: Vec<Box<str>>,
    /// Names of the scheduling gates that hold the pod back.
    pub gates: Vec<String>,
}

/// What a pod asks of nodes.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Labels that the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Affinities.
    pub affinity: Affinity,
    /// Spreading over domains.
    pub spread: Vec<TopologySpreadConstraint>,
}

/// A port on a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Address, empty for all addresses.
    pub ip: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// Port.
    pub port: u16,
}

impl HostPort {
    /// Whether both cannot be had at once: same protocol and port, and the same address or one of all addresses.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

impl PodInfo {
    /// Reads a pod.
    pub fn read(pod: view::Pod) -> Result<Self, BadQuantity> {
        let requests = requests(&pod.spec)?;
        let spec = pod.spec;
        let host_ports = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().filter(|container| is_sidecar(container)))
            .flat_map(|container| &container.ports)
            .filter(|port| port.host_port != 0)
            .map(|port| HostPort {
                ip: port.host_ip.as_str().into(),
                protocol: if port.protocol.is_empty() { "TCP".into() } else { port.protocol.as_str().into() },
                port: port.host_port,
            })
            .collect();
        let asks =
            !spec.node_selector.is_empty() || spec.affinity.is_some() || !spec.topology_spread_constraints.is_empty();
        Ok(Self {
            key: Key::new(&pod.metadata.namespace, &pod.metadata.name),
            uid: pod.metadata.uid.into(),
            resource_version: pod.metadata.resource_version.into(),
            priority: spec.priority.unwrap_or(0),
            requests,
            host_ports,
            labels: pod.metadata.labels,
            wishes: asks.then(|| {
                Box::new(Wishes {
                    node_selector: spec.node_selector,
                    affinity: spec.affinity.unwrap_or_default(),
                    spread: spec.topology_spread_constraints,
                })
            }),
            tolerations: spec.tolerations,
            images: spec.containers.into_iter().chain(spec.init_containers).map(|c| c.image.into()).collect(),
            gates: spec.scheduling_gates.into_iter().map(|gate| gate.name).collect(),
        })
    }

    /// Whether the pod tolerates a taint.
    pub fn tolerates(&self, taint: &crate::Taint) -> bool {
        self.tolerations.iter().any(|toleration| tolerates(toleration, taint))
    }

    /// Whether the pod's node selector and required node affinity accept a node.
    pub fn selects(&self, node: &NodeInfo) -> bool {
        let Some(wishes) = &self.wishes else { return true };
        if !wishes.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value)) {
            return false;
        }
        let required = wishes
            .affinity
            .node_affinity
            .as_ref()
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        required.is_none_or(|required| {
            required.node_selector_terms.iter().any(|term| crate::plugins::node_affinity::term_matches(term, node))
        })
    }
}

fn is_sidecar(container: &view::Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What a pod takes of a node: the larger of what its containers take together and of what any init container takes
/// while the sidecars before it run (KEP-753), the pod's own figures where it names any (KEP-2837), and the overhead.
fn requests(spec: &view::PodSpec) -> Result<Resources, BadQuantity> {
    let mut sidecars = Resources::default();
    let mut init_peak = Resources::default();
    for container in &spec.init_containers {
        let mut own = Resources::read(&container.resources.requests)?;
        if is_sidecar(container) {
            sidecars.add(&own);
            init_peak.raise(&sidecars);
        } else {
            own.add(&sidecars);
            init_peak.raise(&own);
        }
    }
    let mut total = sidecars;
    for container in &spec.containers {
        total.add(&Resources::read(&container.resources.requests)?);
    }
    total.raise(&init_peak);
    if let Some(pod) = &spec.resources {
        total.replace(&Resources::read(&pod.requests)?);
    }
    total.add(&Resources::read(&spec.overhead)?);
    total.pods = 1;
    Ok(total)
}

fn tolerates(toleration: &Toleration, taint: &crate::Taint) -> bool {
    let text = |text: &Option<String>| text.as_deref().unwrap_or("").to_owned();
    let (effect, key, value) = (text(&toleration.effect), text(&toleration.key), text(&toleration.value));
    if !effect.is_empty() && effect != *taint.effect || !key.is_empty() && key != *taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("") {
        "" | "Equal" => !key.is_empty() && value == *taint.value,
        "Exists" => true,
        // KEP-5471: numeric comparison of the taint's value with the toleration's.
        "Lt" | "Gt" => match (taint.value.parse::<i64>(), value.parse::<i64>()) {
            (Ok(taint), Ok(bound)) if toleration.operator.as_deref() == Some("Lt") => taint < bound,
            (Ok(taint), Ok(bound)) => taint > bound,
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> PodInfo {
        let pod = json!({"metadata": {"name": "a", "namespace": "n", "uid": "u"}, "spec": spec});
        PodInfo::read(serde_json::from_value(pod).unwrap()).unwrap()
    }

    #[test]
    fn requests_are_the_peak_of_the_pods_life() {
        let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
        let spec = json!({
            "containers": [{"resources": cpu("100m")}, {"resources": cpu("200m")}],
            "initContainers": [
                {"resources": cpu("50m"), "restartPolicy": "Always"},
                {"resources": cpu("600m")},
            ],
            "overhead": {"cpu": "10m"},
        });
        assert_eq!(pod(spec.clone()).requests.milli_cpu, 660);
        let mut with_pod = spec;
        with_pod["resources"] = cpu("1");
        assert_eq!(pod(with_pod).requests.milli_cpu, 1_010);
    }

    #[test]
    fn host_ports_conflict_on_the_same_or_on_all_addresses() {
        let port = |ip: &str, protocol: &str| HostPort { ip: ip.into(), protocol: protocol.into(), port: 80 };
        assert!(port("", "TCP").conflicts(&port("10.0.0.1", "TCP")));
        assert!(!port("10.0.0.2", "TCP").conflicts(&port("10.0.0.1", "TCP")));
        assert!(!port("", "UDP").conflicts(&port("", "TCP")));
    }

    #[test]
    fn tolerations_match_as_the_api_says() {
        let taint = crate::Taint { key: "k".into(), value: "v".into(), effect: "NoSchedule".into() };
        let tolerated = |toleration| pod(json!({"tolerations": [toleration]})).tolerates(&taint);
        assert!(tolerated(json!({"operator": "Exists"})));
        assert!(tolerated(json!({"key": "k", "value": "v"})));
        assert!(tolerated(json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"})));
        assert!(!tolerated(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"})));
        assert!(!tolerated(json!({"key": "k", "value": "w"})));
    }
}
