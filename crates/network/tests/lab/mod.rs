//! A laboratory of network namespaces: nodes on one link, pods in them, and small servers and clients.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stderr)]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use trireme_network::{
    Attachment, HostPort, InstanceId, Network, NetworkConfig, PodAttach, Provider, Proxy, ProxyConfig, netns,
};

const PATIENCE: Duration = Duration::from_secs(3);
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Whether namespaces can be made here; a test that cannot run says so.
pub fn can_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root for network namespaces");
    }
    root
}

/// One namespace, removed when dropped.
pub struct Namespace {
    pub path: PathBuf,
}

impl Namespace {
    pub fn new(folder: &Path, name: &str) -> Self {
        let path = folder.join(name);
        netns::create(&path).expect("make a network namespace");
        Self { path }
    }

    /// Runs a program in the namespace; its output.
    pub fn run(&self, command: &str) -> String {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--net={}", self.path.display())).args(command.split_whitespace());
        let output = nsenter.output().expect("run nsenter");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}: {}{text}", String::from_utf8_lossy(&output.stderr));
        text
    }

    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run_in(Some(&self.path), || Ok(work())).expect("enter namespace")
    }

    /// A TCP server that greets with its name and the client's address.
    pub fn serve_tcp(&self, address: &str, name: &str) {
        let address: SocketAddr = address.parse().unwrap();
        let listener = self.inside(|| TcpListener::bind(address)).expect("listen");
        let name = name.to_owned();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let peer = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
                let _ = write!(stream, "{name} {peer}");
            }
        });
    }

    /// A UDP server that answers with its name.
    pub fn serve_udp(&self, address: &str, name: &str) {
        let address: SocketAddr = address.parse().unwrap();
        let socket = self.inside(|| UdpSocket::bind(address)).expect("bind");
        let name = name.to_owned();
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(name.as_bytes(), peer);
            }
        });
    }

    /// Connects, and reads the greeting: who answered, and whom it saw.
    pub fn ask(&self, address: &str) -> std::io::Result<(String, String)> {
        let address: SocketAddr = address.parse().unwrap();
        self.inside(|| {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            let (name, peer) = text.split_once(' ').unwrap_or((&text, ""));
            Ok((name.to_owned(), peer.to_owned()))
        })
    }

    /// A UDP socket that keeps its port.
    pub fn udp(&self) -> UdpSocket {
        let socket = self.inside(|| UdpSocket::bind("0.0.0.0:0")).expect("bind");
        socket.set_read_timeout(Some(Duration::from_millis(800))).expect("set timeout");
        socket
    }
}

pub fn ask_udp(socket: &UdpSocket, address: &str) -> std::io::Result<String> {
    socket.send_to(b"?", address)?;
    let mut buffer = [0; 64];
    let (read, _) = socket.recv_from(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..read]).into_owned())
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = netns::remove(&self.path);
    }
}

/// A node: a namespace with a pod network and a proxy.
pub struct Node {
    pub namespace: Namespace,
    pub instance: InstanceId,
    pub config: NetworkConfig,
    pub network: Network,
    pub proxy: Proxy,
    folder: PathBuf,
    pods: AtomicU32,
}

impl Node {
    /// Node number `number`: pod CIDRs 10.42.N.0/24 and fd42:N::/64.
    pub async fn new(folder: &Path, number: u32) -> Self {
        let namespace = Namespace::new(folder, &format!("node{number}"));
        // The strictest that distributions set: whatever works with it works without.
        namespace.run("sysctl -q -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1");
        let instance = new_instance();
        let config = NetworkConfig {
            instance,
            state_dir: folder.join(format!("state{number}")),
            netns: Some(namespace.path.clone()),
            pod_cidrs: vec![
                format!("10.42.{number}.0/24").parse().unwrap(),
                format!("fd42:{number}::/64").parse().unwrap(),
            ],
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap(), "fd42::/16".parse().unwrap()],
            service_cidrs: vec!["10.43.0.0/16".parse().unwrap(), "fd43::/112".parse().unwrap()],
            mtu: Some(1430),
            provider: Provider::Embedded,
        };
        let network = Network::open(config.clone()).await.expect("open network");
        let proxy = Proxy::open(ProxyConfig {
            instance,
            cluster_cidrs: config.cluster_cidrs.clone(),
            place: trireme_network::Place { node: format!("node{number}"), zone: None },
            netns: config.netns.clone(),
        });
        let proxy = proxy.await.expect("open proxy");
        Self { namespace, instance, config, network, proxy, folder: folder.into(), pods: AtomicU32::new(0) }
    }

    pub fn pod_request(&self, host_ports: Vec<HostPort>) -> (Namespace, PodAttach) {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        let name = format!("pod-{}-{number}", self.instance);
        let namespace = Namespace::new(&self.folder, &name);
        let attach = PodAttach {
            sandbox: name.clone(),
            namespace: "default".into(),
            name,
            uid: "uid".into(),
            netns: namespace.path.clone(),
            interface: "eth0".into(),
            host_ports,
        };
        (namespace, attach)
    }

    pub async fn pod_with_ports(&self, host_ports: Vec<HostPort>) -> Pod {
        let (namespace, attach) = self.pod_request(host_ports);
        let attachment = self.network.attach(attach).await.expect("attach pod");
        Pod { namespace, attachment }
    }

    pub async fn pod(&self) -> Pod {
        self.pod_with_ports(Vec::new()).await
    }
}

/// An attached pod.
pub struct Pod {
    pub namespace: Namespace,
    pub attachment: Attachment,
}

impl Pod {
    pub fn v4(&self) -> IpAddr {
        self.attachment.ips[0]
    }

    pub fn v6(&self) -> IpAddr {
        self.attachment.ips[1]
    }

    /// Serves TCP on a port of both families.
    pub fn serve(&self, port: u16, name: &str) {
        self.namespace.serve_tcp(&format!("[::]:{port}"), name);
    }
}

/// An instance that no other test has.
pub fn new_instance() -> InstanceId {
    InstanceId::new(std::process::id() << 8 | NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Puts two namespaces on one link, with these addresses (and prefix /24).
pub fn connect(a: &Namespace, b: &Namespace, ip_a: &str, ip_b: &str) {
    // `ip` wants a name below /run/netns or a pid: a sleeping process in the namespace stands for it.
    let mut holder = Command::new("nsenter")
        .arg(format!("--net={}", b.path.display()))
        .args(["cat"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("start a process in the namespace");
    // nsenter becomes cat; until then its namespace is ours.
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    while std::fs::read_link(format!("/proc/{}/ns/net", holder.id())).unwrap() == ours {
        thread::yield_now();
    }
    a.run(&format!("ip link add up0 mtu 1500 type veth peer name up0 netns {} mtu 1500", holder.id()));
    drop(holder.stdin.take());
    holder.wait().unwrap();
    for (node, ip) in [(a, ip_a), (b, ip_b)] {
        node.run(&format!("ip addr add {ip}/24 dev up0"));
        node.run("ip link set up0 up");
    }
}
