//! DefaultStorageClass, DefaultIngressClass, StorageObjectInUseProtection.

use super::{Attributes, Operation};
use trireme_schema::Value;

/// The newest object that an annotation marks as the default; of several as new, the first by name.
fn default_of(classes: Vec<Value>, annotation: &str) -> Option<Value> {
    let mut marked: Vec<Value> =
        classes.into_iter().filter(|c| c.str_at(&["metadata", "annotations", annotation]) == "true").collect();
    let age = |c: &Value| c.str_at(&["metadata", "creationTimestamp"]).to_owned();
    marked.sort_by_key(|c| (std::cmp::Reverse(age(c)), c.str_at(&["metadata", "name"]).to_owned()));
    marked.into_iter().next()
}

/// Gives a claim the default class.
pub(super) fn default_class(attributes: &Attributes<'_>, object: &mut Value) {
    let new_claim = attributes.operation == Operation::Create && attributes.is("", "persistentvolumeclaims", "");
    if !new_claim || object.at(&["spec", "storageClassName"]).is_some() {
        return;
    }
    let classes = attributes.server.read_all("storage.k8s.io", "storageclasses", "");
    if let Some(class) = default_of(classes, "storageclass.kubernetes.io/is-default-class") {
        object.set_at(&["spec", "storageClassName"], class.str_at(&["metadata", "name"]));
    }
}

/// Gives an ingress the default class.
pub(super) fn default_ingress_class(attributes: &Attributes<'_>, object: &mut Value) {
    let new = attributes.operation == Operation::Create && attributes.is("networking.k8s.io", "ingresses", "");
    let named = object.at(&["spec", "ingressClassName"]).is_some()
        || object.at(&["metadata", "annotations", "kubernetes.io/ingress.class"]).is_some();
    if !new || named {
        return;
    }
    let classes = attributes.server.read_all("networking.k8s.io", "ingressclasses", "");
    if let Some(class) = default_of(classes, "ingressclass.kubernetes.io/is-default-class") {
        object.set_at(&["spec", "ingressClassName"], class.str_at(&["metadata", "name"]));
    }
}

/// A volume or claim that is used is not removed.
pub(super) fn protection(attributes: &Attributes<'_>, object: &mut Value) {
    if attributes.operation != Operation::Create {
        return;
    }
    let finalizer = if attributes.is("", "persistentvolumeclaims", "") {
        "kubernetes.io/pvc-protection"
    } else if attributes.is("", "persistentvolumes", "") {
        "kubernetes.io/pv-protection"
    } else if attributes.is("storage.k8s.io", "volumeattributesclasses", "") {
        "kubernetes.io/vac-protection"
    } else {
        return;
    };
    let mut all = object.list_at(&["metadata", "finalizers"]).to_vec();
    if !all.iter().any(|f| f.as_str() == Some(finalizer)) {
        all.push(finalizer.into());
        object.set_at(&["metadata", "finalizers"], Value::Array(all));
    }
}
