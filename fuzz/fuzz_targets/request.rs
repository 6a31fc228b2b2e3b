//! Requests of an authorized user: bodies in all forms, patches of all kinds, managed fields, selectors, paths. Whatever
//! is sent, there is an answer, and it is no 500.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use http::Method;
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, OnceLock};
use tokio::runtime::Runtime;
use trireme_apiserver::kubelet::{Direct, Kubelets};
use trireme_apiserver::{ApiServer, Config, InProcess, User};
use trireme_client::Transport;
use trireme_store::Store;

#[derive(Arbitrary, Debug)]
enum Call<'a> {
    /// A body of some form is created.
    Create { kind: u8, form: u8, body: &'a [u8] },
    /// An object that is there is patched in one of the four languages.
    Patch { kind: u8, language: u8, force: bool, body: &'a [u8] },
    /// A list with parameters.
    List { kind: u8, labels: &'a str, fields: &'a str, limit: i8, token: &'a str },
    /// Any method on any path.
    Any { method: u8, path: &'a str, body: &'a [u8] },
}

const COLLECTIONS: [&str; 6] = [
    "/api/v1/namespaces/default/pods",
    "/api/v1/namespaces/default/configmaps",
    "/api/v1/namespaces/default/services",
    "/apis/apps/v1/namespaces/default/deployments",
    "/apis/batch/v1/namespaces/default/cronjobs",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
];
const FORMS: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const LANGUAGES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

struct Server {
    _dir: tempfile::TempDir,
    runtime: Runtime,
    transport: InProcess,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let dir = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let transport = runtime.block_on(async {
            let pki = trireme_pki::ClusterPki::open(&dir.path().join("pki"), &Default::default()).expect("keys");
            let here = std::net::IpAddr::from([127, 0, 0, 1]);
            let config = Config {
                service_ranges: vec!["10.71.0.0/16".parse().expect("a range")],
                advertise_address: here,
                advertise_port: 1,
                cluster_domain: "cluster.local".into(),
                version: "v1.36.2".into(),
                client_ca: pki.client_ca.certificate().to_owned(),
                server_ca: pki.server_ca.certificate().to_owned(),
                service_account_key: pki.service_account_key.clone(),
                static_tokens: Vec::new(),
            };
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let tls = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            let store = Store::open(&dir.path().join("store")).expect("a store");
            let server = ApiServer::open(store, config, Kubelets::new(Arc::new(Direct), Arc::new(tls))).await;
            server.expect("a server").transport(User::new("fuzz", &["system:masters"]))
        });
        let server = Server { _dir: dir, runtime, transport };
        let account = br#"{"metadata":{"name":"default"}}"#;
        server.send(Method::POST, "/api/v1/namespaces/default/serviceaccounts", FORMS[0], account);
        let object = br#"{"metadata":{"name":"x","labels":{"a":"1"}},"data":{"k":"v"},
            "rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}],
            "spec":{"containers":[{"name":"c","image":"i","env":[{"name":"A","value":"1"}]}],"ports":[{"port":80,"protocol":"TCP"}],
            "selector":{"matchLabels":{"a":"1"}},"schedule":"* * * * *","template":{"metadata":{"labels":{"a":"1"}},
            "spec":{"containers":[{"name":"c","image":"i"}]}},"jobTemplate":{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}}}"#;
        for collection in COLLECTIONS {
            // Fields that a kind does not have are dropped.
            server.send(Method::POST, &format!("{collection}?fieldValidation=Ignore"), FORMS[0], object);
        }
        server
    })
}

impl Server {
    fn send(&self, method: Method, target: &str, content_type: &str, body: &[u8]) {
        let request = http::Request::builder().method(method).uri(target).header("content-type", content_type);
        let Ok(request) = request.body(Bytes::copy_from_slice(body)) else { return };
        let shown = format!("{request:?}");
        let answer = self.runtime.block_on(self.transport.send(request)).expect("an answer");
        assert!(answer.status() != 500, "{shown}\n{}", String::from_utf8_lossy(answer.body()));
    }
}

fn escape(text: &str) -> String {
    text.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fuzz_target!(|call: Call<'_>| {
    let server = server();
    let collection = |kind: u8| COLLECTIONS[usize::from(kind) % COLLECTIONS.len()];
    match call {
        Call::Create { kind, form, body } => {
            let form = FORMS[usize::from(form) % FORMS.len()];
            server.send(Method::POST, &format!("{}?dryRun=All", collection(kind)), form, body);
        }
        Call::Patch { kind, language, force, body } => {
            let language = LANGUAGES[usize::from(language) % LANGUAGES.len()];
            let manager = if language.contains("apply") { format!("&fieldManager=f&force={force}") } else { String::new() };
            let target = format!("{}/x?dryRun=All{manager}", collection(kind));
            server.send(Method::PATCH, &target, language, body);
        }
        Call::List { kind, labels, fields, limit, token } => {
            let (labels, fields, token) = (escape(labels), escape(fields), escape(token));
            let query = format!("labelSelector={labels}&fieldSelector={fields}&limit={limit}&continue={token}");
            server.send(Method::GET, &format!("{}?{query}", collection(kind)), "", &[]);
        }
        Call::Any { method, path, body } => {
            let method = [Method::GET, Method::POST, Method::PUT, Method::PATCH][usize::from(method) % 4].clone();
            // What is written for good would make one run depend on another; watches do not end.
            let watch = path.contains("watch") || path.contains("follow");
            if watch || (method != Method::GET && !path.contains("dryRun=All")) {
                return;
            }
            server.send(method, &format!("/{path}"), FORMS[0], body);
        }
    }
});
