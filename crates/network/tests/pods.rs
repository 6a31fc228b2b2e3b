//! Pods of one node: addresses, reachability, host ports, restarts, removal.
#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Node, can_run};
use trireme_network::{Error, HostPort, Network, Protocol, teardown};

#[tokio::test(flavor = "multi_thread")]
async fn pods_reach_each_other_the_node_and_themselves() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    let (a, b) = (node.pod().await, node.pod().await);
    assert_eq!(a.v4().to_string(), "10.42.0.2");
    assert_eq!(a.v6().to_string(), "fd42:0:0:0::2".parse::<std::net::IpAddr>().unwrap().to_string());
    b.serve(80, "b");
    a.serve(80, "a");
    node.namespace.serve_tcp("10.42.0.1:80", "node");
    let seen = a.namespace.ask(&format!("{}:80", b.v4())).unwrap();
    assert_eq!(seen, ("b".into(), format!("::ffff:{}", a.v4())));
    assert_eq!(a.namespace.ask(&format!("[{}]:80", b.v6())).unwrap().0, "b");
    assert_eq!(a.namespace.ask("10.42.0.1:80").unwrap().0, "node");
    assert_eq!(a.namespace.ask(&format!("{}:80", a.v4())).unwrap().0, "a");
    assert_eq!(a.namespace.ask("127.0.0.1:80").unwrap().0, "a");
    assert_eq!(node.namespace.ask(&format!("{}:80", a.v4())).unwrap().0, "a");
    node.network.check(&a.attachment.pod.sandbox).await.unwrap();
    node.network.status().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_port_answers_on_every_address_of_the_node_and_closes_with_its_pod() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    let port = HostPort { host_ip: None, host_port: 8080, container_port: 80, protocol: Protocol::Tcp };
    let pod = node.pod_with_ports(vec![port.clone()]).await;
    pod.serve(80, "pod");
    let other = node.pod().await;
    for address in ["10.42.0.1:8080", "127.0.0.1:8080"] {
        assert_eq!(node.namespace.ask(address).unwrap().0, "pod", "{address}");
    }
    assert_eq!(other.namespace.ask("10.42.0.1:8080").unwrap().0, "pod");
    assert_eq!(pod.namespace.ask("10.42.0.1:8080").unwrap().0, "pod", "a pod reaches itself by its host port");

    let (_namespace, again) = node.pod_request(vec![port]);
    assert!(matches!(node.network.attach(again).await, Err(Error::HostPortTaken { port: 8080, .. })));

    node.network.detach(&pod.attachment.pod.sandbox).await.unwrap();
    node.network.detach(&pod.attachment.pod.sandbox).await.unwrap();
    assert!(node.namespace.ask("10.42.0.1:8080").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reopened_network_knows_its_pods_and_keeps_their_host_ports() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    let port = HostPort { host_ip: None, host_port: 8080, container_port: 80, protocol: Protocol::Tcp };
    let pod = node.pod_with_ports(vec![port]).await;
    pod.serve(80, "pod");
    let again = Network::open(node.config.clone()).await.unwrap();
    assert_eq!(again.attachments(), std::slice::from_ref(&pod.attachment));
    assert_eq!(node.namespace.ask("10.42.0.1:8080").unwrap().0, "pod");
    let (_namespace, request) = node.pod_request(Vec::new());
    let next = again.attach(request).await.unwrap();
    assert_ne!(next.ips, pod.attachment.ips);
}

#[tokio::test(flavor = "multi_thread")]
async fn teardown_leaves_nothing() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    let _pod = node.pod().await;
    node.proxy.sync(trireme_network::ProxyState::default()).await.unwrap();
    let id = node.instance.to_string();
    assert!(node.namespace.run("ip -o link").contains(&id));
    assert!(node.namespace.run("nft list tables").contains(&id));
    teardown(node.instance, Some(&node.namespace.path), None).await.unwrap();
    assert!(!node.namespace.run("ip -o link").contains(&id));
    assert!(!node.namespace.run("nft list tables").contains(&id));
    teardown(node.instance, Some(&node.namespace.path), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_with_the_same_addresses_are_refused_with_a_reason() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    let mut config = node.config.clone();
    config.instance = lab::new_instance();
    config.state_dir = folder.path().join("other");
    let Err(error) = Network::open(config).await else { panic!("opened") };
    assert!(error.to_string().contains("--cluster-cidr"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_namespace_is_missing_leaves_no_address_behind() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    let (namespace, request) = node.pod_request(Vec::new());
    drop(namespace);
    assert!(node.network.attach(request).await.is_err());
    assert!(node.network.attachments().is_empty());
    assert!(!node.namespace.run("ip -o link").contains("tv"));
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_has_what_the_other_tests_need() {
    if !can_run() {
        return;
    }
    assert_eq!(trireme_network::probe().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_pod_cidr_drops_the_old_address() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    let mut config = node.config.clone();
    config.pod_cidrs = vec!["10.42.9.0/24".parse().unwrap()];
    let network = Network::open(config).await.unwrap();
    let addresses = node.namespace.run("ip -o addr");
    assert!(addresses.contains("10.42.9.1/24") && !addresses.contains("10.42.0.1/24"), "{addresses}");
    let (_namespace, request) = node.pod_request(Vec::new());
    let attachment = network.attach(request).await.unwrap();
    assert_eq!(attachment.ips, ["10.42.9.2".parse::<std::net::IpAddr>().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_udp_host_port_follows_a_replaced_pod() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    let port = HostPort { host_ip: None, host_port: 5353, container_port: 53, protocol: Protocol::Udp };
    let first = node.pod_with_ports(vec![port.clone()]).await;
    first.namespace.serve_udp("0.0.0.0:53", "first");
    let client = node.namespace.udp();
    assert_eq!(lab::ask_udp(&client, "10.42.0.1:5353").unwrap(), "first");
    node.network.detach(&first.attachment.pod.sandbox).await.unwrap();
    let second = node.pod_with_ports(vec![port]).await;
    second.namespace.serve_udp("0.0.0.0:53", "second");
    assert_eq!(lab::ask_udp(&client, "10.42.0.1:5353").unwrap(), "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_names_are_refused() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    for (sandbox, interface) in [("../x", "eth0"), ("", "eth0"), ("x", "../../x"), ("x", "lo"), ("x", "")] {
        let (_namespace, mut request) = node.pod_request(Vec::new());
        (request.sandbox, request.interface) = (sandbox.into(), interface.into());
        assert!(matches!(node.network.attach(request).await, Err(Error::Config { .. })), "{sandbox} {interface}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_come_at_once_get_addresses_of_their_own() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    let pods: Vec<_> = (0..20).map(|_| node.pod_request(Vec::new())).collect();
    let mut attaching = tokio::task::JoinSet::new();
    for (_, request) in &pods {
        let (network, request) = (node.network.clone(), request.clone());
        attaching.spawn(async move { network.attach(request).await.unwrap().ips });
    }
    let ips: std::collections::BTreeSet<_> = attaching.join_all().await.into_iter().flatten().collect();
    assert_eq!(ips.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_half_made_is_attached_anew() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    let port = HostPort { host_ip: None, host_port: 8080, container_port: 80, protocol: Protocol::Tcp };
    let pod = node.pod_with_ports(vec![port]).await;
    // The record is there; link and rules are not, as when the process dies right after writing it.
    let link = pod.attachment.host_link.clone().unwrap();
    node.namespace.run(&format!("ip link del {link}"));
    node.namespace.run(&format!("nft delete table inet trireme-{}-net", node.instance));
    let again = Network::open(node.config.clone()).await.unwrap();
    assert!(again.check(&pod.attachment.pod.sandbox).await.is_err());
    again.attach(pod.attachment.pod.clone()).await.unwrap();
    again.check(&pod.attachment.pod.sandbox).await.unwrap();
    pod.serve(80, "pod");
    assert_eq!(node.namespace.ask("10.42.0.1:8080").unwrap().0, "pod");
    assert_eq!(again.attachments().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_reached_from_its_first_packet_on() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    // The only pod each time, so that the bridge loses its carrier and gets it back.
    for round in 0..30 {
        let (namespace, request) = node.pod_request(Vec::new());
        namespace.serve_udp("0.0.0.0:53", "pod");
        let client = node.namespace.udp();
        let pod = node.network.attach(request).await.unwrap();
        // One datagram, without a second try.
        let answer = lab::ask_udp(&client, &format!("{}:53", pod.ips[0]));
        assert_eq!(answer.unwrap_or_else(|error| panic!("round {round}: {error}")), "pod");
        node.network.detach(&pod.pod.sandbox).await.unwrap();
    }
}
