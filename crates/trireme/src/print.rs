//! Commands that print what is known.

use crate::Failure;
use crate::cli::{Common, ConfigCommand, Output};
use crate::control_plane::KUBECONFIG;
use crate::instance::Instance;
use crate::version;
use std::io::Write;
use trireme_schema::{Map, Value, json, yaml};

/// Writes to standard output; a reader that went away is no failure.
pub fn text(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a value as JSON or YAML.
///
/// # Errors
/// When standard output cannot be written.
pub fn show(value: &Value, output: Output) -> Result<(), Failure> {
    match output {
        Output::Json => text(&format!("{}\n", json::to_string(value))),
        Output::Text | Output::Yaml => {
            let mut written = String::new();
            yaml::write(value, &mut written);
            text(&written)
        }
    }
}

/// The administrator's kubeconfig.
pub fn kubeconfig(common: &Common) -> Result<(), Failure> {
    let path = Instance::existing(&common.data_dir)?.path(KUBECONFIG);
    let found = std::fs::read_to_string(&path)
        .map_err(|e| format!("cannot read {}: {e}; has `trireme up` run?", path.display()))?;
    text(&found)
}

/// The version.
pub fn version(output: Output) -> Result<(), Failure> {
    if output == Output::Text {
        return text(&format!("trireme {}\n", version::TEXT));
    }
    let map = Map::from_iter([("trireme", version::TRIREME), ("kubernetes", version::KUBERNETES)]);
    show(&Value::Object(map), output)
}

/// What file, environment and flags add up to.
pub fn config(common: &Common, command: &ConfigCommand) -> Result<(), Failure> {
    let (server, node) = (&command.server, &command.server.node);
    let mut map = Map::new();
    let texts = [
        ("data-dir", common.data_dir.display().to_string()),
        ("log-level", common.log_level.clone()),
        ("bind-address", server.bind_address.to_string()),
        ("cluster-cidr", server.cluster_cidr.to_string()),
        ("service-cidr", server.service_cidr.to_string()),
        ("service-node-port-range", server.service_node_port_range.to_string()),
        ("cluster-domain", server.cluster_domain.clone()),
        ("private-registry", node.private_registry.display().to_string()),
        ("resolv-conf", node.resolv_conf.display().to_string()),
        ("eviction-hard", node.eviction_hard.to_string()),
    ];
    texts.into_iter().for_each(|(key, text)| drop(map.insert(key, text)));
    let numbers = [
        ("https-listen-port", i64::from(server.https_listen_port)),
        ("kubelet-port", i64::from(node.kubelet_port)),
        ("max-pods", i64::from(node.max_pods)),
    ];
    numbers.into_iter().for_each(|(key, n)| drop(map.insert(key, n)));
    let optional = [
        ("advertise-address", server.advertise_address.map(|a| a.to_string())),
        ("cluster-dns", server.cluster_dns.or_else(|| server.service_cidr.nth(10)).map(|a| a.to_string())),
        ("write-kubeconfig", server.write_kubeconfig.as_ref().map(|p| p.display().to_string())),
        ("node-name", Some(node.node_name.clone().unwrap_or_else(crate::address::host_name))),
        ("node-ip", node.node_ip.map(|a| a.to_string())),
        ("container-runtime-endpoint", node.container_runtime_endpoint.clone()),
        ("cni-conf-dir", node.cni_conf_dir.as_ref().map(|d| d.display().to_string())),
    ];
    for (key, text) in optional {
        if let Some(text) = text {
            map.insert(key, text);
        }
    }
    let lists = [
        ("tls-san", &server.tls_san),
        ("disable", &server.disable),
        ("node-label", &node.node_label),
        ("node-taint", &node.node_taint),
    ];
    for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        map.insert(key, list.clone());
    }
    show(&Value::Object(map), command.output)
}
