//! What makes a pod of a stateful set that very pod: its name, its labels and its claims.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;

use crate::{Error, pod_template, revisions};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal of a pod by its name.
pub(crate) fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let canonical = digits == "0" || !digits.starts_with('0');
    digits.parse().ok().filter(|ordinal: &i32| canonical && *ordinal >= 0 && !digits.starts_with('+'))
}

/// The name of the pod with an ordinal.
pub(crate) fn pod_name(set: &str, ordinal: i32) -> String {
    format!("{set}-{ordinal}")
}

/// The template that a revision keeps.
pub(crate) fn template(revision: &ControllerRevision) -> Result<PodTemplateSpec, Error> {
    let invalid = |reason: String| Error::Invalid {
        object: format!("ControllerRevision {}", revision.metadata.name.as_deref().unwrap_or_default()),
        field: "data",
        reason,
    };
    let mut template = revision.data.as_ref().and_then(|data| data.0.pointer("/spec/template")).cloned();
    if let Some(Value::Object(fields)) = &mut template {
        fields.remove("$patch");
    }
    let template = template.ok_or_else(|| invalid("has no template".to_owned()))?;
    serde_json::from_value(template).map_err(|error| invalid(error.to_string()))
}

/// The pod of a set with this ordinal, of this revision.
pub(crate) fn pod(
    set: &StatefulSet,
    owner: &OwnerReference,
    ordinal: i32,
    revision: &ControllerRevision,
) -> Result<Pod, Error> {
    let spec = set.spec.clone().unwrap_or_default();
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod_name(&owner.name, ordinal);
    let mut pod = pod_template::pod(&template(revision)?, namespace, owner);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), name.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    labels.insert(revisions::HASH_LABEL.to_owned(), revision.metadata.name.clone().unwrap_or_default());
    let claims = claim_names(&spec, &name);
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(name);
    pod_spec.subdomain = spec.service_name;
    let volumes = pod_spec.volumes.get_or_insert_default();
    volumes.retain(|volume| !claims.contains_key(&volume.name));
    volumes.extend(claims.into_iter().map(|(volume, claim_name)| Volume {
        name: volume,
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name, read_only: None }),
        ..Volume::default()
    }));
    pod_spec.volumes = pod_spec.volumes.take().filter(|volumes| !volumes.is_empty());
    Ok(pod)
}

/// The names of a pod's claims, by the name of their template (which is the name of the volume).
pub(crate) fn claim_names(spec: &StatefulSetSpec, pod: &str) -> BTreeMap<String, String> {
    let templates = spec.volume_claim_templates.iter().flatten().filter_map(|claim| claim.metadata.name.clone());
    templates.map(|template| (template.clone(), format!("{template}-{pod}"))).collect()
}

/// The claims of a pod.
pub(crate) fn claims(set: &StatefulSet, pod: &str) -> Vec<PersistentVolumeClaim> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let templates = spec.volume_claim_templates.iter().flatten();
    templates
        .map(|template| {
            let mut claim = template.clone();
            claim.metadata.name = Some(format!("{}-{pod}", template.metadata.name.as_deref().unwrap_or_default()));
            claim.metadata.namespace = set.metadata.namespace.clone();
            let labels = claim.metadata.labels.get_or_insert_default();
            labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
            claim.status = None;
            claim
        })
        .collect()
}

/// What the retention policy says of the claims of a pod (KEP-1847): who, if anybody, takes them along when it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// Nobody: the claims stay.
    Nobody,
    /// They go with the set.
    Set,
    /// They go with the pod.
    Pod,
}

/// Decides for the claims of a pod that stays in the set, or of one that the set shrinks by.
pub(crate) fn keeper(spec: &StatefulSetSpec, condemned: bool) -> Keeper {
    let policy = spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
    if condemned && deletes(policy.and_then(|policy| policy.when_scaled.as_ref())) {
        Keeper::Pod
    } else if deletes(policy.and_then(|policy| policy.when_deleted.as_ref())) {
        Keeper::Set
    } else {
        Keeper::Nobody
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ordinals_are_read_from_names() {
        for (name, expected) in [
            ("web-0", Some(0)),
            ("web-12", Some(12)),
            ("web-01", None),
            ("web-x", None),
            ("web-+1", None),
            ("web", None),
            ("other-1", None),
        ] {
            assert_eq!(ordinal("web", name), expected, "{name}");
        }
    }

    #[test]
    fn a_pod_has_its_name_its_labels_and_its_claims() {
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "s"},
            "spec": {"serviceName": "svc", "selector": {"matchLabels": {"app": "web"}}, "template": {},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}
        }))
        .unwrap();
        let template = json!({"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [], "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]}});
        let revision: ControllerRevision = serde_json::from_value(json!({
            "metadata": {"name": "web-hash"}, "revision": 1,
            "data": revisions::template_data(&template).unwrap()
        }))
        .unwrap();
        let owner = crate::owner::controller_reference::<StatefulSet>(&set.metadata);
        let pod = pod(&set, &owner, 2, &revision).unwrap();
        let labels = pod.metadata.labels.unwrap();
        assert_eq!((labels[POD_NAME].as_str(), labels[POD_INDEX].as_str()), ("web-2", "2"));
        assert_eq!(labels[revisions::HASH_LABEL], "web-hash");
        let spec = pod.spec.unwrap();
        assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("web-2"), Some("svc")));
        let volumes = spec.volumes.unwrap();
        assert_eq!(volumes.len(), 2);
        assert_eq!(volumes[1].persistent_volume_claim.as_ref().unwrap().claim_name, "data-web-2");
        let claims = claims(&set, "web-2");
        assert_eq!(claims[0].metadata.name.as_deref(), Some("data-web-2"));
        assert_eq!(claims[0].metadata.labels.as_ref().unwrap()["app"], "web");
    }
}
