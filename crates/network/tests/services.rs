//! Services with real connections: two nodes, VXLAN between them, pods on both.

#![allow(clippy::print_stderr, clippy::unwrap_used)]

mod lab;

use std::collections::BTreeSet;
use std::time::Duration;

use lab::{Node, Pod, ask_udp, can_run, connect};
use trireme_network::{
    Endpoint, Overlay, OverlayConfig, OverlayMode, Peer, Protocol, Proxy, ProxyConfig, ProxyState, ServicePort,
    TrafficPolicy, teardown,
};

/// Two nodes with a pod each; both pods serve on 8080.
struct Cluster {
    nodes: [Node; 2],
    pods: [Pod; 2],
    _overlays: [Overlay; 2],
    _folder: tempfile::TempDir,
}

const NODE_IPS: [&str; 2] = ["192.168.77.1", "192.168.77.2"];

impl Cluster {
    async fn new(mode: OverlayMode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nodes = [Node::new(folder.path(), 0).await, Node::new(folder.path(), 1).await];
        connect(&nodes[0].namespace, &nodes[1].namespace, NODE_IPS[0], NODE_IPS[1]);
        let mut overlays = Vec::new();
        for (here, there) in [(0, 1), (1, 0)] {
            let config = OverlayConfig {
                instance: nodes[here].instance,
                netns: nodes[here].config.netns.clone(),
                node_ip: NODE_IPS[here].parse().unwrap(),
                pod_cidrs: nodes[here].config.pod_cidrs.clone(),
                mode,
                vni: 7,
                port: 8472,
                mtu: 1430,
            };
            let peer = Peer {
                name: format!("node{there}"),
                node_ip: NODE_IPS[there].parse().unwrap(),
                pod_cidrs: nodes[there].config.pod_cidrs.clone(),
                vtep_mac: None,
            };
            let overlay = Overlay::open(config).await.unwrap();
            assert!(overlay.sync(vec![peer.clone()]).await.unwrap() > 0);
            assert_eq!(overlay.sync(vec![peer]).await.unwrap(), 0, "a second sync has nothing to do");
            overlays.push(overlay);
        }
        let pods = [nodes[0].pod().await, nodes[1].pod().await];
        pods[0].serve(8080, "zero");
        pods[1].serve(8080, "one");
        let overlays = overlays.try_into().unwrap_or_else(|_| panic!("two overlays"));
        Self { nodes, pods, _overlays: overlays, _folder: folder }
    }

    /// The endpoints as one node sees them.
    fn endpoints(&self, node: usize, port: u16) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for (index, pod) in self.pods.iter().enumerate() {
            for ip in &pod.attachment.ips {
                let endpoint = Endpoint::ready(*ip, port);
                endpoints.push(if index == node { endpoint.on_this_node() } else { endpoint });
            }
        }
        endpoints
    }

    fn service(&self, node: usize) -> ServicePort {
        ServicePort {
            cluster_ips: vec!["10.43.0.1".parse().unwrap(), "fd43::1".parse().unwrap()],
            endpoints: self.endpoints(node, 8080),
            ..ServicePort::new("default/web", "http", Protocol::Tcp, 80)
        }
    }

    /// Programs both nodes with what `change` makes of the service.
    async fn program(&self, change: impl Fn(&mut ServicePort)) {
        for (index, node) in self.nodes.iter().enumerate() {
            let mut port = self.service(index);
            change(&mut port);
            node.proxy.sync(ProxyState { ports: vec![port] }).await.unwrap();
        }
    }
}

fn names(namespace: &lab::Namespace, address: &str, times: usize) -> BTreeSet<String> {
    (0..times).map(|_| namespace.ask(address).unwrap_or_else(|e| panic!("{address}: {e}")).0).collect()
}

fn both() -> BTreeSet<String> {
    ["one".to_owned(), "zero".to_owned()].into()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_different_nodes_reach_each_other_with_their_own_addresses() {
    if !can_run() {
        return;
    }
    for mode in [OverlayMode::Vxlan, OverlayMode::HostGateway] {
        let cluster = Cluster::new(mode).await;
        let [zero, one] = &cluster.pods;
        let (name, seen) = zero.namespace.ask(&format!("{}:8080", one.v4())).unwrap();
        assert_eq!((name.as_str(), seen), ("one", format!("::ffff:{}", zero.v4())), "{mode:?}");
        assert_eq!(one.namespace.ask(&format!("[{}]:8080", zero.v6())).unwrap().0, "zero", "{mode:?}");
        let node = &cluster.nodes[0];
        assert_eq!(node.namespace.ask(&format!("{}:8080", one.v4())).unwrap().0, "one", "{mode:?}");
        teardown(node.instance, Some(&node.namespace.path), None).await.unwrap();
        let routes = node.namespace.run("ip route") + &node.namespace.run("ip -6 route");
        assert!(!routes.contains("10.42.") && !routes.contains("fd42:"), "{mode:?}: {routes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_ip_spreads_over_all_endpoints_from_pods_and_nodes_in_both_families() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::new(OverlayMode::Vxlan).await;
    cluster.program(|_| {}).await;
    // With and without br_netfilter, which the machine may have or not.
    let bridged = ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"];
    for (round, address) in ["10.43.0.1:80", "[fd43::1]:80"].repeat(2).into_iter().enumerate() {
        for key in bridged {
            let path = format!("/proc/sys/{}", key.replace('.', "/"));
            if std::path::Path::new(&path).exists() {
                cluster.nodes[0].namespace.run(&format!("sysctl -q -w {key}={}", round / 2));
            }
        }
        for namespace in [&cluster.pods[0].namespace, &cluster.nodes[0].namespace, &cluster.pods[1].namespace] {
            assert_eq!(names(namespace, address, 40), both(), "{address}");
        }
    }
    let seen: BTreeSet<String> = (0..20).map(|_| cluster.pods[0].namespace.ask("10.43.0.1:80").unwrap().1).collect();
    assert!(seen.contains("::ffff:10.42.0.2"), "the endpoint sees the client's own address: {seen:?}");
    // What `nft` prints is what an operator debugs with; it must not choke on our keys.
    let rules = cluster.nodes[0].namespace.run("nft list ruleset");
    assert!(rules.contains("10.43.0.1 . tcp . 80"), "{rules}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_reaches_itself_through_its_service() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::new(OverlayMode::Vxlan).await;
    cluster.program(|port| port.endpoints.retain(|e| e.local)).await;
    let neighbour = cluster.nodes[0].pod().await;
    assert_eq!(neighbour.namespace.ask("10.43.0.1:80").unwrap().0, "zero", "on the same bridge");
    for address in ["10.43.0.1:80", "[fd43::1]:80"] {
        assert_eq!(cluster.pods[0].namespace.ask(address).unwrap().0, "zero");
        assert_eq!(cluster.pods[1].namespace.ask(address).unwrap().0, "one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_endpoints_refuses_at_once() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::new(OverlayMode::Vxlan).await;
    cluster
        .program(|port| {
            port.endpoints.clear();
            port.node_port = Some(30080);
        })
        .await;
    for namespace in [&cluster.pods[0].namespace, &cluster.nodes[0].namespace] {
        // 10.43.0.99 belongs to no service at all.
        for address in ["10.43.0.1:80", "[fd43::1]:80", "10.43.0.99:80", "10.42.0.1:30080"] {
            let error = namespace.ask(address).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
        }
    }
    assert_eq!(
        cluster.nodes[1].namespace.ask("192.168.77.1:30080").unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_port_answers_on_every_address_of_every_node() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::new(OverlayMode::Vxlan).await;
    cluster.program(|port| port.node_port = Some(30080)).await;
    let local = &cluster.nodes[0].namespace;
    for address in ["127.0.0.1:30080", "192.168.77.1:30080", "10.42.0.1:30080", "[fd42::1]:30080"] {
        assert_eq!(names(local, address, 30), both(), "{address}");
    }
    assert_eq!(names(&cluster.nodes[1].namespace, "192.168.77.1:30080", 30), both(), "from another machine");
    assert_eq!(names(&cluster.pods[0].namespace, "192.168.77.1:30080", 30), both(), "from a pod");
    assert_eq!(names(&cluster.pods[0].namespace, "192.168.77.2:30080", 30), both(), "from a pod to another node");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_external_local_policy_keeps_the_clients_address_and_drops_where_no_endpoint_is() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::new(OverlayMode::Vxlan).await;
    cluster
        .program(|port| {
            port.node_port = Some(30080);
            port.external_policy = TrafficPolicy::Local;
            port.endpoints.retain(|e| e.ip.to_string().starts_with("10.42.1."));
        })
        .await;
    let outside = lab::Namespace::new(cluster.nodes[0].config.state_dir.parent().unwrap(), "outside");
    connect_third(&cluster, &outside);
    let (name, seen) = outside.ask("192.168.78.1:30080").unwrap();
    assert_eq!((name.as_str(), seen.as_str()), ("one", "::ffff:192.168.78.9"));
    // Inside of the cluster a node without an endpoint of its own serves too.
    assert_eq!(cluster.nodes[0].namespace.ask("192.168.77.1:30080").unwrap().0, "one");
    assert_eq!(cluster.pods[0].namespace.ask("192.168.77.1:30080").unwrap().0, "one");
    let error = cluster.nodes[1].namespace.ask("192.168.77.1:30080").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

/// A machine outside of the cluster on a second link of node 1: 192.168.78.9, node 1 is 192.168.78.1.
fn connect_third(cluster: &Cluster, outside: &lab::Namespace) {
    let node = &cluster.nodes[1].namespace;
    node.run("ip link set up0 name old0");
    connect(node, outside, "192.168.78.1", "192.168.78.9");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_internal_local_policy_stays_on_the_node() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::new(OverlayMode::Vxlan).await;
    cluster.program(|port| port.internal_policy = TrafficPolicy::Local).await;
    assert_eq!(names(&cluster.pods[0].namespace, "10.43.0.1:80", 20), ["zero".to_owned()].into());
    assert_eq!(names(&cluster.pods[1].namespace, "10.43.0.1:80", 20), ["one".to_owned()].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn session_affinity_holds_until_its_endpoint_goes() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::new(OverlayMode::Vxlan).await;
    let sticky = |port: &mut ServicePort| {
        port.affinity = Some(Duration::from_secs(60));
        port.node_port = Some(30080);
    };
    cluster.program(sticky).await;
    let client = &cluster.pods[0].namespace;
    for address in ["10.43.0.1:80", "[fd43::1]:80", "192.168.77.1:30080"] {
        let first = names(client, address, 20);
        assert_eq!(first.len(), 1, "{address} answered by {first:?}");
        let first = first.first().unwrap().clone();
        // Without the endpoint that the client sticks to, it gets the other one at once.
        let gone = if first == "zero" { &cluster.pods[0] } else { &cluster.pods[1] };
        let gone = gone.attachment.ips.clone();
        cluster
            .program(|port| {
                sticky(port);
                port.endpoints.retain(|e| !gone.contains(&e.ip));
            })
            .await;
        let second = names(client, address, 5);
        assert!(second.len() == 1 && !second.contains(&first), "{address}: {second:?}");
        cluster.program(sticky).await;
        assert_eq!(names(client, address, 20), second, "{address}: and stays with it");
    }
    cluster.nodes[0].namespace.run("nft list ruleset");

    // A restart of the process writes the table anew.
    let before = names(client, "10.43.0.1:80", 1);
    let node = &cluster.nodes[0];
    let config = ProxyConfig {
        instance: node.instance,
        cluster_cidrs: node.config.cluster_cidrs.clone(),
        place: trireme_network::Place::default(),
        netns: node.config.netns.clone(),
    };
    let mut port = cluster.service(0);
    sticky(&mut port);
    let report = Proxy::open(config).await.unwrap().sync(ProxyState { ports: vec![port] }).await.unwrap();
    assert!(report.rebuilt);
    assert_eq!(names(client, "10.43.0.1:80", 20), before, "a remembered client stays over a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_balancer_source_ranges_let_only_their_own_in() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::new(OverlayMode::Vxlan).await;
    let lb = |ranges: &[&str]| {
        let ranges: Vec<_> = ranges.iter().map(|r| r.parse().unwrap()).collect();
        move |port: &mut ServicePort| {
            port.load_balancer_ips = vec!["192.168.77.1".parse().unwrap()];
            port.load_balancer_source_ranges = ranges.clone();
        }
    };
    let client = &cluster.nodes[1].namespace;
    cluster.program(lb(&[])).await;
    assert_eq!(names(client, "192.168.77.1:80", 20), both());
    cluster.program(lb(&["192.168.77.2/32", "10.0.0.0/8", "10.1.0.0/16"])).await;
    assert_eq!(names(client, "192.168.77.1:80", 20), both());
    cluster.program(lb(&["192.168.99.0/24"])).await;
    assert_eq!(client.ask("192.168.77.1:80").unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_udp_client_that_keeps_its_port_follows_the_endpoints() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::new(OverlayMode::Vxlan).await;
    for (pod, name) in cluster.pods.iter().zip(["zero", "one"]) {
        pod.namespace.serve_udp("0.0.0.0:5353", name);
    }
    let udp = |keep: Option<usize>| {
        let ips: Vec<_> = cluster.pods.iter().map(Pod::v4).collect();
        move |port: &mut ServicePort| {
            port.protocol = Protocol::Udp;
            port.port = 53;
            port.endpoints.retain(|e| keep.is_some_and(|keep| e.ip == ips[keep]));
            port.endpoints.iter_mut().for_each(|e| e.port = 5353);
        }
    };
    cluster.program(udp(None)).await;
    let socket = cluster.pods[0].namespace.udp();
    assert!(ask_udp(&socket, "10.43.0.1:53").is_err());
    cluster.program(udp(Some(1))).await;
    assert_eq!(ask_udp(&socket, "10.43.0.1:53").unwrap(), "one");
    cluster.program(udp(Some(0))).await;
    assert_eq!(ask_udp(&socket, "10.43.0.1:53").unwrap(), "zero");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_check_port_says_whether_this_node_has_endpoints() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::new(OverlayMode::Vxlan).await;
    let only_one = cluster.pods[1].v4();
    cluster
        .program(|port| {
            port.external_policy = TrafficPolicy::Local;
            port.health_check_node_port = Some(32000);
            port.endpoints.retain(|e| e.ip == only_one);
        })
        .await;
    for (node, status) in cluster.nodes.iter().zip(["503", "200"]) {
        let answer = node.namespace.run("curl -s -o /dev/null -w %{http_code} http://127.0.0.1:32000/healthz");
        assert_eq!(answer, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_leaves_the_cluster_with_the_nodes_address() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::new(OverlayMode::Vxlan).await;
    cluster.nodes[1].namespace.serve_tcp("192.168.77.2:9999", "outside");
    let (_, seen) = cluster.pods[0].namespace.ask("192.168.77.2:9999").unwrap();
    assert_eq!(seen, NODE_IPS[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_services_are_one_commit_and_a_change_is_small() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    let state = |extra: bool| ProxyState {
        ports: (0..1000u16)
            .map(|index| {
                let [high, low] = index.to_be_bytes();
                let mut endpoints: Vec<_> =
                    (2..5u8).map(|last| Endpoint::ready([10, 42, low, last].into(), 8080)).collect();
                if extra && index == 500 {
                    endpoints.push(Endpoint::ready([10, 42, 9, 9].into(), 8080));
                }
                ServicePort {
                    cluster_ips: vec![[10, 43, high + 1, low].into()],
                    endpoints,
                    ..ServicePort::new(&format!("default/s{index}"), "", Protocol::Tcp, 80)
                }
            })
            .collect(),
    };
    let begin = std::time::Instant::now();
    let report = node.proxy.sync(state(false)).await.unwrap();
    eprintln!("1,000 services: {report:?} in {:?}", begin.elapsed());
    assert!(report.rebuilt);
    let begin = std::time::Instant::now();
    let report = node.proxy.sync(state(true)).await.unwrap();
    eprintln!("one endpoint more: {report:?} in {:?}", begin.elapsed());
    assert!(!report.rebuilt && report.changed <= 3, "{report:?}");
    let report = node.proxy.sync(state(true)).await.unwrap();
    assert_eq!(report.changed, 0);
}
