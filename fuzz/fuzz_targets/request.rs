//! Requests of an authorized user: bodies in all forms, patches of all kinds, managed fields, selectors, paths. Whatever
//! is sent, there is an answer, and it is no 500.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use http::Method;
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::OnceLock;
use tokio::runtime::Runtime;
use trireme_apiserver::InProcess;
use trireme_client::Transport;
use trireme_lab::Lab;

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
    _lab: Lab,
    runtime: Runtime,
    transport: InProcess,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let (transport, lab) = runtime.block_on(async {
            let lab = Lab::below(Path::new("/dev/shm")).await.expect("a server");
            (lab.transport(), lab)
        });
        let server = Server { _lab: lab, runtime, transport };
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
