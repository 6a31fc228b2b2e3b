//! Endpoints: the older, one-object form of a service's endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use trireme_client::{Client, DeleteOptions, Informer, Key};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::selector::map_matches;
use crate::service_pods::{self, HEADLESS, Port};
use crate::service_selectors::{ServiceSelectors, selector};
use crate::{Error, merge_patch, view};

const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// How many addresses the object holds at most; what is beyond is only in slices.
const MOST: usize = 1_000;

pub(crate) struct EndpointsController {
    client: Client,
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Endpoints>,
    selectors: ServiceSelectors,
}

impl EndpointsController {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            services: context.informer(),
            pods: context.informer(),
            endpoints: context.informer(),
            selectors: ServiceSelectors::default(),
        }
    }
}

impl Controller for EndpointsController {
    const NAME: &'static str = "endpoints-controller";
    const ACCOUNT: Option<&'static str> = Some("endpoint-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        let this = Arc::clone(self);
        watches.on(&self.services, move |change| {
            this.selectors.observe(change);
            change.latest().map(|entry| entry.meta.key.clone()).into_iter().collect()
        });
        let this = Arc::clone(self);
        watches.on(&self.pods, move |change| this.selectors.touched(change));
        watches.on(&self.endpoints, |change| {
            let gone = change.old.as_ref().filter(|_| change.new.is_none());
            gone.map(|old| old.meta.key.clone()).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let api = self.client.namespaced::<Endpoints>(&key.namespace);
        let present = self.endpoints.find(key);
        let Some(entry) = self.services.find(key) else {
            if let Some(present) = present {
                api.delete_if_present(&key.name, &DeleteOptions::default().uid(&*present.meta.uid)).await?;
            }
            return Ok(Requeue::Never);
        };
        let service = entry.decode()?;
        let Some(selector) = selector(&service) else { return Ok(Requeue::Never) };
        let mut pods = Vec::new();
        for pod in self.pods.in_namespace(&key.namespace) {
            if map_matches(selector, &pod.meta) {
                pods.push(pod.decode_as::<view::Pod>()?);
            }
        }
        let (subsets, cut) = subsets(&service, &pods);
        let mut labels = service.metadata.labels.clone().unwrap_or_default();
        labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
        if service_pods::is_headless(&service) {
            labels.insert(HEADLESS.to_owned(), String::new());
        } else {
            labels.remove(HEADLESS);
        }
        let result = match present {
            Some(present) => {
                let old = present.decode()?;
                let mut new = old.clone();
                new.metadata.labels = Some(labels);
                let annotations = new.metadata.annotations.get_or_insert_default();
                if cut {
                    annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
                } else {
                    annotations.remove(OVER_CAPACITY);
                }
                new.metadata.annotations = new.metadata.annotations.filter(|annotations| !annotations.is_empty());
                new.subsets = (!subsets.is_empty()).then_some(subsets);
                match merge_patch::object(&old, &new)? {
                    Some(patch) => api.patch(&key.name, None, &patch).await,
                    None => return Ok(Requeue::Never),
                }
            }
            None => {
                let annotations = cut.then(|| [(OVER_CAPACITY.to_owned(), "truncated".to_owned())].into());
                let metadata = ObjectMeta {
                    name: Some(key.name.to_string()),
                    namespace: Some(key.namespace.to_string()),
                    labels: Some(labels),
                    annotations,
                    ..ObjectMeta::default()
                };
                api.create(&Endpoints { metadata, subsets: (!subsets.is_empty()).then_some(subsets) }).await
            }
        };
        match result {
            Err(error) if error.is_namespace_terminating() => Ok(Requeue::Never),
            Err(error) if error.is_already_exists() => Err(Error::NotYet(format!("{key} is not in the cache"))),
            other => Ok(other.map(|_| Requeue::Never)?),
        }
    }
}

/// The subsets of a service's endpoints: one for each set of ports; and whether addresses were left out.
fn subsets(service: &Service, pods: &[view::Pod]) -> (Vec<EndpointSubset>, bool) {
    let spec = service.spec.clone().unwrap_or_default();
    let publish = spec.publish_not_ready_addresses == Some(true);
    let ipv6 = match spec.ip_families.as_deref() {
        Some([first, ..]) => first == "IPv6",
        _ => spec.cluster_ip.as_ref().is_some_and(|address| address.contains(':')),
    };
    let has_ports = spec.ports.as_ref().is_some_and(|ports| !ports.is_empty());
    let mut by_ports: BTreeMap<Vec<Port>, EndpointSubset> = BTreeMap::new();
    let alive = |pod: &&view::Pod| !pod.is_terminal() && (publish || pod.metadata.deletion_timestamp.is_none());
    let mut pods: Vec<&view::Pod> = pods.iter().filter(alive).collect();
    // Ready ones first: they are the ones to keep when there are too many.
    pods.sort_by_key(|pod| !pod.is_ready());
    let mut count = 0;
    for pod in pods {
        let Some(ip) = service_pods::addresses(pod, ipv6).into_iter().next() else { continue };
        let ports = service_pods::ports(service, pod);
        if has_ports && ports.is_empty() {
            continue;
        }
        count += 1;
        if count > MOST {
            continue;
        }
        let address = EndpointAddress {
            ip,
            hostname: service_pods::hostname(service, pod),
            node_name: (!pod.spec.node_name.is_empty()).then(|| pod.spec.node_name.clone()),
            target_ref: Some(service_pods::reference(pod)),
        };
        let subset = by_ports.entry(ports).or_default();
        let list = if publish || pod.is_ready() { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    let subsets = by_ports.into_iter().map(|(ports, mut subset)| {
        for list in [&mut subset.addresses, &mut subset.not_ready_addresses].into_iter().flatten() {
            list.sort_by(|a, b| a.ip.cmp(&b.ip));
        }
        let ports = ports.into_iter().map(|port| EndpointPort {
            name: (!port.name.is_empty()).then_some(port.name),
            port: port.port,
            protocol: Some(port.protocol),
            app_protocol: port.app_protocol,
        });
        subset.ports = has_ports.then(|| ports.collect());
        subset
    });
    (subsets.collect(), count > MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ready_and_waiting_pods_are_listed_apart_and_leaving_ones_not_at_all() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "s"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}}))
        .unwrap();
        let pod = |at: u8, ready: &str, deleting: Option<&str>| -> view::Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p", "deletionTimestamp": deleting},
                "status": {"podIP": format!("10.1.0.{at}"), "conditions": [{"type": "Ready", "status": ready}]}
            }))
            .unwrap()
        };
        let time = Some("2026-01-01T00:00:00Z");
        let pods = [pod(3, "True", None), pod(1, "True", None), pod(2, "False", None), pod(4, "True", time)];
        let (found, cut) = subsets(&service, &pods);
        let ips = |list: &Option<Vec<EndpointAddress>>| {
            list.iter().flatten().map(|address| address.ip.clone()).collect::<Vec<_>>()
        };
        assert!(!cut);
        assert_eq!(ips(&found[0].addresses), ["10.1.0.1", "10.1.0.3"]);
        assert_eq!(ips(&found[0].not_ready_addresses), ["10.1.0.2"]);
        assert_eq!(found[0].ports.as_ref().unwrap()[0].name, None);
    }
}
