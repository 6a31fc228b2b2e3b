//! Discovery and OpenAPI beside what upstream's server was recorded to serve (`../shared/facts/recorded`).

#![allow(clippy::unwrap_used, clippy::print_stderr)] // a test fails loudly, and says when it skips

use http::{Method, header};
use std::path::{Path, PathBuf};
use trireme_client::Transport;
use trireme_lab::Lab;
use trireme_schema::{Map, Value, json};

/// Where the recordings are; the tests say that they skip without them.
fn recorded() -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found = above.map(|dir| dir.join("shared/facts/recorded")).find(|dir| dir.is_dir());
    if found.is_none() {
        eprintln!("skipped: ../shared is not there");
    }
    found
}

async fn get(lab: &Lab, path: &str, accept: &str) -> Value {
    let request =
        http::Request::builder().method(Method::GET).uri(path).header(header::ACCEPT, accept).body(Default::default());
    let response = lab.transport().send(request.unwrap()).await.unwrap();
    json::parse(response.body()).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn read(path: &Path) -> Value {
    json::parse(&std::fs::read(path).unwrap()).unwrap()
}

/// Files of a directory that name a path, with that path.
fn files(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut all: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    let path = |file: PathBuf| {
        let name = file.file_name()?.to_str()?.strip_suffix(".json")?.to_owned();
        name.starts_with("api").then(|| (file, name.replace("__", "/")))
    };
    all.into_iter().filter_map(path).collect()
}

/// Every place where two values differ.
fn differences(want: &Value, got: &Value, at: &str, out: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a.iter() {
                let at = format!("{at}.{key}");
                match b.get(key) {
                    Some(other) => differences(value, other, &at, out),
                    None => out.push(format!("{at}: missing")),
                }
            }
            let more = b.iter().filter(|(key, _)| a.get(key).is_none());
            out.extend(more.map(|(key, _)| format!("{at}.{key}: not upstream's")));
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                differences(x, y, &format!("{at}[{i}]"), out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{at}: wanted {}, got {}", json::to_string(a), json::to_string(b))),
    }
}

const ANSWERS: [&str; 4] = ["OK", "Created", "Accepted", "Unauthorized"];

/// A document without the texts that describe schemas and parameters: where they come from has not all of them.
fn without_texts(value: Value, parameters: bool) -> Value {
    match value {
        Value::Object(map) => {
            let operation = map.get("operationId").is_some();
            let kept = map.into_iter().filter(|(key, value)| match key.as_str() {
                // A property may have this name; operations and answers are described in words of the protocol.
                "description" => value.as_str().is_none_or(|text| operation || ANSWERS.contains(&text)),
                "parameters" => parameters || value.as_array().is_none(),
                _ => true,
            });
            Value::Object(kept.map(|(key, value)| (key, without_texts(value, parameters))).collect::<Map>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| without_texts(item, parameters)).collect()),
        other => other,
    }
}

#[tokio::test]
async fn discovery_is_upstreams() {
    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let Some(dir) = recorded() else { return };
    let lab = Lab::new().await.unwrap();
    let mut found = Vec::new();
    for (file, path) in files(&dir.join("discovery")) {
        let (path, accept) = match path.strip_suffix(".aggregated") {
            Some(path) => (path.to_owned(), AGGREGATED),
            None => (path, "application/json"),
        };
        let mut want = read(&file);
        let mut got = get(&lab, &format!("/{path}"), accept).await;
        // Where the recorded server was.
        for value in [&mut want, &mut got] {
            value.remove_at(&["serverAddressByClientCIDRs"]);
        }
        differences(&want, &got, &path, &mut found);
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found[..found.len().min(30)].join("\n"));
}

/// What OpenAPI documents say that ours do not, and why.
const NOT_SAID: [&str; 7] = [
    // Where its text comes from has none, and a reference without a text is bare.
    "meta.v1.WatchEvent.properties.object",
    // Unions are told to clients by nothing but this, and no client reads it.
    "x-kubernetes-unions",
    // What is granular is so without a word.
    "x-kubernetes-map-type",
    // These are of any form in ours, which is what they are in JSON.
    "apiextensions.v1.JSON",
    // A patch strategy and a list type of fields that are no lists, which upstream's tools ignore.
    "PodDisruptionBudgetSpec.properties.selector.x-kubernetes-patch-strategy",
    "APIServiceSpec.properties.caBundle.x-kubernetes-list-type",
    // An enumeration of a map's values.
    "allocatedResourceStatuses.additionalProperties.enum",
];

fn report(document: &str, found: Vec<String>) {
    let found: Vec<_> = found.into_iter().filter(|at| !NOT_SAID.iter().any(|known| at.contains(known))).collect();
    assert!(found.is_empty(), "{document}: {} differences:\n{}", found.len(), found[..found.len().min(30)].join("\n"));
}

#[tokio::test]
async fn openapi_v3_is_upstreams_but_for_texts() {
    let Some(dir) = recorded() else { return };
    let lab = Lab::new().await.unwrap();
    for (file, path) in files(&dir.join("openapi/v3")) {
        // Documents of groups as such are not served.
        if path.split('/').count() < 2 || (path.starts_with("apis/") && path.split('/').count() < 3) {
            continue;
        }
        let got = get(&lab, &format!("/openapi/v3/{path}"), "application/json").await;
        let mut found = Vec::new();
        differences(&without_texts(read(&file), true), &without_texts(got, true), "", &mut found);
        report(&path, found);
    }
}

#[tokio::test]
async fn openapi_v2_has_upstreams_types_and_operations() {
    let Some(dir) = recorded() else { return };
    let lab = Lab::new().await.unwrap();
    let mut want = read(&dir.join("openapi/v2.json"));
    let got = get(&lab, "/openapi/v2", "application/json").await;
    // Paths of discovery as such, and the types that they alone name.
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.";
    let only = ["APIGroup", "APIGroupList", "APIVersions", "GroupVersionForDiscovery", "ServerAddressByClientCIDR"];
    for name in only {
        want.remove_at(&["definitions", &format!("{meta}{name}")]);
    }
    want.remove_at(&["definitions", "io.k8s.apimachinery.pkg.version.Info"]);
    if let Some(paths) = want.at_mut(&["paths"]).and_then(Value::as_object_mut) {
        paths.retain(|path, _| {
            path.starts_with("/api/v1/") || (path.starts_with("/apis/") && path.splitn(5, '/').count() > 4)
        });
    }
    let mut found = Vec::new();
    // Parameters are said where they are taken; upstream shares them under names that end in a digest of their text.
    differences(&without_texts(want, false), &without_texts(got, false), "", &mut found);
    found.retain(|at| at != ".parameters: missing");
    report("v2", found);
}
