//! The way to what runs: kubelets for logs and streams, pods and services for proxied requests.

use crate::answer::{Body, whole};
use crate::registry::Target;
use crate::request::{Query, RequestInfo};
use crate::server::{ApiServer, Incoming};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use trireme_schema::{Status, Value};
use trireme_streams::relay;

/// A connection to a node.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// How nodes are reached: directly, or through a tunnel that an agent opened.
pub trait Dialer: Send + Sync {
    /// Connects to a TCP port.
    fn dial<'a>(&'a self, node: &'a str, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Connection>>>;
}

/// Plain TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl Dialer for Direct {
    fn dial<'a>(&'a self, _node: &'a str, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Connection>>> {
        async move {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        }
        .boxed()
    }
}

/// The kubelets of the cluster.
#[derive(Clone)]
pub struct Kubelets {
    dialer: Arc<dyn Dialer>,
    tls: Arc<rustls::ClientConfig>,
}

const CONNECT: Duration = Duration::from_secs(10);

fn unavailable(what: &str, error: impl std::fmt::Display) -> Status {
    Status::internal(format!("error dialing backend: {what}: {error}"))
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl Kubelets {
    /// Nodes reached by `dialer`, with `tls` to show them who asks.
    pub fn new(dialer: Arc<dyn Dialer>, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { dialer, tls }
    }

    async fn connect(&self, node: &Value) -> Result<(Box<dyn Connection>, String), Status> {
        let name = node.str_at(&["metadata", "name"]);
        let addresses = node.list_at(&["status", "addresses"]);
        let address = ["InternalIP", "Hostname", "ExternalIP"]
            .into_iter()
            .find_map(|kind| addresses.iter().find(|a| a.str_at(&["type"]) == kind))
            .map(|a| a.str_at(&["address"]).to_owned())
            .ok_or_else(|| Status::internal(format!("node {name} has no address")))?;
        let port = node.int_at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).unwrap_or(10250);
        let port = u16::try_from(port).map_err(Status::internal)?;
        let dialed = tokio::time::timeout(CONNECT, self.dialer.dial(name, &address, port)).await;
        let plain = match dialed {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unavailable(&format!("dial tcp {address}:{port}"), error)),
            Err(_) => return Err(unavailable(&format!("dial tcp {address}:{port}"), "i/o timeout")),
        };
        let server_name = rustls::pki_types::ServerName::try_from(address.clone()).map_err(Status::internal)?;
        let connector = tokio_rustls::TlsConnector::from(self.tls.clone());
        let secured = tokio::time::timeout(CONNECT, connector.connect(server_name, plain)).await;
        match secured {
            Ok(Ok(stream)) => Ok((Box::new(stream), format!("{address}:{port}"))),
            Ok(Err(error)) => Err(unavailable(&format!("tls {address}:{port}"), error)),
            Err(_) => Err(unavailable(&format!("tls {address}:{port}"), "handshake timeout")),
        }
    }

    /// Logs and streams of a pod's container.
    ///
    /// # Errors
    /// 400 for a container that is not there or not named, 404, 500 when the node cannot be reached.
    pub async fn pod(
        &self,
        server: &ApiServer,
        request: Request<Incoming>,
        query: &Query,
        target: &Target,
    ) -> Result<Response<Body>, Status> {
        let record = server.record(target)?;
        let pod = target.served.read(&record.value);
        let (namespace, name) = (&target.namespace, &target.name);
        let node = pod.str_at(&["spec", "nodeName"]);
        if node.is_empty() {
            return match target.subresource.as_str() {
                // Nothing was written yet.
                "log" => {
                    container(&pod, query.get("container"))?;
                    Ok(crate::answer::text(200, ""))
                }
                _ => Err(Status::bad_request(format!("pod {name} does not have a host assigned"))),
            };
        }
        let Some(node) = server.read("", "nodes", "", node) else {
            return Err(Status::not_found("", "nodes", node));
        };
        let path = match target.subresource.as_str() {
            "log" => {
                let container = container(&pod, query.get("container"))?;
                format!("/containerLogs/{namespace}/{name}/{container}?{}", log_query(query))
            }
            "portforward" => {
                let ports: Vec<String> = query.all("ports").iter().map(|p| format!("port={}", escaped(p))).collect();
                format!("/portForward/{namespace}/{name}?{}", ports.join("&"))
            }
            stream => {
                let container = container(&pod, query.get("container"))?;
                format!("/{stream}/{namespace}/{name}/{container}?{}", stream_query(query))
            }
        };
        let (connection, host) = self.connect(&node).await?;
        let answer = forward(connection, request, &path, &host).await?;
        if target.subresource == "log" && !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        Ok(answer)
    }

    /// A request to the kubelet itself.
    ///
    /// # Errors
    /// 404, 500.
    pub async fn node(
        &self,
        server: &ApiServer,
        request: Request<Incoming>,
        info: &RequestInfo,
        target: &Target,
    ) -> Result<Response<Body>, Status> {
        let record = server.record(target)?;
        let (connection, host) = self.connect(&target.served.read(&record.value)).await?;
        let path = with_query(&format!("/{}", info.rest), &request);
        forward(connection, request, &path, &host).await
    }

    /// A request to a port of a pod or of a service's endpoint.
    ///
    /// # Errors
    /// 400, 404, 503.
    pub async fn backend(
        &self,
        server: &ApiServer,
        request: Request<Incoming>,
        info: &RequestInfo,
        target: &Target,
    ) -> Result<Response<Body>, Status> {
        // NAME, NAME:PORT or SCHEME:NAME:PORT.
        let parts: Vec<&str> = target.name.split(':').collect();
        let (name, port) = match parts[..] {
            [name] => (name, ""),
            [name, port] => (name, port),
            ["http" | "", name, port] => (name, port),
            _ => {
                return Err(Status::bad_request(format!(
                    "invalid {} request {:?}",
                    target.served.plural(),
                    target.name
                )));
            }
        };
        let one = Target { name: name.to_owned(), ..target.clone() };
        let object = target.served.read(&server.record(&one)?.value);
        let (address, port) = match target.served.kind() {
            "Pod" => pod_address(&object, port)?,
            _ => service_address(server, &object, port)?,
        };
        let dialed = tokio::time::timeout(CONNECT, self.dialer.dial("", &address, port)).await;
        let refused = |why: String| {
            Status::unavailable(format!("error trying to reach service: dial tcp {address}:{port}: {why}"))
        };
        let connection = match dialed {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(refused(error.to_string())),
            Err(_) => return Err(refused("i/o timeout".into())),
        };
        let path = with_query(&format!("/{}", info.rest), &request);
        forward(connection, request, &path, &format!("{address}:{port}")).await
    }
}

fn with_query(path: &str, request: &Request<Incoming>) -> String {
    match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

fn pod_address(pod: &Value, port: &str) -> Result<(String, u16), Status> {
    let address = pod.str_at(&["status", "podIP"]);
    if address.is_empty() {
        return Err(Status::bad_request("address not allowed"));
    }
    let ports = || pod.list_at(&["spec", "containers"]).iter().flat_map(|c| c.list_at(&["ports"]));
    let number = match port {
        "" => ports().next().and_then(|p| p.int_at(&["containerPort"])).unwrap_or(80),
        text => match text.parse() {
            Ok(n) => n,
            Err(_) => ports()
                .find(|p| p.str_at(&["name"]) == text)
                .and_then(|p| p.int_at(&["containerPort"]))
                .ok_or_else(|| Status::bad_request(format!("no port named {text:?}")))?,
        },
    };
    Ok((address.to_owned(), u16::try_from(number).map_err(Status::internal)?))
}

fn service_address(server: &ApiServer, service: &Value, port: &str) -> Result<(String, u16), Status> {
    let (namespace, name) = (service.str_at(&["metadata", "namespace"]), service.str_at(&["metadata", "name"]));
    let ports = service.list_at(&["spec", "ports"]);
    let wanted = ports
        .iter()
        .find(|p| {
            let number = p.int_at(&["port"]).map(|n| n.to_string()).unwrap_or_default();
            port == number || port == p.str_at(&["name"]) || (port.is_empty() && ports.len() == 1)
        })
        .ok_or_else(|| Status::unavailable(format!("no service port {port:?} found for service {name:?}")))?;
    let none = || Status::unavailable(format!("no endpoints available for service {name:?}"));
    for slice in server.read_all("discovery.k8s.io", "endpointslices", namespace) {
        if slice.str_at(&["metadata", "labels", "kubernetes.io/service-name"]) != name {
            continue;
        }
        let number = slice
            .list_at(&["ports"])
            .iter()
            .find(|p| p.str_at(&["name"]) == wanted.str_at(&["name"]))
            .and_then(|p| p.int_at(&["port"]));
        let ready = slice
            .list_at(&["endpoints"])
            .iter()
            .find(|e| e.at(&["conditions", "ready"]).and_then(Value::as_bool).unwrap_or(true));
        let address = ready.and_then(|e| e.list_at(&["addresses"]).first()).and_then(Value::as_str);
        if let (Some(number), Some(address)) = (number, address) {
            return Ok((address.to_owned(), u16::try_from(number).map_err(Status::internal)?));
        }
    }
    Err(none())
}

/// The container that is meant; a pod with one needs no name.
fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let name = pod.str_at(&["metadata", "name"]);
    let names =
        |list: &str| pod.list_at(&["spec", list]).iter().map(|c| c.str_at(&["name"]).to_owned()).collect::<Vec<_>>();
    let (main, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    if asked.is_empty() {
        return match &main[..] {
            [only] => Ok(only.clone()),
            _ => {
                let mut message =
                    format!("a container name must be specified for pod {name}, choose one of: [{}]", main.join(" "));
                if !init.is_empty() {
                    message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                Err(Status::bad_request(message))
            }
        };
    }
    if main.iter().chain(&init).chain(&ephemeral).any(|n| n == asked) {
        Ok(asked.to_owned())
    } else {
        Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")))
    }
}

fn log_query(query: &Query) -> String {
    let mut parts = Vec::new();
    for name in ["follow", "previous", "timestamps"] {
        if query.flag(name) {
            parts.push(format!("{name}=true"));
        }
    }
    for name in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
        if !query.get(name).is_empty() {
            parts.push(format!("{name}={}", escaped(query.get(name))));
        }
    }
    parts.join("&")
}

/// The kubelet's names for the streams that are wanted.
fn stream_query(query: &Query) -> String {
    let mut parts = Vec::new();
    for (name, own) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.flag(name) {
            parts.push(format!("{own}=1"));
        }
    }
    parts.extend(query.all("command").iter().map(|c| format!("command={}", escaped(c))));
    parts.join("&")
}

/// What a node says in plain text when it has no log, as a client of the API hears it.
async fn refusal(answer: Response<Body>) -> Status {
    const LONGEST: usize = 50_000;
    let status = answer.status();
    let text = match Limited::new(answer.into_body(), LONGEST).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(_) => String::new(),
    };
    match status {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        _ => Status::internal(text),
    }
}

/// Headers that are of one connection and not of the request.
pub(crate) fn is_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "host"
            | "content-length"
    )
}

/// Sends a request over a connection and its answer back; an upgrade becomes a tunnel.
pub(crate) async fn forward(
    connection: Box<dyn Connection>,
    mut request: Request<Incoming>,
    path: &str,
    host: &str,
) -> Result<Response<Body>, Status> {
    let upgrade = request.headers().get(header::UPGRADE).cloned();
    let waiting = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let mut headers = HeaderMap::new();
    for (name, value) in &parts.headers {
        // Nobody behind the server sees the credentials that were shown to it.
        if !is_hop(name) && name != header::AUTHORIZATION && !name.as_str().starts_with("impersonate-") {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(header::HOST, HeaderValue::from_str(host).map_err(Status::internal)?);
    if let Some(upgrade) = upgrade {
        headers.insert(header::UPGRADE, upgrade);
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    let bytes = if waiting.is_some() { Bytes::new() } else { body.read().await? };
    let mut outgoing = Request::new(Full::new(bytes));
    *outgoing.method_mut() = parts.method;
    *outgoing.uri_mut() = path.parse().map_err(|e| Status::bad_request(format!("invalid path: {e}")))?;
    *outgoing.headers_mut() = headers;
    let mut response = relay::exchange(connection, outgoing).await.map_err(|e| unavailable(host, e))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(waiting) = waiting
    {
        relay::join(waiting, hyper::upgrade::on(&mut response));
        let mut answer = Response::new(whole(""));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = response.headers().clone();
        return Ok(answer);
    }
    let (parts, body) = response.into_parts();
    let mut answer = Response::new(crate::answer::passed_on(body));
    *answer.status_mut() = parts.status;
    for (name, value) in &parts.headers {
        if !is_hop(name) {
            answer.headers_mut().append(name.clone(), value.clone());
        }
    }
    Ok(answer)
}
