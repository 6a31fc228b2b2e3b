//! Admission webhooks over real TLS.

#![allow(clippy::unwrap_used)] // a test fails loudly

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use trireme_client::{Api, Error};
use trireme_lab::Lab;

/// What a webhook answers to the `request` of a review.
type Answer = fn(&Value) -> Value;

/// A webhook that listens on loopback and remembers what it was asked.
struct Webhook {
    config: Value,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Webhook {
    async fn start(answer: Answer) -> Self {
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
        let asked = Arc::new(Mutex::new(Vec::new()));
        let memory = asked.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, memory) = (acceptor.clone(), memory.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                        let memory = memory.clone();
                        async move {
                            let body = request.into_body().collect().await.unwrap().to_bytes();
                            let review: Value = serde_json::from_slice(&body).unwrap();
                            let mut response = answer(&review["request"]);
                            response["uid"] = review["request"]["uid"].clone();
                            memory.lock().unwrap().push(review["request"].clone());
                            let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
                            let bytes = Bytes::from(serde_json::to_vec(&review).unwrap());
                            Ok::<_, Infallible>(http::Response::new(Full::new(bytes)))
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        let config =
            json!({"url": format!("https://localhost:{port}/"), "caBundle": BASE64_STANDARD.encode(made.cert.pem())});
        Self { config, asked }
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

fn hook(name: &str, config: &Value, resource: &str, more: &Value) -> Value {
    let mut hook = json!({
        "name": name, "clientConfig": config, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": [resource]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
    });
    for (key, value) in more.as_object().unwrap() {
        hook[key] = value.clone();
    }
    hook
}

async fn configure(lab: &Lab, mutating: bool, hooks: Vec<Value>) {
    let kind = if mutating { "MutatingWebhookConfiguration" } else { "ValidatingWebhookConfiguration" };
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "c"}, "webhooks": hooks});
    if mutating {
        lab.admin().all::<MutatingWebhookConfiguration>().create(&object).await.unwrap();
    } else {
        lab.admin().all::<ValidatingWebhookConfiguration>().create(&object).await.unwrap();
    }
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

fn maps(lab: &Lab) -> Api<ConfigMap> {
    lab.admin().namespaced::<ConfigMap>("default")
}

fn status(error: &Error) -> (i32, String) {
    let Error::Api(status) = error else { panic!("{error}") };
    (status.code.unwrap_or_default(), status.message.clone().unwrap_or_default())
}

fn patch(operations: &Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": BASE64_STANDARD.encode(operations.to_string())})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validating_webhook_sees_every_write_and_may_refuse() {
    let lab = Lab::new().await.unwrap();
    let webhook = Webhook::start(|request| {
        let good = request["object"]["data"]["a"] == "1" || request["operation"] == "DELETE";
        json!({"allowed": good, "status": {"message": "a must be 1", "code": 403}, "warnings": ["seen"]})
    })
    .await;
    configure(&lab, false, vec![hook("v.example.com", &webhook.config, "configmaps", &json!({}))]).await;
    let maps = maps(&lab);
    maps.create(&map("good")).await.unwrap();
    let mut bad = map("bad");
    bad["data"]["a"] = "2".into();
    let refused = maps.create(&bad).await.unwrap_err();
    assert_eq!(status(&refused), (403, "admission webhook \"v.example.com\" denied the request: a must be 1".into()));
    assert!(maps.find("bad").await.unwrap().is_none());
    maps.delete("good", &trireme_client::DeleteOptions::default()).await.unwrap();

    let asked = webhook.asked();
    let of = |i: usize, field: &str| asked[i][field].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (of(0, "operation"), of(0, "name"), of(0, "namespace")),
        ("CREATE".into(), "good".into(), "default".into())
    );
    assert_eq!(asked[0]["object"]["apiVersion"], "v1");
    assert_eq!(asked[0]["userInfo"]["username"], "oracle-admin");
    assert_eq!(asked[2]["operation"], "DELETE");
    assert!(asked[2]["object"].is_null() && asked[2]["oldObject"]["data"]["a"] == "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn mutating_webhooks_see_each_others_changes() {
    let lab = Lab::new().await.unwrap();
    // The first wants to know of changes after it; the second changes something.
    let first = Webhook::start(|request| {
        let seen = if request["object"]["data"]["b"].is_null() { "no" } else { "yes" };
        patch(&json!([{"op": "add", "path": "/data/first-saw-b", "value": seen}]))
    })
    .await;
    let second = Webhook::start(|_| patch(&json!([{"op": "add", "path": "/data/b", "value": "2"}]))).await;
    let hooks = vec![
        hook("first.example.com", &first.config, "configmaps", &json!({"reinvocationPolicy": "IfNeeded"})),
        hook("second.example.com", &second.config, "configmaps", &json!({})),
    ];
    configure(&lab, true, hooks).await;
    let made = maps(&lab).create(&map("m")).await.unwrap().data.unwrap();
    assert_eq!((made["b"].as_str(), made["first-saw-b"].as_str()), ("2", "yes"));
    assert_eq!((first.asked().len(), second.asked().len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patched_pod_gets_defaults_and_is_validated() {
    let lab = Lab::new().await.unwrap();
    let webhook = Webhook::start(|_| {
        patch(&json!([{"op": "add", "path": "/spec/containers/-", "value": {"name": "sidecar", "image": "s"}}]))
    })
    .await;
    configure(&lab, true, vec![hook("s.example.com", &webhook.config, "pods", &json!({}))]).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    lab.admin().namespaced::<ServiceAccount>("default").create(&account).await.unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pod = lab.admin().namespaced::<Pod>("default").create(&pod).await.unwrap();
    let sidecar = pod.spec.unwrap().containers.pop().unwrap();
    assert_eq!(sidecar.image_pull_policy.as_deref(), Some("Always"));
    // The service account's token is mounted into it too, though it came later.
    assert_eq!(sidecar.volume_mounts.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_stops_or_is_ignored() {
    let lab = Lab::new().await.unwrap();
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = json!({"url": format!("https://{}/x", dead.local_addr().unwrap())});
    drop(dead);
    let more = json!({"failurePolicy": "Fail", "objectSelector": {"matchLabels": {"strict": "yes"}}});
    let strict = hook("strict.example.com", &config, "configmaps", &more);
    let lax = hook("lax.example.com", &config, "configmaps", &json!({"failurePolicy": "Ignore"}));
    configure(&lab, false, vec![strict, lax]).await;
    maps(&lab).create(&map("lax")).await.unwrap();
    let mut object = map("strict");
    object["metadata"]["labels"] = json!({"strict": "yes"});
    let (code, message) = status(&maps(&lab).create(&object).await.unwrap_err());
    assert_eq!(code, 500);
    let start = "Internal error occurred: failed calling webhook \"strict.example.com\": failed to call webhook: Post \"https://127.0.0.1:";
    assert!(message.starts_with(start), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_decide_who_is_asked() {
    let lab = Lab::new().await.unwrap();
    let webhook = Webhook::start(|_| json!({"allowed": false})).await;
    let more = json!({"matchConditions": [
        {"name": "not-system", "expression": "!request.userInfo.username.startsWith('system:')"},
        {"name": "guarded", "expression": "object.metadata.name.startsWith('guarded-')"},
        {"name": "may-delete", "expression": "authorizer.requestResource.check('delete').allowed()"},
        {"name": "not-three", "expression": "object.metadata.name != 'guarded-3' || object.data.none == 'x'"},
    ]});
    configure(&lab, false, vec![hook("g.example.com", &webhook.config, "configmaps", &more)]).await;
    maps(&lab).create(&map("free")).await.unwrap();
    assert_eq!(status(&maps(&lab).create(&map("guarded-1")).await.unwrap_err()).0, 400);
    assert_eq!(webhook.asked().len(), 1);
    // What cannot be told stops the request, and nobody is asked.
    let untold = maps(&lab).create(&map("guarded-3")).await.unwrap_err();
    let message = "configmaps \"guarded-3\" is forbidden: expression 'object.metadata.name != 'guarded-3' || object.data.none == 'x'' resulted in error: no such key: none";
    assert_eq!(status(&untold), (403, message.into()));
    assert_eq!(webhook.asked().len(), 1);
}
