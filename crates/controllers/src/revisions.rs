//! The history of templates as ControllerRevisions, for daemon sets and stateful sets.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use trireme_client::{Client, DeleteOptions, Informer, Kind, Patch};

use crate::owner::{self, Claim};
use crate::pod_control::{Owned, still_there};
use crate::{Error, hash, selector};

/// The label by which pods and revisions carry the hash of their template.
pub(crate) const HASH_LABEL: &str = "controller-revision-hash";

/// Calls about revisions.
pub(crate) struct Revisions {
    client: Client,
    informer: Informer<ControllerRevision>,
}

/// The owner of a history.
pub(crate) struct Owner<'a, K> {
    pub(crate) metadata: &'a ObjectMeta,
    pub(crate) owned: &'a Owned<K>,
    pub(crate) selector: &'a LabelSelector,
    /// The labels that revisions get besides the hash.
    pub(crate) labels: BTreeMap<String, String>,
}

/// A template is somebody else's who has the same hash: the caller counts the collision and tries again.
pub(crate) enum Newest {
    Found(Box<ControllerRevision>),
    Collision,
}

impl Revisions {
    pub(crate) fn new(client: &Client, informer: Informer<ControllerRevision>) -> Self {
        Self { client: client.clone(), informer }
    }

    /// The owner's revisions, the oldest first.
    pub(crate) async fn claim<K: Kind + DeserializeOwned>(
        &self,
        owner: &Owner<'_, K>,
    ) -> Result<Vec<ControllerRevision>, Error> {
        let namespace = owner.metadata.namespace.as_deref().unwrap_or_default();
        let uid = owner.metadata.uid.as_deref().unwrap_or_default();
        let deleting = owner.metadata.deletion_timestamp.is_some();
        let api = self.client.namespaced::<ControllerRevision>(namespace);
        let mut revisions = Vec::new();
        for entry in self.informer.in_namespace(namespace) {
            let selected = selector::matches(owner.selector, &entry.meta);
            match owner::claim(&entry.meta, uid, deleting, selected) {
                // A revision whose labels were changed is still the owner's history.
                Claim::Ours | Claim::Release => revisions.push(entry.decode()?),
                Claim::Adopt if still_there(&self.client, owner.owned).await? => {
                    let patch = owner::adoption(&entry.meta.uid, owner.owned.reference());
                    revisions.push(api.patch(&entry.meta.key.name, None, &patch).await?);
                }
                Claim::Adopt | Claim::Ignore => {}
            }
        }
        revisions.sort_by(|a, b| (a.revision, &a.metadata.name).cmp(&(b.revision, &b.metadata.name)));
        Ok(revisions)
    }

    /// The revision of the present template, made or moved to the end if need be; `known` follows.
    pub(crate) async fn newest<K: Kind>(
        &self,
        owner: &Owner<'_, K>,
        known: &mut Vec<ControllerRevision>,
        data: &Value,
        collisions: i32,
    ) -> Result<Newest, Error> {
        let namespace = owner.metadata.namespace.as_deref().unwrap_or_default();
        let api = self.client.namespaced::<ControllerRevision>(namespace);
        let next = known.last().map_or(0, |last| last.revision).saturating_add(1);
        let is_same = |revision: &ControllerRevision| revision.data.as_ref().map(|data| &data.0) == Some(data);
        if let Some(at) = known.iter().rposition(is_same) {
            let is_last = at + 1 == known.len();
            let mut revision = known.remove(at);
            if !is_last {
                let patch = Patch::Merge(json!({"metadata": {"uid": revision.metadata.uid}, "revision": next}));
                revision = api.patch(revision.metadata.name.as_deref().unwrap_or_default(), None, &patch).await?;
            }
            known.push(revision.clone());
            return Ok(Newest::Found(Box::new(revision)));
        }
        let hash = hash::of(data, (collisions > 0).then_some(collisions))?;
        let name = format!("{}-{hash}", owner.metadata.name.as_deref().unwrap_or_default());
        let mut labels = owner.labels.clone();
        labels.insert(HASH_LABEL.to_owned(), hash);
        let wanted = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels),
                annotations: owner.metadata.annotations.clone(),
                owner_references: Some(vec![owner.owned.reference().clone()]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(data.clone())),
            revision: next,
        };
        let revision = match api.create(&wanted).await {
            Ok(revision) => revision,
            Err(error) if error.is_already_exists() => {
                let there = api.get(&name).await?;
                let ours = owner::controller_of(&there.metadata).map(|owner| &owner.uid) == owner.metadata.uid.as_ref();
                if !ours || !is_same(&there) {
                    return Ok(Newest::Collision);
                }
                there
            }
            Err(error) => return Err(error.into()),
        };
        known.push(revision.clone());
        Ok(Newest::Found(Box::new(revision)))
    }

    /// Deletes the oldest revisions beyond `limit` that are not in use.
    pub(crate) async fn truncate(
        &self,
        known: &[ControllerRevision],
        in_use: impl Fn(&ControllerRevision) -> bool,
        limit: i32,
    ) -> Result<(), Error> {
        let free: Vec<&ControllerRevision> = known.iter().filter(|revision| !in_use(revision)).collect();
        let excess = free.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        for revision in free.into_iter().take(excess) {
            let namespace = revision.metadata.namespace.as_deref().unwrap_or_default();
            let options = DeleteOptions::default().uid(revision.metadata.uid.clone().unwrap_or_default());
            let name = revision.metadata.name.as_deref().unwrap_or_default();
            self.client.namespaced::<ControllerRevision>(namespace).delete_if_present(name, &options).await?;
        }
        Ok(())
    }
}

/// What a revision keeps of its owner: a patch that brings the template back.
pub(crate) fn template_data<T: serde::Serialize>(template: &T) -> Result<Value, Error> {
    let mut template = crate::merge_patch::value(template)?;
    if let Some(fields) = template.as_object_mut() {
        fields.insert("$patch".to_owned(), json!("replace"));
    }
    Ok(json!({ "spec": { "template": template } }))
}

/// The hash of a revision, as pods carry it.
pub(crate) fn hash_of(revision: &ControllerRevision) -> &str {
    let label = revision.metadata.labels.as_ref().and_then(|labels| labels.get(HASH_LABEL));
    label.map(String::as_str).unwrap_or_default()
}
