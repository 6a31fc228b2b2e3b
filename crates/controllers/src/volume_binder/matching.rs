//! Which volume suits a claim.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use trireme_schema::Quantity;

use crate::selector;

/// The class of a claim before there was a field for it.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// How a volume's reference stands to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// The volume is for nobody.
    Free,
    /// It is for this claim (or for one of its name, when it says no uid).
    Ours,
    /// It is for another claim.
    Other,
}

/// The class of a claim; empty for none.
pub(crate) fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let beta = claim.metadata.annotations.as_ref().and_then(|annotations| annotations.get(BETA_CLASS));
    let class = beta.or(claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref()));
    class.map(String::as_str).unwrap_or_default()
}

fn class_of_volume(volume: &PersistentVolume) -> &str {
    let beta = volume.metadata.annotations.as_ref().and_then(|annotations| annotations.get(BETA_CLASS));
    let class = beta.or(volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref()));
    class.map(String::as_str).unwrap_or_default()
}

/// How a reference of a volume stands to a claim.
pub(crate) fn reference(to: Option<&ObjectReference>, claim: &PersistentVolumeClaim) -> Reference {
    let Some(to) = to else { return Reference::Free };
    let named = to.namespace == claim.metadata.namespace && to.name == claim.metadata.name;
    let same = to.uid.as_ref().is_none_or(|uid| uid.is_empty() || claim.metadata.uid.as_ref() == Some(uid));
    if named && same { Reference::Ours } else { Reference::Other }
}

fn storage(list: Option<&BTreeMap<String, Text>>) -> Quantity {
    list.and_then(|list| list.get("storage")).and_then(|text| text.0.parse().ok()).unwrap_or(Quantity::ZERO)
}

/// Whether a volume is what a claim asks for, apart from who it is for.
pub(crate) fn suits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let (Some(asked), Some(given)) = (&claim.spec, &volume.spec) else { return false };
    let requests = asked.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    storage(given.capacity.as_ref()) >= storage(requests) && modes(asked, given)
}

/// Whether volume mode and access modes of a volume are those of a claim.
fn modes(asked: &PersistentVolumeClaimSpec, given: &PersistentVolumeSpec) -> bool {
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let offered = given.access_modes.as_deref().unwrap_or_default();
    mode(&asked.volume_mode) == mode(&given.volume_mode)
        && asked.access_modes.iter().flatten().all(|mode| offered.contains(mode))
}

/// The best volume for a claim: one that is kept for it, else the smallest that is free and suits.
pub(crate) fn best<'a>(claim: &PersistentVolumeClaim, volumes: &'a [PersistentVolume]) -> Option<&'a PersistentVolume> {
    let wanted = claim.spec.as_ref()?.selector.as_ref();
    let usable = |volume: &&PersistentVolume| {
        volume.metadata.deletion_timestamp.is_none()
            && suits(claim, volume)
            && class_of_volume(volume) == class_of_claim(claim)
    };
    let to =
        |volume: &PersistentVolume| reference(volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()), claim);
    let kept = volumes.iter().filter(usable).find(|volume| to(volume) == Reference::Ours);
    kept.or_else(|| {
        volumes
            .iter()
            .filter(usable)
            .filter(|volume| to(volume) == Reference::Free)
            .filter(|volume| volume.status.as_ref().and_then(|s| s.phase.as_deref()).is_none_or(|p| p == "Available"))
            .filter(|volume| wanted.is_none_or(|wanted| selector::matches(wanted, &volume.metadata.labels)))
            .min_by(|a, b| {
                let size = |volume: &PersistentVolume| storage(volume.spec.as_ref().and_then(|s| s.capacity.as_ref()));
                size(a).cmp(&size(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(more: Value) -> PersistentVolumeClaim {
        let mut claim = json!({
            "metadata": {"name": "data", "namespace": "n", "uid": "c"},
            "spec": {"storageClassName": "", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "5Gi"}}}
        });
        for (key, value) in more.as_object().unwrap() {
            claim["spec"][key] = value.clone();
        }
        serde_json::from_value(claim).unwrap()
    }

    fn volume(name: &str, size: &str, more: Value) -> PersistentVolume {
        let mut volume = json!({
            "metadata": {"name": name, "labels": {"kind": name}},
            "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}
        });
        for (key, value) in more.as_object().unwrap() {
            volume["spec"][key] = value.clone();
        }
        serde_json::from_value(volume).unwrap()
    }

    #[test]
    fn the_smallest_that_suits_or_the_one_that_is_kept() {
        let kept = |uid: &str| json!({"claimRef": {"namespace": "n", "name": "data", "uid": uid}});
        for (more, volumes, expected) in [
            (json!({}), vec![volume("big", "10Gi", json!({})), volume("fits", "5Gi", json!({}))], Some("fits")),
            (json!({}), vec![volume("small", "4Gi", json!({}))], None),
            (json!({}), vec![volume("fits", "5Gi", json!({})), volume("kept", "50Gi", kept(""))], Some("kept")),
            (json!({}), vec![volume("other", "5Gi", kept("another"))], None),
            (json!({"accessModes": ["ReadWriteMany"]}), vec![volume("fits", "5Gi", json!({}))], None),
            (json!({"volumeMode": "Block"}), vec![volume("fits", "5Gi", json!({}))], None),
            (json!({"storageClassName": "fast"}), vec![volume("fits", "5Gi", json!({}))], None),
            (
                json!({"storageClassName": "fast"}),
                vec![volume("fast", "5Gi", json!({"storageClassName": "fast"}))],
                Some("fast"),
            ),
            (
                json!({"selector": {"matchLabels": {"kind": "b"}}}),
                vec![volume("a", "5Gi", json!({})), volume("b", "6Gi", json!({}))],
                Some("b"),
            ),
        ] {
            let found = best(&claim(more.clone()), &volumes).and_then(|volume| volume.metadata.name.as_deref());
            assert_eq!(found, expected, "{more}");
        }
    }
}
