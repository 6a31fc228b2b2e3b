//! A pod as CRI's sandbox.

use crate::config::NodeConfig;
use crate::cri::label;
use std::collections::HashMap;
use std::path::PathBuf;
use trireme_cri as cri;
use trireme_schema::{Map, Value};

/// Where a pod's logs lie.
pub(crate) fn log_dir(config: &NodeConfig, pod: &Value) -> PathBuf {
    let meta = |name| pod.str_at(&["metadata", name]);
    config.root.join("logs").join(format!("{}_{}_{}", meta("namespace"), meta("name"), meta("uid")))
}

/// The group of a pod: below that of its class.
pub(crate) fn cgroup(config: &NodeConfig, pod: &Value) -> String {
    let class = match pod.str_at(&["status", "qosClass"]) {
        "Guaranteed" => String::new(),
        "Burstable" => "/burstable".to_owned(),
        _ => "/besteffort".to_owned(),
    };
    format!("/{}{class}/pod{}", config.cgroup, pod.str_at(&["metadata", "uid"]))
}

/// Texts of a map of texts.
pub(crate) fn texts(value: Option<&Value>) -> HashMap<String, String> {
    let map = value.and_then(Value::as_object).into_iter().flat_map(Map::iter);
    map.filter_map(|(k, v)| Some((k.to_string(), v.as_str()?.to_owned()))).collect()
}

/// The host name that a pod's programs see.
pub(crate) fn hostname(pod: &Value) -> String {
    let name = match pod.str_at(&["spec", "hostname"]) {
        "" => pod.str_at(&["metadata", "name"]),
        name => name,
    };
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

/// Namespaces as the pod asks for them.
pub(crate) fn namespaces(pod: &Value) -> cri::NamespaceOption {
    let mode = |own: cri::NamespaceMode, host: &str| {
        if pod.bool_at(&["spec", host]) { cri::NamespaceMode::Node as i32 } else { own as i32 }
    };
    let shared = pod.bool_at(&["spec", "shareProcessNamespace"]);
    let pid = if shared { cri::NamespaceMode::Pod } else { cri::NamespaceMode::Container };
    cri::NamespaceOption {
        network: mode(cri::NamespaceMode::Pod, "hostNetwork"),
        ipc: mode(cri::NamespaceMode::Pod, "hostIPC"),
        pid: mode(pid, "hostPID"),
        ..cri::NamespaceOption::default()
    }
}

/// The sandbox of a pod; `attempt` counts those that were before.
pub(crate) fn sandbox(config: &NodeConfig, pod: &Value, attempt: u32) -> cri::PodSandboxConfig {
    let meta = |name| pod.str_at(&["metadata", name]).to_owned();
    let mut labels = texts(pod.at(&["metadata", "labels"]));
    for (key, value) in [(label::POD, meta("name")), (label::NAMESPACE, meta("namespace")), (label::UID, meta("uid"))] {
        labels.insert(key.to_owned(), value);
    }
    let ports = pod.list_at(&["spec", "containers"]).iter().flat_map(|c| c.list_at(&["ports"]));
    let ports = ports.filter(|p| p.int_at(&["hostPort"]).is_some_and(|n| n > 0)).map(|p| cri::PortMapping {
        protocol: match p.str_at(&["protocol"]) {
            "UDP" => cri::Protocol::Udp as i32,
            "SCTP" => cri::Protocol::Sctp as i32,
            _ => cri::Protocol::Tcp as i32,
        },
        container_port: p.int_at(&["containerPort"]).unwrap_or_default() as i32,
        host_port: p.int_at(&["hostPort"]).unwrap_or_default() as i32,
        host_ip: p.str_at(&["hostIP"]).to_owned(),
    });
    let host_network = pod.bool_at(&["spec", "hostNetwork"]);
    let sysctls = pod.list_at(&["spec", "securityContext", "sysctls"]).iter();
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: meta("name"),
            uid: meta("uid"),
            namespace: meta("namespace"),
            attempt,
        }),
        hostname: if host_network { config.name.clone() } else { hostname(pod) },
        log_directory: log_dir(config, pod).display().to_string(),
        dns_config: dns(config, pod),
        port_mappings: if host_network { Vec::new() } else { ports.collect() },
        labels,
        annotations: texts(pod.at(&["metadata", "annotations"])),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: cgroup(config, pod),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(pod)),
                privileged: false,
                ..cri::LinuxSandboxSecurityContext::default()
            }),
            sysctls: sysctls.map(|s| (s.str_at(&["name"]).to_owned(), s.str_at(&["value"]).to_owned())).collect(),
            ..cri::LinuxPodSandboxConfig::default()
        }),
        windows: None,
    }
}

/// The resolver configuration of a pod, by its DNS policy.
fn dns(config: &NodeConfig, pod: &Value) -> Option<cri::DnsConfig> {
    let host = || {
        let text = std::fs::read_to_string(&config.resolv_conf).unwrap_or_default();
        let mut dns = cri::DnsConfig::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
                Some("search") => dns.searches = words.map(str::to_owned).collect(),
                Some("options") => dns.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        dns
    };
    let policy = pod.str_at(&["spec", "dnsPolicy"]);
    let host_network = pod.bool_at(&["spec", "hostNetwork"]);
    let cluster = policy == "ClusterFirstWithHostNet" || (policy == "ClusterFirst" && !host_network);
    let mut dns = if policy == "None" {
        cri::DnsConfig::default()
    } else if cluster && !config.cluster_dns.is_empty() {
        let (domain, namespace) = (&config.cluster_domain, pod.str_at(&["metadata", "namespace"]));
        let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        searches.extend(host().searches);
        cri::DnsConfig {
            servers: config.cluster_dns.iter().map(ToString::to_string).collect(),
            searches,
            options: vec!["ndots:5".to_owned()],
        }
    } else {
        host()
    };
    if let Some(own) = pod.at(&["spec", "dnsConfig"]) {
        let add = |list: &mut Vec<String>, more: &[Value]| {
            for text in more.iter().filter_map(Value::as_str) {
                if !list.iter().any(|have| have == text) {
                    list.push(text.to_owned());
                }
            }
        };
        add(&mut dns.servers, own.list_at(&["nameservers"]));
        add(&mut dns.searches, own.list_at(&["searches"]));
        for option in own.list_at(&["options"]) {
            let name = option.str_at(&["name"]);
            dns.options.retain(|have| have.split(':').next() != Some(name));
            dns.options.push(match option.str_at(&["value"]) {
                "" => name.to_owned(),
                value => format!("{name}:{value}"),
            });
        }
    }
    Some(dns)
}
