//! Service-account tokens in secrets that nobody has used for a year: first they become invalid, then they go.

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use serde_json::json;
use trireme_client::{Client, DeleteOptions, Informer, Key, Patch};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{Clock, Error};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Days without use (KEP-2799).
const UNUSED: i64 = 365;
/// The dates have no time, so looking once a day is enough.
const DAILY: Duration = Duration::from_secs(86_400);

pub(crate) struct LegacyTokens {
    client: Client,
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
    pods: Informer<Pod>,
    clock: Clock,
}

/// What to do about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Keep,
    Invalidate,
    Delete,
}

impl LegacyTokens {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            secrets: context.informer(),
            accounts: context.informer(),
            pods: context.informer(),
            clock: context.clock.clone(),
        }
    }

    /// Whether a pod mounts the secret, as pods did before tokens were bound to them.
    fn is_mounted(&self, key: &Key) -> Result<bool, Error> {
        for entry in self.pods.in_namespace(&key.namespace) {
            let volumes = entry.decode()?.spec.and_then(|spec| spec.volumes).unwrap_or_default();
            let mut names = volumes.iter().filter_map(|volume| volume.secret.as_ref()?.secret_name.as_deref());
            if names.any(|name| name == &*key.name) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Decides by the dates on a token. Only tokens that were made automatically, and so are listed by their account, go;
/// one that somebody made on purpose stays.
fn step(secret: &Secret, automatic: bool, now: Timestamp) -> Step {
    let label = |key: &str| secret.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let date = |text: &String| text.parse::<Date>().ok();
    let created = secret.metadata.creation_timestamp.as_ref();
    let created = created.map(|time| time.0.to_zoned(jiff::tz::TimeZone::UTC).date());
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let Ok(limit) = today.checked_sub(UNUSED.days()) else { return Step::Keep };
    let used = label(LAST_USED).and_then(date).or(created).unwrap_or(today);
    if !automatic || used >= limit {
        return Step::Keep;
    }
    match label(INVALID_SINCE).and_then(date) {
        None => Step::Invalidate,
        Some(since) if since < limit => Step::Delete,
        Some(_) => Step::Keep,
    }
}

impl Controller for LegacyTokens {
    const NAME: &'static str = "legacy-serviceaccount-token-cleaner-controller";
    const ACCOUNT: Option<&'static str> = Some("legacy-service-account-token-cleaner");
    const WORKERS: usize = 1;

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.secrets);
        watches.needs(&self.accounts);
        watches.needs(&self.pods);
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.secrets.find(key) else { return Ok(Requeue::Never) };
        let secret = entry.decode()?;
        if secret.type_.as_deref() != Some(TYPE) {
            return Ok(Requeue::Never);
        }
        let account = secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ACCOUNT));
        let account = account.and_then(|name| self.accounts.get(&key.namespace, name));
        let automatic = match account {
            Some(account) => {
                let listed = account.decode()?.secrets.unwrap_or_default();
                listed.iter().any(|reference| reference.name.as_deref() == Some(&*key.name))
            }
            None => false,
        };
        let now = self.clock.now();
        let step = step(&secret, automatic, now);
        if step == Step::Keep || self.is_mounted(key)? {
            return Ok(Requeue::After(DAILY));
        }
        let api = self.client.namespaced::<Secret>(&key.namespace);
        if step == Step::Delete {
            api.delete_if_present(&key.name, &DeleteOptions::default().uid(&*entry.meta.uid)).await?;
            return Ok(Requeue::Never);
        }
        let today = now.to_zoned(jiff::tz::TimeZone::UTC).date().to_string();
        let labels = json!({ (INVALID_SINCE): today });
        let patch = Patch::Merge(json!({"metadata": {"uid": secret.metadata.uid, "labels": labels}}));
        api.patch(&key.name, None, &patch).await?;
        Ok(Requeue::After(DAILY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_tokens_become_invalid_and_then_go() {
        let now: Timestamp = "2026-06-01T12:00:00Z".parse().unwrap();
        for (labels, automatic, expected) in [
            (json!({LAST_USED: "2026-05-01"}), true, Step::Keep),
            (json!({LAST_USED: "2025-05-01"}), true, Step::Invalidate),
            (json!({LAST_USED: "2025-05-01"}), false, Step::Keep),
            (json!({}), true, Step::Invalidate),
            (json!({LAST_USED: "2024-05-01", INVALID_SINCE: "2025-12-01"}), true, Step::Keep),
            (json!({LAST_USED: "2024-05-01", INVALID_SINCE: "2025-05-31"}), true, Step::Delete),
        ] {
            let secret = serde_json::from_value(json!({
                "metadata": {"name": "t", "labels": labels, "creationTimestamp": "2024-01-01T00:00:00Z"}}))
            .unwrap();
            assert_eq!(step(&secret, automatic, now), expected, "{labels}");
        }
    }
}
