use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use serde_json::{Value, json};
use trireme_client::{DeleteOptions, Propagation};

use super::*;
use crate::Options;
use crate::controller::run;
use crate::fake_api::{FakeApi, clock_at, eventually};

fn server() -> (FakeApi, Context) {
    let api = FakeApi::default();
    let verbs = ["delete", "list", "watch", "get", "patch"];
    api.resources(&[("configmaps", "ConfigMap", &verbs), ("namespaces", "Namespace", &verbs)], json!([]));
    let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
    tokio::spawn(run(GarbageCollector::new(&context), context.shutdown.clone()));
    (api, context)
}

fn owned_by(name: &str, owners: &[(&str, &str)], blocks: bool) -> Value {
    let owners: Vec<Value> = owners
        .iter()
        .map(|(name, uid)| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": blocks})
        })
        .collect();
    json!({"metadata": {"name": name, "namespace": "n", "uid": format!("uid-of-{name}"), "ownerReferences": owners}})
}

async fn delete(context: &Context, name: &str, propagation: Propagation) {
    let options = DeleteOptions::default().propagation(propagation);
    context.client.namespaced::<ConfigMap>("n").delete(name, &options).await.unwrap();
}

fn names(api: &FakeApi) -> Vec<String> {
    api.all::<ConfigMap>().into_iter().filter_map(|map| map.metadata.name).collect()
}

#[tokio::test(start_paused = true)]
async fn dependents_follow_their_owner_through_all_generations() {
    let (api, context) = server();
    api.put::<ConfigMap>(owned_by("a", &[], false));
    api.put::<ConfigMap>(owned_by("b", &[("a", "uid-of-a")], false));
    api.put::<ConfigMap>(owned_by("c", &[("b", "uid-of-b")], false));
    api.put::<ConfigMap>(owned_by("other", &[], false));
    delete(&context, "a", Propagation::Background).await;
    eventually("b and c to go", || names(&api) == ["other"]).await;
    context.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_owner_deleted_in_the_foreground_goes_last() {
    let (api, context) = server();
    api.put::<ConfigMap>(owned_by("a", &[], false));
    let mut blocked = owned_by("b", &[("a", "uid-of-a")], true);
    blocked["metadata"]["finalizers"] = json!(["test/hold"]);
    api.put::<ConfigMap>(blocked);
    delete(&context, "a", Propagation::Foreground).await;
    let b_is_going = || api.get::<ConfigMap>("n", "b").is_some_and(|b| b.metadata.deletion_timestamp.is_some());
    eventually("b to be deleted", b_is_going).await;
    assert!(api.get::<ConfigMap>("n", "a").is_some());
    api.remove::<ConfigMap>("n", "b");
    eventually("a to go", || names(&api).is_empty()).await;
    context.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn orphans_stay_and_one_living_owner_is_enough() {
    let (api, context) = server();
    for name in ["a", "x", "y"] {
        api.put::<ConfigMap>(owned_by(name, &[], false));
    }
    api.put::<ConfigMap>(owned_by("orphan", &[("a", "uid-of-a")], false));
    api.put::<ConfigMap>(owned_by("shared", &[("x", "uid-of-x"), ("y", "uid-of-y")], false));
    let owners = |name: &str| {
        let owners = api.get::<ConfigMap>("n", name).unwrap().metadata.owner_references.unwrap_or_default();
        owners.into_iter().map(|owner| owner.name).collect::<Vec<_>>()
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    delete(&context, "a", Propagation::Orphan).await;
    delete(&context, "x", Propagation::Background).await;
    eventually("the owners to go", || names(&api) == ["orphan", "shared", "y"]).await;
    eventually("the links to go", || owners("orphan").is_empty() && owners("shared") == ["y"]).await;
    context.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_never_was_or_is_another_one_by_that_name_does_not_hold() {
    let (api, context) = server();
    api.put::<ConfigMap>(owned_by("a", &[], false));
    api.put::<ConfigMap>(owned_by("absent", &[("nobody", "u")], false));
    api.put::<ConfigMap>(owned_by("impostor", &[("a", "another-uid")], false));
    let mut unknown = owned_by("unknown", &[("a", "uid-of-a")], false);
    unknown["metadata"]["ownerReferences"][0]["kind"] = json!("Unheard");
    unknown["metadata"]["ownerReferences"][0]["uid"] = json!("u2");
    api.put::<ConfigMap>(unknown);
    api.put::<Namespace>(json!({"metadata": {"name": "n"}}));
    eventually("two to go", || names(&api) == ["a", "unknown"]).await;
    context.shutdown.cancel();
}
