//! Custom resources: what a definition adds to the catalogue, and what is special about its objects.
//!
//! Their objects go the way of all others (`resources`, `registry`); where those ask for the type of an object, a
//! structural schema of [`trireme_extensions`] answers in place of the built-in types.

mod body;
mod check;
mod columns;
mod conversion;
pub(crate) mod definitions;
pub(crate) mod merging;
mod scale;
mod served;
mod stored;
pub(crate) mod strategy;

pub(crate) use body::{object, of, undefaulted};
pub(crate) use check::{check, warnings};
pub(crate) use scale::Scale;

use crate::catalogue::Served;
use crate::media::{self, Form, SUPPORTED, Shape, Wanted};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use trireme_extensions::{JsonPath, Node};
use trireme_schema::{GroupVersion, Status, Value};
use trireme_webhooks::Endpoint;

/// The form and shape of an answer about a custom object: whole ones have no protobuf form.
///
/// # Errors
/// 406 when the client takes nothing else.
pub(crate) fn wanted(wanted: Wanted, accept: &str) -> Result<Wanted, Status> {
    if wanted.form != Form::Protobuf || wanted.shape != Shape::Object {
        return Ok(wanted);
    }
    let text: Vec<&str> = accept.split(',').filter(|clause| !clause.contains("vnd.kubernetes.protobuf")).collect();
    let others = Wanted::negotiate(&text.join(",")).ok().filter(|_| !text.is_empty());
    others.map(|other| Wanted { pretty: wanted.pretty, ..other }).ok_or_else(|| {
        Status::failure(406, "NotAcceptable", format!("only the following media types are accepted: {SUPPORTED}"))
    })
}

/// The form of a body with a custom object.
///
/// # Errors
/// 415, also for protobuf, which there is none of.
pub(crate) fn body_form(content_type: &str) -> Result<Form, Status> {
    match media::body_form(content_type) {
        Ok(form @ (Form::Json | Form::Yaml)) => Ok(form),
        _ => Err(Status::unsupported_media_type("application/json, application/yaml")),
    }
}

/// 405: there will be no new objects of a definition that is being deleted.
pub(crate) fn terminating(served: &Served) -> Status {
    Status::method_not_allowed(served.group(), served.plural(), "create")
        .with_message("create not allowed while custom resource definition is terminating")
}

/// What a definition says of one of its versions.
#[derive(Debug)]
pub(crate) struct Custom {
    /// The schema of its objects.
    pub node: Arc<Node>,
    /// The kind of a list of them.
    pub list_kind: String,
    /// Columns of the table, after the name.
    pub columns: Vec<Printed>,
    /// Where replicas are told.
    pub scale: Option<Scale>,
    /// What is said to who uses this version.
    pub warning: Option<String>,
    /// What holds for all versions.
    pub definition: Arc<Definition>,
}

/// What a definition says of all its versions.
#[derive(Debug)]
pub(crate) struct Definition {
    /// Its name.
    pub name: String,
    /// Its API group.
    pub group: String,
    /// The state from which this was made: nothing needs to be made anew while it stays.
    pub made_from: Value,
    /// The version in which objects are stored.
    pub storage: GroupVersion,
    /// The webhook that knows how to get from one version to another.
    pub webhook: Option<Result<Endpoint, String>>,
    /// The schemas of all versions, served or not.
    pub versions: BTreeMap<String, Arc<Node>>,
    /// Fields that objects can be selected by in some version.
    pub selectable: Vec<String>,
    /// What was stored up to this revision was made under other schemas.
    pub since: i64,
    /// Its objects are being deleted.
    pub terminating: bool,
    /// Cancelled when this is no longer what holds, so that watches begin anew.
    pub replaced: CancellationToken,
}

/// A column.
#[derive(Debug)]
pub(crate) struct Printed {
    /// Its definition, as clients get it.
    pub header: Value,
    /// `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: String,
    /// Where its cells come from; `None` when the path cannot be read.
    pub path: Option<JsonPath>,
}
