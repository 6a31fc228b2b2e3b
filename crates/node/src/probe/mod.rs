//! Probes: asking a container how it is.

mod exec;
mod grpc;
mod http;
mod port;
mod rhythm;
mod task;
mod tcp;
mod verdict;

use crate::cri::Cri;
use std::time::Duration;
use trireme_schema::Value;

pub(crate) use port::port;
pub(crate) use rhythm::{Kind, Rhythm};
pub(crate) use task::Task;
pub(crate) use verdict::Verdicts;

/// What a container answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is well.
    Success,
    /// It is well, with a remark.
    Warning(String),
    /// It is not.
    Failure(String),
    /// Nobody knows: it could not be asked. This counts for nothing.
    Unknown(String),
}

/// Whom to ask.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The container's id.
    pub(crate) id: String,
    /// The pod's address.
    pub(crate) ip: String,
    /// The container's specification, for the names of its ports.
    pub(crate) spec: Value,
}

/// Asks once, as the handler (a probe or a lifecycle hook) says.
pub(crate) async fn ask(cri: &Cri, target: &Target, handler: &Value, timeout: Duration) -> Outcome {
    if let Some(exec) = handler.get("exec") {
        return exec::ask(cri, &target.id, exec, timeout).await;
    }
    if let Some(get) = handler.get("httpGet") {
        return match http::Request::new(target, get) {
            Ok(request) => http::ask(request, timeout).await,
            Err(why) => Outcome::Unknown(why),
        };
    }
    if let Some(socket) = handler.get("tcpSocket") {
        return match port(&target.spec, socket.get("port")) {
            Ok(port) => tcp::ask(host(socket, target), port, timeout).await,
            Err(why) => Outcome::Unknown(why),
        };
    }
    if let Some(grpc) = handler.get("grpc") {
        return match port(&target.spec, grpc.get("port")) {
            Ok(port) => grpc::ask(&target.ip, port, grpc.str_at(&["service"]), timeout).await,
            Err(why) => Outcome::Unknown(why),
        };
    }
    Outcome::Unknown("missing probe handler".to_owned())
}

/// Sends a hook's request; whatever is answered is well.
///
/// # Errors
/// When nobody answers.
pub(crate) async fn reach(target: &Target, get: &Value) -> Result<(), String> {
    http::reach(http::Request::new(target, get)?).await
}

/// The host that a handler names, or the pod.
fn host<'a>(handler: &'a Value, target: &'a Target) -> &'a str {
    match handler.str_at(&["host"]) {
        "" => &target.ip,
        host => host,
    }
}

/// Address and port as a URL has them.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Why no connection came about, as Go says it.
fn dial_error(host: &str, port: u16, error: &std::io::Error) -> String {
    let why = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        std::io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {}: {why}", authority(host, port))
}
