//! The scale of what has replicas: read, written and patched as an object of its own.

use crate::answer::{self, Body};
use crate::body::{self, FieldValidation};
use crate::catalogue::Served;
use crate::managed::scale as owners;
use crate::media::Wanted;
use crate::options;
use crate::patch::{self, Patch};
use crate::registry::Target;
use crate::request::{Query, RequestInfo};
use crate::server::{ApiServer, Incoming, header_text};
use crate::subresources::{read_body, typed};
use http::{Request, Response, header};
use std::sync::Arc;
use trireme_schema::{GroupVersion, Map, Status, Value, builtin, encode, field};

/// Answers a request about a scale.
///
/// # Errors
/// As for other objects.
pub(crate) async fn answer(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    info: &RequestInfo,
    query: &Query,
    target: &Target,
    wanted: Wanted,
) -> Result<Response<Body>, Status> {
    let served = &target.served;
    let shown = |bytes: &[u8]| {
        let scale = scale_of(served, &served.read(bytes))?;
        Ok(answer::object(200, wanted, typed(owners::TYPE, &scale)))
    };
    if info.verb == "get" {
        return shown(&server.present(served, &*server.one_in_version(served, server.record(target)?).await?));
    }
    let id = builtin().type_named(owners::TYPE).ok_or_else(|| Status::internal("no type of scales"))?;
    let gv = GroupVersion::parse(owners::VERSION);
    let headers = request.headers().clone();
    let written = if info.verb == "patch" {
        let kind = patch::Kind::read(&header_text(&headers, header::CONTENT_TYPE))?;
        let (options, validation) = options::patch(query, &headers, kind)?;
        let manager = options.field_manager.clone();
        let options = crate::registry::WriteOptions { field_manager: String::new(), ..options };
        let bytes = request.into_body().read().await?;
        let patch = Patch { kind, bytes: &bytes, validation };
        let change = |old: &Value| {
            let (mut new, before) = (old.clone(), scale_of(served, old)?);
            let scale = if kind == patch::Kind::Apply {
                let (applied, notes) = patch.configuration()?;
                target.warnings.add(notes);
                let who = (manager.as_str(), query.flag("force"));
                let merged = owners::apply(served, &mut new, &before, &applied, who)?;
                body::finish(merged, Vec::new(), &gv, "Scale", id, FieldValidation::Ignore)?.value
            } else {
                let patched = patch.apply(encode::to_tree(builtin(), id, &before), id)?;
                let object = patch.finish(patched, &gv, "Scale", id)?;
                target.warnings.add(object.warnings);
                owners::written(served, &mut new, (&before, &object.value), &manager)?;
                object.value
            };
            changed(served, new, &before, &scale)
        };
        server.update(target, &change, &options).await?
    } else {
        let (options, _) = options::write(query, &headers, "UpdateOptions")?;
        let manager = options.field_manager.clone();
        let options = crate::registry::WriteOptions { field_manager: String::new(), ..options };
        let given = read_body(request, query, owners::VERSION, "Scale", owners::TYPE).await?;
        let change = |old: &Value| {
            let (mut new, before) = (old.clone(), scale_of(served, old)?);
            owners::written(served, &mut new, (&before, &given), &manager)?;
            changed(served, new, &before, &given)
        };
        server.update(target, &change, &options).await?
    };
    shown(&written.bytes)
}

/// An object with the replicas of a scale.
fn changed(served: &Served, mut object: Value, before: &Value, scale: &Value) -> Result<Value, Status> {
    let replicas = scale.int_at(&["spec", "replicas"]).unwrap_or_default();
    let own = served.custom.as_ref().and_then(|custom| custom.scale.as_ref());
    if replicas < 0 && own.is_none() {
        let error =
            field::Error::invalid(&field::Path::new("spec.replicas"), replicas, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", before.str_at(&["metadata", "name"]), &[error]));
    }
    match own {
        Some(custom) => custom.set(&mut object, replicas),
        None => object.set_at(&["spec", "replicas"], replicas),
    }
    let version = scale.str_at(&["metadata", "resourceVersion"]);
    if version == before.str_at(&["metadata", "resourceVersion"]) || version.is_empty() {
        object.remove_at(&["metadata", "resourceVersion"]);
    } else {
        object.set_at(&["metadata", "resourceVersion"], version);
    }
    Ok(object)
}

/// The scale of an object that has replicas.
pub(crate) fn scale_of(served: &Served, object: &Value) -> Result<Value, Status> {
    let mut scale = Value::object();
    scale.set_at(&["kind"], "Scale");
    scale.set_at(&["apiVersion"], "autoscaling/v1");
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.at(&["metadata", field]) {
            scale.set_at(&["metadata", field], value.clone());
        }
    }
    if let Some(custom) = served.custom.as_ref().and_then(|custom| custom.scale.as_ref()) {
        custom.fill(object, &mut scale)?;
        return Ok(scale);
    }
    if let Some(n) = object.int_at(&["spec", "replicas"]).filter(|n| *n != 0) {
        scale.set_at(&["spec", "replicas"], n);
    }
    scale.set_at(&["status", "replicas"], object.int_at(&["status", "replicas"]).unwrap_or_default());
    let selector = object.at(&["spec", "selector"]);
    let labels = selector.and_then(|s| s.get("matchLabels")).or(selector);
    let mut parts: Vec<String> = labels
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
        .filter_map(|(k, v)| v.as_str().map(|v| format!("{k}={v}")))
        .collect();
    for e in selector.map(|s| s.list_at(&["matchExpressions"])).unwrap_or_default() {
        let values: Vec<&str> = e.list_at(&["values"]).iter().filter_map(Value::as_str).collect();
        let key = e.str_at(&["key"]);
        parts.push(match e.str_at(&["operator"]) {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    parts.sort();
    if !parts.is_empty() {
        scale.set_at(&["status", "selector"], parts.join(","));
    }
    Ok(scale)
}
