//! The hosts file of a pod.

use super::pod_dir;
use crate::config::NodeConfig;
use std::fs;
use std::path::PathBuf;
use trireme_schema::Value;

const MANAGED: &str = "# Kubernetes-managed hosts file.\n";
const MANAGED_HOST: &str = "# Kubernetes-managed hosts file (host network).\n";
const LOCAL: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

/// Writes the pod's hosts file, and gives its path.
pub(crate) fn hosts(config: &NodeConfig, pod: &Value, ips: &[String]) -> std::io::Result<PathBuf> {
    let dir = pod_dir(config, pod.str_at(&["metadata", "uid"]));
    fs::create_dir_all(&dir)?;
    let path = dir.join("etc-hosts");
    let host = if pod.bool_at(&["spec", "hostNetwork"]) { fs::read_to_string("/etc/hosts").ok() } else { None };
    fs::write(&path, text(&config.cluster_domain, pod, ips, host))?;
    Ok(path)
}

fn text(domain: &str, pod: &Value, ips: &[String], host: Option<String>) -> String {
    let mut text = match host {
        Some(host) => format!("{MANAGED_HOST}{host}"),
        None => {
            let name = crate::sandbox::hostname(pod);
            let full = crate::sandbox::domain(domain, pod).map(|d| format!("{name}.{d}\t")).unwrap_or_default();
            let own = ips.iter().map(|ip| format!("{ip}\t{full}{name}\n"));
            format!("{MANAGED}{LOCAL}{}", own.collect::<String>())
        }
    };
    let aliases = pod.list_at(&["spec", "hostAliases"]);
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names: Vec<&str> = alias.list_at(&["hostnames"]).iter().filter_map(Value::as_str).collect();
        text.push_str(&format!("{}\t{}\n", alias.str_at(&["ip"]), names.join("\t")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn the_pod_and_its_aliases_are_in_it() {
        let pod = br#"{"metadata":{"name":"p","namespace":"n"},"spec":{"hostname":"h","subdomain":"s",
            "hostAliases":[{"ip":"1.2.3.4","hostnames":["a","b"]}]}}"#;
        let text = text("cluster.local", &json::parse(pod).unwrap(), &["10.0.0.1".to_owned()], None);
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        let end = "10.0.0.1\th.s.n.svc.cluster.local\th\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n";
        assert!(text.ends_with(end), "{text}");
    }
}
