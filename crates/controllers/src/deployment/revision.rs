//! Revisions: which replica set is the newest, and what their annotations say.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::rollout::Bounds;
use crate::{Error, hash, owner};

pub(crate) const HASH_LABEL: &str = "pod-template-hash";
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(crate) const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(crate) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(crate) const MOST: &str = "deployment.kubernetes.io/max-replicas";
const ROLLBACK: &str = "deprecated.deployment.rollback.to";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The number in an annotation.
pub(crate) fn number<T: std::str::FromStr>(metadata: &ObjectMeta, annotation: &str) -> Option<T> {
    metadata.annotations.as_ref()?.get(annotation)?.parse().ok()
}

/// The revision of an object, 0 when it has none.
pub(crate) fn revision(metadata: &ObjectMeta) -> i64 {
    number(metadata, REVISION).unwrap_or(0)
}

/// A template without what the deployment adds, and with one way to say "no labels".
fn plain(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut plain = template.clone();
    if let Some(metadata) = &mut plain.metadata {
        if let Some(labels) = &mut metadata.labels {
            labels.remove(HASH_LABEL);
        }
        metadata.labels = metadata.labels.take().filter(|labels| !labels.is_empty());
        metadata.annotations = metadata.annotations.take().filter(|annotations| !annotations.is_empty());
        metadata.creation_timestamp = None;
    }
    plain.metadata = plain.metadata.filter(|metadata| *metadata != ObjectMeta::default());
    plain
}

/// The replica set of the deployment's present template: the oldest, should there be several.
pub(crate) fn newest<'a>(deployment: &Deployment, sets_by_age: &'a [ReplicaSet]) -> Option<&'a ReplicaSet> {
    let wanted = plain(&deployment.spec.as_ref()?.template);
    sets_by_age.iter().find(|set| {
        set.spec.as_ref().and_then(|spec| spec.template.as_ref()).is_some_and(|template| plain(template) == wanted)
    })
}

/// Whether a set is of the deployment's present template, and is its own.
pub(crate) fn is_same(deployment: &Deployment, set: &ReplicaSet) -> bool {
    owner::controller_of(&set.metadata).map(|owner| &owner.uid) == deployment.metadata.uid.as_ref()
        && newest(deployment, std::slice::from_ref(set)).is_some()
}

/// The revision that the newest set must have, above those of the old ones.
pub(crate) fn next(old: &[&ReplicaSet]) -> i64 {
    old.iter().map(|set| revision(&set.metadata)).max().unwrap_or(0).saturating_add(1)
}

/// The annotations that a deployment gives its sets: its own, without those that are about itself.
fn inherited(deployment: &Deployment) -> impl Iterator<Item = (&String, &String)> {
    let own = [LAST_APPLIED, REVISION, HISTORY, DESIRED, MOST, ROLLBACK];
    deployment.metadata.annotations.iter().flatten().filter(move |(key, _)| !own.contains(&key.as_str()))
}

/// The annotations of the newest set: inherited ones, and its revision; a set that is taken up again (a rollback) keeps
/// its former revisions in its history.
pub(crate) fn annotate(deployment: &Deployment, metadata: &ObjectMeta, next: i64) -> BTreeMap<String, String> {
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    annotations.extend(inherited(deployment).map(|(key, value)| (key.clone(), value.clone())));
    let now = revision(metadata);
    if now < next {
        if now > 0 {
            let history = annotations.get(HISTORY).filter(|history| !history.is_empty());
            let history = history.map_or_else(|| now.to_string(), |history| format!("{history},{now}"));
            annotations.insert(HISTORY.to_owned(), history);
        }
        annotations.insert(REVISION.to_owned(), next.to_string());
    }
    annotations
}

/// Writes down what the deployment wanted when it sized a set.
pub(crate) fn annotate_size(annotations: &mut BTreeMap<String, String>, bounds: Bounds) {
    annotations.insert(DESIRED.to_owned(), bounds.replicas.to_string());
    annotations.insert(MOST.to_owned(), bounds.most().to_string());
}

/// A new set for the deployment's present template.
pub(crate) fn new_set(
    deployment: &Deployment,
    bounds: Bounds,
    size: i32,
    next: i64,
    collisions: Option<i32>,
) -> Result<ReplicaSet, Error> {
    let metadata = &deployment.metadata;
    let spec = deployment.spec.clone().unwrap_or_default();
    let hash = hash::of(&plain(&spec.template), collisions.filter(|collisions| *collisions > 0))?;
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector: LabelSelector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    let mut annotations = annotate(deployment, &ObjectMeta::default(), next);
    annotate_size(&mut annotations, bounds);
    Ok(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", metadata.name.as_deref().unwrap_or_default())),
            namespace: metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner::controller_reference::<Deployment>(metadata)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(size),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(image: &str) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "d", "annotations": {
                "note": "x", LAST_APPLIED: "{}", REVISION: "3"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]}}}
        }))
        .unwrap()
    }

    #[test]
    fn a_new_set_is_found_again_by_its_template() {
        let bounds = Bounds { replicas: 3, max_surge: 1, max_unavailable: 0 };
        let one = new_set(&deployment("a"), bounds, 3, 4, None).unwrap();
        let two = new_set(&deployment("b"), bounds, 1, 5, None).unwrap();
        let annotations = one.metadata.annotations.as_ref().unwrap();
        let expected = json!({"note": "x", REVISION: "4", DESIRED: "3", MOST: "4"});
        assert_eq!(serde_json::to_value(annotations).unwrap(), expected);
        assert!(is_same(&deployment("a"), &one) && !is_same(&deployment("b"), &one));
        assert_ne!(one.metadata.name, two.metadata.name);
        let sets = [one, two];
        assert_eq!(newest(&deployment("b"), &sets).unwrap().metadata.name, sets[1].metadata.name);
        let collided = new_set(&deployment("a"), bounds, 3, 4, Some(1)).unwrap();
        assert_ne!(collided.metadata.name, sets[0].metadata.name);
    }

    #[test]
    fn a_rollback_keeps_the_former_revision_in_the_history() {
        let metadata: ObjectMeta =
            serde_json::from_value(json!({"annotations": {REVISION: "2", HISTORY: "1"}})).unwrap();
        let annotations = annotate(&deployment("a"), &metadata, 5);
        assert_eq!((annotations[REVISION].as_str(), annotations[HISTORY].as_str()), ("5", "1,2"));
        assert_eq!(annotate(&deployment("a"), &metadata, 2)[HISTORY], "1");
    }
}
