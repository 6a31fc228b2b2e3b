//! NamespaceLifecycle: nothing is made in a namespace that is not there or is going; some namespaces stay.

use super::{Attributes, Operation};
use trireme_schema::{Cause, Details, Status, Value};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Refuses what is to be made in a namespace that cannot take it.
pub(super) fn lifecycle(attributes: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    let target = attributes.target;
    if !target.served.resource.namespaced || attributes.operation != Operation::Create {
        return Ok(());
    }
    if target.served.plural() == "localsubjectaccessreviews" {
        return Ok(());
    }
    let Some(namespace) = attributes.server.read("", "namespaces", "", &target.namespace) else {
        return Err(Status::not_found("", "namespaces", &target.namespace));
    };
    if namespace.str_at(&["status", "phase"]) == "Terminating"
        || namespace.at(&["metadata", "deletionTimestamp"]).is_some()
    {
        let name = object.str_at(&["metadata", "name"]);
        let ns = &target.namespace;
        let why = format!("unable to create new content in namespace {ns} because it is being terminated");
        let mut status = Status::forbidden(target.served.group(), target.served.plural(), name, &why);
        let details = status.details.get_or_insert_with(|| Box::new(Details::default()));
        details.causes.push(Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {ns} is being terminated"),
            field: "metadata.namespace".into(),
        });
        return Err(status);
    }
    Ok(())
}

/// Keeps the namespaces that a cluster cannot be without.
pub(super) fn protect(attributes: &Attributes<'_>, _: &Value, _: Option<&Value>) -> Result<(), Status> {
    let name = attributes.target.name.as_str();
    if attributes.operation == Operation::Delete && attributes.is("", "namespaces", "") && IMMORTAL.contains(&name) {
        return Err(Status::forbidden("", "namespaces", name, "this namespace may not be deleted"));
    }
    Ok(())
}
