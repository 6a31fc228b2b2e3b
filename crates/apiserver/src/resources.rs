//! Requests about resources: from HTTP to the registry and back.

use crate::admission::{self, Attributes, Operation};
use crate::answer::{self, Body};
use crate::binary;
use crate::body;
use crate::catalogue::Served;
use crate::custom;
use crate::list::Page;
use crate::media::{Form, Shape, Wanted};
use crate::notes::Notes;
use crate::options::{self, ListOptions};
use crate::patching;
use crate::registry::{DeleteOptions, Target};
use crate::request::{Query, RequestInfo};
use crate::selection::Selection;
use crate::server::{ApiServer, Incoming, header_text};
use crate::user::User;
use crate::warnings::{self, Warnings};
use crate::watching::{Item, Watching};
use crate::{reviews, strategy, subresources, table};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, header};
use std::sync::Arc;
use trireme_schema::{Map, Status, Value, json};

/// Whether a request is answered by a stream that may last.
pub fn is_stream(info: &RequestInfo, query: &Query) -> bool {
    matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy")
        || (info.subresource == "log" && query.flag("follow"))
}

/// Answers a request about a resource, whatever comes of it with the warnings that were found on the way.
pub async fn answer(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    info: &RequestInfo,
    query: &Query,
    user: Arc<User>,
    wanted: Wanted,
) -> Response<Body> {
    let warnings = Warnings::default();
    let result = perform(server, request, info, query, user, wanted, &warnings).await;
    warnings.tell(result.unwrap_or_else(|status| answer::failure(&status, wanted)))
}

async fn perform(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    info: &RequestInfo,
    query: &Query,
    user: Arc<User>,
    wanted: Wanted,
    warnings: &Warnings,
) -> Result<Response<Body>, Status> {
    let found = server.catalogue.find(&info.group, &info.version, &info.resource);
    let served = &found.ok_or_else(Status::no_such_path)?;
    let wanted = match &served.custom {
        Some(_) => custom::wanted(wanted, &header_text(request.headers(), header::ACCEPT))?,
        None => wanted,
    };
    if served.resource.namespaced == info.namespace.is_empty()
        && !(served.resource.namespaced && info.name.is_empty() && matches!(info.verb.as_str(), "list" | "watch"))
        && !(served.kind() == "Namespace" || !served.resource.namespaced && info.namespace.is_empty())
    {
        if info.verb == "create" && served.resource.namespaced {
            return Err(Status::bad_request("an empty namespace may not be set during creation"));
        }
        return Err(Status::no_such_path());
    }
    let namespace = if served.resource.namespaced { info.namespace.clone() } else { String::new() };
    let target = Target {
        served: served.clone(),
        namespace,
        name: info.name.clone(),
        subresource: info.subresource.clone(),
        user,
        warnings: warnings.clone(),
        notes: Notes::of(&request),
    };
    if !info.subresource.is_empty() && !served.has_subresource(&info.subresource) {
        return Err(match &served.custom {
            Some(_) => Status::not_found(served.group(), served.plural(), &info.name),
            None => Status::no_such_path(),
        });
    }
    let allowed = if info.subresource.is_empty() {
        served.resource.verbs.contains(&info.verb)
    } else {
        let subresource = served.resource.subresources.iter().find(|s| s.name == info.subresource);
        subresource.is_some_and(|s| s.verbs.contains(&info.verb))
            || matches!(info.subresource.as_str(), "proxy" | "exec" | "attach" | "portforward")
    };
    // Objects are made in a collection, and changed by their name.
    let misplaced = info.subresource.is_empty()
        && match info.verb.as_str() {
            "create" => !info.name.is_empty(),
            "update" | "patch" => info.name.is_empty(),
            _ => false,
        };
    if info.verb == "create" && served.custom.as_ref().is_some_and(|custom| custom.definition.terminating) {
        return Err(custom::terminating(served));
    }
    // A place where nothing can be done is none; one where something else can be done is told apart from that.
    let collection = info.name.is_empty() || matches!(info.verb.as_str(), "list" | "watch" | "deletecollection");
    let verbs: &[&str] =
        if collection { &["create", "list", "deletecollection"] } else { &["get", "update", "patch", "delete"] };
    if info.subresource.is_empty() && !verbs.iter().any(|verb| served.resource.verbs.iter().any(|v| v == verb)) {
        return Err(Status::no_such_path());
    }
    let misplaced = misplaced || request.method() == http::Method::HEAD;
    if !allowed || misplaced {
        return Err(Status::method_not_allowed("", "", "")
            .with_message("the server does not allow this method on the requested resource"));
    }
    warnings.add(match &served.custom {
        Some(custom) => custom.warning.clone(),
        None => warnings::deprecation(&info.version, served.group(), served.kind()),
    });
    if let Some(response) = reviews::answer(server, &target, info).await? {
        return response.finish(server, request, query, wanted).await;
    }
    if subresources::is_special(&target) {
        return subresources::answer(server, request, info, query, &target, wanted).await;
    }
    match info.verb.as_str() {
        "get" => {
            let asked = options::known_revision(query.get("resourceVersion"))?;
            server.reach(asked.unwrap_or(0)).await?;
            let record = server.one_in_version(served, server.record(&target)?).await?;
            show(server, &target, 200, server.present(served, &record), query, wanted)
        }
        "list" => list_answer(server, &target, query, wanted).await,
        "watch" => {
            let watching = server.watch(served, &target.namespace, query).await?;
            Ok(watch_answer(watching, query, wanted))
        }
        "create" => {
            let headers = request.headers().clone();
            let bytes = request.into_body().read().await?;
            let (options, validation) = options::write(query, &headers, "CreateOptions")?;
            let object = body::of(served, &bytes, &header_text(&headers, header::CONTENT_TYPE), validation)?;
            warnings.add(object.warnings);
            let mut target = target;
            target.name = String::new();
            let written = server.create(&target, object.value, &options).await?;
            show(server, &target, 201, written.bytes, query, wanted)
        }
        "update" => {
            let headers = request.headers().clone();
            let bytes = request.into_body().read().await?;
            let (options, validation) = options::write(query, &headers, "UpdateOptions")?;
            let object = body::of(served, &bytes, &header_text(&headers, header::CONTENT_TYPE), validation)?;
            warnings.add(object.warnings);
            let value = object.value;
            let change = |old: &Value| {
                target.check_uid(&value, Some(old), options.dry_run)?;
                strategy::versioned(&target, &value)?;
                Ok(value.clone())
            };
            let written = match server.update(&target, &change, &options).await {
                Err(status) if status.code == 404 && creates_on_update(served) => {
                    let target = Target { name: String::new(), ..target.clone() };
                    server.create(&target, value.clone(), &options).await?
                }
                other => other?,
            };
            show(server, &target, if written.created { 201 } else { 200 }, written.bytes, query, wanted)
        }
        "patch" => {
            let headers = request.headers().clone();
            let bytes = request.into_body().read().await?;
            let written = patching::patched(server, &target, &bytes, &headers, query).await?;
            show(server, &target, if written.created { 201 } else { 200 }, written.bytes, query, wanted)
        }
        "delete" => {
            let headers = request.headers().clone();
            let bytes = request.into_body().read().await?;
            let options = options::delete(query, &headers, &bytes)?;
            warnings.add(strategy::deletion_warning(served, &options));
            let deleted = server.delete(&target, &options).await?;
            if deleted.gone && !returns_object(served) {
                return Ok(answer::failure(&gone(&target, &deleted.uid), wanted));
            }
            show(server, &target, 200, deleted.bytes, query, wanted)
        }
        "deletecollection" => {
            let headers = request.headers().clone();
            let bytes = request.into_body().read().await?;
            let options = options::delete(query, &headers, &bytes)?;
            delete_all(server, &target, &options, query, wanted).await
        }
        _ => Err(Status::no_such_path()),
    }
}

/// Kinds that an update may create.
fn creates_on_update(served: &Served) -> bool {
    matches!(
        (served.group(), served.kind()),
        ("coordination.k8s.io", "Lease")
            | ("", "Endpoints" | "Event" | "LimitRange" | "Service")
            | ("events.k8s.io", _)
            | ("rbac.authorization.k8s.io", _)
    )
}

/// Kinds whose last state answers their deletion; for others it is a Status.
pub(crate) fn returns_object(served: &Served) -> bool {
    matches!(
        (served.group(), served.kind()),
        ("", "Pod" | "PodTemplate" | "ResourceQuota" | "ServiceAccount" | "Service")
            | ("", "PersistentVolume" | "PersistentVolumeClaim")
            | (
                "storage.k8s.io",
                "StorageClass" | "VolumeAttachment" | "VolumeAttributesClass" | "CSINode" | "CSIDriver"
            )
            | ("resource.k8s.io", _)
    )
}

fn gone(target: &Target, uid: &str) -> Status {
    let mut status = Status::failure(200, "", "");
    status.details = Some(Box::new(trireme_schema::Details {
        name: target.name.clone(),
        group: target.served.group().to_owned(),
        kind: target.served.plural().to_owned(),
        uid: uid.to_owned(),
        ..trireme_schema::Details::default()
    }));
    status
}

async fn delete_all(
    server: &Arc<ApiServer>,
    target: &Target,
    options: &DeleteOptions,
    query: &Query,
    wanted: Wanted,
) -> Result<Response<Body>, Status> {
    let selection = Selection::read(&target.served, query)?;
    let asked = ListOptions::read(query, false)?;
    let page = server.page(&target.served, &target.namespace, &asked, &selection).await?;
    let mut items = Vec::new();
    for record in &page.records {
        let (namespace, name) = place(&target.served, &record.key);
        let one = Target { namespace, name, ..target.clone() };
        match server.delete(&one, options).await {
            // The answer shows them as they were.
            Ok(_) => items.push(server.present(&target.served, record)),
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let bytes = list_bytes(&target.served, page.revision, &page.next, page.remaining, &items);
    Ok(answer::object(200, wanted, bytes.into()))
}

/// Namespace and name out of a key.
pub(crate) fn place(served: &Served, key: &str) -> (String, String) {
    let rest = key.strip_prefix(&format!("{}/", served.topic)).unwrap_or(key);
    match rest.split_once('/') {
        Some((namespace, name)) if served.resource.namespaced => (namespace.to_owned(), name.to_owned()),
        _ => (String::new(), rest.to_owned()),
    }
}

fn list_head(served: &Served, revision: i64, next: &str, remaining: Option<usize>) -> String {
    let gv = &served.resource.gv;
    let mut head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{gv}\",\"metadata\":{{\"resourceVersion\":\"{revision}\"",
        served.list_kind()
    );
    if !next.is_empty() {
        head.push_str(&format!(",\"continue\":\"{next}\""));
        if let Some(n) = remaining.filter(|n| *n > 0) {
            head.push_str(&format!(",\"remainingItemCount\":{n}"));
        }
    }
    head.push_str("},\"items\":[");
    head
}

/// An item of a list: without kind and version, which the list says.
fn item<'a>(served: &Served, bytes: &'a Bytes) -> (&'static [u8], &'a [u8]) {
    match bytes.strip_prefix(served.head.as_bytes()) {
        Some([b',', rest @ ..]) => (b"{", rest),
        _ => (b"", bytes),
    }
}

fn list_bytes(served: &Served, revision: i64, next: &str, remaining: Option<usize>, items: &[Bytes]) -> Vec<u8> {
    let mut out = list_head(served, revision, next, remaining).into_bytes();
    out.reserve(items.iter().map(Bytes::len).sum::<usize>() + 2);
    for (i, bytes) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let (open, rest) = item(served, bytes);
        out.extend_from_slice(open);
        out.extend_from_slice(rest);
    }
    out.extend_from_slice(b"]}");
    out
}

/// How much of a list is put into one piece of its body.
const PIECE: usize = 64 << 10;

async fn list_answer(
    server: &Arc<ApiServer>,
    target: &Target,
    query: &Query,
    wanted: Wanted,
) -> Result<Response<Body>, Status> {
    let served = &target.served;
    let selection = Selection::read(served, query)?;
    let asked = ListOptions::read(query, false)?;
    check_rows(query, wanted)?;
    if wanted.shape == Shape::PartialMetadata {
        return Err(not_this_shape(served, "PartialObjectMetadata", "a list", "List"));
    }
    let page = server.page(served, &target.namespace, &asked, &selection).await?;
    match wanted.shape {
        Shape::Table => {
            let rows: Vec<Value> =
                page.records.iter().map(|r| row(served, &server.present(served, r), query, wanted)).collect();
            let table = table_value(served, rows, &page_meta(&page), wanted);
            Ok(answer::object(200, wanted, json::to_vec(&table).into()))
        }
        Shape::PartialMetadata | Shape::PartialMetadataList => {
            let items = page.records.iter().map(|r| partial(&server.present(served, r), wanted)).collect();
            let mut value = Value::object();
            value.set_at(&["kind"], "PartialObjectMetadataList");
            value.set_at(&["apiVersion"], wanted.meta_version());
            value.set_at(&["metadata"], page_meta(&page));
            value.set_at(&["items"], Value::Array(items));
            Ok(answer::object(200, wanted, json::to_vec(&value).into()))
        }
        Shape::Object if wanted.form == Form::Json && !wanted.pretty => {
            let head = list_head(served, page.revision, &page.next, page.remaining);
            Ok(answer::typed(200, "application/json", list_stream(server, served, head, page.records)))
        }
        Shape::Object if wanted.form == Form::Protobuf && served.conversion.is_none() => {
            let items = page.records.iter().map(|r| &*r.value);
            let list = binary::list(served, page_meta(&page), items).ok_or_else(|| Status::internal("no list type"))?;
            Ok(answer::typed(200, wanted.content_type(), answer::whole(list)))
        }
        Shape::Object => {
            let items: Vec<Bytes> = page.records.iter().map(|r| server.present(served, r)).collect();
            let bytes = list_bytes(served, page.revision, &page.next, page.remaining, &items);
            Ok(answer::object(200, wanted, bytes.into()))
        }
    }
}

fn list_stream(
    server: &Arc<ApiServer>,
    served: &Arc<Served>,
    head: String,
    records: Vec<Arc<trireme_store::Record>>,
) -> Body {
    let (server, served) = (server.clone(), served.clone());
    let state = (records.into_iter().peekable(), Some(head.into_bytes()), false);
    let pieces = futures::stream::unfold(state, move |(mut records, mut piece, mut ended)| {
        let (server, served) = (server.clone(), served.clone());
        async move {
            if ended {
                return None;
            }
            let mut out = piece.take().unwrap_or_else(|| Vec::with_capacity(PIECE + 4096));
            while out.len() < PIECE {
                let Some(record) = records.next() else {
                    out.extend_from_slice(b"]}");
                    ended = true;
                    break;
                };
                let bytes = server.present(&served, &record);
                let (open, rest) = item(&served, &bytes);
                out.extend_from_slice(open);
                out.extend_from_slice(rest);
                if records.peek().is_some() {
                    out.push(b',');
                }
            }
            Some((Bytes::from(out), (records, piece, ended)))
        }
    });
    answer::streamed(pieces.boxed())
}

fn page_meta(page: &Page) -> Value {
    let mut meta = Map::from_iter([("resourceVersion", page.revision.to_string())]);
    if !page.next.is_empty() {
        meta.insert("continue", page.next.as_str());
        if let Some(n) = page.remaining {
            meta.insert("remainingItemCount", n as i64);
        }
    }
    Value::Object(meta)
}

/// 406 for metadata of a list where there is one object, and the other way round.
fn not_this_shape(served: &Served, wanted: &str, why: &str, suffix: &str) -> Status {
    let group = served.group().split('.').next().unwrap_or_default();
    let package = if group.is_empty() { "core" } else { group };
    let kind = served.kind();
    Status::failure(
        406,
        "NotAcceptable",
        format!("you requested {wanted}, but the requested object is {why} (*{package}.{kind}{suffix})"),
    )
}

/// What `includeObject` may say of a table's rows.
fn check_rows(query: &Query, wanted: Wanted) -> Result<(), Status> {
    let include = query.get("includeObject");
    if wanted.shape != Shape::Table || matches!(include, "" | "None" | "Object" | "Metadata") {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "Unable to convert to Table as requested: includeObject: Invalid value: {include:?}: must be 'Metadata', 'Object', 'None', or empty"
    )))
}

fn table_value(served: &Served, rows: Vec<Value>, meta: &Value, wanted: Wanted) -> Value {
    let mut value = Value::object();
    value.set_at(&["kind"], "Table");
    value.set_at(&["apiVersion"], wanted.meta_version());
    value.set_at(&["metadata"], meta.clone());
    value.set_at(&["columnDefinitions"], table::columns(served));
    value.set_at(&["rows"], Value::Array(rows));
    value
}

fn row(served: &Served, bytes: &Bytes, query: &Query, wanted: Wanted) -> Value {
    let object = json::parse(bytes).unwrap_or_default();
    let mut map = Map::from_iter([("cells", table::cells(served, &object))]);
    match query.get("includeObject") {
        "None" => drop(map.insert("object", Value::Null)),
        "Object" => drop(map.insert("object", object)),
        _ => drop(map.insert("object", partial(bytes, wanted))),
    }
    Value::Object(map)
}

/// An object's metadata alone.
fn partial(bytes: &Bytes, wanted: Wanted) -> Value {
    let mut object = json::parse(bytes).unwrap_or_default();
    if object.str_at(&["kind"]) == "DaemonSet" {
        strategy::hide_template_generation(&mut object);
    }
    let mut value = Value::object();
    value.set_at(&["kind"], "PartialObjectMetadata");
    value.set_at(&["apiVersion"], wanted.meta_version());
    value.set_at(&["metadata"], object.get("metadata").cloned().unwrap_or_default());
    value
}

/// One object in the shape that is wanted.
pub(crate) fn show(
    _server: &ApiServer,
    target: &Target,
    status: u16,
    bytes: Bytes,
    query: &Query,
    wanted: Wanted,
) -> Result<Response<Body>, Status> {
    let served = &target.served;
    check_rows(query, wanted)?;
    let bytes = match wanted.shape {
        Shape::Object => bytes,
        Shape::Table => {
            let revision = json::parse(&bytes).unwrap_or_default().str_at(&["metadata", "resourceVersion"]).to_owned();
            let meta = Value::Object(Map::from_iter([("resourceVersion", revision)]));
            json::to_vec(&table_value(served, vec![row(served, &bytes, query, wanted)], &meta, wanted)).into()
        }
        Shape::PartialMetadata => json::to_vec(&partial(&bytes, wanted)).into(),
        Shape::PartialMetadataList => {
            return Err(not_this_shape(served, "PartialObjectMetadataList", "not a list", ""));
        }
    };
    Ok(answer::object(status, wanted, bytes))
}

fn watch_answer(watching: Watching, query: &Query, wanted: Wanted) -> Response<Body> {
    let query = query.clone();
    let served = watching.served().clone();
    let first = true;
    let pieces = futures::stream::unfold((watching, first), move |(mut watching, first)| {
        let (query, served) = (query.clone(), served.clone());
        async move {
            let item = watching.next().await?;
            let bytes = match (wanted.form, wanted.shape, item.stored()) {
                (Form::Protobuf, Shape::Object, Some(record)) if served.conversion.is_none() => {
                    binary::event(item.kind(), &binary::object(&served, record))
                }
                _ => event_bytes(&served, &item, watching.object(&item), &query, wanted, first),
            };
            Some((bytes, (watching, false)))
        }
    });
    let content_type = match wanted.form {
        Form::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Form::Yaml | Form::Json => "application/json",
    };
    answer::typed(200, content_type, answer::streamed(pieces.boxed()))
}

/// One event as it is written to a watch stream.
fn event_bytes(served: &Served, event: &Item, object: Bytes, query: &Query, wanted: Wanted, first: bool) -> Bytes {
    let plain = matches!(event, Item::Failed(_));
    let object: Bytes = match wanted.shape {
        Shape::Object => object,
        _ if plain => object,
        Shape::PartialMetadata | Shape::PartialMetadataList => json::to_vec(&partial(&object, wanted)).into(),
        Shape::Table => {
            let revision = json::parse(&object).unwrap_or_default().str_at(&["metadata", "resourceVersion"]).to_owned();
            let meta = Value::Object(Map::from_iter([("resourceVersion", revision)]));
            let rows = if matches!(event, Item::Bookmark(..)) {
                Vec::new()
            } else {
                vec![row(served, &object, query, wanted)]
            };
            let mut table = table_value(served, rows, &meta, wanted);
            // Columns are sent once.
            if !first {
                table.set_at(&["columnDefinitions"], Value::Null);
            }
            json::to_vec(&table).into()
        }
    };
    if wanted.form == Form::Protobuf
        && let Some(message) = answer::to_protobuf(&object)
    {
        return binary::event(event.kind(), &message);
    }
    let mut out = Vec::with_capacity(object.len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.kind().as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(&object);
    out.extend_from_slice(b"}\n");
    out.into()
}

/// Checks a request that opens a stream to a running object.
pub(crate) async fn admit_connect(server: &ApiServer, target: &Target) -> Result<(), Status> {
    let attributes = Attributes::new(server, target, Operation::Connect);
    admission::validate(&attributes, &Value::Null, None).await
}
