//! A node with the embedded runtime, and an API server, in one process.

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use http::Method;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use trireme_apiserver::User;
use trireme_client::{Client, Selection, WatchEvent};
use trireme_cri::image_service_server::ImageServiceServer;
use trireme_cri::runtime_service_server::RuntimeServiceServer;
use trireme_node::{Cri, Node, NodeConfig, RuntimeEvents};
use trireme_runtime::images::{BuildEntry, BuildRequest, BuildSource, ImageError, Images, ImagesOptions, RunConfig};
use trireme_runtime::{Config, Runtime, SandboxAttach, SandboxLink, SandboxNetwork, Services, ShimCommand};
use trireme_schema::{Value, json};

/// The image of all pods.
pub const IMAGE: &str = "test.local/busybox:1";
/// Nothing may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pods use the host's network: the machine's own is left alone.
struct NoNetwork;

impl SandboxNetwork for NoNetwork {
    fn attach(&self, _: SandboxAttach) -> BoxFuture<'_, Result<SandboxLink, String>> {
        Box::pin(async { Err("there is no pod network in this test".to_owned()) })
    }

    fn detach(&self, _: String) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn trouble(&self) -> BoxFuture<'_, Option<String>> {
        Box::pin(async { None })
    }
}

/// What a test works with.
pub struct Lab {
    dir: tempfile::TempDir,
    pub client: Client,
    control: trireme_lab::Lab,
    runtime: Option<(Arc<Runtime>, tokio::task::JoinHandle<()>)>,
    node: Option<Node>,
    stop: CancellationToken,
}

fn cgroup() -> String {
    format!("trireme-test-{}", std::process::id())
}

impl Lab {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let control = trireme_lab::Lab::new().await.unwrap();
        let client = control.admin();
        let mut lab = Self { dir, client, control, runtime: None, node: None, stop: CancellationToken::new() };
        lab.build_image().await;
        lab.start().await;
        lab.create("serviceaccounts", r#"{"kind":"ServiceAccount","apiVersion":"v1","metadata":{"name":"default"}}"#)
            .await;
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn images(&self) -> Images {
        // Steps that a stopped agent had begun are done to their end, and hold the images until then.
        for _ in 0..500 {
            match Images::open(ImagesOptions::new(self.path("images"))).await {
                Err(ImageError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                opened => return opened.unwrap(),
            }
        }
        panic!("the images are held for ever");
    }

    async fn build_image(&self) {
        let applets = ["sh", "sleep", "cat", "echo", "true", "false", "touch", "rm", "id", "ls"];
        let entry = |path: &str, mode, source| BuildEntry { path: path.into(), mode, owner: (0, 0), source };
        let mut entries = vec![
            entry("/bin/busybox", Some(0o755), BuildSource::Path("/bin/busybox".into())),
            entry("/tmp", Some(0o1777), BuildSource::Directory),
        ];
        entries
            .extend(applets.iter().map(|a| entry(&format!("/bin/{a}"), None, BuildSource::Symlink("busybox".into()))));
        let run = RunConfig { env: vec!["PATH=/bin".into()], ..RunConfig::default() };
        self.images().await.build(BuildRequest { image: IMAGE.into(), entries, run, pinned: true }).await.unwrap();
    }

    /// Starts runtime and node.
    pub async fn start(&mut self) {
        self.stop = CancellationToken::new();
        let config = Config {
            root: self.path("runtime"),
            shim: ShimCommand { program: std::env::current_exe().unwrap(), args: vec![super::SHIM.into()] },
            cgroup: cgroup(),
            version: "test".into(),
        };
        let runtime = Runtime::open(config, self.images().await, Arc::new(NoNetwork)).await.unwrap();
        let socket = self.path("cri.sock");
        let _ = std::fs::remove_file(&socket);
        let incoming = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        let services = Services::new(runtime.clone(), "");
        let stop = self.stop.clone();
        let serving = tokio::spawn(async move {
            let server = tonic::transport::Server::builder()
                .add_service(RuntimeServiceServer::new(services.clone()))
                .add_service(ImageServiceServer::new(services))
                .serve_with_incoming(incoming);
            let _ = stop.run_until_cancelled(server).await;
        });
        self.runtime = Some((runtime, serving));
        let config = NodeConfig {
            name: "n".into(),
            ip: "127.0.0.1".parse().unwrap(),
            port: 1,
            root: self.path("node"),
            labels: Vec::new(),
            taints: Vec::new(),
            max_pods: 110,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            version: "v1.36.0".into(),
            // Whatever the machine is short of.
            eviction: "".parse().unwrap(),
            cgroup: cgroup(),
        };
        let user = User::new("system:node:n", &["system:nodes", "system:masters"]);
        let client = Client::new(Arc::new(self.control.server.transport(user)), "kubelet");
        let cri = Cri::connect(&socket).await.unwrap();
        self.node = Some(Node::start(config, client, cri, RuntimeEvents::default(), self.stop.clone()).await.unwrap());
    }

    /// Stops runtime and node; what runs goes on.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        self.node.take().unwrap().ended().await;
        let (runtime, serving) = self.runtime.take().unwrap();
        serving.await.unwrap();
        drop(runtime);
    }

    /// Leaves nothing behind.
    pub async fn end(mut self) {
        self.stop.cancel();
        if let Some(node) = self.node.take() {
            node.ended().await;
        }
        if let Some((runtime, _)) = self.runtime.take() {
            runtime.remove_all().await.unwrap();
        }
        trireme_node::tear_down_all(&self.path("node"));
    }

    pub async fn create(&self, plural: &str, object: &str) {
        let path = format!("/api/v1/namespaces/default/{plural}");
        self.send(Method::POST, &path, "application/json", object).await;
    }

    pub async fn patch(&self, path: &str, patch: &str) {
        let path = format!("/api/v1/namespaces/default/{path}");
        self.send(Method::PATCH, &path, "application/strategic-merge-patch+json", patch).await;
    }

    pub async fn delete(&self, pod: &str) {
        let path = format!("/api/v1/namespaces/default/pods/{pod}");
        self.send(Method::DELETE, &path, "application/json", "{}").await;
    }

    async fn send(&self, method: Method, path: &str, kind: &'static str, body: &str) {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let sent = self.client.request(method, path, Some((kind, body))).await;
        sent.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Makes a pod of this node; `spec` is what follows in its specification.
    pub async fn pod(&self, name: &str, spec: &str) {
        let spec = spec.replace("IMAGE", IMAGE);
        let pod = format!(
            r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"{name}"}},"spec":{{"nodeName":"n","hostNetwork":true,
                "automountServiceAccountToken":false,"terminationGracePeriodSeconds":2,{spec}}}}}"#
        );
        self.create("pods", &pod).await;
    }

    /// Waits until a pod is as it should be.
    pub async fn until(&self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.watch("pods", name, is, false).await
    }

    /// Waits until a pod is gone.
    pub async fn gone(&self, name: &str) -> Value {
        self.watch("pods", name, |_| false, true).await
    }

    async fn watch(&self, plural: &str, name: &str, is: impl Fn(&Value) -> bool, gone: bool) -> Value {
        let selection = Selection {
            collection: format!("/api/v1/namespaces/default/{plural}"),
            fields: Some(format!("metadata.name={name}")),
            ..Selection::default()
        };
        let mut last = Value::Null;
        let search = async {
            let mut events = self.client.watch(selection, None);
            while let Some(event) = events.next().await {
                match event.unwrap() {
                    WatchEvent::Applied(bytes) => last = json::parse(&bytes).unwrap(),
                    WatchEvent::Deleted(bytes) => {
                        last = json::parse(&bytes).unwrap();
                        if gone {
                            return;
                        }
                    }
                    // All that was there has been told of: it is gone already.
                    WatchEvent::Bookmark { initial_events_end: true, .. } if gone && last.is_null() => return,
                    WatchEvent::Bookmark { .. } => continue,
                }
                if is(&last) {
                    return;
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, search).await;
        assert!(found.is_ok(), "{name} is not as it should be: {}", String::from_utf8_lossy(&json::to_vec(&last)));
        last
    }

    /// Waits for an event about a pod, and gives its message.
    pub async fn event(&self, pod: &str, reason: &str) -> String {
        let selection = Selection {
            collection: "/api/v1/namespaces/default/events".into(),
            fields: Some(format!("involvedObject.name={pod},reason={reason}")),
            ..Selection::default()
        };
        let mut events = self.client.watch(selection, None);
        let search = async {
            while let Some(event) = events.next().await {
                if let WatchEvent::Applied(bytes) = event.unwrap() {
                    return json::parse(&bytes).unwrap().str_at(&["message"]).to_owned();
                }
            }
            String::new()
        };
        tokio::time::timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("no event {reason} about {pod}"))
    }
}
