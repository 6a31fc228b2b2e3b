//! Namespaces that are being deleted: their content goes, then they do.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use trireme_client::{Client, DeleteOptions, Informer, Key, ListOptions, Propagation, Resource};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::discovery::{Served, discover};
use crate::view::Metadata;
use crate::{Clock, Error, merge_patch};

const FINALIZER: &str = "kubernetes";
/// How soon, and how late, remaining content is looked at again when nothing tells that it is gone.
const AGAIN: (i64, i64) = (1, 15);

pub(crate) struct Namespaces {
    client: Client,
    namespaces: Informer<Namespace>,
    pods: Informer<Pod>,
    clock: Clock,
}

/// What happened to the content.
#[derive(Debug, Default)]
struct Outcome {
    undiscovered: Option<String>,
    failures: Vec<String>,
    /// Objects left, by resource.
    remaining: BTreeMap<String, usize>,
    /// Objects left that have a finalizer, by finalizer.
    finalizers: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

impl Namespaces {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            namespaces: context.informer(),
            pods: context.informer(),
            clock: context.clock.clone(),
        }
    }

    async fn delete_content(&self, namespace: &str) -> Result<Outcome, Error> {
        let discovered = discover(&self.client).await?;
        let failure = discovered.failure().map(|why| format!("{} failing: {why}", discovered.failed.len()));
        let mut outcome = Outcome { undiscovered: failure, ..Outcome::default() };
        let deletable = |served: &Served| {
            served.resource.namespaced && (served.can(&["deletecollection"]) || served.can(&["list", "delete"]))
        };
        let served: Vec<Served> = discovered.resources.into_iter().filter(deletable).collect();
        // Pods first (KEP-5080): what protects them, such as network policies, goes after them.
        let (pods, others): (Vec<_>, Vec<_>) =
            served.into_iter().partition(|served| served.resource.group.is_empty() && served.resource.plural == "pods");
        for served in &pods {
            self.delete_all(namespace, served, &mut outcome).await;
        }
        if outcome.remaining.is_empty() && outcome.failures.is_empty() {
            for served in &others {
                self.delete_all(namespace, served, &mut outcome).await;
            }
        }
        Ok(outcome)
    }

    async fn delete_all(&self, namespace: &str, served: &Served, outcome: &mut Outcome) {
        let name = resource_name(&served.resource);
        match self.delete_resource(namespace, served).await {
            Ok(left) if left.is_empty() => {}
            Ok(left) => {
                for finalizer in left.iter().flat_map(|object| &object.metadata.finalizers) {
                    *outcome.finalizers.entry(finalizer.clone()).or_default() += 1;
                }
                outcome.remaining.insert(name, left.len());
            }
            // A resource that is not served any more has no content.
            Err(error) if matches!(error.code(), Some(404 | 405)) => {}
            Err(error) => outcome.failures.push(format!("{name}: {error}")),
        }
    }

    /// Deletes all objects of a resource; gives those that are left.
    async fn delete_resource(&self, namespace: &str, served: &Served) -> Result<Vec<Object>, trireme_client::Error> {
        let api = self.client.dynamic::<Object>(served.resource.clone(), Some(namespace));
        let options = DeleteOptions::default().propagation(Propagation::Background);
        let there = api.list(&ListOptions::default()).await?.items;
        if there.is_empty() {
            return Ok(there);
        }
        if served.can(&["deletecollection"]) {
            api.delete_collection(&ListOptions::default(), &options).await?;
        } else {
            for object in there.iter().filter(|object| object.metadata.deletion_timestamp.is_none()) {
                api.delete_if_present(&object.metadata.name, &options).await?;
            }
        }
        Ok(api.list(&ListOptions::default()).await?.items)
    }
}

fn resource_name(resource: &Resource) -> String {
    format!("{}.{}", resource.plural, resource.group)
}

impl Controller for Namespaces {
    const NAME: &'static str = "namespace-controller";
    const ACCOUNT: Option<&'static str> = Some("namespace-controller");
    const WORKERS: usize = 10;

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on(&self.namespaces, |change| {
            let deleting = change.new.as_ref().filter(|namespace| namespace.meta.deleting);
            deleting.map(|namespace| namespace.meta.key.clone()).into_iter().collect()
        });
        let this = Arc::clone(self);
        // Pods take their grace period to go; everything else waits for them.
        watches.on(&self.pods, move |change| {
            let (Some(old), None) = (&change.old, &change.new) else { return Vec::new() };
            let namespace = this.namespaces.get("", &old.meta.key.namespace);
            namespace.filter(|ns| ns.meta.deleting).map(|ns| ns.meta.key.clone()).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.namespaces.find(key).filter(|entry| entry.meta.deleting) else {
            return Ok(Requeue::Never);
        };
        let namespace = entry.decode()?;
        let finalizers = namespace.spec.clone().and_then(|spec| spec.finalizers).unwrap_or_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(Requeue::Never);
        }
        let outcome = self.delete_content(&key.name).await?;
        let api = self.client.all::<Namespace>();
        let old = namespace.status.clone().unwrap_or_default();
        let now = self.clock.now();
        let new = status(&old, &outcome, now);
        let mut current = namespace;
        if let Some(patch) = merge_patch::status(&current.metadata, &old, &new)? {
            current = api.patch(&key.name, Some("status"), &patch).await?;
        }
        if !outcome.remaining.is_empty() || !outcome.failures.is_empty() || outcome.undiscovered.is_some() {
            // What has stood in the way for long will do so for a while longer.
            let since = current.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
            return Ok(Requeue::seconds(((now.as_second() - since.as_second()) / 4).clamp(AGAIN.0, AGAIN.1)));
        }
        let left: Vec<String> = finalizers.into_iter().filter(|finalizer| finalizer != FINALIZER).collect();
        current.spec.get_or_insert_default().finalizers = Some(left);
        match api.put(&key.name, Some("finalize"), &current).await {
            Err(error) if error.is_not_found() => Ok(Requeue::Never),
            other => Ok(other.map(|_| Requeue::Never)?),
        }
    }
}

/// The conditions that tell a user why his namespace is still there.
fn status(old: &NamespaceStatus, outcome: &Outcome, now: Timestamp) -> NamespaceStatus {
    let counted = |counts: &BTreeMap<String, usize>, text: &str| {
        let parts: Vec<String> =
            counts.iter().map(|(name, count)| format!("{name} {text} {count} resource instances")).collect();
        parts.join(", ")
    };
    let list = |items: &[String]| format!("{} [{}]", items.len(), items.join("; "));
    let rows: [(&str, bool, &str, String, &str, &str); 5] = [
        (
            "NamespaceDeletionDiscoveryFailure",
            outcome.undiscovered.is_some(),
            "DiscoveryFailed",
            format!("Discovery failed for some groups, {}", outcome.undiscovered.as_deref().unwrap_or_default()),
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "GroupVersionParsingFailed",
            String::new(),
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            !outcome.failures.is_empty(),
            "ContentDeletionFailed",
            format!("Failed to delete all resource types, {}", list(&outcome.failures)),
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            !outcome.remaining.is_empty(),
            "SomeResourcesRemain",
            format!("Some resources are remaining: {}", counted(&outcome.remaining, "has")),
            "ContentRemoved",
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            !outcome.finalizers.is_empty(),
            "SomeFinalizersRemain",
            format!("Some content in the namespace has finalizers remaining: {}", counted(&outcome.finalizers, "in")),
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ];
    let mut conditions = old.conditions.clone().unwrap_or_default();
    for (kind, bad, bad_reason, bad_message, good_reason, good_message) in rows {
        let (status, reason, message) =
            if bad { ("True", bad_reason, bad_message) } else { ("False", good_reason, good_message.to_owned()) };
        let present = conditions.iter_mut().find(|condition| condition.type_ == kind);
        let since =
            present.as_ref().filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
        let condition = NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        };
        match present {
            Some(present) => *present = condition,
            None => conditions.push(condition),
        }
    }
    NamespaceStatus { phase: Some("Terminating".to_owned()), conditions: Some(conditions) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn what_is_known_goes_while_a_server_does_not_answer_and_the_namespace_waits_for_it() {
        let api = FakeApi::default();
        let resources = [("configmaps", "ConfigMap", &["delete", "deletecollection", "list"][..])];
        let stale = json!([{"metadata": {"name": "metrics.k8s.io"}, "versions": [{"version": "v1beta1", "freshness": "Stale"}]}]);
        api.resources(&resources, stale);
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(Namespaces::new(&context), context.shutdown.clone()));
        api.put::<Namespace>(json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}}));
        api.put::<ConfigMap>(json!({"metadata": {"name": "c", "namespace": "n"}}));
        api.change::<Namespace>("", "n", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        let failure = || {
            let conditions = api.get::<Namespace>("", "n")?.status?.conditions?;
            conditions
                .into_iter()
                .find(|c| c.type_ == "NamespaceDeletionDiscoveryFailure" && c.status == "True")?
                .message
        };
        eventually("the condition", || failure().is_some()).await;
        let gv = "metrics.k8s.io/v1beta1";
        let why = "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs";
        assert_eq!(failure().unwrap(), format!("{why}: {gv}: stale GroupVersion discovery: {gv}"));
        assert!(api.all::<ConfigMap>().is_empty());
        api.resources(&resources, json!([]));
        eventually("the end", || api.all::<Namespace>().is_empty()).await;
        context.shutdown.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn content_goes_pods_first_and_then_the_namespace() {
        let api = FakeApi::default();
        let verbs = ["delete", "deletecollection", "list"];
        let secret: &[&str] = &["delete", "list"];
        let resources =
            [("configmaps", "ConfigMap", &verbs[..]), ("secrets", "Secret", secret), ("pods", "Pod", &verbs)];
        api.resources(&resources, json!([]));
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(Namespaces::new(&context), context.shutdown.clone()));
        api.put::<Namespace>(json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}}));
        api.put::<ConfigMap>(json!({"metadata": {"name": "c", "namespace": "n"}}));
        api.put::<Secret>(json!({"metadata": {"name": "s", "namespace": "n"}}));
        api.put::<Secret>(json!({"metadata": {"name": "s", "namespace": "other"}}));
        api.put::<Pod>(json!({"metadata": {"name": "p", "namespace": "n", "finalizers": ["test/hold"]}}));
        api.change::<Namespace>("", "n", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        let message = |kind: &str| {
            let conditions = api.get::<Namespace>("", "n")?.status?.conditions?;
            conditions.into_iter().find(|c| c.type_ == kind && c.status == "True")?.message
        };
        eventually("the conditions", || {
            message("NamespaceContentRemaining").as_deref()
                == Some("Some resources are remaining: pods. has 1 resource instances")
        })
        .await;
        assert!(message("NamespaceFinalizersRemaining").unwrap().ends_with("test/hold in 1 resource instances"));
        assert!(api.get::<ConfigMap>("n", "c").is_some(), "pods go first");
        api.remove::<Pod>("n", "p");
        eventually("the end", || api.all::<Namespace>().is_empty()).await;
        assert!(api.all::<ConfigMap>().is_empty());
        assert_eq!(api.all::<Secret>().len(), 1);
        context.shutdown.cancel();
    }
}
