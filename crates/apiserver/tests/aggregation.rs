//! Groups that other servers have: a second server of this kind, and one that says what it was sent.

#![allow(clippy::unwrap_used)] // a test fails loudly

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use trireme_apiserver::RequestHeaders;
use trireme_apiserver::listener::{self, Clients, Tls};
use trireme_client::pool::{Pool, SystemResolver, whole};
use trireme_client::{Selection, Transport, WatchEvent, tls_trusting};
use trireme_lab::{Lab, TOKEN};
use trireme_pki::{Purpose, ServingNames, Subject, certificates};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Sends a request as the administrator.
async fn send(lab: &Lab, method: Method, path: &str, accept: &str, body: Value) -> (u16, Bytes) {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::ACCEPT, accept)
        .header(header::CONTENT_TYPE, "application/json");
    let response = lab.transport().send(request.body(body).unwrap()).await.unwrap();
    (response.status().as_u16(), response.into_body())
}

async fn get(lab: &Lab, path: &str) -> (u16, Value) {
    let (code, body) = send(lab, Method::GET, path, "application/json", Value::Null).await;
    (code, serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body))))
}

async fn post(lab: &Lab, path: &str, object: Value) -> Value {
    let (code, body) = send(lab, Method::POST, path, "application/json", object).await;
    assert!(code == 201, "{path}: {code} {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

async fn delete(lab: &Lab, path: &str) {
    let (code, body) = send(lab, Method::DELETE, path, "application/json", Value::Null).await;
    assert!(code == 200, "{path}: {code} {}", String::from_utf8_lossy(&body));
}

/// Waits until a question has an answer.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap_or_else(|_| panic!("{what}: never"))
}

/// Waits until the condition of an APIService has a reason; gives its message.
async fn available(lab: &Lab, name: &str, reason: &str) -> String {
    let path = format!("{SERVICES}/{name}");
    eventually(reason, || async {
        let (_, object) = get(lab, &path).await;
        let condition = object["status"]["conditions"][0].clone();
        (condition["reason"] == reason).then(|| condition["message"].as_str().unwrap().to_owned())
    })
    .await
}

fn definition(group: &str) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("flunders.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"plural": "flunders", "singular": "flunder", "kind": "Flunder"},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "description": "What it is.",
                    "properties": {"size": {"type": "integer"}}}}}}}]}})
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GROUP: &str = "wardle.example.com";

/// A second server, which believes the front proxy of the first and shows a certificate for a service's name.
struct Second {
    lab: Lab,
    port: u16,
    stop: CancellationToken,
}

impl Second {
    async fn behind(first: &Lab) -> Self {
        let proxies = RequestHeaders::usual(first.pki.front_proxy_ca.certificate(), &["front-proxy-client"]);
        let lab = Lab::with(|config| config.authentication.request_headers = Some(proxies)).await.unwrap();
        post(&lab, DEFINITIONS, definition(GROUP)).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let second = Self { lab, port, stop };
        second.serve(listener, first);
        let path = format!("/apis/{GROUP}/v1alpha1/flunders");
        eventually("the group", || async { (get(&second.lab, &path).await.0 == 200).then_some(()) }).await;
        second
    }

    fn serve(&self, listener: TcpListener, first: &Lab) {
        let names = ServingNames { names: vec!["wardle.kube-system.svc".into()], addresses: Vec::new() };
        let purpose = Purpose::Server { names: names.names, addresses: names.addresses };
        let subject = Subject::new("wardle", &[]);
        let shown = self.lab.pki.server_ca.issue(&subject, &purpose, Duration::from_secs(3600)).unwrap();
        let users = certificates(self.lab.pki.client_ca.certificate(), "").unwrap();
        let proxies = certificates(first.pki.front_proxy_ca.certificate(), "").unwrap();
        let clients = Clients::new(&users, &proxies).unwrap();
        let tls = Tls::new(shown.chain().unwrap(), shown.private_key().unwrap(), clients).unwrap();
        tokio::spawn(listener::serve(self.lab.server.clone(), listener, tls, self.stop.clone()));
    }

    fn api_service(&self, port: u16) -> Value {
        api_service(GROUP, "v1alpha1", ("kube-system", "wardle", port), self.lab.pki.server_ca.certificate())
    }
}

fn api_service(group: &str, version: &str, (namespace, name, port): (&str, &str, u16), authority: &str) -> Value {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}")},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": 2000, "versionPriority": 200,
            "caBundle": BASE64_STANDARD.encode(authority),
            "service": {"namespace": namespace, "name": name, "port": port}}})
}

fn external(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "ExternalName", "externalName": "localhost"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_has_is_registered_and_kept() {
    let lab = Lab::new().await.unwrap();
    let (_, list) = get(&lab, SERVICES).await;
    let names: Vec<&str> =
        list["items"].as_array().unwrap().iter().filter_map(|i| i["metadata"]["name"].as_str()).collect();
    assert_eq!(names.len(), 21, "{names:?}");
    let (_, apps) = get(&lab, &format!("{SERVICES}/v1.apps")).await;
    assert_eq!(apps["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
    assert_eq!(
        apps["spec"],
        json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15})
    );
    assert_eq!(apps["status"]["conditions"][0]["reason"], "Local");

    post(&lab, DEFINITIONS, definition("a.example.com")).await;
    let path = format!("{SERVICES}/v1alpha1.a.example.com");
    let spec =
        json!({"group": "a.example.com", "version": "v1alpha1", "groupPriorityMinimum": 1000, "versionPriority": 100});
    let kept = |what| {
        eventually(what, || async {
            let (_, object) = get(&lab, &path).await;
            (object["spec"] == spec).then_some(object)
        })
    };
    let made = kept("made").await;
    assert_eq!(made["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "true");
    delete(&lab, &path).await;
    kept("made again").await;
    let mut changed = made.clone();
    changed["metadata"] = json!({"name": made["metadata"]["name"], "labels": made["metadata"]["labels"]});
    changed["spec"]["versionPriority"] = json!(7);
    let (_, now) = get(&lab, &path).await;
    changed["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
    let (code, _) = send(&lab, Method::PUT, &path, "application/json", changed).await;
    assert_eq!(code, 200);
    kept("put right").await;
    delete(&lab, &format!("{DEFINITIONS}/flunders.a.example.com")).await;
    eventually("gone", || async { (get(&lab, &path).await.0 == 404).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_map_for_extension_servers_says_whom_to_believe_and_is_kept() {
    let lab = Lab::new().await.unwrap();
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let whole = || {
        eventually("the map", || async {
            let (code, map) = get(&lab, path).await;
            (code == 200 && map["data"]["requestheader-client-ca-file"] == lab.pki.front_proxy_ca.certificate())
                .then_some(map)
        })
    };
    let map = whole().await;
    assert_eq!(map["data"]["client-ca-file"], lab.pki.client_ca.certificate());
    assert_eq!(map["data"]["requestheader-allowed-names"], r#"["front-proxy-client"]"#);
    assert_eq!(map["data"]["requestheader-username-headers"], r#"["X-Remote-User"]"#);
    delete(&lab, path).await;
    whole().await;
    let patch = json!({"data": {"requestheader-client-ca-file": null}}).to_string();
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/merge-patch+json")
        .body(Bytes::from(patch));
    assert_eq!(lab.transport().send(request.unwrap()).await.unwrap().status(), 200);
    whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_of_another_server_is_as_if_it_were_ours() {
    let first = Lab::new().await.unwrap();
    let second = Second::behind(&first).await;
    let name = "v1alpha1.wardle.example.com";
    let version = format!("/apis/{GROUP}/v1alpha1");
    let flunders = format!("{version}/namespaces/default/flunders");

    post(&first, SERVICES, second.api_service(second.port)).await;
    let message = available(&first, name, "ServiceNotFound").await;
    assert_eq!(message, r#"service/wardle in "kube-system" is not present"#);
    assert_eq!(get(&first, &flunders).await, (503, json!("service unavailable\n")));
    let stale = || async {
        let (_, body) = send(&first, Method::GET, "/apis", AGGREGATED, Value::Null).await;
        let list: Value = serde_json::from_slice(&body).unwrap();
        let group = list["items"].as_array()?.iter().find(|g| g["metadata"]["name"] == GROUP)?.clone();
        Some(group["versions"][0].clone())
    };
    assert_eq!(stale().await.unwrap(), json!({"version": "v1alpha1", "freshness": "Stale"}));

    post(&first, "/api/v1/namespaces/kube-system/services", external("wardle")).await;
    assert_eq!(available(&first, name, "Passed").await, "all checks passed");
    eventually("the way", || async { (get(&first, &flunders).await.0 == 200).then_some(()) }).await;

    // Objects.
    let object = json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": "Flunder", "metadata": {"name": "f"}, "spec": {"size": 1}});
    let made = post(&first, &flunders, object).await;
    assert_eq!(made["spec"]["size"], 1);
    assert_eq!(get(&second.lab, &format!("{flunders}/f")).await.1["metadata"]["uid"], made["metadata"]["uid"]);
    let (code, refused) = send(&first, Method::POST, &flunders, "application/json", json!({"kind": "Nothing"})).await;
    assert_eq!(code, 400, "{}", String::from_utf8_lossy(&refused));

    // Documents.
    let (_, groups) = get(&first, "/apis").await;
    let names: Vec<&str> = groups["groups"].as_array().unwrap().iter().filter_map(|g| g["name"].as_str()).collect();
    assert_eq!(names.last(), Some(&GROUP));
    assert_eq!(get(&first, &format!("/apis/{GROUP}")).await.1["preferredVersion"]["version"], "v1alpha1");
    let (code, list) = get(&first, &version).await;
    assert_eq!((code, &list["resources"][0]["name"]), (200, &json!("flunders")));
    let fresh = eventually("the resources", || async { stale().await.filter(|v| v["freshness"] == "Current") }).await;
    assert_eq!(fresh["resources"][0]["resource"], "flunders");
    assert_eq!(fresh["resources"][0]["responseKind"]["kind"], "Flunder");
    let v3 = format!("apis/{GROUP}/v1alpha1");
    let url = eventually("the index", || async {
        let (_, index) = get(&first, "/openapi/v3").await;
        index["paths"][&v3]["serverRelativeURL"].as_str().map(str::to_owned)
    })
    .await;
    let (code, document) = get(&first, &url).await;
    assert_eq!(code, 200);
    assert!(document["paths"][format!("{version}/flunders")].is_object());
    let (_, v2) = get(&first, "/openapi/v2").await;
    assert!(v2["paths"][format!("{version}/flunders")].is_object() && v2["paths"]["/api/v1/pods"].is_object());
    assert!(v2["definitions"]["com.example.wardle.v1alpha1.Flunder"].is_object());

    // A component of the first server watches objects of the second.
    let selection =
        Selection { collection: format!("{version}/flunders"), metadata_only: true, ..Selection::default() };
    let mut events = first.transport().watch(selection, None);
    let WatchEvent::Applied(seen) = events.next().await.unwrap().unwrap() else { panic!("no object") };
    let seen: Value = serde_json::from_slice(&seen).unwrap();
    assert_eq!((&seen["metadata"]["name"], seen.get("spec")), (&json!("f"), None));
    assert!(matches!(events.next().await.unwrap().unwrap(), WatchEvent::Bookmark { initial_events_end: true, .. }));
    delete(&first, &format!("{flunders}/f")).await;
    let mut next = events.next().await.unwrap().unwrap();
    while let WatchEvent::Bookmark { .. } = next {
        next = events.next().await.unwrap().unwrap();
    }
    assert!(matches!(next, WatchEvent::Deleted(_)), "{next:?}");
    drop(events);

    // It goes away, and its APIService too.
    second.stop.cancel();
    let mut moved = second.api_service(1);
    let (_, now) = get(&first, &format!("{SERVICES}/{name}")).await;
    moved["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
    let (code, _) = send(&first, Method::PUT, &format!("{SERVICES}/{name}"), "application/json", moved).await;
    assert_eq!(code, 200);
    let message = available(&first, name, "FailedDiscoveryCheck").await;
    let at = format!("https://localhost:1{version}");
    let refused = "dial tcp localhost:1: connect: connection refused";
    assert_eq!(message, format!("failing or missing response from {at}: Get \"{at}\": {refused}"));
    let fresh = json!({"version": "v1alpha1", "freshness": "Stale"});
    eventually("stale", || async { stale().await.filter(|v| *v == fresh) }).await;
    let (_, metrics) = get(&first, "/metrics").await;
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains(&format!("aggregator_unavailable_apiservice{{name=\"{name}\"}} 1")), "{metrics}");
    let lost = format!("aggregator_unavailable_apiservice_total{{name=\"{name}\",reason=\"FailedDiscoveryCheck\"}} 1");
    assert!(metrics.contains(&lost), "{metrics}");
    delete(&first, &format!("{SERVICES}/{name}")).await;
    let gone = || async { (get(&first, &flunders).await == (404, json!("404 page not found\n"))).then_some(()) };
    eventually("gone", gone).await;
    assert_eq!(get(&first, &format!("/apis/{GROUP}")).await.0, 404);
    let (_, v2) = get(&first, "/openapi/v2").await;
    assert!(v2["paths"][format!("{version}/flunders")].is_null());
}

/// A server that says what it was sent, and takes an upgrade to an echo.
struct Mirror {
    port: u16,
    authority: String,
}

impl Mirror {
    /// Its certificate is its own authority; clients show one of the authority given.
    async fn start(clients: &str) -> Self {
        let mut params = rcgen::CertificateParams::new(["mirror.kube-system.svc".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let shown = params.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(clients.as_bytes()).unwrap()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![shown.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(mirror);
                    let builder = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, authority: shown.pem() }
    }
}

async fn mirror(mut request: Request<hyper::body::Incoming>) -> Result<http::Response<Full<Bytes>>, Infallible> {
    if request.headers().contains_key(header::UPGRADE) {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgraded.await.unwrap());
            let mut bytes = [0; 64];
            while let Ok(n) = stream.read(&mut bytes).await {
                if n == 0 || stream.write_all(&bytes[..n]).await.is_err() {
                    return;
                }
            }
        });
        let response = http::Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "echo");
        return Ok(response.body(Full::default()).unwrap());
    }
    if request.uri().path().ends_with("/elsewhere") {
        let response = http::Response::builder().status(302).header(header::LOCATION, "https://example.com/");
        return Ok(response.body(Full::default()).unwrap());
    }
    let (parts, body) = request.into_parts();
    let size = body.collect().await.unwrap().to_bytes().len();
    let mut headers: Vec<String> =
        parts.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    headers.sort();
    let said = json!({"version": format!("{:?}", parts.version), "method": parts.method.as_str(), "uri": parts.uri.path_and_query().map(|p| p.as_str()), "headers": headers, "size": size});
    Ok(http::Response::new(Full::new(Bytes::from(said.to_string()))))
}

/// A client of a lab over TLS, with a certificate or without one.
struct OverTls {
    port: u16,
    pool: Pool,
}

impl OverTls {
    async fn of(lab: &Arc<Lab>, shown: Option<trireme_pki::Identity>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = lab.clone();
        tokio::spawn(async move { serving.serve(listener, CancellationToken::new()).await });
        let tls = tls_trusting(certificates(lab.pki.server_ca.certificate(), "").unwrap()).unwrap();
        let tls = match shown {
            Some(shown) => tls.with_client_auth_cert(shown.chain().unwrap(), shown.private_key().unwrap()).unwrap(),
            None => tls.with_no_client_auth(),
        };
        Self { port, pool: Pool::new(tls, None, Arc::new(SystemResolver)) }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(format!("https://127.0.0.1:{}{path}", self.port));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.pool.send(request.body(whole(body)).unwrap()).await.unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_learns_who_asks_and_is_asked_as_it_came() {
    let lab = Arc::new(Lab::new().await.unwrap());
    let mirror = Mirror::start(lab.pki.front_proxy_ca.certificate()).await;
    post(&lab, "/api/v1/namespaces/kube-system/services", external("mirror")).await;
    let service = api_service("m.example.com", "v1", ("kube-system", "mirror", mirror.port), &mirror.authority);
    post(&lab, SERVICES, service).await;
    available(&lab, "v1.m.example.com", "Passed").await;
    eventually("the way", || async { (get(&lab, "/apis/m.example.com/v1").await.0 == 200).then_some(()) }).await;
    let client = OverTls::of(&lab, None).await;
    let bearer = format!("Bearer {TOKEN}");
    let path = "/apis/m.example.com/v1/namespaces/default/things/a?x=1%2F2&dryRun=All";
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-remote-user", "somebody"),
        ("x-remote-group", "system:masters"),
        ("x-remote-extra-scopes", "all"),
        ("impersonate-user", "ann"),
        ("impersonate-group", "writers"),
        ("impersonate-extra-example.com%2freason", "test"),
        ("accept", "application/x-none"),
    ];
    // Whom she is asked to be may do nothing here.
    let (code, refused) = client.send(Method::PUT, path, &headers, Bytes::from_static(b"{}")).await;
    assert_eq!(code, 403, "{refused}");
    post(&lab, "/apis/rbac.authorization.k8s.io/v1/clusterroles", json!({"metadata": {"name": "w"}, "rules": [{"apiGroups": ["m.example.com"], "resources": ["*"], "verbs": ["*"]}]})).await;
    post(
        &lab,
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        json!({"metadata": {"name": "w"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "w"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "writers"}]}),
    )
    .await;
    let large = Bytes::from(vec![b'x'; 4 << 20]);
    let (code, said) = client.send(Method::PUT, path, &headers, large.clone()).await;
    assert_eq!(code, 200, "{said}");
    assert_eq!((&said["method"], &said["uri"], &said["version"]), (&json!("PUT"), &json!(path), &json!("HTTP/2.0")));
    assert_eq!(said["size"], large.len(), "bodies are the other server's to limit");
    let told: Vec<&str> = said["headers"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let about: Vec<&str> = told
        .iter()
        .copied()
        .filter(|h| ["x-remote", "authorization", "impersonate", "accept:"].iter().any(|start| h.starts_with(start)))
        .collect();
    assert_eq!(
        about,
        [
            "accept: application/x-none",
            "x-remote-extra-example.com%2freason: test",
            "x-remote-group: system:authenticated",
            "x-remote-group: writers",
            "x-remote-user: ann",
        ]
    );
    let (code, said) =
        client.send(Method::GET, "/apis/m.example.com/v1/elsewhere", &[("authorization", &bearer)], Bytes::new()).await;
    assert_eq!((code, said), (502, json!("the backend attempted to redirect this request, which is not permitted")));

    // Out of HTTP, and bytes both ways.
    let mut tls =
        tls_trusting(certificates(lab.pki.server_ca.certificate(), "").unwrap()).unwrap().with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", client.port)).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    let asked = format!(
        "POST /apis/m.example.com/v1/namespaces/default/things/a/exec?command=x HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\nconnection: Upgrade\r\nupgrade: echo\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream.write_all(b"there and back").await.unwrap();
    let mut back = [0; 14];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"there and back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_proxy_says_who_asks_and_nobody_else_does() {
    let lab = Arc::new(Lab::new().await.unwrap());
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review =
        || Bytes::from(json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string());
    let headers = [
        ("content-type", "application/json"),
        ("x-remote-user", "ann"),
        ("x-remote-uid", "u-1"),
        ("x-remote-group", "writers"),
        ("x-remote-group", "readers"),
        ("x-remote-extra-example.com%2freason", "test"),
    ];
    let proxy = OverTls::of(&lab, Some(lab.pki.front_proxy.clone())).await;
    let (code, said) = proxy.send(Method::POST, who, &headers, review()).await;
    assert_eq!(code, 201, "{said}");
    assert_eq!(
        said["status"]["userInfo"],
        json!({"username": "ann", "uid": "u-1", "groups": ["writers", "readers", "system:authenticated"], "extra": {"example.com/reason": ["test"]}})
    );
    // The proxy itself is nobody: its authority is not that of users.
    let (code, said) = proxy.send(Method::POST, who, &headers[..1], review()).await;
    assert_eq!((code, said["message"].as_str().unwrap().contains("system:anonymous")), (403, true), "{said}");

    let subject = Subject::new("another", &["system:masters"]);
    let other = lab.pki.front_proxy_ca.issue(&subject, &Purpose::Client, Duration::from_secs(3600)).unwrap();
    let other = OverTls::of(&lab, Some(other)).await;
    let (code, said) = other.send(Method::POST, who, &headers, review()).await;
    assert_eq!((code, said["message"].as_str().unwrap().contains("system:anonymous")), (403, true), "{said}");

    let admin = OverTls::of(&lab, Some(lab.pki.admin.clone())).await;
    let (code, said) = admin.send(Method::POST, who, &headers, review()).await;
    assert_eq!((code, &said["status"]["userInfo"]["username"]), (201, &json!("system:admin")));
}
