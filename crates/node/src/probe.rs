//! Probes: asking a container how it is.

use crate::cri::Cri;
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use trireme_cri::ExecSyncRequest;
use trireme_schema::Value;

/// How often and how patiently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rhythm {
    pub(crate) delay: Duration,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    pub(crate) successes: i64,
    pub(crate) failures: i64,
}

/// Reads a probe's numbers.
pub(crate) fn rhythm(probe: &Value) -> Rhythm {
    let n = |field: &str, default: i64| probe.int_at(&[field]).filter(|n| *n > 0).unwrap_or(default);
    let seconds = |n: i64| Duration::from_secs(n as u64);
    Rhythm {
        delay: seconds(n("initialDelaySeconds", 0)),
        period: seconds(n("periodSeconds", 10)),
        timeout: seconds(n("timeoutSeconds", 1)),
        successes: n("successThreshold", 1),
        failures: n("failureThreshold", 3),
    }
}

/// A port by number or by its name in the container.
pub(crate) fn port(container: &Value, port: Option<&Value>) -> Result<u16, String> {
    let number = match port {
        Some(Value::Int(n)) => Some(*n),
        Some(Value::String(name)) => {
            let named = container.list_at(&["ports"]).iter().find(|p| p.str_at(&["name"]) == name);
            named.and_then(|p| p.int_at(&["containerPort"])).or_else(|| name.parse().ok())
        }
        _ => None,
    };
    number.and_then(|n| u16::try_from(n).ok()).ok_or_else(|| format!("couldn't find port: {port:?}"))
}

/// Asks once.
///
/// # Errors
/// What a user is told when it does not answer well.
pub(crate) async fn once(cri: &Cri, id: &str, ip: &str, container: &Value, probe: &Value) -> Result<(), String> {
    let timeout = rhythm(probe).timeout;
    let asked = async {
        if let Some(exec) = probe.get("exec") {
            let cmd = exec.list_at(&["command"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
            let request = ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: timeout.as_secs() as i64 };
            let answer = cri.runtime.clone().exec_sync(request).await.map_err(|s| s.message().to_owned())?.into_inner();
            return match answer.exit_code {
                0 => Ok(()),
                _ => Err(String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned()),
            };
        }
        if let Some(get) = probe.get("httpGet") {
            return http(ip, container, get).await;
        }
        if let Some(tcp) = probe.get("tcpSocket") {
            let host = Some(tcp.str_at(&["host"])).filter(|h| !h.is_empty()).unwrap_or(ip);
            let port = port(container, tcp.get("port"))?;
            return TcpStream::connect((host, port))
                .await
                .map(drop)
                .map_err(|e| format!("dial tcp {host}:{port}: {e}"));
        }
        Err("this kind of probe is not supported".to_owned())
    };
    match tokio::time::timeout(timeout, asked).await {
        Ok(result) => result,
        Err(_) => Err(format!("probe timed out after {} s", timeout.as_secs())),
    }
}

async fn http(ip: &str, container: &Value, get: &Value) -> Result<(), String> {
    let host = Some(get.str_at(&["host"])).filter(|h| !h.is_empty()).unwrap_or(ip);
    let port = port(container, get.get("port"))?;
    let path = match get.str_at(&["path"]) {
        "" => "/",
        path => path,
    };
    if get.str_at(&["scheme"]).eq_ignore_ascii_case("https") {
        return Err("HTTPS probes are not supported yet".to_owned());
    }
    let url = format!("http://{host}:{port}{path}");
    let failed = |e: String| format!("Get \"{url}\": {e}");
    let stream =
        TcpStream::connect((host, port)).await.map_err(|e| failed(format!("dial tcp {host}:{port}: connect: {e}")))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(e.to_string()))?;
    tokio::spawn(connection);
    let mut request = http::Request::builder()
        .uri(path)
        .header("host", format!("{host}:{port}"))
        .header("user-agent", "kube-probe/1.36")
        .header("accept", "*/*");
    for header in get.list_at(&["httpHeaders"]) {
        request = request.header(header.str_at(&["name"]), header.str_at(&["value"]));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| failed(e.to_string()))?;
    let response = sender.send_request(request).await.map_err(|e| failed(e.to_string()))?;
    match response.status().as_u16() {
        200..400 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}
