//! The objects that bindings refer to.

use super::bound::{ParamKind, ParamRef, Which};
use crate::admission::{Attributes, request};
use crate::catalogue::Served;
use std::sync::Arc;
use trireme_schema::{Value, json};

/// The resource of a policy's parameters.
///
/// # Errors
/// There is none.
pub(super) fn resource(attributes: &Attributes<'_>, kind: &ParamKind) -> Result<Arc<Served>, String> {
    let shelf = attributes.server.catalogue.now();
    let found = shelf.all().find(|served| served.resource.gv == kind.gv && served.kind() == kind.kind).cloned();
    found.ok_or_else(|| format!("failed to find resource referenced by paramKind: '{}'", kind.shown()))
}

/// The objects with which a policy is evaluated, one after the other; null for a policy or binding that has none.
///
/// # Errors
/// There are none and must be, or they cannot be found.
pub(super) async fn collect(
    attributes: &Attributes<'_>,
    resource: Option<&Arc<Served>>,
    wanted: Option<&ParamRef>,
) -> Result<Vec<Value>, String> {
    let (Some(served), Some(wanted)) = (resource, wanted) else { return Ok(vec![Value::Null]) };
    let namespace = match (served.resource.namespaced, wanted.namespace.as_str()) {
        (false, "") => "",
        (false, _) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()),
        (true, "") => match request::namespace(attributes) {
            "" => {
                return Err(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned()
                );
            }
            own => own,
        },
        (true, given) => given,
    };
    let server = attributes.server;
    let records: Vec<_> = match &wanted.which {
        Which::Named(name) => server.store.get(&served.key(namespace, name)).into_iter().collect(),
        Which::Selected(Err(why)) => return Err(why.to_string()),
        Which::Selected(Ok(_)) => {
            let snapshot = server.store.topic(&served.topic).snapshot();
            snapshot.range(&served.prefix(namespace), None).cloned().collect()
        }
    };
    let mut found = Vec::with_capacity(records.len());
    for record in records {
        let record = server.one_in_version(served, record).await.map_err(|status| status.message)?;
        let object = json::parse(&server.present(served, &record)).unwrap_or_default();
        let selected = match &wanted.which {
            Which::Selected(Ok(selector)) => selector.matches(object.at(&["metadata", "labels"])),
            _ => true,
        };
        if selected {
            found.push(object);
        }
    }
    if found.is_empty() && wanted.required {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found)
}
