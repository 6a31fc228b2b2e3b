//! What the recordings of kube-apiserver do not cover.

#![allow(clippy::unwrap_used)] // a test fails loudly

use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};
use trireme_client::Transport;
use trireme_lab::Lab;

/// Sends a request; gives the status and the body.
async fn send(lab: &Lab, method: Method, path: &str, content_type: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { Bytes::new() } else { serde_json::to_vec(body).unwrap().into() };
    let request = Request::builder().method(method).uri(path).header("content-type", content_type).body(body).unwrap();
    let response = lab.transport().send(request).await.unwrap();
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap())
}

async fn get(lab: &Lab, path: &str) -> (u16, Value) {
    send(lab, Method::GET, path, "", &Value::Null).await
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn make(lab: &Lab, name: &str) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    assert_eq!(send(lab, Method::POST, MAPS, "application/json", &map).await.0, 201);
}

async fn apply(lab: &Lab, query: &str, map: &Value) -> (u16, Value) {
    let path = format!("{MAPS}/x?{query}");
    send(lab, Method::PATCH, &path, "application/apply-patch+yaml", map).await
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_on_after_its_state_was_compacted() {
    let lab = Lab::new().await.unwrap();
    for name in ["a", "b", "c", "d"] {
        make(&lab, name).await;
    }
    let (_, first) = get(&lab, &format!("{MAPS}?limit=2")).await;
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();

    // The rest is that of the first page's state, whatever came since.
    make(&lab, "bb").await;
    let (_, rest) = get(&lab, &format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(names(&rest), ["c", "d"]);
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);

    lab.store.compact(lab.store.revision()).await.unwrap();
    let (code, gone) = get(&lab, &format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!((code, gone["reason"].as_str()), (410, Some("Expired")));
    assert!(gone["message"].as_str().unwrap().contains("results in an inconsistent list"));

    let token = gone["metadata"]["continue"].as_str().unwrap();
    let (code, inconsistent) = get(&lab, &format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!((code, names(&inconsistent)), (200, vec!["bb", "c"]));
    let token = inconsistent["metadata"]["continue"].as_str().unwrap();
    assert_eq!(names(&get(&lab, &format!("{MAPS}?continue={token}")).await.1), ["d"]);

    let old = first["metadata"]["resourceVersion"].as_str().unwrap();
    let (code, gone) = get(&lab, &format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact")).await;
    assert_eq!(
        (code, gone["message"].as_str().unwrap()),
        (410, "The resourceVersion for the provided list is too old.")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_takes_over_what_it_applied_itself() {
    const LAST: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let lab = Lab::new().await.unwrap();
    let config =
        |a: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": a}});
    let mut first = config("1");
    first["metadata"]["annotations"] = json!({LAST: config("1").to_string()});
    let path = format!("{MAPS}?fieldManager=kubectl-client-side-apply");
    assert_eq!(send(&lab, Method::POST, &path, "application/json", &first).await.0, 201);
    // Somebody else meets a conflict; kubectl does not, and keeps its annotation true.
    assert_eq!(apply(&lab, "fieldManager=other", &config("2")).await.0, 409);
    let (code, taken) = apply(&lab, "fieldManager=kubectl", &config("2")).await;
    assert_eq!((code, taken["data"]["a"].as_str()), (200, Some("2")));
    let last: Value = serde_json::from_str(taken["metadata"]["annotations"][LAST].as_str().unwrap()).unwrap();
    assert_eq!(last["data"]["a"], "2");
    // What was changed by others since is in its way all the same.
    let merge = json!({"data": {"a": "3"}});
    let path = format!("{MAPS}/x?fieldManager=other");
    assert_eq!(send(&lab, Method::PATCH, &path, "application/merge-patch+json", &merge).await.0, 200);
    let (code, conflict) = apply(&lab, "fieldManager=kubectl", &config("4")).await;
    assert_eq!(code, 409);
    assert_eq!(conflict["message"], "Apply failed with 1 conflict: conflict with \"other\" using v1: .data.a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_goes_when_its_last_applier_lets_it_go() {
    let lab = Lab::new().await.unwrap();
    let config =
        |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data});
    let both = config(json!({"a": "1", "b": "1"}));
    assert_eq!(apply(&lab, "fieldManager=one", &both).await.0, 201);
    assert_eq!(apply(&lab, "fieldManager=two", &config(json!({"a": "1"}))).await.0, 200);
    let (_, left) = apply(&lab, "fieldManager=one", &config(json!({}))).await;
    assert_eq!(left["data"], json!({"a": "1"}), "the other one still gives it");
    let (_, left) = apply(&lab, "fieldManager=two", &config(json!(null))).await;
    assert_eq!(left["data"], Value::Null);
}
