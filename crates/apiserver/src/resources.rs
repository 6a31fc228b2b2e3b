//! Requests about resources: from HTTP to the registry and back.

use crate::answer::{self, Body};
use crate::body;
use crate::catalogue::Served;
use crate::custom;
use crate::media::Wanted;
use crate::notes::Notes;
use crate::options::{self, ListOptions};
use crate::patching;
use crate::registry::{DeleteOptions, Empties, Target};
use crate::request::{Query, RequestInfo};
use crate::selection::Selection;
use crate::server::{ApiServer, Incoming, header_text};
use crate::shapes::{list_answer, list_bytes, place, show, watch_answer};
use crate::user::User;
use crate::warnings::{self, Warnings};
use crate::{reviews, strategy, subresources};
use http::{Request, Response, header};
use std::sync::Arc;
use trireme_schema::{Status, Value};

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
        empty: Default::default(),
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
            let target = Target { name: String::new(), empty: Empties::of(object.empty), ..target };
            let written = server.create(&target, object.value, &options).await?;
            show(server, &target, 201, written.bytes, query, wanted)
        }
        "update" => {
            let headers = request.headers().clone();
            let bytes = request.into_body().read().await?;
            let (options, validation) = options::write(query, &headers, "UpdateOptions")?;
            let object = body::of(served, &bytes, &header_text(&headers, header::CONTENT_TYPE), validation)?;
            warnings.add(object.warnings);
            let (value, target) = (object.value, Target { empty: Empties::of(object.empty), ..target });
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
