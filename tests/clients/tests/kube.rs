//! The kube crate against a control plane of its own: typed objects, server-side apply, a watcher; over TLS.

#![allow(clippy::unwrap_used)] // a test fails loudly

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A control plane that dies with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The binary beside this test, or the one that `TRIREME` names.
fn binary() -> Option<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("trireme"));
    std::env::var_os("TRIREME").map(PathBuf::from).or_else(beside).filter(|p| p.is_file())
}

fn start(binary: &Path, dir: &Path) -> Server {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let child = Command::new(binary)
        .args(["server", "--disable", "node,dns,proxy", "--bind-address", "127.0.0.1"])
        .args(["--advertise-address", "127.0.0.1", "--https-listen-port", &port])
        .arg("--data-dir")
        .arg(dir.join("data"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Server(child)
}

async fn client(dir: &Path) -> Client {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while Instant::now() < deadline {
        tick.tick().await;
        let Ok(file) = Kubeconfig::read_from(dir.join("data/kubeconfig")) else { continue };
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        if client.apiserver_version().await.is_ok() {
            return client;
        }
    }
    panic!("not ready: {}", std::fs::read_to_string(dir.join("log")).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kube_crate_creates_applies_watches_and_deletes() {
    let Some(binary) = binary() else {
        eprintln!("skipped: no trireme binary beside this test; build it, or name it in TRIREME");
        return;
    };
    let temporary = tempfile::tempdir().unwrap();
    let _server = start(&binary, temporary.path());
    let client = client(temporary.path()).await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");

    // Typed objects.
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "a", "labels": {"t": "1"}}, "data": {"k": "v"}})).unwrap();
    let mut made = maps.create(&PostParams::default(), &map).await.unwrap();
    let refused = maps.create(&PostParams::default(), &map).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(s) if s.code == 409 && s.reason == "AlreadyExists"));
    made.data.as_mut().unwrap().insert("k".into(), "w".into());
    let replaced = maps.replace("a", &PostParams::default(), &made).await.unwrap();
    assert_ne!(replaced.resource_version(), made.resource_version());
    let stale = maps.replace("a", &PostParams::default(), &made).await.unwrap_err();
    assert!(matches!(stale, kube::Error::Api(s) if s.code == 409 && s.reason == "Conflict"));
    assert_eq!(maps.list(&ListParams::default().labels("t=1")).await.unwrap().items.len(), 1);
    assert!(maps.get_opt("none").await.unwrap().is_none());

    // A watcher sees what there is, then what happens.
    let config = watcher::Config::default().labels("t=1");
    let mut events = watcher(maps.clone(), config).boxed();
    let mut next = async || {
        let next = tokio::time::timeout(Duration::from_secs(20), events.try_next());
        next.await.expect("an event in time").unwrap().unwrap()
    };
    assert!(matches!(next().await, Event::Init));
    assert!(matches!(next().await, Event::InitApply(m) if m.name_any() == "a"));
    assert!(matches!(next().await, Event::InitDone));

    // Server-side apply: two managers, a conflict, force.
    let apply = |value: &str| {
        Patch::Apply(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "labels": {"t": "1"}}, "data": {"k": value}
        }))
    };
    maps.patch("b", &PatchParams::apply("one"), &apply("1")).await.unwrap();
    assert!(matches!(next().await, Event::Apply(m) if m.name_any() == "b"));
    let conflict = maps.patch("b", &PatchParams::apply("two"), &apply("2")).await.unwrap_err();
    assert!(matches!(&conflict, kube::Error::Api(s) if s.code == 409), "{conflict}");
    let forced = maps.patch("b", &PatchParams::apply("two").force(), &apply("2")).await.unwrap();
    assert_eq!(forced.data.unwrap()["k"], "2");
    assert!(matches!(next().await, Event::Apply(m) if m.data.as_ref().unwrap()["k"] == "2"));
    maps.delete("b", &DeleteParams::default()).await.unwrap();
    assert!(matches!(next().await, Event::Delete(m) if m.name_any() == "b"));

    // Subresources.
    let deployments: Api<Deployment> = Api::namespaced(client, "default");
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "example/c:1"}]}}}
    }))
    .unwrap();
    deployments.create(&PostParams::default(), &deployment).await.unwrap();
    let scale = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let scaled = deployments.patch_scale("web", &PatchParams::default(), &scale).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(3));
    assert_eq!(deployments.get("web").await.unwrap().spec.unwrap().replicas, Some(3));
}
