//! Services and their endpoints, in the words of proxy and DNS.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use trireme_network::{
    DnsEndpoint, DnsPort, DnsRecords, DnsService, DnsTarget, Endpoint, Protocol, ProxyState, ServicePort, TrafficPolicy,
};
use trireme_schema::Value;

/// What proxy and DNS are made of.
#[derive(Default)]
pub struct Objects {
    /// Services.
    pub services: Vec<Value>,
    /// Endpoint slices.
    pub slices: Vec<Value>,
    /// Names of namespaces.
    pub namespaces: BTreeSet<String>,
}

fn protocol(port: &Value) -> Protocol {
    match port.str_at(&["protocol"]) {
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

fn number(value: &Value, field: &str) -> Option<u16> {
    value.int_at(&[field]).and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0)
}

fn addresses(list: &[Value]) -> Vec<IpAddr> {
    list.iter().filter_map(|a| a.as_str()?.parse().ok()).collect()
}

fn policy(text: &str) -> TrafficPolicy {
    if text == "Local" { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

/// Slices by namespace and service.
fn by_service(slices: &[Value]) -> BTreeMap<(String, String), Vec<&Value>> {
    let mut out: BTreeMap<(String, String), Vec<&Value>> = BTreeMap::new();
    for slice in slices {
        let service = slice.str_at(&["metadata", "labels", "kubernetes.io/service-name"]);
        let namespace = slice.str_at(&["metadata", "namespace"]);
        out.entry((namespace.to_owned(), service.to_owned())).or_default().push(slice);
    }
    out
}

/// Endpoints of a service's port: slices name ports as the service does.
fn endpoints(slices: &[&Value], port: &str, node: &str) -> Vec<Endpoint> {
    let mut out = Vec::new();
    for slice in slices {
        let Some(port) = slice.list_at(&["ports"]).iter().find(|p| p.str_at(&["name"]) == port) else { continue };
        let Some(port) = number(port, "port") else { continue };
        for endpoint in slice.list_at(&["endpoints"]) {
            let condition = |name: &str| endpoint.at(&["conditions", name]).and_then(Value::as_bool);
            let ready = condition("ready").unwrap_or(true);
            let names = |list: &str| -> Vec<String> {
                let hints = endpoint.list_at(&["hints", list]).iter();
                hints.map(|h| h.str_at(&["name"]).to_owned()).collect()
            };
            for ip in addresses(endpoint.list_at(&["addresses"])) {
                out.push(Endpoint {
                    ip,
                    port,
                    ready,
                    serving: condition("serving").unwrap_or(ready),
                    terminating: condition("terminating").unwrap_or(false),
                    local: endpoint.str_at(&["nodeName"]) == node,
                    zones: names("forZones"),
                    nodes: names("forNodes"),
                });
            }
        }
    }
    out
}

/// What the proxy is to do. `dns` is the cluster's DNS address and where it is answered on this node.
pub fn proxy_state(objects: &Objects, node: &str, dns: Option<(IpAddr, &[IpAddr])>) -> ProxyState {
    let slices = by_service(&objects.slices);
    let mut ports = Vec::new();
    for service in &objects.services {
        let (namespace, name) = (service.str_at(&["metadata", "namespace"]), service.str_at(&["metadata", "name"]));
        let kind = service.str_at(&["spec", "type"]);
        let cluster_ips = addresses(service.list_at(&["spec", "clusterIPs"]));
        if kind == "ExternalName" || cluster_ips.is_empty() {
            continue;
        }
        let own = slices.get(&(namespace.to_owned(), name.to_owned())).map(Vec::as_slice).unwrap_or_default();
        let affinity = (service.str_at(&["spec", "sessionAffinity"]) == "ClientIP").then(|| {
            let seconds = service.int_at(&["spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"]);
            Duration::from_secs(seconds.unwrap_or(10_800).max(1) as u64)
        });
        let ingress = service.list_at(&["status", "loadBalancer", "ingress"]);
        for port in service.list_at(&["spec", "ports"]) {
            let Some(port_number) = number(port, "port") else { continue };
            let label = port.str_at(&["name"]);
            let mut endpoints = endpoints(own, label, node);
            if let Some((address, here)) = dns
                && cluster_ips.contains(&address)
            {
                endpoints = here.iter().map(|ip| Endpoint::ready(*ip, 53).on_this_node()).collect();
            }
            let ranges = service.list_at(&["spec", "loadBalancerSourceRanges"]).iter();
            ports.push(ServicePort {
                cluster_ips: cluster_ips.clone(),
                node_port: number(port, "nodePort"),
                external_ips: addresses(service.list_at(&["spec", "externalIPs"])),
                load_balancer_ips: ingress.iter().filter_map(|i| i.str_at(&["ip"]).parse().ok()).collect(),
                load_balancer_source_ranges: ranges.filter_map(|r| r.as_str()?.parse().ok()).collect(),
                affinity,
                internal_policy: policy(service.str_at(&["spec", "internalTrafficPolicy"])),
                external_policy: policy(service.str_at(&["spec", "externalTrafficPolicy"])),
                health_check_node_port: service
                    .int_at(&["spec", "healthCheckNodePort"])
                    .and_then(|n| u16::try_from(n).ok())
                    .filter(|n| *n != 0),
                endpoints,
                ..ServicePort::new(&format!("{namespace}/{name}"), label, protocol(port), port_number)
            });
        }
    }
    ProxyState { ports }
}

/// What DNS is to answer.
pub fn dns_records(objects: &Objects) -> DnsRecords {
    let slices = by_service(&objects.slices);
    let mut services = Vec::new();
    for service in &objects.services {
        let (namespace, name) = (service.str_at(&["metadata", "namespace"]), service.str_at(&["metadata", "name"]));
        let external = service.str_at(&["spec", "type"]) == "ExternalName";
        let cluster_ips = addresses(service.list_at(&["spec", "clusterIPs"]));
        let target = if external {
            DnsTarget::External(service.str_at(&["spec", "externalName"]).to_owned())
        } else if cluster_ips.is_empty() {
            DnsTarget::Headless
        } else {
            DnsTarget::ClusterIps(cluster_ips)
        };
        let port = |p: &Value, n: u16| DnsPort { name: p.str_at(&["name"]).to_owned(), protocol: protocol(p), port: n };
        let ports = service.list_at(&["spec", "ports"]).iter().filter_map(|p| Some(port(p, number(p, "port")?)));
        let all = service.bool_at(&["spec", "publishNotReadyAddresses"]);
        let mut endpoints = Vec::new();
        for slice in slices.get(&(namespace.to_owned(), name.to_owned())).into_iter().flatten() {
            let ports: Vec<DnsPort> =
                slice.list_at(&["ports"]).iter().filter_map(|p| Some(port(p, number(p, "port")?))).collect();
            for endpoint in slice.list_at(&["endpoints"]) {
                let ready = endpoint.at(&["conditions", "ready"]).and_then(Value::as_bool).unwrap_or(true);
                if !ready && !all {
                    continue;
                }
                let hostname = Some(endpoint.str_at(&["hostname"]).to_owned()).filter(|h| !h.is_empty());
                for ip in addresses(endpoint.list_at(&["addresses"])) {
                    endpoints.push(DnsEndpoint { ip, hostname: hostname.clone(), ports: ports.clone() });
                }
            }
        }
        services.push(DnsService {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            target,
            ports: ports.collect(),
            endpoints,
        });
    }
    DnsRecords { namespaces: objects.namespaces.clone(), services }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    fn read(text: &str) -> Value {
        json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_service_meets_its_endpoints_by_port_name() {
        let service = read(
            r#"{"metadata":{"namespace":"n","name":"s"},"spec":{"type":"ClusterIP","clusterIPs":["10.0.0.1"],"ports":[{"name":"http","port":80,"protocol":"TCP"}]}}"#,
        );
        let slice = read(
            r#"{"metadata":{"namespace":"n","labels":{"kubernetes.io/service-name":"s"}},"ports":[{"name":"http","port":8080}],"endpoints":[{"addresses":["10.1.0.1"],"nodeName":"here"},{"addresses":["10.1.0.2"],"conditions":{"ready":false}}]}"#,
        );
        let objects = Objects { services: vec![service], slices: vec![slice], namespaces: BTreeSet::new() };
        let state = proxy_state(&objects, "here", None);
        let [port] = &state.ports[..] else { panic!("one port") };
        assert_eq!((port.port, port.endpoints.len()), (80, 2));
        assert!(port.endpoints[0].local && port.endpoints[0].ready && !port.endpoints[1].ready);
        let records = dns_records(&objects);
        assert_eq!(records.services[0].endpoints.len(), 1);
    }
}
