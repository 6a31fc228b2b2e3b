//! External CNI with the reference plugins (Debian's `containernetworking-plugins`).

#![allow(clippy::print_stderr, clippy::unwrap_used)]

mod lab;

use std::path::{Path, PathBuf};

use lab::{Namespace, can_run, new_instance};
use trireme_network::{
    CniError, Error, ExternalConfig, HostPort, Network, NetworkConfig, PodAttach, Protocol, Provider,
};

const PLUGINS: &str = "/usr/lib/cni";

fn has_plugins() -> bool {
    let there = Path::new(PLUGINS).join("bridge").exists();
    if !there {
        eprintln!("skipped: needs CNI plugins in {PLUGINS}");
    }
    there && can_run()
}

fn conflist(folder: &Path, version: &str) -> serde_json::Value {
    serde_json::json!({
        "cniVersion": version,
        "name": "lab",
        "plugins": [
            {
                "type": "bridge", "bridge": "lab0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": folder.join("ipam"),
                    "ranges": [[{ "subnet": "10.99.0.0/24" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }]
                }
            },
            { "type": "portmap", "capabilities": { "portMappings": true } }
        ]
    })
}

async fn network(folder: &Path, node: &Namespace, bin_dirs: Vec<PathBuf>) -> Network {
    let config = NetworkConfig {
        instance: new_instance(),
        state_dir: folder.join("state"),
        netns: Some(node.path.clone()),
        pod_cidrs: Vec::new(),
        cluster_cidrs: Vec::new(),
        service_cidrs: Vec::new(),
        mtu: None,
        provider: Provider::External(ExternalConfig { conf_dir: folder.join("net.d"), bin_dirs }),
    };
    Network::open(config).await.unwrap()
}

fn request(namespace: &Namespace, sandbox: &str, host_ports: Vec<HostPort>) -> PodAttach {
    PodAttach {
        sandbox: sandbox.into(),
        namespace: "default".into(),
        name: "pod".into(),
        uid: "uid".into(),
        netns: namespace.path.clone(),
        interface: "eth0".into(),
        host_ports,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reference_plugins_attach_check_and_detach_in_every_version() {
    if !has_plugins() {
        return;
    }
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let folder = tempfile::tempdir().unwrap();
        let node = Namespace::new(folder.path(), "node");
        let pod = Namespace::new(folder.path(), "pod");
        let network = network(folder.path(), &node, vec![PLUGINS.into()]).await;
        let Err(Error::Cni(CniError::NoConfiguration { .. })) = network.status().await else { panic!("ready") };
        std::fs::create_dir(folder.path().join("net.d")).unwrap();
        let conf = conflist(folder.path(), version).to_string();
        std::fs::write(folder.path().join("net.d/10-lab.conflist"), conf).unwrap();
        network.status().await.unwrap();

        let port = HostPort { host_ip: None, host_port: 8080, container_port: 80, protocol: Protocol::Tcp };
        let attachment = network.attach(request(&pod, "sandbox-1", vec![port])).await.unwrap();
        assert_eq!(attachment.ips, ["10.99.0.2".parse::<std::net::IpAddr>().unwrap()], "{version}");
        assert_eq!(attachment.gateways, ["10.99.0.1".parse::<std::net::IpAddr>().unwrap()]);
        assert!(attachment.mac.is_some());
        pod.serve_tcp("0.0.0.0:80", "pod");
        assert_eq!(node.ask("10.99.0.2:80").unwrap().0, "pod");
        assert_eq!(node.ask("10.99.0.1:8080").unwrap().0, "pod", "{version}: the plugin got the host port");
        // Without host ports: this portmap's CHECK wants IPv6 rules that it did not make for an IPv4 pod.
        let plain = Namespace::new(folder.path(), "plain");
        network.attach(request(&plain, "sandbox-2", Vec::new())).await.unwrap();
        network.check("sandbox-2").await.unwrap();
        plain.run("ip link del eth0");
        // 0.3.1 has no CHECK.
        assert_eq!(network.check("sandbox-2").await.is_err(), version != "0.3.1");
        assert!(network.check("sandbox-3").await.is_err());
        network.detach("sandbox-2").await.unwrap();

        network.detach("sandbox-1").await.unwrap();
        network.detach("sandbox-1").await.unwrap();
        assert!(network.attachments().is_empty());
        assert!(!folder.path().join("ipam/lab/10.99.0.2").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugins_error_is_kept_and_nothing_else_is() {
    if !has_plugins() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Namespace::new(folder.path(), "node");
    let pod = Namespace::new(folder.path(), "pod");
    let bin = folder.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir(folder.path().join("net.d")).unwrap();
    for name in ["bridge", "host-local"] {
        std::os::unix::fs::symlink(Path::new(PLUGINS).join(name), bin.join(name)).unwrap();
    }
    // Stands for any plugin that fails after others have succeeded.
    let script = "#!/bin/sh\n[ \"$CNI_COMMAND\" = DEL ] && exit 0\n\
                  echo '{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"try again\",\"details\":\"later\"}'\nexit 1\n";
    std::fs::write(bin.join("portmap"), script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("portmap"), executable).unwrap();
    let conf = conflist(folder.path(), "1.0.0").to_string();
    std::fs::write(folder.path().join("net.d/10-lab.conflist"), conf).unwrap();
    let network = network(folder.path(), &node, vec![bin.clone()]).await;
    let error = network.attach(request(&pod, "sandbox-1", Vec::new())).await.unwrap_err();
    assert_eq!(error.to_string(), "CNI plugin portmap ADD of network lab: try again: later (code 11)");
    assert!(network.attachments().is_empty());
    assert!(!folder.path().join("ipam/lab/10.99.0.2").exists(), "the address was given back");

    std::fs::remove_file(bin.join("portmap")).unwrap();
    let error = network.status().await.unwrap_err();
    assert!(error.to_string().contains("portmap"), "{error}");
}
