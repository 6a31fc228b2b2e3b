//! What reads show: one object, a list or a watch, in the shape and form that are wanted.

use crate::answer::{self, Body};
use crate::binary;
use crate::catalogue::Served;
use crate::list::Page;
use crate::media::{Form, Shape, Wanted};
use crate::options::ListOptions;
use crate::registry::Target;
use crate::request::Query;
use crate::selection::Selection;
use crate::server::ApiServer;
use crate::strategy;
use crate::table;
use crate::watching::{Item, Watching};
use bytes::Bytes;
use futures::StreamExt;
use http::Response;
use std::sync::Arc;
use trireme_schema::{Map, Status, Value, json};

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

pub(crate) fn list_bytes(
    served: &Served,
    revision: i64,
    next: &str,
    remaining: Option<usize>,
    items: &[Bytes],
) -> Vec<u8> {
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

pub(crate) async fn list_answer(
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

pub(crate) fn watch_answer(watching: Watching, query: &Query, wanted: Wanted) -> Response<Body> {
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
