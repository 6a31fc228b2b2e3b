//! Cluster roles that are the sum of others.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;
use trireme_client::{Client, Informer, Key, Patch};

use crate::Error;
use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::selector;

pub(crate) struct ClusterRoleAggregation {
    client: Client,
    roles: Informer<ClusterRole>,
}

impl ClusterRoleAggregation {
    pub(crate) fn new(context: &Context) -> Self {
        Self { client: context.client.clone(), roles: context.informer() }
    }
}

/// The rules of all roles that an aggregated role selects, each once, in the order of the roles' names.
fn sum(role: &ClusterRole, all: &[ClusterRole]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref().unwrap_or_default();
    let mut selected: Vec<&ClusterRole> = all
        .iter()
        .filter(|other| other.metadata.name != role.metadata.name)
        .filter(|other| selectors.iter().any(|wanted| selector::matches(wanted, &other.metadata.labels)))
        .collect();
    selected.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in selected.into_iter().flat_map(|other| other.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    Some(rules)
}

impl Controller for ClusterRoleAggregation {
    const NAME: &'static str = "clusterrole-aggregation-controller";
    const ACCOUNT: Option<&'static str> = Some("clusterrole-aggregation-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        let this = Arc::clone(self);
        watches.on(&self.roles, move |change| {
            let is_aggregated = |entry: &trireme_client::Entry<ClusterRole>| {
                entry.decode().is_ok_and(|role| role.aggregation_rule.is_some())
            };
            let _ = change;
            let all = this.roles.list();
            all.iter().filter(|entry| is_aggregated(entry)).map(|entry| entry.meta.key.clone()).collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.roles.find(key) else { return Ok(Requeue::Never) };
        let role = entry.decode()?;
        let mut all = Vec::new();
        for other in self.roles.list() {
            all.push(other.decode()?);
        }
        let Some(rules) = sum(&role, &all) else { return Ok(Requeue::Never) };
        if rules == role.rules.clone().unwrap_or_default() {
            return Ok(Requeue::Never);
        }
        let metadata = json!({"uid": role.metadata.uid, "resourceVersion": role.metadata.resource_version});
        let patch = Patch::Merge(json!({"metadata": metadata, "rules": rules}));
        self.client.all::<ClusterRole>().patch(&key.name, None, &patch).await?;
        Ok(Requeue::Never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};

    #[tokio::test(start_paused = true)]
    async fn an_aggregated_role_follows_those_that_it_selects() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(ClusterRoleAggregation::new(&context), context.shutdown.clone()));
        let rule = |resource: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
        let labels = json!({"to-view": "true"});
        api.put::<ClusterRole>(json!({"metadata": {"name": "view"}, "rules": [rule("stale")],
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": labels}]}}));
        api.put::<ClusterRole>(json!({"metadata": {"name": "b", "labels": labels}, "rules": [rule("pods")]}));
        api.put::<ClusterRole>(
            json!({"metadata": {"name": "a", "labels": labels}, "rules": [rule("pods"), rule("secrets")]}),
        );
        api.put::<ClusterRole>(json!({"metadata": {"name": "c"}, "rules": [rule("nodes")]}));
        let resources = || {
            let rules = api.get::<ClusterRole>("", "view").unwrap().rules.unwrap_or_default();
            rules.into_iter().filter_map(|rule| rule.resources).flatten().collect::<Vec<_>>()
        };
        eventually("the sum", || resources() == ["pods", "secrets"]).await;
        api.remove::<ClusterRole>("", "a");
        eventually("the rest", || resources() == ["pods"]).await;
        context.shutdown.cancel();
    }
}
