//! Pods that the container runtime attaches: what is made here is the node's side.
#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Namespace, can_run};
use std::path::Path;
use trireme_network::{Error, Network, NetworkConfig, PodAttach, Provider, teardown};

fn config(folder: &Path, node: &Namespace) -> NetworkConfig {
    NetworkConfig {
        instance: lab::new_instance(),
        state_dir: folder.join("state"),
        netns: Some(node.path.clone()),
        pod_cidrs: vec!["10.42.1.0/24".parse().unwrap()],
        cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
        mtu: Some(1430),
        provider: Provider::Runtime,
    }
}

/// A pod as the plugin `ptp` attaches it: the host's end holds the gateway.
fn attach(node: &Namespace) {
    for command in [
        "ip link add veth1 type veth peer name veth2",
        "ip addr add 10.42.1.1/32 dev veth1",
        "ip link set veth1 up",
        "ip route add 10.42.1.2/32 dev veth1 src 10.42.1.1",
    ] {
        node.run(command);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_opens_again_while_the_runtimes_links_hold_the_gateway() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Namespace::new(folder.path(), "node");
    let config = config(folder.path(), &node);
    let network = Network::open(config.clone()).await.unwrap();
    attach(&node);
    drop(network);
    let network = Network::open(config.clone()).await.unwrap();
    network.status().await.unwrap();
    assert_eq!(network.gateways(), ["10.42.1.1".parse::<std::net::IpAddr>().unwrap()]);
    // The way to pods is for the runtime's links to say, that to services for ours.
    let routes = node.run("ip route");
    assert!(!routes.contains("10.42.1.0/24"), "{routes}");
    assert!(routes.contains(&format!("10.43.0.0/16 dev {}", config.instance.bridge())), "{routes}");
    teardown(config.instance, config.netns.as_deref(), None).await.unwrap();
    assert!(!node.run("ip -o link").contains(&config.instance.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_addresses_are_still_refused() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Namespace::new(folder.path(), "node");
    let _first = Network::open(config(folder.path(), &node)).await.unwrap();
    let Err(error) = Network::open(config(folder.path(), &node)).await else { panic!("opened") };
    assert!(error.to_string().contains("--cluster-cidr"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_not_attached_here() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Namespace::new(folder.path(), "node");
    let network = Network::open(config(folder.path(), &node)).await.unwrap();
    let pod = PodAttach {
        sandbox: "a".into(),
        namespace: "default".into(),
        name: "a".into(),
        uid: "a".into(),
        netns: node.path.clone(),
        interface: "eth0".into(),
        host_ports: Vec::new(),
    };
    assert!(matches!(network.attach(pod).await, Err(Error::AttachedElsewhere(_))));
    network.detach("a").await.unwrap();
}
