use super::*;
use crate::Options;
use crate::controller::run;
use crate::fake_api::{FakeApi, clock_at, eventually};
use k8s_openapi::api::core::v1::Event;
use serde_json::Value;

fn node(name: &str, in_use: &[&str]) -> Value {
    json!({"metadata": {"name": name, "annotations": {MANAGED: "true"}}, "status": {"volumesInUse": in_use,
        "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn pod(name: &str, node: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"nodeName": node, "containers": [],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}, "status": {"phase": "Running"}})
}

fn volume(api: &FakeApi, mode: &str) {
    api.put::<PersistentVolume>(json!({"metadata": {"name": "pv"}, "spec": {"accessModes": [mode],
        "csi": {"driver": "d", "volumeHandle": "h"}, "claimRef": {"namespace": "n", "name": "c", "uid": "u"}}}));
    api.put::<PersistentVolumeClaim>(json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"},
        "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}}));
}

fn on(api: &FakeApi, node: &str) -> Option<VolumeAttachment> {
    api.all::<VolumeAttachment>().into_iter().find(|attachment| attachment.spec.node_name == node)
}

fn reported(api: &FakeApi, node: &str) -> Vec<String> {
    let status = api.get::<Node>("", node).and_then(|node| node.status).unwrap_or_default();
    status.volumes_attached.unwrap_or_default().into_iter().map(|volume| volume.name).collect()
}

fn told(api: &FakeApi) -> Vec<String> {
    api.all::<Event>().into_iter().filter_map(|event| event.message).collect()
}

#[tokio::test(start_paused = true)]
async fn a_volume_moves_with_its_pod() {
    let api = FakeApi::default();
    let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
    volume(&api, "ReadWriteOnce");
    api.put::<Node>(node("a", &[]));
    api.put::<Node>(node("b", &[]));
    tokio::spawn(run(AttachDetach::new(&context), context.shutdown.clone()));
    api.put::<Pod>(pod("p", "a"));
    eventually("the attachment", || on(&api, "a").is_some()).await;
    let first = on(&api, "a").unwrap().metadata.name.unwrap();
    assert!(reported(&api, "a").is_empty());
    api.change::<VolumeAttachment>("", &first, json!({"status": {"attached": true}}));
    eventually("the report", || reported(&api, "a") == ["kubernetes.io/csi/d^h"]).await;
    eventually("the event", || told(&api) == ["AttachVolume.Attach succeeded for volume \"pv\" "]).await;

    // The pod moves while its volume is still mounted.
    api.change::<Node>("", "a", json!({"status": {"volumesInUse": ["kubernetes.io/csi/d^h"]}}));
    api.put::<Pod>(pod("q", "b"));
    let refusal = "Multi-Attach error for volume \"pv\" Volume is already used by pod(s) p";
    eventually("the refusal", || told(&api).iter().any(|message| message == refusal)).await;
    api.remove::<Pod>("n", "p");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(on(&api, "a").is_some() && on(&api, "b").is_none());
    api.change::<Node>("", "a", json!({"status": {"volumesInUse": []}}));
    eventually("the move", || on(&api, "a").is_none() && on(&api, "b").is_some()).await;
    assert!(reported(&api, "a").is_empty());
    context.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn failures_of_the_attacher_are_told() {
    let api = FakeApi::default();
    let begun = tokio::time::Instant::now();
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let clock = Clock::of(move || start + jiff::SignedDuration::try_from(begun.elapsed()).unwrap());
    let context = api.context(Options::default(), clock);
    volume(&api, "ReadWriteOnce");
    api.put::<Node>(node("a", &[]));
    tokio::spawn(run(AttachDetach::new(&context), context.shutdown.clone()));
    api.put::<Pod>(pod("p", "a"));
    eventually("the attachment", || on(&api, "a").is_some()).await;
    let name = on(&api, "a").unwrap().metadata.name.unwrap();
    api.change::<VolumeAttachment>("", &name, json!({"status": {"attached": false, "attachError": {"message": "no"}}}));
    eventually("the failure", || told(&api) == ["AttachVolume.Attach failed for volume \"pv\" : no"]).await;
    tokio::time::sleep(Duration::from_secs(125)).await;
    let timeout = "AttachVolume.Attach failed for volume \"pv\" : timed out waiting for external-attacher of d CSI \
                   driver to attach volume h";
    eventually("the timeout", || told(&api).iter().any(|message| message == timeout)).await;
    context.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn drivers_that_do_not_attach_and_nodes_that_attach_themselves_are_left_alone() {
    let api = FakeApi::default();
    let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
    volume(&api, "ReadWriteMany");
    api.put::<Node>(node("a", &[]));
    api.put::<Node>(json!({"metadata": {"name": "own"}}));
    api.put::<CSIDriver>(json!({"metadata": {"name": "d"}, "spec": {"attachRequired": false}}));
    api.put::<Pod>(pod("p", "a"));
    api.put::<Pod>(pod("q", "own"));
    tokio::spawn(run(AttachDetach::new(&context), context.shutdown.clone()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(api.count::<VolumeAttachment>(), 0);
    api.remove::<CSIDriver>("", "d");
    eventually("the attachment", || on(&api, "a").is_some()).await;
    assert!(on(&api, "own").is_none());
    context.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_loses_its_volumes_after_six_minutes() {
    let api = FakeApi::default();
    let begun = tokio::time::Instant::now();
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let clock = Clock::of(move || start + jiff::SignedDuration::try_from(begun.elapsed()).unwrap());
    let context = api.context(Options::default(), clock);
    volume(&api, "ReadWriteOnce");
    api.put::<Node>(node("a", &["kubernetes.io/csi/d^h"]));
    api.put::<Pod>(pod("p", "a"));
    tokio::spawn(run(AttachDetach::new(&context), context.shutdown.clone()));
    eventually("the attachment", || on(&api, "a").is_some()).await;
    api.change::<Node>("", "a", json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}));
    api.remove::<Pod>("n", "p");
    tokio::time::sleep(Duration::from_secs(340)).await;
    assert!(on(&api, "a").is_some());
    tokio::time::sleep(Duration::from_secs(25)).await;
    eventually("the detachment", || on(&api, "a").is_none()).await;
    assert!(begun.elapsed() < Duration::from_secs(375));
    context.shutdown.cancel();
}

#[test]
fn pods_of_other_namespaces_are_not_named() {
    let at = |namespace: &str, name: &str| ObjectRef {
        namespace: namespace.into(),
        name: name.into(),
        ..Default::default()
    };
    for (pods, expected) in [
        (vec![], "Volume is already exclusively attached to one node and can't be attached to another"),
        (vec![at("n", "a"), at("n", "b")], "Volume is already used by pod(s) a, b"),
        (vec![at("m", "a")], "Volume is already used by 1 pod(s) in different namespaces"),
        (vec![at("n", "a"), at("m", "b")], "Volume is already used by pod(s) a and 1 pod(s) in different namespaces"),
    ] {
        assert_eq!(in_use("n", &pods), expected);
    }
}
