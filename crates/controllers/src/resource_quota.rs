//! Resource quotas: what a namespace uses of what it may.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, ReplicationController, ResourceQuota, ResourceQuotaStatus, Secret, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde::Deserialize;
use trireme_client::{Change, Client, Entry, Informer, Key, ListOptions};
use trireme_quota::Amounts;
use trireme_schema::quantity::Format;
use trireme_schema::{Quantity, Value, json};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::discovery::{Served, discover};
use crate::{Error, merge_patch, view};

/// Quotas are counted anew after this long even when nothing is known to have changed.
const RESYNC: Duration = Duration::from_secs(300);
/// Objects that are counted by listing them are counted this often: nothing tells when one goes.
const RECOUNT: Duration = Duration::from_secs(20);

pub(crate) struct ResourceQuotas {
    client: Client,
    quotas: Informer<ResourceQuota>,
    pods: Informer<Pod>,
    services: Informer<Service>,
    claims: Informer<PersistentVolumeClaim>,
    maps: Informer<ConfigMap>,
    secrets: Informer<Secret>,
    controllers: Informer<ReplicationController>,
}

/// An object that is only counted.
#[derive(Deserialize)]
struct Counted {}

impl ResourceQuotas {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            quotas: context.informer(),
            pods: context.informer(),
            services: context.informer(),
            claims: context.informer(),
            maps: context.informer(),
            secrets: context.informer(),
            controllers: context.informer(),
        }
    }

    fn of_namespace(&self, namespace: &str) -> Vec<Key> {
        self.quotas.in_namespace(namespace).iter().map(|entry| entry.meta.key.clone()).collect()
    }

    /// The keys that a change of how many objects there are touches.
    fn counted<K>(&self, change: &Change<K>) -> Vec<Key> {
        match (&change.old, &change.new) {
            (Some(_), Some(_)) => Vec::new(),
            (old, new) => old.iter().chain(new).flat_map(|e| self.of_namespace(&e.meta.key.namespace)).collect(),
        }
    }

    /// What the objects of a namespace take together that a quota (its spec) counts, of the resources that informers
    /// follow.
    fn used(&self, namespace: &str, spec: &Value) -> Result<Amounts, Error> {
        let mut used = Amounts::new();
        take("pods", &self.pods.in_namespace(namespace), spec, &mut used)?;
        take("services", &self.services.in_namespace(namespace), spec, &mut used)?;
        take("persistentvolumeclaims", &self.claims.in_namespace(namespace), spec, &mut used)?;
        // Scopes are about pods and claims: a quota that has any counts nothing else.
        if !spec.list_at(&["scopes"]).is_empty() || spec.at(&["scopeSelector"]).is_some() {
            return Ok(used);
        }
        for (name, count) in [
            ("configmaps", self.maps.in_namespace(namespace).len()),
            ("secrets", self.secrets.in_namespace(namespace).len()),
            ("replicationcontrollers", self.controllers.in_namespace(namespace).len()),
            ("resourcequotas", self.quotas.in_namespace(namespace).len()),
        ] {
            let count = number(count);
            trireme_quota::sum(&mut used, &[(name.to_owned(), count), (format!("count/{name}"), count)].into());
        }
        Ok(used)
    }

    /// Counts the objects of a resource `plural.group` by listing them.
    async fn count(&self, namespace: &str, name: &str, served: &[Served]) -> Result<Option<Quantity>, Error> {
        let (plural, group) = name.split_once('.').unwrap_or((name, ""));
        let found = served.iter().find(|s| s.resource.plural == plural && s.resource.group == group);
        let Some(found) = found.filter(|found| found.resource.namespaced && found.can(&["list"])) else {
            return Ok(None);
        };
        let api = self.client.dynamic::<Counted>(found.resource.clone(), Some(namespace));
        Ok(Some(number(api.list(&ListOptions::default()).await?.items.len())))
    }
}

/// Adds what objects take that a quota counts.
fn take<K>(plural: &str, entries: &[Arc<Entry<K>>], spec: &Value, used: &mut Amounts) -> Result<(), Error> {
    for entry in entries {
        let object = parse(entry)?;
        if trireme_quota::counts(spec, plural, &object) {
            trireme_quota::sum(used, &trireme_quota::usage("", plural, &object));
        }
    }
    Ok(())
}

fn parse<K>(entry: &Entry<K>) -> Result<Value, Error> {
    json::parse(&entry.bytes).map_err(|wrong| Error::Invalid {
        object: entry.meta.key.to_string(),
        field: "",
        reason: wrong.to_string(),
    })
}

fn number(count: usize) -> Quantity {
    Quantity::units(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

impl Controller for ResourceQuotas {
    const NAME: &'static str = "resourcequota-controller";
    const ACCOUNT: Option<&'static str> = Some("resourcequota-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        let this = Arc::clone(self);
        watches.on(&self.quotas, move |change| {
            let mut touched = this.counted(change);
            touched.extend(change.new.as_ref().map(|entry| entry.meta.key.clone()));
            touched.dedup();
            touched
        });
        let this = Arc::clone(self);
        watches.on(&self.pods, move |change| {
            let ended = |entry: Option<&Arc<trireme_client::Entry<Pod>>>| {
                entry.and_then(|entry| entry.decode_as::<view::Pod>().ok()).is_some_and(|pod| pod.is_terminal())
            };
            let Some(latest) = change.latest() else { return Vec::new() };
            let quotas = this.of_namespace(&latest.meta.key.namespace);
            if quotas.is_empty()
                || change.old.is_some()
                    && change.new.is_some()
                    && ended(change.old.as_ref()) == ended(change.new.as_ref())
            {
                return Vec::new();
            }
            quotas
        });
        let this = Arc::clone(self);
        watches.on(&self.services, move |change| {
            change.latest().map(|entry| this.of_namespace(&entry.meta.key.namespace)).unwrap_or_default()
        });
        let this = Arc::clone(self);
        watches.on(&self.claims, move |change| {
            change.latest().map(|entry| this.of_namespace(&entry.meta.key.namespace)).unwrap_or_default()
        });
        let this = Arc::clone(self);
        watches.on(&self.maps, move |change| this.counted(change));
        let this = Arc::clone(self);
        watches.on(&self.secrets, move |change| this.counted(change));
        let this = Arc::clone(self);
        watches.on(&self.controllers, move |change| this.counted(change));
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.quotas.find(key).filter(|entry| !entry.meta.deleting) else {
            return Ok(Requeue::Never);
        };
        let quota = entry.decode()?;
        let hard = quota.spec.clone().and_then(|spec| spec.hard).unwrap_or_default();
        let spec = parse(&entry)?.remove_at(&["spec"]).unwrap_or_default();
        let mut known = self.used(&key.namespace, &spec)?;
        let listed: Vec<&str> = hard
            .keys()
            .filter(|name| !known.contains_key(*name))
            .filter_map(|name| name.strip_prefix("count/"))
            .filter(|name| !matches!(*name, "pods" | "services" | "persistentvolumeclaims"))
            .collect();
        if !listed.is_empty() {
            let served = discover(&self.client).await?.resources;
            for name in &listed {
                if let Some(count) = self.count(&key.namespace, name, &served).await? {
                    known.insert(format!("count/{name}"), count);
                }
            }
        }
        let used: BTreeMap<String, Text> = hard
            .keys()
            .map(|name| (name.clone(), Text(known.get(name).copied().unwrap_or(Quantity::ZERO).to_string())))
            .collect();
        let again = if listed.is_empty() { RESYNC } else { RECOUNT };
        let old = quota.status.clone().unwrap_or_default();
        let new = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
        if let Some(patch) = merge_patch::status(&quota.metadata, &old, &new)? {
            self.client.namespaced::<ResourceQuota>(&key.namespace).patch(&key.name, Some("status"), &patch).await?;
        }
        Ok(Requeue::After(again))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn use_follows_what_comes_and_goes() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(ResourceQuotas::new(&context), context.shutdown.clone()));
        let hard = json!({"pods": "5", "requests.cpu": "4", "configmaps": "3"});
        api.put::<ResourceQuota>(json!({"metadata": {"name": "q", "namespace": "n"}, "spec": {"hard": hard}}));
        let used = || {
            let used = api.get::<ResourceQuota>("n", "q").unwrap().status.and_then(|status| status.used);
            used.map(|used| used.into_values().map(|text| text.0).collect::<Vec<_>>()).unwrap_or_default()
        };
        eventually("nothing", || used() == ["0", "0", "0"]).await;
        let containers = json!([{"name": "c", "resources": {"requests": {"cpu": "1500m"}}}]);
        api.put::<Pod>(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": containers}}));
        api.put::<ConfigMap>(json!({"metadata": {"name": "c", "namespace": "n"}}));
        eventually("both", || used() == ["1", "1", "1500m"]).await;
        api.change::<Pod>("n", "p", json!({"status": {"phase": "Failed"}}));
        eventually("the rest", || used() == ["1", "0", "0"]).await;
        context.shutdown.cancel();
    }
}
