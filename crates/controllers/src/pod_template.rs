use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The longest prefix of a generated name: the server adds five characters to at most 58.
const PREFIX: usize = 58;

/// A pod of a template, owned by `owner`. Its name is generated from the owner's.
pub(crate) fn pod(template: &PodTemplateSpec, namespace: &str, owner: &OwnerReference) -> Pod {
    let metadata = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix(&owner.name)),
            namespace: Some(namespace.to_owned()),
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The prefix of the names of an owner's pods.
pub(crate) fn prefix(owner: &str) -> String {
    let mut prefix = owner.to_owned();
    while prefix.len() >= PREFIX {
        prefix.pop();
    }
    prefix.push('-');
    prefix
}

/// The labels that a template gives its pods.
pub(crate) fn labels(template: &PodTemplateSpec) -> BTreeMap<String, String> {
    template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default()
}
