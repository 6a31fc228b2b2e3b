//! DefaultStorageClass, DefaultIngressClass, StorageObjectInUseProtection, PersistentVolumeClaimResize.

use super::{Attributes, Operation};
use trireme_quota::read;
use trireme_schema::{Status, Value};

/// The newest object that an annotation marks as the default; of several as new, the first by name.
fn default_of(classes: Vec<Value>, annotation: &str) -> Option<Value> {
    let mut marked: Vec<Value> =
        classes.into_iter().filter(|c| c.str_at(&["metadata", "annotations", annotation]) == "true").collect();
    let age = |c: &Value| c.str_at(&["metadata", "creationTimestamp"]).to_owned();
    marked.sort_by_key(|c| (std::cmp::Reverse(age(c)), c.str_at(&["metadata", "name"]).to_owned()));
    marked.into_iter().next()
}

/// Gives a claim the default class.
pub(super) fn default_class(attributes: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    const OLD: &str = "volume.beta.kubernetes.io/storage-class";
    let named =
        object.at(&["spec", "storageClassName"]).is_some() || object.at(&["metadata", "annotations", OLD]).is_some();
    if !attributes.creates("", "persistentvolumeclaims") || named {
        return Ok(());
    }
    let classes = attributes.server.read_all("storage.k8s.io", "storageclasses", "");
    if let Some(class) = default_of(classes, "storageclass.kubernetes.io/is-default-class") {
        object.set_at(&["spec", "storageClassName"], class.str_at(&["metadata", "name"]));
    }
    Ok(())
}

/// Gives an ingress the default class.
pub(super) fn default_ingress_class(
    attributes: &Attributes<'_>,
    object: &mut Value,
    _: Option<&Value>,
) -> Result<(), Status> {
    let named = object.at(&["spec", "ingressClassName"]).is_some()
        || object.at(&["metadata", "annotations", "kubernetes.io/ingress.class"]).is_some();
    if !attributes.creates("networking.k8s.io", "ingresses") || named {
        return Ok(());
    }
    let classes = attributes.server.read_all("networking.k8s.io", "ingressclasses", "");
    if let Some(class) = default_of(classes, "ingressclass.kubernetes.io/is-default-class") {
        object.set_at(&["spec", "ingressClassName"], class.str_at(&["metadata", "name"]));
    }
    Ok(())
}

/// A volume or claim that is used is not removed.
pub(super) fn protection(attributes: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    let finalizer = if attributes.creates("", "persistentvolumeclaims") {
        "kubernetes.io/pvc-protection"
    } else if attributes.creates("", "persistentvolumes") {
        "kubernetes.io/pv-protection"
    } else if attributes.creates("storage.k8s.io", "volumeattributesclasses") {
        "kubernetes.io/vac-protection"
    } else {
        return Ok(());
    };
    let mut all = object.list_at(&["metadata", "finalizers"]).to_vec();
    if !all.iter().any(|f| f.as_str() == Some(finalizer)) {
        all.push(finalizer.into());
        object.set_at(&["metadata", "finalizers"], Value::Array(all));
    }
    Ok(())
}

/// A claim grows only when it is bound and its class lets it.
pub(super) fn resize(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    if attributes.operation != Operation::Update || !attributes.is("", "persistentvolumeclaims", "") {
        return Ok(());
    }
    let Some(old) = old else { return Ok(()) };
    let size = |claim: &Value| read(claim.at(&["spec", "resources", "requests"])).remove("storage");
    if size(object) <= size(old) {
        return Ok(());
    }
    if old.str_at(&["status", "phase"]) != "Bound" {
        return Err(attributes.forbidden(object, "Only bound persistent volume claims can be expanded"));
    }
    let class =
        attributes.server.read("storage.k8s.io", "storageclasses", "", old.str_at(&["spec", "storageClassName"]));
    if class.is_some_and(|class| class.bool_at(&["allowVolumeExpansion"])) {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    Err(attributes.forbidden(object, why))
}
