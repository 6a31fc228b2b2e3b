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

/// The host name that a pod's programs see, short.
pub(crate) fn hostname(pod: &Value) -> String {
    if let Some(own) = pod.at(&["spec", "hostnameOverride"]).and_then(Value::as_str) {
        return own.to_owned();
    }
    let name = match pod.str_at(&["spec", "hostname"]) {
        "" => pod.str_at(&["metadata", "name"]),
        name => name,
    };
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

/// The domain of a pod that has a subdomain.
pub(crate) fn domain(cluster: &str, pod: &Value) -> Option<String> {
    let subdomain = Some(pod.str_at(&["spec", "subdomain"])).filter(|s| !s.is_empty())?;
    Some(format!("{subdomain}.{}.svc.{cluster}", pod.str_at(&["metadata", "namespace"])))
}

/// The host name as the kernel is told it: with its domain, if the pod wants so.
fn kernel_hostname(config: &NodeConfig, pod: &Value) -> Result<String, String> {
    const LONGEST: usize = 64;
    let short = hostname(pod);
    if !pod.bool_at(&["spec", "setHostnameAsFQDN"]) {
        return Ok(short);
    }
    let Some(domain) = domain(&config.cluster_domain, pod) else { return Ok(short) };
    let full = format!("{short}.{domain}");
    match full.len() {
        n if n > LONGEST => Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long ({LONGEST} characters is the max, {n} characters requested)"
        )),
        _ => Ok(full),
    }
}

/// The limits of a pod as a whole (upstream's pod cgroup): the sum of what its containers may take, where all of them
/// are limited, or what is said of the pod.
pub(crate) fn resources(pod: &Value) -> cri::LinuxContainerResources {
    let limited = |name: &str| {
        let all = pod.list_at(&["spec", "containers"]).iter().chain(pod.list_at(&["spec", "initContainers"]));
        pod.at(&["spec", "resources", "limits", name]).is_some()
            || all.clone().all(|c| c.at(&["resources", "limits", name]).is_some())
    };
    let limit = |name: &str| crate::spec::total(pod, "limits", name).filter(|_| limited(name));
    let requests = crate::spec::total(pod, "requests", "cpu").map_or(0, |q| q.milli_value());
    let quota = limit("cpu").map_or(0, |q| (q.milli_value() * 100).max(1000));
    cri::LinuxContainerResources {
        cpu_period: if quota > 0 { 100_000 } else { 0 },
        cpu_quota: quota,
        cpu_shares: crate::container::shares(requests),
        memory_limit_in_bytes: limit("memory").map_or(0, |q| q.value()),
        ..cri::LinuxContainerResources::default()
    }
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
///
/// # Errors
/// When its host name is too long.
pub(crate) fn sandbox(config: &NodeConfig, pod: &Value, attempt: u32) -> Result<cri::PodSandboxConfig, String> {
    let meta = |name| pod.str_at(&["metadata", name]).to_owned();
    let mut labels = texts(pod.at(&["metadata", "labels"]));
    for (key, value) in [(label::POD, meta("name")), (label::NAMESPACE, meta("namespace")), (label::UID, meta("uid"))] {
        labels.insert(key.to_owned(), value);
    }
    let sidecars = pod.list_at(&["spec", "initContainers"]).iter().filter(|c| c.str_at(&["restartPolicy"]) == "Always");
    let ports = pod.list_at(&["spec", "containers"]).iter().chain(sidecars).flat_map(|c| c.list_at(&["ports"]));
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
    let main = pod.list_at(&["spec", "containers"]).iter().chain(pod.list_at(&["spec", "initContainers"]));
    let privileged = main.clone().any(|c| c.bool_at(&["securityContext", "privileged"]));
    Ok(cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: meta("name"),
            uid: meta("uid"),
            namespace: meta("namespace"),
            attempt,
        }),
        hostname: if host_network { config.name.clone() } else { kernel_hostname(config, pod)? },
        log_directory: log_dir(config, pod).display().to_string(),
        dns_config: dns(config, pod),
        port_mappings: if host_network { Vec::new() } else { ports.collect() },
        labels,
        annotations: texts(pod.at(&["metadata", "annotations"])),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: cgroup(config, pod),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(pod)),
                privileged,
                ..cri::LinuxSandboxSecurityContext::default()
            }),
            sysctls: sysctls.map(|s| (s.str_at(&["name"]).to_owned(), s.str_at(&["value"]).to_owned())).collect(),
            resources: Some(resources(pod)),
            ..cri::LinuxPodSandboxConfig::default()
        }),
        windows: None,
    })
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
