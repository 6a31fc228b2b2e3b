//! Pods and the claims to devices that they use (KEP-4381), for the controllers that follow both.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::api::core::v1::{Pod, PodResourceClaim, PodResourceClaimStatus};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference};
use parking_lot::RwLock;
use serde::Deserialize;
use trireme_client::{Change, Entry, Key, Meta};

use crate::view::Metadata;

/// The fields of a pod that say which claims it uses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ClaimingPod {
    pub(crate) metadata: Metadata,
    pub(crate) spec: ClaimingSpec,
    pub(crate) status: ClaimingStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClaimingSpec {
    pub(crate) node_name: String,
    pub(crate) resource_claims: Vec<PodResourceClaim>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClaimingStatus {
    pub(crate) phase: String,
    pub(crate) resource_claim_statuses: Vec<PodResourceClaimStatus>,
    pub(crate) extended_resource_claim_status: Option<ExtendedClaim>,
}

/// The claim that the scheduler made for a pod's extended resources (KEP-5004).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ExtendedClaim {
    pub(crate) resource_claim_name: String,
}

/// Under which name a pod's claim is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named<'a> {
    /// The user's claim.
    Given(&'a str),
    /// A claim that was made for the pod, which has to be its owner.
    Made(&'a str),
    /// It was found that no claim is needed.
    Unneeded,
    /// A claim has to be made.
    Missing,
}

impl ClaimingPod {
    /// Where one of the pod's claims is.
    pub(crate) fn named<'a>(&'a self, claim: &'a PodResourceClaim) -> Named<'a> {
        if let Some(given) = &claim.resource_claim_name {
            return Named::Given(given);
        }
        match self.status.resource_claim_statuses.iter().find(|status| status.name == claim.name) {
            Some(PodResourceClaimStatus { resource_claim_name: Some(made), .. }) => Named::Made(made),
            Some(_) => Named::Unneeded,
            None => Named::Missing,
        }
    }

    /// The names of all claims of the pod that there are to be now.
    pub(crate) fn claims(&self) -> Vec<&str> {
        let named = self.spec.resource_claims.iter().filter_map(|claim| match self.named(claim) {
            Named::Given(name) | Named::Made(name) => Some(name),
            Named::Unneeded | Named::Missing => None,
        });
        let extended = self.status.extended_resource_claim_status.as_ref();
        named.chain(extended.map(|extended| extended.resource_claim_name.as_str())).collect()
    }

    /// Whether the pod has to do with claims at all.
    pub(crate) fn has_claims(&self) -> bool {
        !self.spec.resource_claims.is_empty() || self.status.extended_resource_claim_status.is_some()
    }

    /// Whether none of the pod's containers runs or will run.
    pub(crate) fn is_done(&self) -> bool {
        let deleted = self.metadata.deletion_timestamp.is_some();
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed") || deleted && self.spec.node_name.is_empty()
    }

    /// Whether this very pod may use a claim.
    pub(crate) fn is_reserved(&self, claim: &ResourceClaim) -> bool {
        reserved(claim).iter().any(|consumer| consumer.uid == self.metadata.uid)
    }
}

/// Who may use a claim.
pub(crate) fn reserved(claim: &ResourceClaim) -> &[ResourceClaimConsumerReference] {
    claim.status.as_ref().and_then(|status| status.reserved_for.as_deref()).unwrap_or_default()
}

/// Whether a claim was made for the pod with this uid.
pub(crate) fn is_for(claim: &Meta, uid: &str) -> bool {
    claim.controller.as_ref().is_some_and(|owner| &*owner.kind == "Pod" && *owner.uid == *uid)
}

/// Which pods use a claim, so that an event about the claim finds them.
#[derive(Default)]
pub(crate) struct PodsByClaim(RwLock<HashMap<Key, BTreeSet<Key>>>);

impl PodsByClaim {
    /// Follows a change of a pod.
    pub(crate) fn observe(&self, change: &Change<Pod>) {
        let claims = |entry: &Entry<Pod>| -> BTreeSet<Key> {
            let pod: ClaimingPod = entry.decode_as().unwrap_or_default();
            pod.claims().into_iter().map(|claim| Key::new(&entry.meta.key.namespace, claim)).collect()
        };
        let of = |entry: &Option<std::sync::Arc<Entry<Pod>>>| entry.as_deref().map(claims).unwrap_or_default();
        let (old, new) = (of(&change.old), of(&change.new));
        let Some(pod) = change.latest().map(|entry| &entry.meta.key) else { return };
        if old == new {
            return;
        }
        let mut by_claim = self.0.write();
        for claim in old.difference(&new) {
            if let Some(pods) = by_claim.get_mut(claim) {
                pods.remove(pod);
                if pods.is_empty() {
                    by_claim.remove(claim);
                }
            }
        }
        for claim in new {
            by_claim.entry(claim).or_default().insert(pod.clone());
        }
    }

    /// The pods that use a claim.
    pub(crate) fn of(&self, claim: &Key) -> Vec<Key> {
        self.0.read().get(claim).into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_given_made_unneeded_or_missing() {
        let pod: ClaimingPod = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"resourceClaims": [
                {"name": "given", "resourceClaimName": "a"},
                {"name": "made", "resourceClaimTemplateName": "t"},
                {"name": "unneeded", "resourceClaimTemplateName": "t"},
                {"name": "missing", "resourceClaimTemplateName": "t"}]},
            "status": {"resourceClaimStatuses": [{"name": "made", "resourceClaimName": "b"}, {"name": "unneeded"}],
                "extendedResourceClaimStatus": {"resourceClaimName": "x", "requestMappings": []}},
        }))
        .unwrap();
        let named: Vec<_> = pod.spec.resource_claims.iter().map(|claim| pod.named(claim)).collect();
        assert_eq!(named, [Named::Given("a"), Named::Made("b"), Named::Unneeded, Named::Missing]);
        assert_eq!(pod.claims(), ["a", "b", "x"]);
    }
}
