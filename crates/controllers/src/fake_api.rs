//! A small API server in memory for reconcile tests: objects, resource versions, patches, finalizers, watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use trireme_client::{
    Client, Error, Informers, Kind, Request, Response, Selection, Transport, WatchEvent, WatchStream,
};

use crate::context::Context;
use crate::{Clock, Options};

/// The server.
#[derive(Clone, Default)]
pub(crate) struct FakeApi(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    revision: u64,
    /// By collection (without namespace), namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    watchers: Vec<(Selection, mpsc::UnboundedSender<Result<WatchEvent, Error>>)>,
    documents: BTreeMap<String, Value>,
}

struct Target {
    collection: String,
    namespace: String,
    name: String,
    subresource: String,
}

impl Target {
    fn parse(path: &str) -> Self {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let root = if segments[0] == "api" { 2 } else { 3 };
        let (root, rest) = segments.split_at(root);
        let namespaced = rest[0] == "namespaces" && rest.len() > 2 && !matches!(rest[2], "status" | "finalize");
        let (namespace, rest) = if namespaced { (rest[1], &rest[2..]) } else { ("", rest) };
        let part = |at: usize| rest.get(at).copied().unwrap_or("").to_owned();
        Self {
            collection: format!("/{}/{}", root.join("/"), rest[0]),
            namespace: namespace.to_owned(),
            name: part(1),
            subresource: part(2),
        }
    }
}

fn failure(code: StatusCode, reason: &str, message: &str) -> Response {
    let body = json!({"kind": "Status", "code": code.as_u16(), "reason": reason, "message": message});
    answer(code, &body)
}

fn answer(code: StatusCode, body: &Value) -> Response {
    http::Response::builder().status(code).body(Bytes::from(body.to_string())).unwrap()
}

impl FakeApi {
    /// A context for controllers on this server, at this time.
    pub(crate) fn context(&self, options: Options, clock: Clock) -> Context {
        let client = Client::new(Arc::new(self.clone()), "test");
        let shutdown = CancellationToken::new();
        let informers = Arc::new(Informers::new(client.clone(), shutdown.clone()));
        Context { clients: clients_of(&client), client, informers, options: Arc::new(options), clock, shutdown }
    }

    /// Puts an object as it is, status and all.
    pub(crate) fn put<K: Kind + DeserializeOwned>(&self, object: Value) -> K {
        let mut object = object;
        let resource = K::resource();
        let collection = resource.collection(None);
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
        let key = (collection, text("/metadata/namespace"), text("/metadata/name"));
        object["apiVersion"] = json!(resource.api_version());
        object["kind"] = json!(resource.kind);
        let mut state = self.0.lock();
        let stored = state.store(key, object, true);
        serde_json::from_value(stored).unwrap()
    }

    /// Changes an object in place.
    pub(crate) fn change<K: Kind>(&self, namespace: &str, name: &str, change: Value) {
        let key = (K::resource().collection(None), namespace.to_owned(), name.to_owned());
        let mut state = self.0.lock();
        let mut object = state.objects.get(&key).unwrap_or_else(|| panic!("no {key:?}")).clone();
        merge(&mut object, &change, false);
        state.store(key, object, true);
    }

    /// Removes an object at once.
    pub(crate) fn remove<K: Kind>(&self, namespace: &str, name: &str) {
        let key = (K::resource().collection(None), namespace.to_owned(), name.to_owned());
        self.0.lock().remove(&key);
    }

    /// All objects of a kind.
    pub(crate) fn all<K: Kind + DeserializeOwned>(&self) -> Vec<K> {
        let collection = K::resource().collection(None);
        let state = self.0.lock();
        let of_kind = state.objects.iter().filter(|((c, ..), _)| *c == collection);
        of_kind.map(|(_, object)| serde_json::from_value(object.clone()).unwrap()).collect()
    }

    /// How many objects of a kind there are.
    pub(crate) fn count<K: Kind>(&self) -> usize {
        let collection = K::resource().collection(None);
        self.0.lock().objects.keys().filter(|(c, ..)| *c == collection).count()
    }

    /// How many writes were made.
    pub(crate) fn revision(&self) -> u64 {
        self.0.lock().revision
    }

    /// One object.
    pub(crate) fn get<K: Kind + DeserializeOwned>(&self, namespace: &str, name: &str) -> Option<K> {
        let key = (K::resource().collection(None), namespace.to_owned(), name.to_owned());
        let object = self.0.lock().objects.get(&key).cloned();
        object.map(|object| serde_json::from_value(object).unwrap())
    }

    /// Answers a path that is not a resource, such as a discovery document.
    pub(crate) fn document(&self, path: &str, body: Value) {
        self.0.lock().documents.insert(path.to_owned(), body);
    }

    /// Discovery: resources of the core group (plural, kind, verbs), and other groups.
    pub(crate) fn resources(&self, core: &[(&str, &str, &[&str])], groups: Value) {
        let resource = |(plural, kind, verbs): &(&str, &str, &[&str])| {
            let scope = if *kind == "Namespace" { "Cluster" } else { "Namespaced" };
            json!({"resource": plural, "responseKind": {"kind": kind}, "scope": scope, "verbs": verbs})
        };
        let resources: Vec<Value> = core.iter().map(resource).collect();
        let version = json!({"version": "v1", "freshness": "Current", "resources": resources});
        self.document("/api", json!({"items": [{"metadata": {}, "versions": [version]}]}));
        self.document("/apis", json!({"items": groups}));
    }

    fn handle(&self, request: &Request) -> Response {
        let path = request.uri().path();
        let mut state = self.0.lock();
        if let Some(document) = state.documents.get(path) {
            return answer(StatusCode::OK, document);
        }
        let target = Target::parse(path);
        let body: Value = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        let key = (target.collection.clone(), target.namespace.clone(), target.name.clone());
        let present = state.objects.get(&key).cloned();
        match (request.method(), present) {
            (&Method::GET, _) if target.name.is_empty() => {
                let in_scope = |key: &(String, String, String)| {
                    key.0 == target.collection && (target.namespace.is_empty() || key.1 == target.namespace)
                };
                let items: Vec<&Value> = state.objects.iter().filter(|(k, _)| in_scope(k)).map(|(_, o)| o).collect();
                answer(StatusCode::OK, &json!({"metadata": {"resourceVersion": "1"}, "items": items}))
            }
            (&Method::POST, _) if target.name.is_empty() => state.create(&target, body),
            (&Method::DELETE, _) if target.name.is_empty() => {
                let doomed: Vec<_> = state
                    .objects
                    .keys()
                    .filter(|k| k.0 == target.collection && k.1 == target.namespace)
                    .cloned()
                    .collect();
                for key in doomed {
                    state.delete(key, &body);
                }
                answer(StatusCode::OK, &json!({}))
            }
            (_, None) => failure(StatusCode::NOT_FOUND, "NotFound", &format!("{path} not found")),
            (&Method::GET, Some(object)) => answer(StatusCode::OK, &object),
            (&Method::DELETE, Some(_)) => state.delete(key, &body),
            (&Method::PUT, Some(old)) => state.update(key, &old, body, &target.subresource),
            (&Method::PATCH, Some(old)) => {
                let strategic = request.headers()["content-type"].to_str().unwrap().contains("strategic");
                let mut new = old.clone();
                merge(&mut new, &body, strategic);
                state.update(key, &old, new, &target.subresource)
            }
            (&Method::POST, Some(_)) => answer(StatusCode::CREATED, &json!({})),
            _ => failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", path),
        }
    }
}

impl State {
    fn create(&mut self, target: &Target, mut object: Value) -> Response {
        let metadata = &mut object["metadata"];
        if metadata["name"].as_str().is_none_or(str::is_empty) {
            let prefix = metadata["generateName"].as_str().unwrap_or_default();
            metadata["name"] = json!(format!("{prefix}{:05}", self.revision));
        }
        if !target.namespace.is_empty() {
            metadata["namespace"] = json!(target.namespace);
        }
        let name = metadata["name"].as_str().unwrap().to_owned();
        let key = (target.collection.clone(), target.namespace.clone(), name.clone());
        if self.objects.contains_key(&key) {
            return failure(StatusCode::CONFLICT, "AlreadyExists", &format!("{name} already exists"));
        }
        let stored = self.store(key, object, true);
        answer(StatusCode::CREATED, &stored)
    }

    fn update(&mut self, key: (String, String, String), old: &Value, new: Value, subresource: &str) -> Response {
        for field in ["uid", "resourceVersion"] {
            let wanted = &new["metadata"][field];
            if !wanted.is_null() && *wanted != old["metadata"][field] {
                return failure(StatusCode::CONFLICT, "Conflict", &format!("{field} of {} differs", key.2));
            }
        }
        let mut stored = if subresource == "status" { old.clone() } else { new.clone() };
        stored["status"] = if subresource == "status" { new["status"].clone() } else { old["status"].clone() };
        if stored["status"].is_null() {
            stored.as_object_mut().unwrap().remove("status");
        }
        let finalizers = stored["metadata"]["finalizers"].as_array().map_or(0, Vec::len)
            + stored["spec"]["finalizers"].as_array().map_or(0, Vec::len);
        if !stored["metadata"]["deletionTimestamp"].is_null() && finalizers == 0 {
            self.remove(&key);
            return answer(StatusCode::OK, &stored);
        }
        if stored == *old {
            return answer(StatusCode::OK, &stored);
        }
        let changed = stored["spec"] != old["spec"];
        let stored = self.store(key, stored, changed);
        answer(StatusCode::OK, &stored)
    }

    fn delete(&mut self, key: (String, String, String), options: &Value) -> Response {
        let mut object = self.objects[&key].clone();
        if let Some(uid) = options.pointer("/preconditions/uid")
            && *uid != object["metadata"]["uid"]
        {
            return failure(StatusCode::CONFLICT, "Conflict", "uid differs");
        }
        let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        match options["propagationPolicy"].as_str() {
            Some("Foreground") => finalizers.push(json!("foregroundDeletion")),
            Some("Orphan") => finalizers.push(json!("orphan")),
            _ => {}
        }
        if finalizers.is_empty() {
            self.remove(&key);
        } else {
            object["metadata"]["finalizers"] = json!(finalizers);
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            self.store(key, object.clone(), true);
        }
        answer(StatusCode::OK, &object)
    }

    fn store(&mut self, key: (String, String, String), mut object: Value, new_generation: bool) -> Value {
        self.revision += 1;
        let revision = self.revision;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(revision.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{revision}"));
        }
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] =
                json!(format!("2026-01-01T00:{:02}:{:02}Z", revision / 60 % 60, revision % 60));
        }
        if new_generation {
            metadata["generation"] = json!(metadata["generation"].as_i64().unwrap_or(0) + 1);
        }
        self.objects.insert(key.clone(), object.clone());
        self.tell(&key.0, &WatchEvent::Applied(object.to_string().into()));
        object
    }

    fn remove(&mut self, key: &(String, String, String)) {
        self.revision += 1;
        if let Some(mut object) = self.objects.remove(key) {
            object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
            self.tell(&key.0, &WatchEvent::Deleted(object.to_string().into()));
        }
    }

    fn tell(&mut self, collection: &str, event: &WatchEvent) {
        self.watchers.retain(|(selection, watcher)| {
            selection.collection != collection || watcher.send(Ok(event.clone())).is_ok()
        });
    }
}

/// Merges a patch (RFC 7386); strategic ones merge owner references by uid and conditions by type.
fn merge(into: &mut Value, patch: &Value, strategic: bool) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let object = into.as_object_mut().unwrap();
    for (key, value) in fields {
        let merge_key = match key.as_str() {
            "ownerReferences" if strategic => Some("uid"),
            "conditions" if strategic => Some("type"),
            _ => None,
        };
        match (value, merge_key) {
            (Value::Null, _) => drop(object.remove(key)),
            (Value::Array(items), Some(merge_key)) => {
                let mut list = object.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
                for item in items {
                    list.retain(|old| old[merge_key] != item[merge_key]);
                    if item["$patch"] != "delete" {
                        list.push(item.clone());
                    }
                }
                object.insert(key.clone(), Value::Array(list));
            }
            _ => merge(object.entry(key.clone()).or_insert(Value::Null), value, strategic),
        }
    }
}

impl Transport for FakeApi {
    fn send(&self, request: Request) -> BoxFuture<'static, Result<Response, Error>> {
        let response = self.handle(&request);
        Box::pin(async move { Ok(response) })
    }

    fn watch(&self, selection: Selection, _: Option<String>) -> WatchStream {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.0.lock();
        for ((collection, ..), object) in &state.objects {
            if *collection == selection.collection {
                sender.send(Ok(WatchEvent::Applied(object.to_string().into()))).unwrap();
            }
        }
        let end = WatchEvent::Bookmark { resource_version: state.revision.to_string(), initial_events_end: true };
        sender.send(Ok(end)).unwrap();
        state.watchers.push((selection, sender));
        futures::stream::unfold(receiver, |mut events| async { events.recv().await.map(|event| (event, events)) })
            .boxed()
    }
}

/// A clock that stands still at this time.
pub(crate) fn clock_at(time: &str) -> Clock {
    let time: jiff::Timestamp = time.parse().unwrap();
    Clock::of(move || time)
}

/// Waits until something holds, for as long as tests wait.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "in vain: {what}");
}

/// All accounts are one to the fake.
fn clients_of(client: &Client) -> crate::Clients {
    let client = client.clone();
    Arc::new(move |_| client.clone())
}
