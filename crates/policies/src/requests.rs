//! The types of what every expression sees of a request.

use std::sync::Arc;
use trireme_cel::{DeclField, DeclType, Type};

fn object(name: &str, fields: &[(&str, DeclType)]) -> DeclType {
    let field = |(name, decl): &(&str, DeclType)| {
        ((*name).to_owned(), DeclField { decl: Arc::new(decl.clone()), required: false })
    };
    DeclType::object(name, fields.iter().map(field).collect())
}

fn simple(ty: Type) -> DeclType {
    DeclType::simple(ty, 0, 0)
}

fn strings(names: &[&'static str]) -> Vec<(&'static str, DeclType)> {
    names.iter().map(|name| (*name, simple(Type::String))).collect()
}

/// `admission.k8s.io`'s request, as expressions see it.
pub(crate) fn request() -> DeclType {
    let kind = object("kubernetes.GroupVersionKind", &strings(&["group", "version", "kind"]));
    let resource = object("kubernetes.GroupVersionResource", &strings(&["group", "version", "resource"]));
    let mut user = strings(&["username", "uid"]);
    user.push(("groups", DeclType::list(simple(Type::String), u64::MAX)));
    user.push(("extra", DeclType::map(DeclType::list(simple(Type::String), u64::MAX), u64::MAX)));
    let user = object("kubernetes.UserInfo", &user);
    let mut fields = strings(&["subResource", "requestSubResource", "name", "namespace", "operation"]);
    fields.extend([
        ("kind", kind.clone()),
        ("resource", resource.clone()),
        ("requestKind", kind),
        ("requestResource", resource),
        ("userInfo", user),
        ("dryRun", simple(Type::Bool)),
        ("options", simple(Type::Dyn)),
    ]);
    object("kubernetes.AdmissionRequest", &fields)
}

/// The namespace of what is asked about, without what is nobody's business.
pub(crate) fn namespace() -> DeclType {
    let texts = || DeclType::map(simple(Type::String), u64::MAX);
    let list = || DeclType::list(simple(Type::String), u64::MAX);
    let mut meta = strings(&["name", "generateName", "namespace", "UID", "resourceVersion"]);
    meta.extend([("labels", texts()), ("annotations", texts()), ("generation", simple(Type::Int))]);
    meta.extend([
        ("creationTimestamp", simple(Type::Timestamp)),
        ("deletionTimestamp", simple(Type::Timestamp)),
        ("deletionGracePeriodSeconds", simple(Type::Int)),
        ("finalizers", list()),
    ]);
    let mut condition = strings(&["status", "type", "message", "reason"]);
    condition.push(("lastTransitionTime", simple(Type::Timestamp)));
    let condition = object("kubernetes.NamespaceCondition", &condition);
    let spec = object("kubernetes.NamespaceSpec", &[("finalizers", list())]);
    let status = object(
        "kubernetes.NamespaceStatus",
        &[("conditions", DeclType::list(condition, u64::MAX)), ("phase", simple(Type::String))],
    );
    object(
        "kubernetes.Namespace",
        &[("metadata", object("kubernetes.NamespaceMetadata", &meta)), ("spec", spec), ("status", status)],
    )
}
