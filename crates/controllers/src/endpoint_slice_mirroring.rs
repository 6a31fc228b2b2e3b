//! Endpoints that somebody keeps by hand, mirrored as slices, so that whoever reads slices sees them, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use trireme_client::{Client, DeleteOptions, Entry, Informer, Key, Patch};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::expectations::Expectations;
use crate::service_selectors::selector;
use crate::{Error, owner, pod_template};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// How many addresses of a subset are mirrored.
const MOST: usize = 1_000;

pub(crate) struct EndpointSliceMirroring {
    client: Client,
    endpoints: Informer<Endpoints>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    expectations: Arc<Expectations>,
}

impl EndpointSliceMirroring {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            endpoints: context.informer(),
            services: context.informer(),
            slices: context.informer(),
            expectations: Arc::new(Expectations::default()),
        }
    }

    fn mirrors(&self, key: &Key) -> Vec<Arc<Entry<EndpointSlice>>> {
        let ours = |entry: &Arc<Entry<EndpointSlice>>| {
            entry.meta.label(MANAGED_BY) == Some(MANAGER) && entry.meta.label(SERVICE_NAME) == Some(&key.name)
        };
        self.slices.in_namespace(&key.namespace).into_iter().filter(ours).collect()
    }

    /// The endpoints to mirror: those of a service that selects no pods.
    fn wanted(&self, key: &Key) -> Result<Option<Endpoints>, Error> {
        let (Some(endpoints), Some(service)) = (self.endpoints.find(key), self.services.find(key)) else {
            return Ok(None);
        };
        let by_hand = selector(&service.decode()?).is_none();
        let endpoints = endpoints.decode()?;
        let labels = endpoints.metadata.labels.as_ref();
        let skipped = labels.and_then(|labels| labels.get(SKIP)).is_some_and(|skip| skip == "true")
            || endpoints.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER));
        Ok(Some(endpoints).filter(|_| by_hand && !skipped))
    }
}

/// The slices of endpoints: one for each subset and address family.
fn slices(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let mut labels: BTreeMap<String, String> = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let subsets = endpoints.subsets.iter().flatten();
    let mirrored = subsets.flat_map(|subset| [false, true].map(|ipv6| (subset, ipv6))).filter_map(|(subset, ipv6)| {
        let found = mirrored(subset, ipv6);
        (!found.is_empty()).then(|| EndpointSlice {
            metadata: ObjectMeta {
                generate_name: Some(pod_template::prefix(&name)),
                namespace: endpoints.metadata.namespace.clone(),
                labels: Some(labels.clone()),
                owner_references: Some(vec![owner::controller_reference::<Endpoints>(&endpoints.metadata)]),
                ..ObjectMeta::default()
            },
            address_type: if ipv6 { "IPv6" } else { "IPv4" }.to_owned(),
            endpoints: Some(found),
            ports: Some(ports(subset)),
        })
    });
    mirrored.collect()
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    let port = |port: &k8s_openapi::api::core::v1::EndpointPort| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: port.protocol.clone().or_else(|| Some("TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    };
    subset.ports.iter().flatten().map(port).collect()
}

fn mirrored(subset: &EndpointSubset, ipv6: bool) -> Vec<Endpoint> {
    let one = |address: &EndpointAddress, ready: bool| Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), serving: None, terminating: None }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    };
    let ready = subset.addresses.iter().flatten().map(|address| one(address, true));
    let waiting = subset.not_ready_addresses.iter().flatten().map(|address| one(address, false));
    let of_family = |endpoint: &Endpoint| endpoint.addresses.iter().all(|address| address.contains(':') == ipv6);
    ready.chain(waiting).filter(of_family).take(MOST).collect()
}

impl Controller for EndpointSliceMirroring {
    const NAME: &'static str = "endpointslice-mirroring-controller";
    const ACCOUNT: Option<&'static str> = Some("endpointslicemirroring-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.endpoints);
        watches.on_itself(&self.services);
        let this = Arc::clone(self);
        watches.on(&self.slices, move |change| {
            let Some(latest) = change.latest().filter(|entry| entry.meta.label(MANAGED_BY) == Some(MANAGER)) else {
                return Vec::new();
            };
            this.expectations.observe(change);
            latest.meta.label(SERVICE_NAME).map(|name| Key::new(&latest.meta.key.namespace, name)).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let endpoints = self.wanted(key)?;
        let uid = endpoints.as_ref().and_then(|endpoints| endpoints.metadata.uid.clone()).unwrap_or_default();
        if !self.expectations.met(&uid) {
            return Ok(Requeue::Never);
        }
        let mut wanted = endpoints.as_ref().map(slices).unwrap_or_default();
        let api = self.client.namespaced::<EndpointSlice>(&key.namespace);
        for entry in self.mirrors(key) {
            let present = entry.decode()?;
            let same_kind =
                |slice: &EndpointSlice| slice.address_type == present.address_type && slice.ports == present.ports;
            match wanted.iter().position(same_kind) {
                Some(at) => {
                    let slice = wanted.remove(at);
                    let labels = &slice.metadata.labels;
                    if present.endpoints != slice.endpoints || present.metadata.labels != *labels {
                        let metadata = json!({"resourceVersion": present.metadata.resource_version, "labels": labels});
                        let patch = Patch::Merge(json!({"metadata": metadata, "endpoints": slice.endpoints}));
                        api.patch(&entry.meta.key.name, None, &patch).await?;
                    }
                }
                None => {
                    let options = DeleteOptions::default().uid(&*entry.meta.uid);
                    api.delete_if_present(&entry.meta.key.name, &options).await?;
                }
            }
        }
        self.expectations.creations(&uid, wanted.len());
        let mut result = Ok(Requeue::Never);
        for slice in wanted {
            let created = if result.is_ok() { api.create(&slice).await.map(drop) } else { Ok(()) };
            if created.is_err() || result.is_err() {
                self.expectations.created(&uid);
            }
            if let Err(error) = created
                && !error.is_namespace_terminating()
            {
                result = Err(error.into());
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};

    #[tokio::test(start_paused = true)]
    async fn endpoints_kept_by_hand_are_mirrored_and_others_not() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(EndpointSliceMirroring::new(&context), context.shutdown.clone()));
        let subsets = |ip: &str| json!([{"addresses": [{"ip": ip}], "ports": [{"name": "p", "port": 80}]}]);
        for (name, selector) in [("hand", json!(null)), ("pods", json!({"a": "b"}))] {
            api.put::<Service>(json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"selector": selector}}));
            api.put::<Endpoints>(json!({"metadata": {"name": name, "namespace": "n"}, "subsets": subsets("10.0.0.1")}));
        }
        let addresses = || -> Vec<String> {
            let all = api.all::<EndpointSlice>().into_iter();
            all.flat_map(|slice| slice.endpoints.unwrap_or_default()).flat_map(|endpoint| endpoint.addresses).collect()
        };
        eventually("the mirror", || addresses() == ["10.0.0.1"]).await;
        api.change::<Endpoints>("n", "hand", json!({"subsets": subsets("10.0.0.2")}));
        eventually("the change", || addresses() == ["10.0.0.2"] && api.all::<EndpointSlice>().len() == 1).await;
        api.remove::<Endpoints>("n", "hand");
        eventually("the end", || addresses().is_empty()).await;
        context.shutdown.cancel();
    }
}
