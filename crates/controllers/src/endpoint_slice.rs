//! Endpoint slices: where the pods of a service are reached, in pieces of at most a hundred.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use trireme_client::{Client, DeleteOptions, EventKind, Informer, Key, ObjectRef, Patch, Recorder};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::expectations::Expectations;
use crate::selector::map_matches;
use crate::service_pods::{self, HEADLESS, Port};
use crate::service_selectors::{ServiceSelectors, selector};
use crate::{Error, owner, pod_template, view};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";
/// How many endpoints a slice holds at most.
const MOST: usize = 100;

pub(crate) struct EndpointSlices {
    client: Client,
    services: Informer<Service>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
    selectors: ServiceSelectors,
    expectations: Arc<Expectations>,
    recorder: Recorder,
}

/// Endpoints that belong into slices of one kind.
type Desired = BTreeMap<(bool, Vec<Port>), Vec<Endpoint>>;

/// What to do about the slices of a service.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    delete: Vec<EndpointSlice>,
}

impl EndpointSlices {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            services: context.informer(),
            pods: context.informer(),
            nodes: context.informer(),
            slices: context.informer(),
            selectors: ServiceSelectors::default(),
            expectations: Arc::new(Expectations::default()),
            recorder: context.recorder("endpoint-slice-controller"),
        }
    }

    fn own_slices(&self, key: &Key, uid: &str) -> Result<Vec<EndpointSlice>, Error> {
        let mut slices = Vec::new();
        for entry in self.slices.controlled_by(uid) {
            let ours =
                entry.meta.label(SERVICE_NAME) == Some(&key.name) && entry.meta.label(MANAGED_BY) == Some(MANAGER);
            if ours && !entry.meta.deleting {
                slices.push(entry.decode()?);
            }
        }
        Ok(slices)
    }

    async fn carry_out(&self, key: &Key, uid: &str, plan: Plan) -> Result<(), Error> {
        let api = self.client.namespaced::<EndpointSlice>(&key.namespace);
        self.expectations.creations(uid, plan.create.len());
        let mut result = Ok(());
        for slice in plan.create {
            if result.is_err() {
                self.expectations.created(uid);
            } else if let Err(error) = api.create(&slice).await {
                self.expectations.created(uid);
                if !error.is_namespace_terminating() {
                    result = Err(Error::from(error));
                }
            }
        }
        result?;
        for slice in plan.update {
            let name = slice.metadata.name.clone().unwrap_or_default();
            let patch = json!({
                "metadata": {"resourceVersion": slice.metadata.resource_version, "labels": slice.metadata.labels},
                "endpoints": slice.endpoints,
                "ports": slice.ports,
            });
            api.patch(&name, None, &Patch::Merge(patch)).await?;
        }
        for slice in plan.delete {
            let (name, slice_uid) = (slice.metadata.name.unwrap_or_default(), slice.metadata.uid.unwrap_or_default());
            self.expectations.deletion(uid, &slice_uid);
            let deleted = api.delete_if_present(&name, &DeleteOptions::default().uid(slice_uid.as_str())).await;
            if let Err(error) = deleted {
                self.expectations.deleted(uid, &slice_uid);
                return Err(error.into());
            }
        }
        Ok(())
    }
}

impl Controller for EndpointSlices {
    const NAME: &'static str = "endpointslice-controller";
    const ACCOUNT: Option<&'static str> = Some("endpointslice-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        let this = Arc::clone(self);
        watches.on(&self.services, move |change| {
            this.selectors.observe(change);
            change.latest().map(|entry| entry.meta.key.clone()).into_iter().collect()
        });
        let this = Arc::clone(self);
        watches.on(&self.pods, move |change| this.selectors.touched(change));
        let this = Arc::clone(self);
        watches.on(&self.slices, move |change| {
            this.expectations.observe(change);
            let Some(latest) = change.latest() else { return Vec::new() };
            if latest.meta.label(MANAGED_BY) != Some(MANAGER) {
                return Vec::new();
            }
            latest.meta.label(SERVICE_NAME).map(|name| Key::new(&latest.meta.key.namespace, name)).into_iter().collect()
        });
        watches.needs(&self.nodes);
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.services.find(key) else { return Ok(Requeue::Never) };
        let service = entry.decode()?;
        let Some(selector) = selector(&service) else { return Ok(Requeue::Never) };
        let uid = &*entry.meta.uid;
        if entry.meta.deleting || !self.expectations.met(uid) {
            return Ok(Requeue::Never);
        }
        let slices = self.own_slices(key, uid)?;
        let mut pods = Vec::new();
        for pod in self.pods.in_namespace(&key.namespace) {
            if map_matches(selector, &pod.meta) {
                pods.push(pod.decode_as::<view::Pod>()?);
            }
        }
        let zone = |node: &str| self.nodes.get("", node).and_then(|node| node.meta.label(ZONE).map(str::to_owned));
        let desired = desired(&service, &pods, zone);
        let plan = plan(&service, slices, desired);
        let result = self.carry_out(key, uid, plan).await;
        if let Err(error) = &result
            && !error.is_race()
        {
            let about = ObjectRef::to::<Service>(&service.metadata);
            let message = format!("Error updating Endpoint Slices for Service {key}: {error}");
            self.recorder.record(&about, EventKind::Warning, "FailedToUpdateEndpointSlices", message);
        }
        result.map(|()| Requeue::Never)
    }
}

/// The address families of a service: IPv6 or not.
fn families(service: &Service) -> Vec<bool> {
    let spec = service.spec.as_ref();
    let named = spec.and_then(|spec| spec.ip_families.as_ref()).filter(|families| !families.is_empty());
    match named {
        Some(families) => families.iter().map(|family| family == "IPv6").collect(),
        None => {
            vec![spec.and_then(|spec| spec.cluster_ip.as_ref()).is_some_and(|address| address.contains(':'))]
        }
    }
}

/// The endpoints that a service should have.
fn desired(service: &Service, pods: &[view::Pod], zone: impl Fn(&str) -> Option<String>) -> Desired {
    let spec = service.spec.clone().unwrap_or_default();
    let publish = spec.publish_not_ready_addresses == Some(true);
    let mut desired = Desired::new();
    for ipv6 in families(service) {
        for pod in pods.iter().filter(|pod| !pod.is_terminal()) {
            let addresses = service_pods::addresses(pod, ipv6);
            if addresses.is_empty() {
                continue;
            }
            let serving = pod.is_ready();
            let terminating = pod.metadata.deletion_timestamp.is_some();
            let node = (!pod.spec.node_name.is_empty()).then(|| pod.spec.node_name.clone());
            let zone = node.as_deref().and_then(&zone);
            let ready = publish || serving && !terminating;
            desired.entry((ipv6, service_pods::ports(service, pod))).or_default().push(Endpoint {
                // A slice's endpoint is one address: clients that see more use the first only (KEP-752).
                addresses: addresses.into_iter().take(1).collect(),
                conditions: Some(EndpointConditions {
                    ready: Some(ready),
                    serving: Some(serving),
                    terminating: Some(terminating),
                }),
                hints: hints(spec.traffic_distribution.as_deref(), ready, node.as_deref(), zone.as_deref()),
                hostname: service_pods::hostname(service, pod),
                node_name: node,
                zone,
                target_ref: Some(service_pods::reference(pod)),
                deprecated_topology: None,
            });
        }
    }
    desired
}

/// Who should use an endpoint (KEP-4444, KEP-3015).
fn hints(distribution: Option<&str>, ready: bool, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    let hints = match distribution {
        Some("PreferClose" | "PreferSameZone") => EndpointHints { for_zones, for_nodes: None },
        Some("PreferSameNode") => {
            EndpointHints { for_zones, for_nodes: node.map(|node| vec![ForNode { name: node.to_owned() }]) }
        }
        _ => return None,
    };
    (ready && hints != EndpointHints::default()).then_some(hints)
}

fn slice_ports(ports: &[Port]) -> Vec<EndpointPort> {
    ports
        .iter()
        .map(|port| EndpointPort {
            name: Some(port.name.clone()),
            port: Some(port.port),
            protocol: Some(port.protocol.clone()),
            app_protocol: port.app_protocol.clone(),
        })
        .collect()
}

fn port_key(slice: &EndpointSlice) -> Vec<Port> {
    let mut ports: Vec<Port> = slice
        .ports
        .iter()
        .flatten()
        .map(|port| Port {
            name: port.name.clone().unwrap_or_default(),
            port: port.port.unwrap_or(0),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            app_protocol: port.app_protocol.clone(),
        })
        .collect();
    ports.sort();
    ports
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if service_pods::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

fn empty_slice(service: &Service, ipv6: bool, ports: &[Port]) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(pod_template::prefix(service.metadata.name.as_deref().unwrap_or_default())),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![owner::controller_reference::<Service>(&service.metadata)]),
            ..ObjectMeta::default()
        },
        address_type: if ipv6 { "IPv6" } else { "IPv4" }.to_owned(),
        endpoints: Some(Vec::new()),
        ports: Some(slice_ports(ports)),
    }
}

/// Fits the desired endpoints into slices with few writes: an endpoint stays in its slice, new ones fill the slices that
/// are written anyway, then those with room, then new slices.
fn plan(service: &Service, existing: Vec<EndpointSlice>, mut desired: Desired) -> Plan {
    let mut plan = Plan::default();
    for ipv6 in families(service) {
        // A service without endpoints has an empty slice: that there are none is something to know, too.
        if !desired.keys().any(|(family, _)| *family == ipv6) {
            desired.insert((ipv6, Vec::new()), Vec::new());
        }
    }
    let labels = labels(service);
    let mut by_kind: BTreeMap<(bool, Vec<Port>), Vec<EndpointSlice>> = BTreeMap::new();
    for slice in existing {
        let kind = (slice.address_type == "IPv6", port_key(&slice));
        if desired.contains_key(&kind) {
            by_kind.entry(kind).or_default().push(slice);
        } else {
            plan.delete.push(slice);
        }
    }
    for (kind, endpoints) in desired {
        let mut missing: BTreeMap<String, Endpoint> = endpoints.into_iter().map(|e| (identity(&e), e)).collect();
        let mut slices: Vec<(EndpointSlice, bool)> = Vec::new();
        for mut slice in by_kind.remove(&kind).unwrap_or_default() {
            let mut changed = slice.metadata.labels.as_ref() != Some(&labels);
            let old = slice.endpoints.take().unwrap_or_default();
            let mut kept = Vec::with_capacity(old.len());
            for endpoint in old {
                match missing.remove(&identity(&endpoint)) {
                    Some(wanted) => {
                        changed |= wanted != endpoint;
                        kept.push(wanted);
                    }
                    None => changed = true,
                }
            }
            slice.endpoints = Some(kept);
            slices.push((slice, changed));
        }
        let mut missing = missing.into_values().peekable();
        // Slices that are written anyway first, and of those the fullest, so that few slices are touched.
        let room = |slice: &EndpointSlice| MOST.saturating_sub(slice.endpoints.as_ref().map_or(0, Vec::len));
        slices.sort_by_key(|(slice, changed)| (!*changed, room(slice)));
        for (slice, changed) in &mut slices {
            let free = room(slice);
            if free == 0 || missing.peek().is_none() {
                continue;
            }
            slice.endpoints.get_or_insert_default().extend(missing.by_ref().take(free));
            *changed = true;
        }
        while missing.peek().is_some() {
            let mut slice = empty_slice(service, kind.0, &kind.1);
            slice.endpoints = Some(missing.by_ref().take(MOST).collect());
            plan.create.push(slice);
        }
        let any_full = slices.iter().any(|(slice, _)| room(slice) < MOST)
            || plan.create.iter().any(|slice| port_key(slice) == kind.1 && (slice.address_type == "IPv6") == kind.0);
        let mut placeholder = any_full;
        for (mut slice, changed) in slices {
            let is_empty = room(&slice) == MOST;
            if is_empty && placeholder {
                plan.delete.push(slice);
            } else if changed {
                placeholder |= is_empty;
                slice.metadata.labels = Some(labels.clone());
                plan.update.push(slice);
            } else {
                placeholder |= is_empty;
            }
        }
        if !placeholder && plan.create.is_empty() {
            plan.create.push(empty_slice(service, kind.0, &kind.1));
        }
    }
    plan
}

/// What makes an endpoint the same one as before: its address and its pod.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).unwrap_or_default();
    format!("{} {uid}", endpoint.addresses.first().map_or("", String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(more: serde_json::Value) -> Service {
        let mut service = json!({
            "metadata": {"name": "s", "namespace": "n", "uid": "svc", "labels": {"l": "1"}},
            "spec": {"selector": {"a": "b"}, "clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80}]}
        });
        for (key, value) in more.as_object().unwrap() {
            service["spec"][key] = value.clone();
        }
        serde_json::from_value(service).unwrap()
    }

    fn pod(at: usize, ready: bool, deleting: bool) -> view::Pod {
        serde_json::from_value(json!({
            "metadata": {"name": format!("p{at}"), "namespace": "n", "uid": format!("u{at}"),
                "deletionTimestamp": deleting.then_some("2026-01-01T00:00:00Z")},
            "spec": {"nodeName": "n1"},
            "status": {"phase": "Running", "podIP": format!("10.1.{}.{}", at / 250, at % 250 + 1),
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}
        }))
        .unwrap()
    }

    fn zone(_: &str) -> Option<String> {
        Some("z1".to_owned())
    }

    #[test]
    fn conditions_tell_ready_serving_and_terminating_apart() {
        for (publish, ready, deleting, expected) in [
            (false, true, false, [true, true, false]),
            (false, false, false, [false, false, false]),
            (false, true, true, [false, true, true]),
            (true, false, true, [true, false, true]),
        ] {
            let service = service(json!({"publishNotReadyAddresses": publish}));
            let desired = desired(&service, &[pod(1, ready, deleting)], zone);
            let endpoint = &desired.values().next().unwrap()[0];
            let conditions = endpoint.conditions.as_ref().unwrap();
            let flags = [conditions.ready, conditions.serving, conditions.terminating].map(Option::unwrap);
            assert_eq!(flags, expected);
            assert_eq!((endpoint.node_name.as_deref(), endpoint.zone.as_deref()), (Some("n1"), Some("z1")));
        }
    }

    #[test]
    fn traffic_distribution_becomes_hints() {
        let hinted = |distribution: &str, ready| {
            let service = service(json!({"trafficDistribution": distribution}));
            desired(&service, &[pod(1, ready, false)], zone).into_values().next().unwrap().remove(0).hints
        };
        assert_eq!(hinted("PreferClose", true).unwrap().for_zones.unwrap()[0].name, "z1");
        assert_eq!(hinted("PreferSameNode", true).unwrap().for_nodes.unwrap()[0].name, "n1");
        assert_eq!(hinted("PreferSameZone", false), None);
    }

    fn stored(plan: Plan) -> Vec<EndpointSlice> {
        let all = plan.create.into_iter().chain(plan.update).enumerate();
        all.map(|(at, mut slice)| {
            slice.metadata.name.get_or_insert_with(|| format!("s-{at}"));
            slice
        })
        .collect()
    }

    fn sizes(slices: &[EndpointSlice]) -> Vec<usize> {
        slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect()
    }

    #[test]
    fn endpoints_stay_where_they_are_and_slices_hold_at_most_a_hundred() {
        let service = service(json!({}));
        let pods: Vec<_> = (0..250).map(|at| pod(at, true, false)).collect();
        let first = stored(plan(&service, Vec::new(), desired(&service, &pods, zone)));
        assert_eq!(sizes(&first), [100, 100, 50]);
        assert_eq!(first[0].metadata.labels.as_ref().unwrap().len(), 3);
        let unchanged = plan(&service, first.clone(), desired(&service, &pods, zone));
        assert_eq!(unchanged, Plan::default());

        let changed: Vec<_> = (0..250).map(|at| pod(at, at != 7, false)).collect();
        let changed = plan(&service, first.clone(), desired(&service, &changed, zone));
        assert_eq!((changed.create.len(), changed.update.len(), changed.delete.len()), (0, 1, 0));
        let more: Vec<_> = (0..260).map(|at| pod(at, true, false)).collect();
        let more = plan(&service, first.clone(), desired(&service, &more, zone));
        assert_eq!((more.create.len(), sizes(&more.update)), (0, vec![60]));

        let none = plan(&service, first, desired(&service, &[], zone));
        assert_eq!((none.create.len(), none.update.len(), none.delete.len()), (1, 0, 3));
        let empty = stored(Plan { delete: Vec::new(), ..none });
        assert_eq!(plan(&service, empty, desired(&service, &[], zone)), Plan::default());
    }

    #[test]
    fn families_have_slices_of_their_own() {
        let service = service(json!({"ipFamilies": ["IPv4", "IPv6"]}));
        let mut both = pod(1, true, false);
        both.status.pod_ips =
            ["10.1.0.2", "fd00::2"].map(|ip| k8s_openapi::api::core::v1::PodIP { ip: ip.into() }).into();
        let plan = plan(&service, Vec::new(), desired(&service, &[both], zone));
        let types: Vec<_> = plan.create.iter().map(|slice| slice.address_type.as_str()).collect();
        assert_eq!(types, ["IPv4", "IPv6"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_has_the_addresses_of_its_pods_whatever_is_done_to_its_slices() {
        use crate::fake_api::{FakeApi, clock_at, eventually};
        let api = FakeApi::default();
        let context = api.context(crate::Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(crate::controller::run(EndpointSlices::new(&context), context.shutdown.clone()));
        tokio::spawn(crate::controller::run(
            crate::endpoints::EndpointsController::new(&context),
            context.shutdown.clone(),
        ));
        let spec = json!({"selector": {"app": "web"}, "clusterIP": "10.43.0.7", "ports": [{"port": 80, "targetPort": "http"}]});
        api.put::<Service>(json!({"metadata": {"name": "web", "namespace": "n"}, "spec": spec}));
        let pod = |name: &str, app: &str, ip: &str| {
            let containers =
                json!([{"name": "c", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]);
            api.put::<Pod>(json!({"metadata": {"name": name, "namespace": "n", "labels": {"app": app}},
                "spec": {"nodeName": "n1", "containers": containers},
                "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}}));
        };
        pod("a", "web", "10.42.0.1");
        pod("b", "web", "10.42.0.2");
        pod("c", "other", "10.42.0.3");
        let slices = || api.all::<EndpointSlice>();
        let addresses = || -> Vec<String> {
            let mut all: Vec<String> =
                slices().into_iter().flat_map(|s| s.endpoints.unwrap_or_default()).flat_map(|e| e.addresses).collect();
            all.sort();
            all
        };
        let of_endpoints = || -> Vec<String> {
            let subsets = api.get::<k8s_openapi::api::core::v1::Endpoints>("n", "web").and_then(|e| e.subsets);
            subsets.into_iter().flatten().flat_map(|s| s.addresses.unwrap_or_default()).map(|a| a.ip).collect()
        };
        let both = ["10.42.0.1", "10.42.0.2"];
        eventually("both", || addresses() == both && of_endpoints() == both).await;
        assert_eq!(slices()[0].ports.as_ref().unwrap()[0].port, Some(8080));
        let name = slices()[0].metadata.name.clone().unwrap();
        api.remove::<EndpointSlice>("n", &name);
        eventually("both again", || addresses() == both && slices().len() == 1).await;
        api.change::<Pod>("n", "c", json!({"metadata": {"labels": {"app": "web"}}}));
        api.remove::<Pod>("n", "a");
        eventually("the others", || addresses() == ["10.42.0.2", "10.42.0.3"] && of_endpoints() == addresses()).await;
        api.remove::<Service>("n", "web");
        eventually("no endpoints", || api.all::<k8s_openapi::api::core::v1::Endpoints>().is_empty()).await;
        context.shutdown.cancel();
    }
}
