//! Attachments of volumes to nodes.

use super::csi;
use crate::core::persistent_volume;
use crate::rules::Registry;
use crate::{Errors, Place};
use trireme_schema::names;

const LONGEST_MESSAGE: usize = 1024;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("storage.v1.VolumeAttachment", "", |root, errors| spec(&root.child("spec"), errors));
    registry.on_kind("storage.v1.VolumeAttachment", "status", status);
}

fn spec(spec: &Place<'_>, errors: &mut Errors) {
    csi::driver_name(&spec.child("attacher"), errors);
    let source = spec.child("source");
    let (name, inline) = (source.child("persistentVolumeName"), source.child("inlineVolumeSpec"));
    match (name.is_set(), inline.is_set()) {
        (false, false) => {
            errors.required(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName");
        }
        (true, true) => {
            errors.forbidden(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName");
        }
        (true, false) if name.str().is_empty() => {
            errors.required(&name, "must specify non empty persistentVolumeName");
        }
        (true, false) => errors.format(&name, name.str(), names::dns1123_subdomain(name.str())),
        (false, true) => persistent_volume::spec(&inline, true, errors),
    }
    let node = spec.child("nodeName");
    errors.format(&node, node.str(), names::dns1123_subdomain(node.str()));
    if spec.old.is_some() && spec.is_changed() {
        errors.invalid_internal(spec, "storage.v1.VolumeAttachmentSpec", "field is immutable");
    }
}

fn status(root: &Place<'_>, errors: &mut Errors) {
    let status = root.child("status");
    for field in ["attachError", "detachError"] {
        if let Some(error) = status.field(field) {
            let message = error.child("message");
            if message.str().len() > LONGEST_MESSAGE {
                errors.too_long(&message, LONGEST_MESSAGE);
            }
            let code = error.child("errorCode");
            if code.value.as_int().is_some_and(|n| n < 0) {
                errors.invalid(&code, "must be greater than or equal to 0");
            }
        }
    }
}
