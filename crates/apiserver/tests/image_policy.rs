//! ImagePolicyWebhook over real TLS.

#![allow(clippy::unwrap_used)] // a test fails loudly

mod support;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Https, send};
use trireme_lab::Lab;

fn answer(review: &Value) -> (u16, Value) {
    let images: Vec<&str> =
        review["spec"]["containers"].as_array().unwrap().iter().map(|c| c["image"].as_str().unwrap()).collect();
    if images.contains(&"crash") {
        return (403, json!({}));
    }
    let allowed = !images.contains(&"bad");
    let status = if allowed { json!({"allowed": true}) } else { json!({"allowed": false, "reason": "bad is bad"}) };
    (200, json!({"apiVersion": review["apiVersion"], "kind": "ImageReview", "status": status}))
}

async fn lab(hook: &Https, default_allow: bool) -> Lab {
    let config = format!(
        "kind: AdmissionConfiguration\nplugins: [{{name: ImagePolicyWebhook, configuration: {{imagePolicy: {{kubeConfigFile: {}, \
         allowTTL: 50, denyTTL: -1, retryBackoff: 10, defaultAllow: {default_allow}}}}}}}]",
        hook.kubeconfig().display()
    );
    let config = trireme_schema::yaml::parse(&config).unwrap();
    let lab = Lab::with(|c| {
        c.admission.enable = vec!["ImagePolicyWebhook".into()];
        c.admission.config = Some(config);
    });
    let lab = lab.await.unwrap();
    let account = json!({"metadata": {"name": "default"}}).to_string();
    send(&lab.transport(), Method::POST, "/api/v1/namespaces/default/serviceaccounts", &account).await;
    lab
}

async fn pod(lab: &Lab, name: &str, image: &str) -> (StatusCode, Value) {
    let pod = json!({
        "metadata": {"name": name, "annotations": {"team.image-policy.k8s.io/ticket": "7", "other": "x"}},
        "spec": {"containers": [{"name": "c", "image": image}]}
    });
    let (code, text) = send(&lab.transport(), Method::POST, "/api/v1/namespaces/default/pods", &pod.to_string()).await;
    (code, serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn only_images_that_the_service_allows_may_run() {
    let hook = Https::start(answer).await;
    let lab = lab(&hook, false).await;
    assert_eq!(pod(&lab, "a", "good").await.0, StatusCode::CREATED);
    assert_eq!(
        hook.asked()[0]["spec"],
        json!({"containers": [{"image": "good"}], "namespace": "default", "annotations": {"team.image-policy.k8s.io/ticket": "7"}})
    );
    assert_eq!(pod(&lab, "b", "good").await.0, StatusCode::CREATED);
    assert_eq!(hook.asked().len(), 1, "what was allowed is remembered");
    let (code, status) = pod(&lab, "c", "bad").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    let why = "pods \"c\" is forbidden: image policy webhook backend denied one or more images: bad is bad";
    assert_eq!(status["message"], why);
    assert_eq!(pod(&lab, "d", "crash").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn without_an_answer_the_default_holds() {
    let hook = Https::start(answer).await;
    let lab = lab(&hook, true).await;
    assert_eq!(pod(&lab, "d", "crash").await.0, StatusCode::CREATED);
}
