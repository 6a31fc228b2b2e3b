//! Asking whether a user may do something: `authorizer.group('').resource('pods').check('get').allowed()`.

use super::{Result, fail, mismatch};
use crate::decl::{Functions, Implementation};
use crate::types::Type;
use crate::value::{Opaque, Value};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Decides. It stands for one user, unless a check names a service account.
pub trait Authorizer: Send + Sync {
    /// Whether the check is passed.
    fn authorize(&self, check: &Check) -> Decision;
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// The namespace and the name of the service account that is asked about; none: the authorizer's own user.
    pub service_account: Option<(String, String)>,
    /// What would be done.
    pub verb: String,
    /// To what.
    pub to: Subject,
}

/// What something would be done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A URL that is no resource.
    Path(String),
    /// A resource.
    Resource(ResourceSubject),
}

/// A resource that something would be done to; what is empty is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceSubject {
    /// The API group.
    pub group: String,
    /// The resource.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// As a list would have it.
    pub field_selector: String,
    /// As a list would have it.
    pub label_selector: String,
}

impl Default for Subject {
    fn default() -> Self {
        Subject::Resource(ResourceSubject::default())
    }
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong while it was found out.
    pub error: Option<String>,
}

const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
const PATH: &str = "kubernetes.authorization.PathCheck";
const GROUP: &str = "kubernetes.authorization.GroupCheck";
const RESOURCE: &str = "kubernetes.authorization.ResourceCheck";
const DECISION: &str = "kubernetes.authorization.Decision";

/// The types of the variables `authorizer` and `authorizer.requestResource`, and of what comes of them.
pub(super) const NAMES: [&str; 5] = [AUTHORIZER, PATH, GROUP, RESOURCE, DECISION];

/// An authorizer, and what has been said of the check so far.
#[derive(Clone)]
struct Asking {
    name: &'static str,
    authorizer: Arc<dyn Authorizer>,
    check: Check,
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name).field("check", &self.check).finish_non_exhaustive()
    }
}

impl Opaque for Asking {
    fn type_name(&self) -> &'static str {
        self.name
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        (other as &dyn Any).downcast_ref::<Self>().is_some_and(|other| self.check == other.check)
    }
}

impl Opaque for Decision {
    fn type_name(&self) -> &'static str {
        DECISION
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }
}

/// The type of the variable `authorizer`.
pub fn authorizer_type() -> Type {
    Type::object(AUTHORIZER)
}

/// The type of the variable `authorizer.requestResource`.
pub fn resource_check_type() -> Type {
    Type::object(RESOURCE)
}

/// The value of the variable `authorizer`.
pub fn authorizer_value(authorizer: Arc<dyn Authorizer>) -> Value<'static> {
    Value::opaque(Asking { name: AUTHORIZER, authorizer, check: Check::default() })
}

/// The value of the variable `authorizer.requestResource`.
pub fn request_resource_value(authorizer: Arc<dyn Authorizer>, resource: ResourceSubject) -> Value<'static> {
    let check = Check { to: Subject::Resource(resource), ..Check::default() };
    Value::opaque(Asking { name: RESOURCE, authorizer, check })
}

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, String};
    let t = Type::object;
    f.method("path", "authorizer_path", [t(AUTHORIZER), String], t(PATH), |args| {
        say(args, PATH, "path must not be empty", |check, path| check.to = Subject::Path(path))
    });
    f.method("group", "authorizer_group", [t(AUTHORIZER), String], t(GROUP), |args| {
        say(args, GROUP, "", |check, group| {
            check.to = Subject::Resource(ResourceSubject { group, ..ResourceSubject::default() });
        })
    });
    f.method(
        "serviceAccount",
        "authorizer_serviceaccount",
        [t(AUTHORIZER), String, String],
        t(AUTHORIZER),
        service_account,
    );
    f.method("resource", "groupcheck_resource", [t(GROUP), String], t(RESOURCE), |args| {
        say(args, RESOURCE, "resource must not be empty", |check, name| of_resource(check, |r| r.resource = name))
    });
    let parts: [(&'static str, &'static str, Implementation); 5] = [
        ("subresource", "resourcecheck_subresource", |args| part(args, |r, text| r.subresource = text)),
        ("namespace", "resourcecheck_namespace", |args| part(args, |r, text| r.namespace = text)),
        ("name", "resourcecheck_name", |args| part(args, |r, text| r.name = text)),
        ("fieldSelector", "authorizer_fieldselector", |args| part(args, |r, text| r.field_selector = text)),
        ("labelSelector", "authorizer_labelselector", |args| part(args, |r, text| r.label_selector = text)),
    ];
    for (name, id, call) in parts {
        f.method(name, id, [t(RESOURCE), String], t(RESOURCE), call);
    }
    f.method("check", "pathcheck_check", [t(PATH), String], t(DECISION), check);
    f.method("check", "resourcecheck_check", [t(RESOURCE), String], t(DECISION), check);
    f.method("allowed", "decision_allowed", [t(DECISION)], Bool, |args| decision(args, |d| Value::Bool(d.allowed)));
    f.method("errored", "decision_errored", [t(DECISION)], Bool, |args| {
        decision(args, |d| Value::Bool(d.error.is_some()))
    });
    f.method("reason", "decision_reason", [t(DECISION)], String, |args| {
        decision(args, |d| Value::text(d.reason.as_str()))
    });
    f.method("error", "decision_error", [t(DECISION)], String, |args| {
        decision(args, |d| Value::text(d.error.as_deref().unwrap_or_default()))
    });
}

fn of_resource(check: &mut Check, change: impl FnOnce(&mut ResourceSubject)) {
    if let Subject::Resource(resource) = &mut check.to {
        change(resource);
    }
}

/// The check with one more thing said.
fn say<'a>(
    args: &[Value<'a>],
    name: &'static str,
    if_empty: &'static str,
    change: fn(&mut Check, String),
) -> Result<'a> {
    let [asking, Value::String(text)] = args else { return mismatch() };
    let Some(asking) = asking.as_opaque::<Asking>() else { return mismatch() };
    if text.is_empty() && !if_empty.is_empty() {
        return fail(if_empty);
    }
    let mut next = asking.clone();
    next.name = name;
    change(&mut next.check, text.to_string());
    Ok(Value::opaque(next))
}

fn part<'a>(args: &[Value<'a>], change: fn(&mut ResourceSubject, String)) -> Result<'a> {
    let [asking, Value::String(text)] = args else { return mismatch() };
    let Some(asking) = asking.as_opaque::<Asking>() else { return mismatch() };
    let mut next = asking.clone();
    of_resource(&mut next.check, |resource| change(resource, text.to_string()));
    Ok(Value::opaque(next))
}

fn service_account<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [asking, Value::String(namespace), Value::String(name)] = args else { return mismatch() };
    let Some(asking) = asking.as_opaque::<Asking>() else { return mismatch() };
    if !trireme_schema::names::dns1123_subdomain(name).is_empty() {
        return fail("Invalid service account name");
    }
    if !trireme_schema::names::dns1123_label(namespace).is_empty() {
        return fail("Invalid service account namespace");
    }
    let mut next = asking.clone();
    next.check.service_account = Some((namespace.to_string(), name.to_string()));
    Ok(Value::opaque(next))
}

fn check<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [asking, Value::String(verb)] = args else { return mismatch() };
    let Some(asking) = asking.as_opaque::<Asking>() else { return mismatch() };
    let check = Check { verb: verb.to_string(), ..asking.check.clone() };
    Ok(Value::opaque(asking.authorizer.authorize(&check)))
}

fn decision<'a>(args: &[Value<'a>], of: fn(&Decision) -> Value<'a>) -> Result<'a> {
    match args {
        [value] => value.as_opaque().map_or_else(mismatch, |decision| Ok(of(decision))),
        _ => mismatch(),
    }
}
