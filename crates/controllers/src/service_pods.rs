//! What the pods of a service contribute to its endpoints.

use k8s_openapi::api::core::v1::{ObjectReference, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::view::{Container, Pod};

/// Label of everything that belongs to a headless service.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// A port that a pod offers for a port of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) port: i32,
    pub(crate) protocol: String,
    pub(crate) app_protocol: Option<String>,
}

/// Whether a service has no address of its own.
pub(crate) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The ports of a pod for a service, sorted. A port whose name no container has is left out.
pub(crate) fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let mut found: Vec<Port> = ports
        .filter_map(|port| {
            Some(Port {
                name: port.name.clone().unwrap_or_default(),
                port: number(port, pod)?,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    found.sort();
    found
}

fn number(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let is_sidecar = |container: &&Container| container.restart_policy == "Always";
            let containers = pod.spec.containers.iter().chain(pod.spec.init_containers.iter().filter(is_sidecar));
            containers.flat_map(|container| &container.ports).find_map(|offered| {
                let same = offered.protocol == protocol || offered.protocol.is_empty() && protocol == "TCP";
                (offered.name == *name && same).then_some(offered.container_port)
            })
        }
    }
}

/// The pod's addresses of a family.
pub(crate) fn addresses(pod: &Pod, ipv6: bool) -> Vec<String> {
    let single = (!pod.status.pod_ip.is_empty()).then(|| pod.status.pod_ip.clone());
    let mut all: Vec<String> = pod.status.pod_ips.iter().map(|ip| ip.ip.clone()).collect();
    if all.is_empty() {
        all.extend(single);
    }
    all.retain(|ip| ip.contains(':') == ipv6);
    all
}

/// The host name under which the service's DNS knows the pod.
pub(crate) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let known = !pod.spec.hostname.is_empty() && Some(&pod.spec.subdomain) == service.metadata.name.as_ref();
    known.then(|| pod.spec.hostname.clone())
}

/// A reference to a pod.
pub(crate) fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.metadata.namespace.clone()),
        name: Some(pod.metadata.name.clone()),
        uid: Some(pod.metadata.uid.clone()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_found_by_number_or_by_name_and_protocol() {
        let service: Service = serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": {"ports": [
            {"name": "plain", "port": 80},
            {"name": "number", "port": 81, "targetPort": 8081},
            {"name": "named", "port": 53, "protocol": "UDP", "targetPort": "dns"},
            {"name": "missing", "port": 9, "targetPort": "nothing"},
        ]}}))
        .unwrap();
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"ports": [{"name": "dns", "containerPort": 5353, "protocol": "TCP"}]},
            {"ports": [{"name": "dns", "containerPort": 5354, "protocol": "UDP"}]},
        ]}}))
        .unwrap();
        let found: Vec<_> = ports(&service, &pod).into_iter().map(|port| (port.name, port.port)).collect();
        assert_eq!(found, [("named".to_owned(), 5354), ("number".to_owned(), 8081), ("plain".to_owned(), 80)]);
    }
}
