//! Writes of the aggregator itself, through the same pipeline as all others.

use crate::notes::Notes;
use crate::registry::{DeleteOptions, Target, WriteOptions};
use crate::server::ApiServer;
use crate::user::User;
use crate::warnings::Warnings;
use std::sync::Arc;
use trireme_schema::{Status, Value};

/// A resource, by group and plural.
pub(super) type Resource = (&'static str, &'static str);

fn target(server: &ApiServer, (group, plural): Resource, namespace: &str, name: &str, sub: &str) -> Option<Target> {
    Some(Target {
        served: server.catalogue.stored(group, plural)?,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: sub.to_owned(),
        user: Arc::new(User::new("system:apiserver", &["system:masters"])),
        warnings: Warnings::default(),
        empty: Default::default(),
        notes: Notes::default(),
    })
}

fn options() -> WriteOptions {
    WriteOptions { field_manager: "kube-apiserver".into(), ..WriteOptions::default() }
}

/// Makes an object. That it is there already is no failure: an event tells of that.
pub(super) async fn create(
    server: &ApiServer,
    resource: Resource,
    namespace: &str,
    mut object: Value,
) -> Result<(), Status> {
    let Some(target) = target(server, resource, namespace, "", "") else { return Ok(()) };
    crate::defaults::apply(target.served.id, &mut object);
    match server.create(&target, object, &options()).await {
        Err(status) if status.reason != "AlreadyExists" => Err(status),
        _ => Ok(()),
    }
}

/// Changes an object; `change` gives what it is to be, or `None` when it may stay. That it is gone is no failure.
pub(super) async fn update(
    server: &ApiServer,
    resource: Resource,
    (namespace, name, sub): (&str, &str, &str),
    change: &(dyn Fn(&Value) -> Option<Value> + Send + Sync),
) -> Result<(), Status> {
    let Some(target) = target(server, resource, namespace, name, sub) else { return Ok(()) };
    let change = |old: &Value| {
        let mut new = change(old).unwrap_or_else(|| old.clone());
        new.remove_at(&["metadata", "resourceVersion"]);
        Ok(new)
    };
    match server.update(&target, &change, &options()).await {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(()),
    }
}

/// Deletes the object with this uid. That it is gone, or another, is no failure.
pub(super) async fn delete(server: &ApiServer, resource: Resource, name: &str, uid: &str) -> Result<(), Status> {
    let Some(target) = target(server, resource, "", name, "") else { return Ok(()) };
    let options = DeleteOptions { uid: Some(uid.to_owned()), ..DeleteOptions::default() };
    match server.delete(&target, &options).await {
        Err(status) if !matches!(status.code, 404 | 409) => Err(status),
        _ => Ok(()),
    }
}
