//! Persistent volumes.

use super::claim;
use super::volume::{self, Source};
use crate::rules::Registry;
use crate::{Errors, Place, Subject, diff, engine, internal};
use trireme_schema::{Value, names};

#[rustfmt::skip]
const SOURCES: [Source; 22] = [
    ("hostPath", "hostPath", "hostPath", "core.v1.HostPathVolumeSource"),
    ("gcePersistentDisk", "persistentDisk", "gcePersistentDisk", "core.v1.GCEPersistentDiskVolumeSource"),
    ("awsElasticBlockStore", "awsElasticBlockStore", "awsElasticBlockStore", "core.v1.AWSElasticBlockStoreVolumeSource"),
    ("glusterfs", "glusterfs", "glusterfs", "core.v1.GlusterfsPersistentVolumeSource"),
    ("flocker", "flocker", "flocker", "core.v1.FlockerVolumeSource"),
    ("nfs", "nfs", "nfs", "core.v1.NFSVolumeSource"),
    ("rbd", "rbd", "rbd", "core.v1.RBDPersistentVolumeSource"),
    ("quobyte", "quobyte", "quobyte", "core.v1.QuobyteVolumeSource"),
    ("cephfs", "cephfs", "cephFS", "core.v1.CephFSPersistentVolumeSource"),
    ("iscsi", "iscsi", "iscsi", "core.v1.ISCSIPersistentVolumeSource"),
    ("cinder", "cinder", "cinder", "core.v1.CinderPersistentVolumeSource"),
    ("fc", "fc", "fc", "core.v1.FCVolumeSource"),
    ("flexVolume", "flexVolume", "flexVolume", "core.v1.FlexPersistentVolumeSource"),
    ("azureFile", "azureFile", "azureFile", "core.v1.AzureFilePersistentVolumeSource"),
    ("vsphereVolume", "vsphereVolume", "vsphereVolume", "core.v1.VsphereVirtualDiskVolumeSource"),
    ("photonPersistentDisk", "photonPersistentDisk", "photonPersistentDisk", "core.v1.PhotonPersistentDiskVolumeSource"),
    ("portworxVolume", "portworxVolume", "portworxVolume", "core.v1.PortworxVolumeSource"),
    ("azureDisk", "azureDisk", "azureDisk", "core.v1.AzureDiskVolumeSource"),
    ("scaleIO", "scaleIO", "scaleIO", "core.v1.ScaleIOPersistentVolumeSource"),
    ("local", "local", "local", "core.v1.LocalVolumeSource"),
    ("storageos", "storageos", "storageos", "core.v1.StorageOSPersistentVolumeSource"),
    ("csi", "csi", "csi", "core.v1.CSIPersistentVolumeSource"),
];

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("core.v1.PersistentVolume", "", check);
    registry.on_warning("core.v1.PersistentVolume", warnings);
}

fn check(volume: &Place<'_>, errors: &mut Errors) {
    spec(&volume.child("spec"), false, errors);
    if let Some(old) = volume.old {
        // Upstream checks a changed one as a new one, then as a change, and tells what is wrong twice.
        spec(&volume.child("spec"), false, errors);
        update(volume, old, errors);
    }
}

/// The spec of a volume; `inline` when it stands in a VolumeAttachment instead of having a volume of its own.
pub(crate) fn spec(spec: &Place<'_>, inline: bool, errors: &mut Errors) {
    const INLINE: &str = "may not be specified in the context of inline volumes";
    if inline {
        for field in ["claimRef", "capacity", "nodeAffinity", "storageClassName"] {
            if spec.has(field) {
                errors.forbidden(&spec.child(field), INLINE);
            }
        }
        if !spec.has("csi") {
            errors.required(&spec.child("csi"), "has to be specified in the context of inline volumes");
        }
    }
    if spec.list("accessModes").is_empty() {
        errors.required(&spec.child("accessModes"), "");
    }
    claim::access_modes(spec, errors);
    if !inline {
        capacity(spec, errors);
    }
    reclaim_policy(spec, inline, errors);
    let affinity = spec.child("nodeAffinity");
    if affinity.is_set() && !inline {
        match affinity.field("required") {
            Some(required) => engine::walk_type("core.v1.NodeSelector", &required, errors),
            None => errors.required(&affinity.child("required"), "must specify required node constraints"),
        }
    }
    let found = volume::one_of(spec, &SOURCES, errors);
    if found == 0 {
        errors.required(spec, "must specify a volume type");
    }
    if spec.has("local") && !affinity.is_set() && found == 1 {
        errors.required(&affinity, "Local volume requires node affinity");
    }
    let class = spec.text("storageClassName");
    if !class.is_empty() && !inline {
        errors.format(&spec.child("storageClassName"), class, names::dns1123_subdomain(class));
    }
    if let Some(mode) = spec.field("volumeMode") {
        match (inline, mode.str()) {
            (true, text) if text != "Filesystem" => {
                let why = "may not specify volumeMode other than Filesystem in the context of inline volumes";
                errors.forbidden(&mode, why);
            }
            (false, text) if !matches!(text, "Block" | "Filesystem") => {
                errors.not_supported(&mode, text, &["Block", "Filesystem"]);
            }
            _ => {}
        }
    }
    if let Some(class) = spec.field("volumeAttributesClassName") {
        match class.str() {
            "" => errors.required(&class, "an empty string is disallowed"),
            text => errors.format(&class, text, names::dns1123_subdomain(text)),
        }
        if !spec.has("csi") {
            errors.required(&spec.child("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn capacity(spec: &Place<'_>, errors: &mut Errors) {
    let place = spec.child("capacity");
    let amounts = spec.map("capacity");
    if amounts.is_none_or(trireme_schema::Map::is_empty) {
        errors.required(&place, "");
    }
    if amounts.is_none_or(|m| !m.contains_key("storage") || m.len() > 1) {
        errors.not_supported(&place, place.value.clone(), &["storage"]);
    }
    for (_, amount) in spec.entries("capacity") {
        claim::basic_quantity(&amount, errors);
        if amount.quantity().is_some_and(|q| q.is_zero() || q.is_negative()) {
            errors.invalid(&amount, "must be greater than zero");
        }
    }
}

fn reclaim_policy(spec: &Place<'_>, inline: bool, errors: &mut Errors) {
    const POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];
    let policy = spec.child("persistentVolumeReclaimPolicy");
    match policy.str() {
        "" => {}
        "Retain" if inline => {}
        _ if inline => errors.forbidden(&policy, "may only be Retain in the context of inline volumes"),
        text if !POLICIES.contains(&text) => errors.not_supported(&policy, text, &POLICIES),
        _ => {}
    }
    let path = spec.value.str_at(&["hostPath", "path"]);
    let root = !path.is_empty() && path.split('/').all(|part| matches!(part, "" | "."));
    if spec.has("hostPath") && root && policy.str() == "Recycle" {
        errors.forbidden(&policy, "may not be 'recycle' for a hostPath mount of '/'");
    }
}

fn update(volume: &Place<'_>, old: &Value, errors: &mut Errors) {
    const EXPAND: [&str; 2] = ["csi", "controllerExpandSecretRef"];
    let empty = Value::object();
    let (before, after) = (old.get("spec").unwrap_or(&empty), volume.value.get("spec").unwrap_or(&empty));
    let spec = volume.child("spec");
    let source = |spec: &Value| {
        let mut only = Value::object();
        for (field, ..) in SOURCES {
            if let Some(value) = spec.get(field) {
                only.set_at(&[field], value.clone());
            }
        }
        only
    };
    let (was, mut is) = (source(before), source(after));
    // The secret for growing a volume may be given later.
    if was.get("csi").is_some() && was.at(&EXPAND).is_none() {
        is.remove_at(&EXPAND);
    }
    if was != is {
        let pretty = |v: &Value| internal::tree("core.v1.PersistentVolumeSource", v).pretty();
        let changed = diff::unified(&pretty(&was), &pretty(&is));
        let why = format!("spec.persistentvolumesource is immutable after creation\n{changed}");
        errors.forbidden(&spec.child("persistentvolumesource"), why);
    }
    let mode = spec.child("volumeMode");
    if mode.is_changed() {
        errors.invalid(&volume.child("volumeMode").with(mode.value), "field is immutable");
    }
    let affinity = (before.get("nodeAffinity"), after.get("nodeAffinity"));
    if let (Some(was), is) = affinity
        && !is.is_some_and(|is| same_but_for_new_names(was, is))
    {
        let shown = internal::show("core.v1.VolumeNodeAffinity", is.unwrap_or(&Value::Null));
        let why = "field is immutable, except for updating from beta label to GA";
        errors.invalid_shown(&volume.child("nodeAffinity"), shown, why);
    }
    if before.get("volumeAttributesClassName").is_some() && after.get("volumeAttributesClassName").is_none() {
        let place = spec.child("volumeAttributesClassName");
        errors.forbidden(&place, "update from non-nil value to nil is forbidden");
    }
}

/// Labels of nodes got new names, which old volumes may take over.
fn same_but_for_new_names(was: &Value, is: &Value) -> bool {
    let mut renamed = was.clone();
    let terms = renamed.at_mut(&["required", "nodeSelectorTerms"]).and_then(Value::as_array_mut);
    for (i, term) in terms.into_iter().flatten().enumerate() {
        for list in ["matchExpressions", "matchFields"] {
            let requirements = term.at_mut(&[list]).and_then(Value::as_array_mut);
            for (j, requirement) in requirements.into_iter().flatten().enumerate() {
                let new = is.list_at(&["required", "nodeSelectorTerms"]).get(i).and_then(|t| t.list_at(&[list]).get(j));
                let new = new.map_or("", |r| r.str_at(&["key"]));
                let old = requirement.str_at(&["key"]).to_owned();
                let renamed = match old.as_str() {
                    "failure-domain.beta.kubernetes.io/zone" => "topology.kubernetes.io/zone",
                    "failure-domain.beta.kubernetes.io/region" => "topology.kubernetes.io/region",
                    "beta.kubernetes.io/os" => "kubernetes.io/os",
                    "beta.kubernetes.io/arch" => "kubernetes.io/arch",
                    "beta.kubernetes.io/instance-type" => "node.kubernetes.io/instance-type",
                    _ => continue,
                };
                if new == renamed {
                    requirement.set_at(&["key"], renamed);
                }
            }
        }
    }
    renamed == *is
}

fn warnings(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    const OLD: [(&str, &str); 7] = [
        ("photonPersistentDisk", "1.11, non-functional in v1.16+"),
        ("scaleIO", "1.16, non-functional in v1.22+"),
        ("storageos", "1.22, non-functional in v1.25+"),
        ("quobyte", "1.22, non-functional in v1.25+"),
        ("glusterfs", "1.25, non-functional in v1.26+"),
        ("cephfs", "1.28, non-functional in v1.31+"),
        ("rbd", "1.28, non-functional in v1.31+"),
    ];
    if !subject.subresource.is_empty() {
        return;
    }
    let root = Place::root(subject);
    let spec = root.child("spec");
    if subject.new.at(&["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]).is_some() {
        let path = root.child("metadata.annotations");
        let key = path.key("volume.beta.kubernetes.io/storage-class");
        warnings.push(format!("{key}: deprecated since v1.8; use \"storageClassName\" attribute instead"));
    }
    if spec.text("persistentVolumeReclaimPolicy") == "Recycle" {
        warnings.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
    let affinity = spec.child("nodeAffinity.required");
    affinity.items("nodeSelectorTerms").for_each(|term| super::pod::node_term_warnings(&term, warnings));
    for (field, since) in OLD.iter().filter(|(field, _)| spec.has(field)) {
        let shown = if *field == "storageos" { "storageOS" } else { field };
        warnings.push(format!("spec.{shown}: deprecated in v{since}"));
    }
}
