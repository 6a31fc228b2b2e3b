//! An HTTP request, as a probe or a hook makes it.

use super::{Outcome, Target, authority, dial_error, host, port};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use trireme_schema::Value;

/// How probes introduce themselves.
pub(super) const USER_AGENT: &str = "kube-probe/1.36";
/// Redirects are followed this often.
const REDIRECTS: usize = 10;

/// What is to be asked.
#[derive(Debug)]
pub(super) struct Request {
    scheme: &'static str,
    host: String,
    port: u16,
    path: String,
    headers: HeaderMap,
}

impl Request {
    pub(super) fn new(target: &Target, get: &Value) -> Result<Self, String> {
        let path = get.str_at(&["path"]);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let scheme = if get.str_at(&["scheme"]).eq_ignore_ascii_case("https") { "https" } else { "http" };
        let mut headers = HeaderMap::new();
        for pair in get.list_at(&["httpHeaders"]) {
            let (name, value) = (pair.str_at(&["name"]), pair.str_at(&["value"]));
            let name: HeaderName = name.parse().map_err(|_| format!("invalid header name {name:?}"))?;
            let value: HeaderValue = value.parse().map_err(|_| format!("invalid header value {value:?}"))?;
            headers.append(name, value);
        }
        for (name, value) in [(header::USER_AGENT, USER_AGENT), (header::ACCEPT, "*/*")] {
            match headers.get(&name) {
                // An empty one says that none is wanted.
                Some(own) if own.is_empty() => drop(headers.remove(name)),
                Some(_) => {}
                None => drop(headers.insert(name, HeaderValue::from_static(value))),
            }
        }
        let port = port(&target.spec, get.get("port"))?;
        Ok(Self { scheme, host: host(get, target).to_owned(), port, path, headers })
    }

    fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, authority(&self.host, self.port), self.path)
    }

    /// The request that a redirect asks for; `None` when it leads to another host.
    fn redirected(&self, location: &str) -> Option<Self> {
        let next = |scheme, port, path: &str| Self {
            scheme,
            host: self.host.clone(),
            port,
            path: path.to_owned(),
            headers: self.headers.clone(),
        };
        if location.starts_with('/') && !location.starts_with("//") {
            return Some(next(self.scheme, self.port, location));
        }
        let uri: Uri = location.parse().ok()?;
        let Some(host) = uri.host() else {
            let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            return Some(next(self.scheme, self.port, &format!("{folder}/{location}")));
        };
        if host.trim_matches(['[', ']']) != self.host {
            return None;
        }
        let scheme = if uri.scheme_str() == Some("https") { "https" } else { "http" };
        let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        Some(next(scheme, port, uri.path_and_query().map_or("/", |p| p.as_str())))
    }
}

pub(super) async fn ask(request: Request, timeout: Duration) -> Outcome {
    let url = request.url();
    match tokio::time::timeout(timeout, follow(request)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(format!(
            "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

/// Sends a request; whatever is answered is well.
pub(super) async fn reach(request: Request) -> Result<(), String> {
    send(&request).await.map(drop).map_err(|why| format!("Get {:?}: {why}", request.url()))
}

async fn follow(mut request: Request) -> Outcome {
    for _ in 0..=REDIRECTS {
        let (status, location) = match send(&request).await {
            Ok(answer) => answer,
            Err(why) => return Outcome::Failure(format!("Get {:?}: {why}", request.url())),
        };
        match (status.as_u16(), location) {
            (301 | 302 | 303 | 307 | 308, Some(location)) => match request.redirected(&location) {
                Some(next) => request = next,
                None => return Outcome::Warning("Probe terminated redirects, Response body: ".to_owned()),
            },
            (200..400, _) => return Outcome::Success,
            (code, _) => return Outcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
        }
    }
    Outcome::Failure(format!("Get {:?}: stopped after {REDIRECTS} redirects", request.url()))
}

async fn send(request: &Request) -> Result<(StatusCode, Option<String>), String> {
    let stream = TcpStream::connect((request.host.as_str(), request.port))
        .await
        .map_err(|e| dial_error(&request.host, request.port, &e))?;
    if request.scheme == "https" {
        let name = ServerName::try_from(request.host.clone()).map_err(|e| e.to_string())?;
        let stream = TlsConnector::from(TLS.clone()).connect(name, stream).await.map_err(|e| e.to_string())?;
        exchange(request, stream).await
    } else {
        exchange(request, stream).await
    }
}

async fn exchange(
    request: &Request,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<(StatusCode, Option<String>), String> {
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|e| e.to_string())?;
    // It ends with the answer, since nobody reads on, or with the probe's deadline.
    let connection = AbortOnDrop(tokio::spawn(async move { drop(connection.await) }));
    let mut built = ::http::Request::builder().method(Method::GET).uri(&request.path);
    if !request.headers.contains_key(header::HOST) {
        built = built.header(header::HOST, authority(&request.host, request.port));
    }
    built = built.header(header::CONNECTION, "close");
    let mut built = built.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    for (name, value) in &request.headers {
        built.headers_mut().append(name, value.clone());
    }
    let answer = sender.send_request(built).await.map_err(|e| e.to_string())?;
    drop(connection);
    let location = answer.headers().get(header::LOCATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
    Ok((answer.status(), location))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Probes ask whether a server answers, not who it is (as upstream's do).
static TLS: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Anybody(provider.clone()));
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    #[allow(clippy::expect_used)] // the provider is a constant
    let builder = builder.with_safe_default_protocol_versions().expect("the provider has the default versions");
    Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
});

#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use trireme_schema::json;

    async fn server(answers: Vec<&'static str>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut text = [0; 1024];
                let n = stream.read(&mut text).await.unwrap();
                assert!(String::from_utf8_lossy(&text[..n]).to_lowercase().contains("user-agent: kube-probe/1.36"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    async fn probe(answers: Vec<&'static str>) -> Outcome {
        let port = server(answers).await;
        let target = Target { id: String::new(), ip: "127.0.0.1".into(), spec: Value::Null };
        let get = json::parse(format!(r#"{{"port":{port},"path":"/x?y=1"}}"#).as_bytes()).unwrap();
        ask(Request::new(&target, &get).unwrap(), Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn answers_are_judged_by_their_code_and_redirects_stay_on_the_host() {
        let ok = "HTTP/1.1 204 OK\r\n\r\n";
        let moved = "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n";
        let away = "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n";
        let bad = "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(probe(vec![ok]).await, Outcome::Success);
        assert_eq!(probe(vec![moved, ok]).await, Outcome::Success);
        assert!(matches!(probe(vec![away]).await, Outcome::Warning(_)));
        let want = Outcome::Failure("HTTP probe failed with statuscode: 503".into());
        assert_eq!(probe(vec![bad]).await, want);
        assert_eq!(probe(vec![moved, bad]).await, want);
    }

    #[tokio::test]
    async fn a_closed_port_is_told_as_upstream_tells_it() {
        let target = Target { id: String::new(), ip: "127.0.0.1".into(), spec: Value::Null };
        let get = json::parse(br#"{"port":1}"#).unwrap();
        let outcome = ask(Request::new(&target, &get).unwrap(), Duration::from_secs(5)).await;
        let want = "Get \"http://127.0.0.1:1/\": dial tcp 127.0.0.1:1: connect: connection refused";
        assert_eq!(outcome, Outcome::Failure(want.into()));
    }
}
