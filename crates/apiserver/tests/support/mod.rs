//! A service elsewhere, over real TLS, that a kubeconfig names.

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use trireme_apiserver::InProcess;
use trireme_client::Transport;

/// The code and the object that answer an object.
pub type Answer = fn(&Value) -> (u16, Value);

/// A server that remembers what it was asked.
pub struct Https {
    dir: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Value>>>,
    connections: Arc<AtomicUsize>,
}

impl Https {
    pub async fn start(answer: Answer) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), made.cert.pem()).unwrap();
        let kubeconfig = json!({
            "current-context": "a", "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": format!("https://localhost:{port}/review"), "certificate-authority": "ca.pem"}}],
            "users": [{"name": "u", "user": {"token": "secret"}}]
        });
        std::fs::write(dir.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let https = Self { dir, asked: Arc::default(), connections: Arc::default() };
        let (asked, connections) = (https.asked.clone(), https.connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, asked) = (acceptor.clone(), asked.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                        let asked = asked.clone();
                        async move {
                            assert_eq!(request.headers()["authorization"], "Bearer secret");
                            let body = request.into_body().collect().await.unwrap().to_bytes();
                            let object: Value = serde_json::from_slice(&body).unwrap();
                            let (code, answer) = answer(&object);
                            asked.lock().unwrap().push(object);
                            let mut response = http::Response::new(Full::new(Bytes::from(answer.to_string())));
                            *response.status_mut() = code.try_into().unwrap();
                            Ok::<_, Infallible>(response)
                        }
                    });
                    let serving =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    // The other side ends it.
                    let _ = serving.await;
                });
            }
        });
        https
    }

    /// The file of a kubeconfig that leads here.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    /// How many connections were made.
    #[allow(dead_code)] // not all tests ask
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Code and text of the answer to a request in JSON.
pub async fn send(client: &InProcess, method: Method, path: &str, body: &str) -> (StatusCode, String) {
    let request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
    let answer = client.send(request.body(body.to_owned().into()).unwrap()).await.unwrap();
    (answer.status(), String::from_utf8_lossy(answer.body()).into_owned())
}
