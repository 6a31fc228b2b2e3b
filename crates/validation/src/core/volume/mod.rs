//! Volumes of pods, and where they and persistent volumes come from.

mod iscsi;
mod projected;
mod sources;

use crate::rules::Registry;
use crate::{Errors, Place, engine};
use std::collections::{HashMap, HashSet};
use trireme_schema::{Value, names};

#[expect(unused_imports, reason = "storage's drivers have such names too")]
pub(crate) use sources::csi_driver_name;

/// A source: its field, how errors within it are told, how one too many is told, its type.
pub(crate) type Source = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const SOURCES: [Source; 30] = [
    ("emptyDir", "emptyDir", "emptyDir", "core.v1.EmptyDirVolumeSource"),
    ("hostPath", "hostPath", "hostPath", "core.v1.HostPathVolumeSource"),
    ("gitRepo", "gitRepo", "gitRepo", "core.v1.GitRepoVolumeSource"),
    ("gcePersistentDisk", "persistentDisk", "gcePersistentDisk", "core.v1.GCEPersistentDiskVolumeSource"),
    ("awsElasticBlockStore", "awsElasticBlockStore", "awsElasticBlockStore", "core.v1.AWSElasticBlockStoreVolumeSource"),
    ("secret", "secret", "secret", "core.v1.SecretVolumeSource"),
    ("nfs", "nfs", "nfs", "core.v1.NFSVolumeSource"),
    ("iscsi", "iscsi", "iscsi", "core.v1.ISCSIVolumeSource"),
    ("glusterfs", "glusterfs", "glusterfs", "core.v1.GlusterfsVolumeSource"),
    ("flocker", "flocker", "flocker", "core.v1.FlockerVolumeSource"),
    ("persistentVolumeClaim", "persistentVolumeClaim", "persistentVolumeClaim", "core.v1.PersistentVolumeClaimVolumeSource"),
    ("rbd", "rbd", "rbd", "core.v1.RBDVolumeSource"),
    ("cinder", "cinder", "cinder", "core.v1.CinderVolumeSource"),
    ("cephfs", "cephfs", "cephFS", "core.v1.CephFSVolumeSource"),
    ("quobyte", "quobyte", "quobyte", "core.v1.QuobyteVolumeSource"),
    ("downwardAPI", "downwardAPI", "downwarAPI", "core.v1.DownwardAPIVolumeSource"),
    ("fc", "fc", "fc", "core.v1.FCVolumeSource"),
    ("flexVolume", "flexVolume", "flexVolume", "core.v1.FlexVolumeSource"),
    ("configMap", "configMap", "configMap", "core.v1.ConfigMapVolumeSource"),
    ("azureFile", "azureFile", "azureFile", "core.v1.AzureFileVolumeSource"),
    ("vsphereVolume", "vsphereVolume", "vsphereVolume", "core.v1.VsphereVirtualDiskVolumeSource"),
    ("photonPersistentDisk", "photonPersistentDisk", "photonPersistentDisk", "core.v1.PhotonPersistentDiskVolumeSource"),
    ("portworxVolume", "portworxVolume", "portworxVolume", "core.v1.PortworxVolumeSource"),
    ("azureDisk", "azureDisk", "azureDisk", "core.v1.AzureDiskVolumeSource"),
    ("storageos", "storageos", "storageos", "core.v1.StorageOSVolumeSource"),
    ("projected", "projected", "projected", "core.v1.ProjectedVolumeSource"),
    ("scaleIO", "scaleIO", "scaleIO", "core.v1.ScaleIOVolumeSource"),
    ("csi", "csi", "csi", "core.v1.CSIVolumeSource"),
    ("ephemeral", "ephemeral", "ephemeral", "core.v1.EphemeralVolumeSource"),
    ("image", "image", "image", "core.v1.ImageVolumeSource"),
];

/// The volumes of a pod that are right, by name.
pub(crate) struct Volumes<'a>(HashMap<&'a str, &'a Value>);

impl<'a> Volumes<'a> {
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).copied()
    }
}

pub(super) fn register(registry: &mut Registry) {
    sources::register(registry);
    registry.on_type("core.v1.DownwardAPIVolumeSource", projected::downward);
    registry.on_type("core.v1.ProjectedVolumeSource", projected::check);
    registry.on_type("core.v1.ISCSIVolumeSource", iscsi::of_pod);
    registry.on_type("core.v1.ISCSIPersistentVolumeSource", iscsi::persistent);
}

/// Checks the volumes of a pod's spec. `pod_name` is empty when it is not known yet, as in templates.
pub(crate) fn check_all<'a>(spec: &Place<'a>, pod_name: &str, errors: &mut Errors) -> Volumes<'a> {
    let list = spec.list("volumes");
    let made: HashSet<String> = list
        .iter()
        .filter(|v| !pod_name.is_empty() && v.get("ephemeral").is_some())
        .map(|v| format!("{pod_name}-{}", v.str_at(&["name"])))
        .collect();
    let mut right = HashMap::with_capacity(list.len());
    for (place, value) in spec.items("volumes").zip(list) {
        let before = errors.len();
        let name = place.child("name");
        if one_of(&place, &SOURCES, errors) == 0 {
            errors.required(&place, "must specify a volume type");
        }
        if let Some(source) = place.field("iscsi") {
            iscsi::name_length(&source, &name, errors);
        }
        if place.has("ephemeral") && !pod_name.is_empty() && !name.str().is_empty() {
            let claim = format!("{pod_name}-{}", name.str());
            for why in names::dns1123_subdomain(&claim) {
                errors.invalid(&name, format!("PVC name {}: {why}", trireme_schema::field::quote(&claim)));
            }
        }
        match name.str() {
            "" => errors.required(&name, ""),
            text => errors.format(&name, text, names::dns1123_label(text)),
        }
        if right.contains_key(name.str()) {
            errors.duplicate(&name, name.str());
        }
        if errors.len() == before {
            right.insert(value.str_at(&["name"]), value);
        }
        let claim = place.child("persistentVolumeClaim.claimName");
        if made.contains(claim.str()) {
            errors.invalid(&claim, "must not reference a PVC that gets created for an ephemeral volume");
        }
    }
    Volumes(right)
}

/// Checks the first source that is given; others are one too many. Gives how many there are.
pub(crate) fn one_of(place: &Place<'_>, sources: &[Source], errors: &mut Errors) -> usize {
    let mut found = 0;
    for (field, within, surplus, ty) in sources {
        let Some(source) = place.field(field) else { continue };
        if found > 0 {
            errors.forbidden(&source.shown_as(surplus), "may not specify more than 1 volume type");
        } else {
            engine::walk_type(ty, &source.shown_as(within), errors);
        }
        found += 1;
    }
    found
}

/// A path without `..`.
pub(crate) fn no_backsteps(place: &Place<'_>, path: &str, errors: &mut Errors) {
    if path.split('/').any(|part| part == "..") {
        errors.invalid_value(place, path, "must not contain '..'");
    }
}

/// A path that leads down from where it starts.
pub(crate) fn descending_path(place: &Place<'_>, path: &str, errors: &mut Errors) {
    if path.starts_with('/') {
        errors.invalid_value(place, path, "must be a relative path");
    }
    no_backsteps(place, path, errors);
}

/// The same, and not a name that volumes keep for themselves.
pub(crate) fn local_path(place: &Place<'_>, errors: &mut Errors) {
    let path = place.str();
    descending_path(place, path, errors);
    if path.starts_with("..") && !path.starts_with("../") {
        errors.invalid_value(place, path, "must not start with '..'");
    }
}
