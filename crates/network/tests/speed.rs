//! Figures, not verdicts: `cargo test --release -p trireme-network --test speed -- --ignored --nocapture`.
#![allow(clippy::print_stderr, clippy::unwrap_used)]

mod lab;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use lab::{Node, can_run};
use trireme_network::{
    Dns, DnsConfig, DnsRecords, DnsService, DnsTarget, Endpoint, Protocol, ProxyState, ServicePort, Upstream,
};

fn state(services: u32, extra: bool) -> ProxyState {
    let ports = (0..services).map(|index| {
        let [_, _, high, low] = index.to_be_bytes();
        let mut endpoints: Vec<_> = (2..5u8).map(|last| Endpoint::ready([10, 42, low, last].into(), 8080)).collect();
        if extra && index == services / 2 {
            endpoints.push(Endpoint::ready([10, 42, 9, 9].into(), 8080));
        }
        ServicePort {
            cluster_ips: vec![[10, 43, high, low].into()],
            endpoints,
            ..ServicePort::new(&format!("default/s{index}"), "", Protocol::Tcp, 80)
        }
    });
    ProxyState { ports: ports.collect() }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn services() {
    if !can_run() {
        return;
    }
    for count in [1_000, 10_000] {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::new(folder.path(), 0).await;
        let (first, second) = (state(count, false), state(count, true));
        let begin = Instant::now();
        let report = node.proxy.sync(first).await.unwrap();
        let whole = begin.elapsed();
        let same = state(count, true);
        let begin = Instant::now();
        let change = node.proxy.sync(second).await.unwrap();
        let one = begin.elapsed();
        let begin = Instant::now();
        node.proxy.sync(same).await.unwrap();
        eprintln!(
            "{count} services: {whole:?} ({} elements); one endpoint more: {one:?} ({}); nothing new: {:?}",
            report.changed,
            change.changed,
            begin.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn pods() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    let mut times = Vec::new();
    let mut pods = Vec::new();
    for _ in 0..100 {
        let (namespace, request) = node.pod_request(Vec::new());
        let begin = Instant::now();
        node.network.attach(request).await.unwrap();
        times.push(begin.elapsed());
        pods.push(namespace);
    }
    times.sort_unstable();
    eprintln!("attach: p50 {:?}, p99 {:?}", times[50], times[98]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn questions() {
    let dns = Dns::serve(DnsConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        netns: None,
        domain: "cluster.local".into(),
        cluster_ips: Vec::new(),
        reverse: Vec::new(),
        upstream: Upstream::Servers(Vec::new()),
    });
    let dns = dns.await.unwrap();
    let service = |index: u32| DnsService {
        namespace: "default".into(),
        name: format!("s{index}"),
        target: DnsTarget::ClusterIps(vec![[10, 43, (index >> 8) as u8, index as u8].into()]),
        ports: Vec::new(),
        endpoints: Vec::new(),
    };
    let records = DnsRecords { namespaces: Default::default(), services: (0..10_000).map(service).collect() };
    let begin = Instant::now();
    dns.update(&records).unwrap();
    eprintln!("10,000 services indexed in {:?}", begin.elapsed());
    let server = dns.addresses()[0];
    let work = move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut message = Message::query();
        let name = Name::from_ascii("s77.default.svc.cluster.local.").unwrap();
        message.add_query(Query::query(name, RecordType::A));
        let bytes = message.to_vec().unwrap();
        let mut buffer = [0; 512];
        let begin = Instant::now();
        for _ in 0..20_000 {
            socket.send_to(&bytes, server).unwrap();
            socket.recv_from(&mut buffer).unwrap();
        }
        begin.elapsed() / 20_000
    };
    eprintln!("one question, one client: {:?}", tokio::task::spawn_blocking(work).await.unwrap());
}
