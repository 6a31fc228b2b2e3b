//! Cluster DNS on the wire, and from a pod through the service proxy.
#![allow(clippy::unwrap_used)]

mod lab;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use lab::{Node, can_run};
use trireme_network::{
    Dns, DnsConfig, DnsEndpoint, DnsRecords, DnsService, DnsTarget, Endpoint, Protocol, ProxyState, ServicePort,
    Upstream,
};

fn records(endpoints: usize) -> DnsRecords {
    let endpoint = |index: usize| DnsEndpoint {
        ip: IpAddr::from([10, 42, (index / 250) as u8, (index % 250) as u8 + 2]),
        hostname: None,
        ports: Vec::new(),
    };
    let service = |name: &str, target, endpoints| DnsService {
        namespace: "shop".into(),
        name: name.into(),
        target,
        ports: Vec::new(),
        endpoints,
    };
    DnsRecords {
        namespaces: ["shop".to_owned()].into(),
        services: vec![
            service("web", DnsTarget::ClusterIps(vec!["10.43.0.7".parse().unwrap()]), Vec::new()),
            service("many", DnsTarget::Headless, (0..endpoints).map(endpoint).collect()),
            service("away", DnsTarget::External("www.example.org".into()), Vec::new()),
            service("near", DnsTarget::External("web.shop.svc.cluster.local".into()), Vec::new()),
            service("round", DnsTarget::External("round.shop.svc.cluster.local".into()), Vec::new()),
        ],
    }
}

fn config(listen: &str, upstream: Vec<SocketAddr>) -> DnsConfig {
    DnsConfig {
        listen: vec![listen.parse().unwrap()],
        netns: None,
        domain: "cluster.local".into(),
        cluster_ips: vec!["10.43.0.10".parse().unwrap()],
        reverse: vec!["10.42.0.0/16".parse().unwrap()],
        upstream: Upstream::Servers(upstream),
    }
}

fn question(name: &str, kind: RecordType, edns: bool) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        message.set_edns(edns);
    }
    message
}

fn ask_udp(socket: &UdpSocket, server: SocketAddr, question: &Message) -> Message {
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(&question.to_vec().unwrap(), server).unwrap();
    let mut buffer = [0; 65535];
    let (read, _) = socket.recv_from(&mut buffer).unwrap();
    let answer = Message::from_vec(&buffer[..read]).unwrap();
    assert_eq!(answer.metadata.id, question.metadata.id);
    answer
}

async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let question = question(name, kind, true);
    let work = move || ask_udp(&UdpSocket::bind("127.0.0.1:0").unwrap(), server, &question);
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn ask_tcp(server: SocketAddr, name: &str) -> Message {
    let question = question(name, RecordType::A, false).to_vec().unwrap();
    let work = move || {
        let mut stream = TcpStream::connect(server).unwrap();
        // Two questions at once on one connection.
        let framed = [&(question.len() as u16).to_be_bytes(), question.as_slice()].concat();
        stream.write_all(&[framed.as_slice(), &framed].concat()).unwrap();
        let mut last = Vec::new();
        for _ in 0..2 {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            last = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut last).unwrap();
        }
        Message::from_vec(&last).unwrap()
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn texts(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

/// A server that answers every question with 192.0.2.7, but over UDP `big.` names with "truncated"; it counts.
fn upstream() -> (SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = std::net::TcpListener::bind(address).unwrap();
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    fn answer(bytes: &[u8], udp: bool) -> Vec<u8> {
        let question = Message::from_vec(bytes).unwrap();
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        let query = question.queries[0].clone();
        answer.add_query(query.clone());
        let name = query.name().to_ascii();
        if name.starts_with("gone.") {
            answer.metadata.response_code = ResponseCode::NXDomain;
        } else if udp && name.starts_with("big.") {
            answer.metadata.truncation = true;
        } else {
            let address = std::net::Ipv4Addr::new(192, 0, 2, 7).into();
            answer.add_answer(Record::from_rdata(query.name().clone(), 300, RData::A(address)));
        }
        answer.to_vec().unwrap()
    }
    let counter = count.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((read, client)) = udp.recv_from(&mut buffer) {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let _ = udp.send_to(&answer(&buffer[..read], true), client);
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut bytes).unwrap();
            let bytes = answer(&bytes, false);
            let _ = stream.write_all(&[&(bytes.len() as u16).to_be_bytes(), bytes.as_slice()].concat());
        }
    });
    (address, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_over_udp_and_tcp_carry_the_right_codes_and_lives() {
    let dns = Dns::serve(config("127.0.0.1:0", Vec::new())).await.unwrap();
    let server = dns.addresses()[0];
    assert_eq!(
        ask(server, "web.shop.svc.cluster.local.", RecordType::A).await.metadata.response_code,
        ResponseCode::NXDomain
    );
    dns.update(&records(3)).unwrap();

    let answer = ask(server, "WEB.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(texts(&answer), ["10.43.0.7"]);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available && answer.edns.is_some());
    assert_eq!(
        (answer.answers[0].ttl, answer.queries[0].name().to_ascii().as_str()),
        (5, "WEB.shop.svc.cluster.local.")
    );

    let empty = ask(server, "web.shop.svc.cluster.local.", RecordType::AAAA).await;
    assert_eq!((empty.metadata.response_code, empty.authorities.len()), (ResponseCode::NoError, 1));
    let missing = ask(server, "web.shop.svc.cluster.local.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!((missing.metadata.response_code, missing.authorities.len()), (ResponseCode::NXDomain, 1));
    assert_eq!(texts(&ask(server, "near.shop.svc.cluster.local.", RecordType::A).await).len(), 2);
    assert_eq!(
        ask(server, "round.shop.svc.cluster.local.", RecordType::A).await.metadata.response_code,
        ResponseCode::ServFail
    );
    assert_eq!(texts(&ask_tcp(server, "web.shop.svc.cluster.local.").await), ["10.43.0.7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_is_cut_over_udp_and_whole_over_tcp() {
    let dns = Dns::serve(config("127.0.0.1:0", Vec::new())).await.unwrap();
    dns.update(&records(500)).unwrap();
    let server = dns.addresses()[0];
    let cut = ask(server, "many.shop.svc.cluster.local.", RecordType::A).await;
    assert!(cut.metadata.truncation && !cut.answers.is_empty() && cut.answers.len() < 500);
    let whole = ask_tcp(server, "many.shop.svc.cluster.local.").await;
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 500));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_names_are_asked_upstream_once_and_kept() {
    let (upstream, count) = upstream();
    // A server that never answers stands first: it must not spoil anything for long.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let servers = vec![silent.local_addr().unwrap(), upstream];
    let dns = Dns::serve(config("127.0.0.1:0", servers)).await.unwrap();
    dns.update(&records(0)).unwrap();
    let server = dns.addresses()[0];
    for _ in 0..5 {
        assert_eq!(texts(&ask(server, "www.example.org.", RecordType::A).await), ["192.0.2.7"]);
    }
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..20 {
        asking.spawn(ask(server, "herd.example.org.", RecordType::A));
    }
    assert!(asking.join_all().await.iter().all(|answer| texts(answer) == ["192.0.2.7"]));
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 2, "a herd is one question");
    let external = ask(server, "away.shop.svc.cluster.local.", RecordType::A).await;
    assert_eq!(texts(&external), ["www.example.org.", "192.0.2.7"]);
    assert_eq!(texts(&ask(server, "big.example.org.", RecordType::A).await), ["192.0.2.7"]);
    let gone = ask(server, "gone.example.org.", RecordType::A).await;
    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_upstream_servers_other_names_fail_at_once() {
    let dns = Dns::serve(config("127.0.0.1:0", Vec::new())).await.unwrap();
    let answer = ask(dns.addresses()[0], "www.example.org.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_asks_the_cluster_dns_address() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(folder.path(), 0).await;
    let mut config = config("127.0.0.1:53", Vec::new());
    config.listen = node.network.gateways().into_iter().map(|ip| SocketAddr::new(ip, 53)).collect();
    config.netns = Some(node.namespace.path.clone());
    let dns = Dns::serve(config).await.unwrap();
    dns.update(&records(1)).unwrap();
    let port = |protocol| ServicePort {
        cluster_ips: vec!["10.43.0.10".parse().unwrap(), "fd43::a".parse().unwrap()],
        endpoints: node.network.gateways().into_iter().map(|ip| Endpoint::ready(ip, 53).on_this_node()).collect(),
        ..ServicePort::new("kube-system/kube-dns", &format!("dns-{protocol}"), protocol, 53)
    };
    node.proxy.sync(ProxyState { ports: vec![port(Protocol::Udp), port(Protocol::Tcp)] }).await.unwrap();
    let pod = node.pod().await;
    let questions = [&pod.namespace, &node.namespace].map(|n| [(n, "10.43.0.10:53"), (n, "[fd43::a]:53")]);
    for (namespace, address) in questions.into_iter().flatten() {
        let answer = namespace.inside(|| {
            let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(any).unwrap();
            // Connected, so that an answer from any other address would not be received.
            socket.connect(address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let question = question("web.shop.svc.cluster.local.", RecordType::A, false);
            socket.send(&question.to_vec().unwrap()).unwrap();
            let mut buffer = [0; 512];
            let read = socket.recv(&mut buffer).unwrap();
            Message::from_vec(&buffer[..read]).unwrap()
        });
        assert_eq!(texts(&answer), ["10.43.0.7"]);
    }
}
