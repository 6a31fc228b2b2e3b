//! Health check node ports: a load balancer asks whether this node has endpoints of a service.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::state::{ProxyState, TrafficPolicy};
use crate::error::{Error, Result};
use crate::netns;

/// A probe that takes longer is cut off.
const DEADLINE: Duration = Duration::from_secs(5);
/// Probes answered at the same time per port.
const CONCURRENT: usize = 16;

/// What a health check port says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Health {
    /// Namespace and name.
    pub(super) service: String,
    /// Ready endpoints on this node.
    pub(super) local_endpoints: usize,
}

/// The health check ports that a state asks for.
pub(super) fn wanted(state: &ProxyState) -> BTreeMap<u16, Health> {
    let mut wanted = BTreeMap::new();
    for port in &state.ports {
        let Some(number) = port.health_check_node_port else { continue };
        if port.external_policy != TrafficPolicy::Local {
            continue;
        }
        let mut ips: Vec<IpAddr> = port.endpoints.iter().filter(|e| e.local && e.ready).map(|e| e.ip).collect();
        ips.sort_unstable();
        ips.dedup();
        let health: &mut Health =
            wanted.entry(number).or_insert(Health { service: port.service.clone(), local_endpoints: 0 });
        // The ports of one service have the same endpoints; one that has any makes the node fit.
        health.local_endpoints = health.local_endpoints.max(ips.len());
    }
    wanted
}

fn answer(health: &Health) -> String {
    let status = if health.local_endpoints == 0 { "503 Service Unavailable" } else { "200 OK" };
    let (namespace, name) = health.service.split_once('/').unwrap_or(("", &health.service));
    let body = serde_json::json!({
        "service": { "namespace": namespace, "name": name },
        "localEndpoints": health.local_endpoints,
        "serviceProxyHealthy": true,
    })
    .to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\
         Content-Length: {length}\r\nX-Load-Balancing-Endpoint-Weight: {}\r\nConnection: close\r\n\r\n{body}",
        health.local_endpoints
    )
}

/// The running listeners.
#[derive(Default)]
pub(super) struct HealthPorts {
    ports: BTreeMap<u16, watch::Sender<Health>>,
    tasks: JoinSet<()>,
}

impl HealthPorts {
    /// Opens, updates and closes listeners; a port that cannot be opened is reported and tried again next time.
    pub(super) async fn update(&mut self, netns: Option<PathBuf>, wanted: BTreeMap<u16, Health>) {
        self.ports.retain(|port, _| wanted.contains_key(port));
        while self.tasks.try_join_next().is_some() {}
        for (port, health) in wanted {
            if let Some(sender) = self.ports.get(&port) {
                sender.send_if_modified(|now| std::mem::replace(now, health.clone()) != health);
                continue;
            }
            match netns::run(netns.clone(), move || listen(port)).await {
                Ok(listener) => {
                    let (sender, receiver) = watch::channel(health);
                    self.ports.insert(port, sender);
                    self.tasks.spawn(serve(listener, receiver));
                }
                Err(error) => tracing::warn!(%error, port, service = health.service, "health check node port"),
            }
        }
    }
}

fn listen(port: u16) -> Result<TcpListener> {
    let any: [IpAddr; 2] = [IpAddr::from([0u8; 16]), IpAddr::from([0u8; 4])];
    // A machine without IPv6 has no dual stack socket.
    let opened = TcpListener::bind(SocketAddr::new(any[0], port))
        .or_else(|_| TcpListener::bind(SocketAddr::new(any[1], port)))
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    opened.map_err(|source| Error::System { action: format!("listen on health check node port {port}"), source })
}

async fn serve(listener: TcpListener, mut health: watch::Receiver<Health>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut probes = JoinSet::new();
    loop {
        tokio::select! {
            changed = health.changed() => {
                // The sender is dropped when the port is no longer wanted.
                if changed.is_err() {
                    return;
                }
            }
            Some(_) = probes.join_next() => {}
            accepted = listener.accept(), if probes.len() < CONCURRENT => {
                if let Ok((stream, _)) = accepted {
                    let text = answer(&health.borrow());
                    probes.spawn(timeout(DEADLINE, probe(stream, text)));
                }
            }
        }
    }
}

async fn probe(mut stream: TcpStream, text: String) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let mut filled = 0;
    while let Some(room) = request.get_mut(filled..).filter(|room| !room.is_empty()) {
        let read = stream.read(room).await?;
        filled += read;
        let seen = request.get(..filled).unwrap_or_default();
        if read == 0 || seen.windows(4).any(|w| w == b"\r\n\r\n") {
            break;
        }
    }
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_local_endpoints_is_unavailable() {
        let text = answer(&Health { service: "default/web".into(), local_endpoints: 0 });
        assert!(text.starts_with("HTTP/1.1 503 "));
        assert!(text.contains(r#""namespace":"default""#));
    }
}
