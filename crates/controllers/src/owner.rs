//! Owner references, and the claim of a controller on the objects that its selector accepts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;
use trireme_client::{Kind, Meta, Patch};

/// What a controller does about an object that it may own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is the controller's own.
    Ours,
    /// Nobody manages it and the selector accepts it.
    Adopt,
    /// It is the controller's own but the selector does not accept it any more.
    Release,
    /// It is none of the controller's business.
    Ignore,
}

/// Decides about one object.
pub(crate) fn claim(object: &Meta, owner_uid: &str, owner_deleting: bool, selected: bool) -> Claim {
    match &object.controller {
        Some(owner) if *owner.uid != *owner_uid => Claim::Ignore,
        Some(_) if selected => Claim::Ours,
        Some(_) if owner_deleting => Claim::Ignore,
        Some(_) => Claim::Release,
        None if selected && !owner_deleting && !object.deleting => Claim::Adopt,
        None => Claim::Ignore,
    }
}

/// The reference by which an object of kind `K` manages another.
pub(crate) fn controller_reference<K: Kind>(owner: &ObjectMeta) -> OwnerReference {
    let resource = K::resource();
    OwnerReference {
        api_version: resource.api_version(),
        kind: resource.kind.to_string(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Makes `reference` the managing owner of the object with this uid.
pub(crate) fn adoption(uid: &str, reference: &OwnerReference) -> Patch {
    // Owner references are merged by uid, so those of others stay.
    Patch::Strategic(json!({ "metadata": { "uid": uid, "ownerReferences": [reference] } }))
}

/// Takes the owner away from the object with this uid.
pub(crate) fn release(uid: &str, owner_uid: &str) -> Patch {
    Patch::Strategic(
        json!({ "metadata": { "uid": uid, "ownerReferences": [{ "$patch": "delete", "uid": owner_uid }] } }),
    )
}

/// The managing owner among an object's owners.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_follow_owner_and_selector() {
        let object = |owner: Option<&str>, deleting: bool| {
            let owners = owner.map(|uid| json!([{"kind": "X", "name": "x", "uid": uid, "controller": true}]));
            let time = deleting.then_some("2026-01-01T00:00:00Z");
            let meta = json!({"metadata": {"name": "a", "ownerReferences": owners, "deletionTimestamp": time}});
            Meta::read(meta.to_string().as_bytes()).unwrap()
        };
        for (owner, deleting, owner_deleting, selected, expected) in [
            (Some("me"), false, false, true, Claim::Ours),
            (Some("me"), false, false, false, Claim::Release),
            (Some("me"), false, true, false, Claim::Ignore),
            (Some("other"), false, false, true, Claim::Ignore),
            (None, false, false, true, Claim::Adopt),
            (None, true, false, true, Claim::Ignore),
            (None, false, true, true, Claim::Ignore),
            (None, false, false, false, Claim::Ignore),
        ] {
            assert_eq!(claim(&object(owner, deleting), "me", owner_deleting, selected), expected);
        }
    }
}
