//! OwnerReferencesPermissionEnforcement: who makes an object go with another must be able to delete the one and, where
//! the other is held by it, to hold the other.

use super::Attributes;
use crate::authz::{self, Action};
use futures::future::BoxFuture;
use trireme_schema::{GroupVersion, Status, Value};

fn owners(object: Option<&Value>) -> &[Value] {
    object.map(|o| o.list_at(&["metadata", "ownerReferences"])).unwrap_or_default()
}

/// Refuses changed owners to who may not delete the object, and owners that are newly held to who may not hold them.
pub(super) fn check<'a>(
    attributes: &'a Attributes<'a>,
    object: &'a Value,
    old: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(checked(attributes, object, old))
}

async fn checked(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    if !attributes.writes() || owners(Some(object)) == owners(old) {
        return Ok(());
    }
    let target = attributes.target;
    let served = &target.served;
    let delete = Action {
        verb: "delete".into(),
        group: served.group().to_owned(),
        version: served.resource.gv.version.clone(),
        resource: served.plural().to_owned(),
        namespace: target.namespace.clone(),
        name: attributes.name(object).to_owned(),
        ..Action::default()
    };
    if !authz::allows(attributes.server, &target.user, &delete).await {
        return Err(attributes.forbidden(object, "cannot set an ownerRef on a resource you can't delete: , <nil>"));
    }
    let held = |owner: &&Value| {
        let same = |o: &&Value| o.str_at(&["uid"]) == owner.str_at(&["uid"]);
        owner.bool_at(&["blockOwnerDeletion"])
            && !owners(old).iter().find(same).is_some_and(|o| o.bool_at(&["blockOwnerDeletion"]))
    };
    for owner in owners(Some(object)).iter().filter(held) {
        let gv = GroupVersion::parse(owner.str_at(&["apiVersion"]));
        let Some(of) = attributes
            .server
            .catalogue
            .now()
            .all()
            .find(|s| {
                s.group() == gv.group && s.resource.gv.version == gv.version && s.kind() == owner.str_at(&["kind"])
            })
            .cloned()
        else {
            let why = format!(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {gv} Kind {}",
                owner.str_at(&["kind"])
            );
            return Err(attributes.forbidden(object, &why));
        };
        let hold = Action {
            verb: "update".into(),
            group: gv.group.clone(),
            version: gv.version.clone(),
            resource: of.plural().to_owned(),
            subresource: "finalizers".into(),
            namespace: if of.resource.namespaced { target.namespace.clone() } else { String::new() },
            name: owner.str_at(&["name"]).to_owned(),
            ..Action::default()
        };
        if !authz::allows(attributes.server, &target.user, &hold).await {
            let why = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>";
            return Err(attributes.forbidden(object, why));
        }
    }
    Ok(())
}
