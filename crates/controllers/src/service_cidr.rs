//! Ranges of service addresses: ready while they serve, kept while addresses in them are in use.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR, ServiceCIDRSpec, ServiceCIDRStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use trireme_client::{Client, Informer, Key};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::pvc_protection::finalizers;
use crate::{CidrRange, Clock, Error, merge_patch};

/// The name of the range with which the cluster was configured.
const DEFAULT: &str = "kubernetes";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const TERMINATING: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

pub(crate) struct ServiceCidrs {
    client: Client,
    ranges: Informer<ServiceCIDR>,
    addresses: Informer<IPAddress>,
    clock: Clock,
    default: Vec<String>,
}

impl ServiceCidrs {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            ranges: context.informer(),
            addresses: context.informer(),
            clock: context.clock.clone(),
            default: context.options.service_cidrs.clone(),
        }
    }

    /// Makes the range with which the cluster was configured.
    async fn create_default(&self) -> Result<Requeue, Error> {
        let range = ServiceCIDR {
            metadata: ObjectMeta { name: Some(DEFAULT.to_owned()), ..ObjectMeta::default() },
            spec: Some(ServiceCIDRSpec { cidrs: Some(self.default.clone()) }),
            status: None,
        };
        match self.client.all::<ServiceCIDR>().create(&range).await {
            Err(error) if error.is_already_exists() => Ok(Requeue::Never),
            other => Ok(other.map(|_| Requeue::Never)?),
        }
    }

    /// Whether an address in use is in this range and in no other that stays.
    fn is_needed(&self, key: &Key, own: &ServiceCIDR) -> Result<bool, Error> {
        let mut others = Vec::new();
        for entry in self.ranges.list() {
            if entry.meta.key != *key && !entry.meta.deleting {
                others.extend(ranges(&entry.decode()?));
            }
        }
        let own = ranges(own);
        let addresses = self.addresses.list();
        let mut addresses = addresses.iter().filter_map(|entry| entry.meta.key.name.parse::<IpAddr>().ok());
        Ok(addresses
            .any(|address| own.iter().any(|r| contains(*r, address)) && !others.iter().any(|r| contains(*r, address))))
    }
}

fn ranges(of: &ServiceCIDR) -> Vec<CidrRange> {
    let cidrs = of.spec.as_ref().and_then(|spec| spec.cidrs.as_ref());
    cidrs.into_iter().flatten().filter_map(|cidr| cidr.parse().ok()).collect()
}

/// Whether a range holds an address.
fn contains(range: CidrRange, address: IpAddr) -> bool {
    let (a, b, width) = match (range.address, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a)), u128::from(u32::from(b)), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), 128),
        _ => return false,
    };
    let host_bits = u32::from(u8::saturating_sub(width, range.prefix));
    a.checked_shr(host_bits).unwrap_or(0) == b.checked_shr(host_bits).unwrap_or(0)
}

fn status(old: &ServiceCIDRStatus, ready: bool, now: Timestamp) -> ServiceCIDRStatus {
    let (value, reason, message) =
        if ready { ("True", "", "Kubernetes Service CIDR is ready") } else { ("False", "Terminating", TERMINATING) };
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let present = conditions.iter().position(|condition| condition.type_ == "Ready");
    let since = present.and_then(|at| conditions.get(at)).filter(|c| c.status == value);
    let since = since.map_or(Time(now), |condition| condition.last_transition_time.clone());
    if let Some(at) = present {
        conditions.remove(at);
    }
    conditions.push(Condition {
        type_: "Ready".to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: None,
        last_transition_time: since,
    });
    ServiceCIDRStatus { conditions: Some(conditions) }
}

impl Controller for ServiceCidrs {
    const NAME: &'static str = "service-cidr-controller";
    const ACCOUNT: Option<&'static str> = Some("service-cidrs-controller");
    const WORKERS: usize = 1;

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.ranges);
        if !self.default.is_empty() {
            watches.start_with(Key::new("", DEFAULT));
        }
        let this = Arc::clone(self);
        watches.on(&self.addresses, move |change| {
            if change.new.is_some() {
                return Vec::new();
            }
            let leaving = this.ranges.list().into_iter().filter(|entry| entry.meta.deleting);
            leaving.map(|entry| entry.meta.key.clone()).collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.ranges.find(key) else {
            let is_default = &*key.name == DEFAULT && !self.default.is_empty();
            return if is_default { self.create_default().await } else { Ok(Requeue::Never) };
        };
        let range = entry.decode()?;
        let api = self.client.all::<ServiceCIDR>();
        let keep = !entry.meta.deleting || self.is_needed(key, &range)?;
        let mut new = range.clone();
        new.metadata.finalizers = finalizers(new.metadata.finalizers, FINALIZER, keep);
        let mut current = range.clone();
        if new.metadata.finalizers.as_ref().map(Vec::len) != range.metadata.finalizers.as_ref().map(Vec::len)
            && let Some(patch) = merge_patch::object(&range, &new)?
        {
            current = api.patch(&key.name, None, &patch).await?;
        }
        if !keep {
            return Ok(Requeue::Never);
        }
        let old = current.status.clone().unwrap_or_default();
        let status = status(&old, !entry.meta.deleting, self.clock.now());
        if let Some(patch) = merge_patch::status(&current.metadata, &old, &status)? {
            api.patch(&key.name, Some("status"), &patch).await?;
        }
        Ok(Requeue::Never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};
    use serde_json::json;

    #[test]
    fn ranges_hold_their_addresses() {
        for (range, address, expected) in [
            ("10.43.0.0/16", "10.43.255.1", true),
            ("10.43.0.0/16", "10.44.0.1", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("fd00::/108", "fd00::f", true),
            ("10.43.0.0/16", "fd00::f", false),
        ] {
            assert_eq!(contains(range.parse().unwrap(), address.parse().unwrap()), expected, "{range} {address}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_range_goes_with_its_last_address() {
        let api = FakeApi::default();
        let options = Options { service_cidrs: vec!["10.43.0.0/16".into()], ..Options::default() };
        let context = api.context(options, clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(ServiceCidrs::new(&context), context.shutdown.clone()));
        api.put::<ServiceCIDR>(json!({"metadata": {"name": "r"}, "spec": {"cidrs": ["10.50.0.0/16"]}}));
        api.put::<IPAddress>(json!({"metadata": {"name": "10.50.0.1"},
            "spec": {"parentRef": {"resource": "services", "name": "s", "namespace": "n"}}}));
        let ready = || {
            let conditions = api.get::<ServiceCIDR>("", "r")?.status?.conditions?;
            conditions.into_iter().next().map(|condition| condition.status)
        };
        eventually("ready", || ready().as_deref() == Some("True")).await;
        let options = trireme_client::DeleteOptions::default();
        context.client.all::<ServiceCIDR>().delete("r", &options).await.unwrap();
        eventually("leaving", || ready().as_deref() == Some("False")).await;
        api.remove::<IPAddress>("", "10.50.0.1");
        eventually("gone", || api.get::<ServiceCIDR>("", "r").is_none()).await;
        eventually("the default", || api.get::<ServiceCIDR>("", DEFAULT).is_some()).await;
        context.shutdown.cancel();
    }
}
