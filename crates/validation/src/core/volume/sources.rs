//! Sources of volumes, as far as the table does not say it.

use super::{descending_path, local_path, no_backsteps};
use crate::rules::Registry;
use crate::{Errors, Place, core};
use trireme_schema::{Value, names};

pub(super) fn register(registry: &mut Registry) {
    registry.on_type("core.v1.EmptyDirVolumeSource", empty_dir);
    registry.on_type("core.v1.HostPathVolumeSource", host_path);
    registry.on_type("core.v1.LocalVolumeSource", local);
    registry.on_type("core.v1.GitRepoVolumeSource", git_repo);
    registry.on_type("core.v1.GCEPersistentDiskVolumeSource", partition);
    registry.on_type("core.v1.AWSElasticBlockStoreVolumeSource", partition);
    registry.on_type("core.v1.KeyToPath", key_to_path);
    registry.on_type("core.v1.NFSVolumeSource", nfs);
    registry.on_type("core.v1.GlusterfsPersistentVolumeSource", glusterfs);
    registry.on_type("core.v1.FlockerVolumeSource", flocker);
    registry.on_type("core.v1.QuobyteVolumeSource", quobyte);
    registry.on_type("core.v1.FCVolumeSource", fibre_channel);
    registry.on_type("core.v1.FlexVolumeSource", flex);
    registry.on_type("core.v1.FlexPersistentVolumeSource", flex);
    registry.on_type("core.v1.AzureDiskVolumeSource", azure_disk);
    for ty in ["core.v1.CinderVolumeSource", "core.v1.StorageOSVolumeSource"] {
        registry.on_type(ty, named_secret);
    }
    for ty in ["core.v1.CinderPersistentVolumeSource", "core.v1.StorageOSPersistentVolumeSource"] {
        registry.on_type(ty, placed_secret);
    }
    registry.on_type("core.v1.CSIVolumeSource", csi);
    registry.on_type("core.v1.CSIPersistentVolumeSource", csi_persistent);
    registry.on_type("core.v1.ImageVolumeSource", image);
    registry.on_type("core.v1.PersistentVolumeClaimTemplate", core::claim::template);
}

fn empty_dir(source: &Place<'_>, errors: &mut Errors) {
    if let Some(limit) = source.field("sizeLimit")
        && limit.quantity().is_some_and(|q| q.is_negative())
    {
        errors.forbidden(&limit, "SizeLimit field must be a valid resource quantity");
    }
}

fn host_path(source: &Place<'_>, errors: &mut Errors) {
    const TYPES: [&str; 8] =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let path = source.child("path");
    if path.str().is_empty() {
        return errors.required(&path, "");
    }
    no_backsteps(&path, path.str(), errors);
    if let Some(ty) = source.field("type")
        && !TYPES.contains(&ty.str())
    {
        errors.not_supported(&ty, ty.str(), &TYPES);
    }
}

fn local(source: &Place<'_>, errors: &mut Errors) {
    let path = source.child("path");
    match path.str() {
        "" => errors.required(&path, ""),
        text => no_backsteps(&path, text, errors),
    }
}

fn git_repo(source: &Place<'_>, errors: &mut Errors) {
    descending_path(&source.child("directory"), source.text("directory"), errors);
}

/// The words are upstream's, though 0 is let through.
fn partition(source: &Place<'_>, errors: &mut Errors) {
    if let Some(number) = source.int("partition")
        && !(0..=255).contains(&number)
    {
        errors.invalid(&source.child("partition"), "must be between 1 and 255, inclusive");
    }
}

fn key_to_path(item: &Place<'_>, errors: &mut Errors) {
    let path = item.child("path");
    if path.str().is_empty() {
        errors.required(&path, "");
    }
    local_path(&path, errors);
}

fn nfs(source: &Place<'_>, errors: &mut Errors) {
    let path = source.child("path");
    if path.str().is_empty() {
        errors.required(&path, "");
    }
    if !path.str().starts_with('/') {
        errors.invalid_value(&path, path.str(), "must be an absolute path");
    }
}

fn glusterfs(source: &Place<'_>, errors: &mut Errors) {
    let Some(namespace) = source.field("endpointsNamespace") else { return };
    match namespace.str() {
        "" => errors.invalid(&namespace, "if the endpointnamespace is set, it must be a valid namespace name"),
        text => errors.format(&namespace, text, names::dns1123_label(text)),
    }
}

fn flocker(source: &Place<'_>, errors: &mut Errors) {
    match (source.text("datasetName").is_empty(), source.text("datasetUUID").is_empty()) {
        (true, true) => errors.required(source, "one of datasetName and datasetUUID is required"),
        (false, false) => {
            let why = "datasetName and datasetUUID can not be specified simultaneously";
            errors.invalid_value(source, "resource", why);
        }
        _ => {}
    }
    if source.text("datasetName").contains('/') {
        errors.invalid(&source.child("datasetName"), "must not contain '/'");
    }
}

fn quobyte(source: &Place<'_>, errors: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = source.child("registry");
    if registry.str().is_empty() {
        errors.required(&registry, PAIRS);
    } else if source.text("tenant").len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.required(&source.child("tenant"), why);
    } else {
        for _pair in registry.str().split(',').filter(|p| !is_host_and_port(p)) {
            errors.invalid(&registry, PAIRS);
        }
    }
}

/// As Go's `net.SplitHostPort` sees it.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = match host.strip_prefix('[') {
        Some(rest) => match rest.strip_suffix(']') {
            Some(bare) => return !bare.contains(['[', ']']) && !port.contains(['[', ']']),
            None => return false,
        },
        None => host,
    };
    !bare.contains([':', '[', ']']) && !port.contains(['[', ']'])
}

fn fibre_channel(source: &Place<'_>, errors: &mut Errors) {
    let names = source.child("targetWWNs");
    match (source.list("targetWWNs").is_empty(), source.list("wwids").is_empty()) {
        (true, true) => errors.required(&names, "must specify either targetWWNs or wwids, but not both"),
        (false, false) => errors.invalid(&names, "targetWWNs and wwids can not be specified simultaneously"),
        _ => {}
    }
    if source.list("targetWWNs").is_empty() {
        return;
    }
    let lun = source.child("lun");
    match source.int("lun") {
        None => errors.required(&lun, "lun is required if targetWWNs is specified"),
        Some(number) if !(0..=255).contains(&number) => errors.invalid(&lun, "must be between 0 and 255, inclusive"),
        Some(_) => {}
    }
}

fn flex(source: &Place<'_>, errors: &mut Errors) {
    for (key, place) in source.entries("options") {
        let namespace = key.split_once('/').map_or(key, |(namespace, _)| namespace).to_lowercase();
        let namespace = format!(".{namespace}");
        if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
            errors.invalid_value(&place, key, "kubernetes.io and k8s.io namespaces are reserved");
        }
    }
}

fn azure_disk(source: &Place<'_>, errors: &mut Errors) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    let uri = source.child("diskURI");
    let Some(kind) = source.value.get("kind").and_then(Value::as_str) else { return };
    let (start, form) = if kind == "Managed" { ("/subscriptions/", MANAGED) } else { ("https://", BLOB) };
    if !uri.str().starts_with(start) {
        errors.not_supported(&uri, uri.str(), &[form]);
    }
}

fn named_secret(source: &Place<'_>, errors: &mut Errors) {
    if source.has("secretRef") && source.value.str_at(&["secretRef", "name"]).is_empty() {
        errors.required(&source.child("secretRef.name"), "");
    }
}

fn placed_secret(source: &Place<'_>, errors: &mut Errors) {
    named_secret(source, errors);
    if source.has("secretRef") && source.value.str_at(&["secretRef", "namespace"]).is_empty() {
        errors.required(&source.child("secretRef.namespace"), "");
    }
}

/// The name of a CSI driver.
pub(crate) fn csi_driver_name(place: &Place<'_>, errors: &mut Errors) {
    let name = place.str();
    if name.is_empty() {
        return errors.required(place, "");
    }
    if name.len() > 63 {
        errors.too_long(place, 63);
    }
    errors.format(place, name, names::dns1123_subdomain(&name.to_lowercase()));
}

fn csi(source: &Place<'_>, errors: &mut Errors) {
    csi_driver_name(&source.child("driver"), errors);
    if !source.has("nodePublishSecretRef") {
        return;
    }
    match source.value.str_at(&["nodePublishSecretRef", "name"]) {
        "" => errors.required(&source.child("nodePublishSecretRef.name"), ""),
        name => errors.format(&source.child("name"), name, names::dns1123_subdomain(name)),
    }
}

fn csi_persistent(source: &Place<'_>, errors: &mut Errors) {
    csi_driver_name(&source.child("driver"), errors);
    // The secret for staging has never been checked.
    for field in
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
    {
        let Some(secret) = source.field(field) else { continue };
        let (name, namespace) = (secret.child("name"), secret.child("namespace"));
        match name.str() {
            "" => errors.required(&name, ""),
            text => errors.format(&name, text, names::dns1123_subdomain(text)),
        }
        match namespace.str() {
            "" => errors.required(&namespace, ""),
            text => errors.format(&namespace, text, names::dns1123_label(text)),
        }
    }
}

/// A template's image may be filled in when the pod is made.
fn image(source: &Place<'_>, errors: &mut Errors) {
    if source.subject.kind == "Pod" && source.text("reference").is_empty() {
        errors.required(&source.child("reference"), "");
    }
}
