//! What objects take of a quota.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PodSpec, ResourceQuotaSpec, ScopedResourceSelectorRequirement, Service,
};
use serde::Deserialize;
use trireme_schema::Quantity;
use trireme_schema::quantity::Format;

/// Amounts by the name of the resource as a quota names it.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// A pod, as far as quotas go.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Pod {
    #[serde(default)]
    pub(crate) spec: Option<PodSpec>,
    #[serde(default)]
    pub(crate) status: Phase,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Phase {
    #[serde(default)]
    pub(crate) phase: String,
}

/// One of something.
pub(crate) fn one() -> Quantity {
    Quantity::units(1, Format::DecimalSi)
}

/// Adds an amount.
pub(crate) fn add(amounts: &mut Amounts, name: &str, more: Quantity) {
    let entry = amounts.entry(name.to_owned()).or_insert(Quantity::ZERO);
    *entry = entry.plus(more);
}

/// What a pod takes. One that has ended takes no computing resources, but is still an object.
pub(crate) fn of_pod(pod: &Pod) -> Amounts {
    let mut amounts = Amounts::new();
    add(&mut amounts, "count/pods", one());
    let ended = matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
    let Some(spec) = pod.spec.as_ref().filter(|_| !ended) else { return amounts };
    add(&mut amounts, "pods", one());
    for (name, amount) in totals(spec, |resources| resources.requests.as_ref()) {
        match name.as_str() {
            "cpu" | "memory" | "ephemeral-storage" => {
                add(&mut amounts, &name, amount);
                add(&mut amounts, &format!("requests.{name}"), amount);
            }
            _ => add(&mut amounts, &format!("requests.{name}"), amount),
        }
        if name.starts_with("hugepages-") {
            add(&mut amounts, &name, amount);
        }
    }
    for (name, amount) in totals(spec, |resources| resources.limits.as_ref()) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            add(&mut amounts, &format!("limits.{name}"), amount);
        }
    }
    amounts
}

type List = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

/// The amounts of a pod: those of its containers together, or of its init containers at their peak (KEP-753), or what
/// the pod itself names (KEP-2837), and its overhead.
fn totals(spec: &PodSpec, of: impl Fn(&k8s_openapi::api::core::v1::ResourceRequirements) -> Option<&List>) -> Amounts {
    let read = |list: Option<&List>| -> Amounts {
        let parsed = list.into_iter().flatten().filter_map(|(name, text)| Some((name.clone(), text.0.parse().ok()?)));
        parsed.collect()
    };
    let sum = |into: &mut Amounts, more: &Amounts| more.iter().for_each(|(name, amount)| add(into, name, *amount));
    let raise = |into: &mut Amounts, least: &Amounts| {
        for (name, amount) in least {
            let entry = into.entry(name.clone()).or_insert(Quantity::ZERO);
            *entry = (*entry).max(*amount);
        }
    };
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut own = read(container.resources.as_ref().and_then(&of));
        if container.restart_policy.as_deref() == Some("Always") {
            sum(&mut sidecars, &own);
            raise(&mut peak, &sidecars);
        } else {
            sum(&mut own, &sidecars);
            raise(&mut peak, &own);
        }
    }
    let mut total = sidecars;
    for container in &spec.containers {
        sum(&mut total, &read(container.resources.as_ref().and_then(&of)));
    }
    raise(&mut total, &peak);
    total.extend(read(spec.resources.as_ref().and_then(&of)));
    sum(&mut total, &read(spec.overhead.as_ref()));
    total
}

/// What a service takes.
pub(crate) fn of_service(service: &Service) -> Amounts {
    let mut amounts = Amounts::new();
    add(&mut amounts, "count/services", one());
    add(&mut amounts, "services", one());
    let Some(spec) = &service.spec else { return amounts };
    let ports = spec.ports.as_ref().map_or(0, Vec::len);
    let ports = Quantity::units(i64::try_from(ports).unwrap_or(i64::MAX), Format::DecimalSi);
    match spec.type_.as_deref() {
        Some("NodePort") => add(&mut amounts, "services.nodeports", ports),
        Some("LoadBalancer") => {
            add(&mut amounts, "services.loadbalancers", one());
            if spec.allocate_load_balancer_node_ports != Some(false) {
                add(&mut amounts, "services.nodeports", ports);
            }
        }
        _ => {}
    }
    amounts
}

/// What a claim takes, in all and of its class.
pub(crate) fn of_claim(claim: &PersistentVolumeClaim) -> Amounts {
    let mut amounts = Amounts::new();
    add(&mut amounts, "count/persistentvolumeclaims", one());
    add(&mut amounts, "persistentvolumeclaims", one());
    let Some(spec) = &claim.spec else { return amounts };
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let storage = requests.and_then(|requests| requests.get("storage")).and_then(|text| text.0.parse().ok());
    let storage = storage.unwrap_or(Quantity::ZERO);
    add(&mut amounts, "requests.storage", storage);
    if let Some(class) = spec.storage_class_name.as_deref().filter(|class| !class.is_empty()) {
        add(&mut amounts, &format!("{class}.storageclass.storage.k8s.io/requests.storage"), storage);
        add(&mut amounts, &format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one());
    }
    amounts
}

/// Whether a quota counts a pod, by its scopes.
pub(crate) fn in_scope(quota: &ResourceQuotaSpec, pod: &Pod) -> bool {
    let by_name = quota.scopes.iter().flatten().all(|scope| has_scope(scope, pod));
    let expressions = quota.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    by_name && expressions.into_iter().all(|requirement| meets(requirement, pod))
}

fn meets(requirement: &ScopedResourceSelectorRequirement, pod: &Pod) -> bool {
    if requirement.scope_name != "PriorityClass" {
        return (requirement.operator != "DoesNotExist") == has_scope(&requirement.scope_name, pod);
    }
    let class =
        pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref()).filter(|class| !class.is_empty());
    let listed = |class: &str| requirement.values.iter().flatten().any(|value| value == class);
    match requirement.operator.as_str() {
        "In" => class.is_some_and(listed),
        "NotIn" => !class.is_some_and(listed),
        "Exists" => class.is_some(),
        "DoesNotExist" => class.is_none(),
        _ => false,
    }
}

fn has_scope(scope: &str, pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ends = spec.active_deadline_seconds.is_some_and(|seconds| seconds >= 0);
    match scope {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => is_best_effort(spec),
        "NotBestEffort" => !is_best_effort(spec),
        "PriorityClass" => spec.priority_class_name.as_ref().is_some_and(|class| !class.is_empty()),
        "CrossNamespacePodAffinity" => crosses_namespaces(spec),
        _ => false,
    }
}

fn is_best_effort(spec: &PodSpec) -> bool {
    let asks = |list: Option<&List>| list.into_iter().flatten().any(|(name, _)| name == "cpu" || name == "memory");
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| c.resources.as_ref());
    !all.chain([spec.resources.as_ref()])
        .flatten()
        .any(|resources| asks(resources.requests.as_ref()) || asks(resources.limits.as_ref()))
}

fn crosses_namespaces(spec: &PodSpec) -> bool {
    let Some(affinity) = &spec.affinity else { return false };
    let (pods, anti) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
    let required = pods.iter().flat_map(|a| a.required_during_scheduling_ignored_during_execution.iter().flatten());
    let preferred = pods.iter().flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    let anti_required =
        anti.iter().flat_map(|a| a.required_during_scheduling_ignored_during_execution.iter().flatten());
    let anti_preferred =
        anti.iter().flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    let weighted = preferred.chain(anti_preferred).map(|weighted| &weighted.pod_affinity_term);
    let mut terms = required.chain(anti_required).chain(weighted);
    terms.any(|term| term.namespaces.as_ref().is_some_and(|list| !list.is_empty()) || term.namespace_selector.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value, phase: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec, "status": {"phase": phase}})).unwrap()
    }

    fn text(amounts: &Amounts) -> Vec<String> {
        amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    #[test]
    fn a_pod_takes_what_its_containers_ask_for() {
        let spec = json!({
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1"}}},
                {"name": "b", "resources": {"requests": {"cpu": "250m", "x.io/gpu": "1"}}}],
            "initContainers": [{"name": "i", "resources": {"requests": {"memory": "2Gi"}}}]
        });
        let expected = [
            "count/pods=1",
            "cpu=750m",
            "limits.cpu=1",
            "memory=2Gi",
            "pods=1",
            "requests.cpu=750m",
            "requests.memory=2Gi",
            "requests.x.io/gpu=1",
        ];
        assert_eq!(text(&of_pod(&pod(spec.clone(), "Running"))), expected);
        assert_eq!(text(&of_pod(&pod(spec, "Succeeded"))), ["count/pods=1"]);
    }

    #[test]
    fn services_and_claims_take_ports_and_storage() {
        let service: Service = serde_json::from_value(
            json!({"metadata": {}, "spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}}),
        )
        .unwrap();
        assert_eq!(text(&of_service(&service)), ["count/services=1", "services=1", "services.nodeports=2"]);
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({"metadata": {}, "spec": {
            "storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}}))
        .unwrap();
        assert!(text(&of_claim(&claim)).contains(&"gold.storageclass.storage.k8s.io/requests.storage=1Gi".to_owned()));
    }

    #[test]
    fn scopes_choose_pods() {
        let plain = pod(json!({"containers": []}), "Running");
        let bounded = pod(
            json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}],
            "activeDeadlineSeconds": 5, "priorityClassName": "high"}),
            "Running",
        );
        for (quota, for_plain, for_bounded) in [
            (json!({}), true, true),
            (json!({"scopes": ["BestEffort"]}), true, false),
            (json!({"scopes": ["Terminating", "NotBestEffort"]}), false, true),
            (json!({"scopes": ["NotTerminating"]}), true, false),
            (
                json!({"scopeSelector": {"matchExpressions": [
                    {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}),
                false,
                true,
            ),
        ] {
            let parsed: ResourceQuotaSpec = serde_json::from_value(quota.clone()).unwrap();
            assert_eq!((in_scope(&parsed, &plain), in_scope(&parsed, &bounded)), (for_plain, for_bounded), "{quota}");
        }
    }
}
