//! PATCH: a change that is worked out on what is there, again if somebody else was faster.

use crate::body::{self, FieldValidation};
use crate::managed;
use crate::options;
use crate::patch::{self, Patch};
use crate::registry::{Target, WriteOptions, Written};
use crate::request::Query;
use crate::server::{ApiServer, header_text};
use bytes::Bytes;
use http::{HeaderMap, header};
use std::sync::Arc;
use trireme_schema::{Status, Value};

/// Applies a patch of any kind.
///
/// # Errors
/// Whatever the patch, admission, validation or the store refuse.
pub(crate) async fn patched(
    server: &Arc<ApiServer>,
    target: &Target,
    bytes: &Bytes,
    headers: &HeaderMap,
    query: &Query,
) -> Result<Written, Status> {
    let kind = patch::Kind::read(&header_text(headers, header::CONTENT_TYPE))?;
    if kind == patch::Kind::Strategic && target.served.custom.is_some() {
        return Err(patch::Kind::not_for_custom());
    }
    let (options, validation) = options::patch(query, headers, kind)?;
    let patch = Patch { kind, bytes, validation };
    if kind == patch::Kind::Apply {
        return apply(server, target, &patch, options, query.flag("force")).await;
    }
    let served = &target.served;
    let change = |old: &Value| {
        let patched = patch.apply(served.tree(old), served.id)?;
        let mut object = patch.object(patched, served)?;
        // A patch that does not speak of the version means any.
        if object.value.str_at(&["metadata", "resourceVersion"]) == old.str_at(&["metadata", "resourceVersion"]) {
            object.value.remove_at(&["metadata", "resourceVersion"]);
        }
        target.warnings.add(object.warnings);
        target.empty.replace(object.empty);
        Ok(object.value)
    };
    server.update(target, &change, &options).await
}

/// Server-side apply: merges a configuration into an object, or makes one of it.
async fn apply(
    server: &Arc<ApiServer>,
    target: &Target,
    patch: &Patch<'_>,
    mut options: WriteOptions,
    force: bool,
) -> Result<Written, Status> {
    let served = &target.served;
    let gv = &served.resource.gv;
    // Who applies is noted by the merge.
    let manager = std::mem::take(&mut options.field_manager);
    let kind = managed::Kind::new(served, &target.subresource);
    let merge = |live: &Value| {
        let (applied, notes) = patch.configuration()?;
        if applied.str_at(&["kind"]) != served.kind() || applied.str_at(&["apiVersion"]) != gv.to_string() {
            let found = managed::group_version_kind(&applied);
            return Err(Status::bad_request(format!("invalid object type: {found}")));
        }
        let merged = managed::apply(&kind, live, &applied, &manager, force)?;
        target.warnings.add(notes);
        Ok(body::object(served, merged, FieldValidation::Ignore)?.value)
    };
    let change = |live: &Value| {
        let mut object = merge(live)?;
        // The merge keeps the live version, which means any; another one was asked for.
        if object.str_at(&["metadata", "resourceVersion"]) == live.str_at(&["metadata", "resourceVersion"]) {
            object.remove_at(&["metadata", "resourceVersion"]);
        }
        Ok(object)
    };
    loop {
        match server.update(target, &change, &options).await {
            Err(status) if is_missing(&status, target) => {}
            other => return other,
        }
        let mut fresh = Value::object();
        fresh.set_at(&["apiVersion"], gv.to_string());
        fresh.set_at(&["kind"], served.kind());
        let object = merge(&fresh)?;
        target.check_uid(&object, None, options.dry_run)?;
        match server.create(target, object, &options).await {
            // Somebody created it in between: then it is merged with what is there.
            Err(status) if status.reason == "AlreadyExists" => {}
            other => return other,
        }
    }
}

/// Whether an object is to be made, since it is not there.
fn is_missing(status: &Status, target: &Target) -> bool {
    let about = |details: &trireme_schema::Details| details.kind == target.served.plural();
    status.code == 404 && target.subresource.is_empty() && status.details.as_ref().is_some_and(|d| about(d))
}
