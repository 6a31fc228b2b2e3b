//! Where containers see volumes.

use crate::core::volume::{self, Volumes};
use crate::{Errors, Place};
use std::collections::HashSet;

pub(super) fn mounts(container: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    let list = container.child("volumeMounts");
    let mut points = HashSet::new();
    for mount in container.items("volumeMounts") {
        let (name, path) = (mount.child("name"), mount.child("mountPath"));
        if name.str().is_empty() {
            errors.required(&name, "");
        }
        if volumes.get(name.str()).is_none() {
            errors.not_found(&name, name.str());
        }
        if path.str().is_empty() {
            errors.required(&path, "");
        }
        if !points.insert(mount.text("mountPath")) {
            errors.invalid_value(&path, path.str(), "must be unique");
        }
        let devices = container.list("volumeDevices");
        if devices.iter().any(|d| d.str_at(&["name"]) == name.str()) {
            errors.invalid_value(&name, name.str(), "must not already exist in volumeDevices");
        }
        if devices.iter().any(|d| d.str_at(&["devicePath"]) == path.str()) {
            errors.invalid_value(&path, path.str(), "must not already exist as a path in volumeDevices");
        }
        if let Some(sub) = mount.field("subPath") {
            volume::descending_path(&list.child("subPath"), sub.str(), errors);
        }
        if let Some(sub) = mount.field("subPathExpr") {
            if mount.has("subPath") {
                errors.invalid(&sub, "subPathExpr and subPath are mutually exclusive");
            }
            volume::descending_path(&list.child("subPathExpr"), sub.str(), errors);
        }
        propagation(container, &mount, &list, errors);
    }
}

/// Upstream tells these by the list, without the index.
fn propagation(container: &Place<'_>, mount: &Place<'_>, list: &Place<'_>, errors: &mut Errors) {
    const MODES: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];
    const RECURSIVE: [&str; 3] = ["Disabled", "Enabled", "IfPossible"];
    let given = mount.field("mountPropagation");
    if let Some(mode) = &given {
        let place = list.child("mountPropagation");
        if !MODES.contains(&mode.str()) {
            errors.not_supported(&place, mode.str(), &MODES);
        }
        if mode.str() == "Bidirectional" && !container.value.bool_at(&["securityContext", "privileged"]) {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            errors.forbidden(&place, why);
        }
    }
    let Some(recursive) = mount.field("recursiveReadOnly") else { return };
    let place = list.child("recursiveReadOnly");
    match recursive.str() {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.is("readOnly") {
                errors.forbidden(&place, "may only be specified when readOnly is true");
            }
            if given.is_some_and(|mode| mode.str() != "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.forbidden(&place, why);
            }
        }
        other => errors.not_supported(&place, other, &RECURSIVE),
    }
}

pub(super) fn devices(container: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for device in container.items("volumeDevices") {
        let (name, path) = (device.child("name"), device.child("devicePath"));
        if name.str().is_empty() {
            errors.required(&name, "");
        }
        if names.contains(name.str()) {
            errors.invalid_value(&name, name.str(), "must be unique");
        }
        match volumes.get(name.str()) {
            None => errors.not_found(&name, name.str()),
            Some(volume) if volume.get("persistentVolumeClaim").is_some() || volume.get("ephemeral").is_some() => {}
            Some(_) => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid_value(&name, name.str(), why);
            }
        }
        if path.str().is_empty() {
            errors.required(&path, "");
        }
        if paths.contains(path.str()) {
            errors.invalid_value(&path, path.str(), "must be unique");
        }
        if path.str().split('/').any(|part| part == "..") {
            errors.invalid_value(&path, path.str(), "can not contain backsteps ('..')");
        } else {
            paths.insert(device.text("devicePath"));
        }
        let mounts = container.list("volumeMounts");
        if mounts.iter().any(|m| m.str_at(&["name"]) == name.str()) {
            errors.invalid_value(&name, name.str(), "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|m| m.str_at(&["mountPath"]) == path.str()) {
            errors.invalid_value(&path, path.str(), "must not already exist as a path in volumeMounts");
        }
        if !name.str().is_empty() {
            names.insert(device.text("name"));
        }
    }
}
