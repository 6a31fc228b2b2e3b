//! What an object takes.

use crate::amounts::{Amounts, add, number, read, sum};
use crate::pod::{Side, of_container, totals};
use std::collections::BTreeMap;
use trireme_schema::{Quantity, Value};

/// Resources of the core group that a quota may count by their bare name.
const BARE: [&str; 7] =
    ["pods", "services", "secrets", "configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas"];

/// The name under which objects of a resource are counted.
fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

/// Whether a quota counts objects of a resource by a name.
pub fn is_countable(group: &str, plural: &str, name: &str) -> bool {
    name == count_name(group, plural) || (group.is_empty() && name == plural && BARE.contains(&plural))
}

/// What an object of a resource takes.
pub fn usage(group: &str, plural: &str, object: &Value) -> Amounts {
    let mut amounts = Amounts::new();
    add(&mut amounts, &count_name(group, plural), number(1));
    if !group.is_empty() {
        return amounts;
    }
    if plural == "pods" {
        of_pod(object, &mut amounts);
        return amounts;
    }
    if BARE.contains(&plural) {
        add(&mut amounts, plural, number(1));
    }
    match plural {
        "services" => of_service(object, &mut amounts),
        "persistentvolumeclaims" => of_claim(object, &mut amounts),
        _ => {}
    }
    amounts
}

/// One that has ended takes no computing resources, but is still an object.
fn of_pod(pod: &Value, amounts: &mut Amounts) {
    let ended = matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed");
    let Some(spec) = pod.at(&["spec"]).filter(|_| !ended) else { return };
    add(amounts, "pods", number(1));
    sum(amounts, &computing(&totals(spec, Side::Requests), &totals(spec, Side::Limits)));
}

/// Computing resources, by the names that quotas have for them.
fn computing(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut amounts = Amounts::new();
    for (name, amount) in requests {
        add(&mut amounts, &format!("requests.{name}"), *amount);
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            add(&mut amounts, name, *amount);
        }
    }
    for (name, amount) in limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            add(&mut amounts, &format!("limits.{name}"), *amount);
        }
    }
    amounts
}

fn of_service(service: &Value, amounts: &mut Amounts) {
    let ports = service.list_at(&["spec", "ports"]);
    match service.str_at(&["spec", "type"]) {
        "NodePort" => add(amounts, "services.nodeports", number(ports.len())),
        "LoadBalancer" => {
            add(amounts, "services.loadbalancers", number(1));
            let allocates =
                service.at(&["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool) != Some(false);
            let taken = |port: &&Value| allocates || port.int_at(&["nodePort"]).is_some_and(|p| p != 0);
            add(amounts, "services.nodeports", number(ports.iter().filter(taken).count()));
        }
        _ => {}
    }
}

fn of_claim(claim: &Value, amounts: &mut Amounts) {
    // What is being enlarged counts as large as it will be.
    let asked = read(claim.at(&["spec", "resources", "requests"])).remove("storage");
    let given = read(claim.at(&["status", "allocatedResources"])).remove("storage");
    let storage = asked.max(given).unwrap_or(Quantity::ZERO);
    add(amounts, "requests.storage", storage);
    let class = match claim.str_at(&["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]) {
        "" => claim.str_at(&["spec", "storageClassName"]),
        of_old => of_old,
    };
    if !class.is_empty() {
        add(amounts, &format!("{class}.storageclass.storage.k8s.io/requests.storage"), storage);
        add(amounts, &format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), number(1));
    }
}

/// The computing resources among `names` that containers of a pod do not speak of, with these containers: where a
/// quota bounds them, each container must. A pod that speaks for all of them need not.
pub fn unnamed(pod: &Value, names: &[&str]) -> BTreeMap<String, Vec<String>> {
    const BOUNDED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let by_pod = [Side::Requests, Side::Limits]
        .iter()
        .any(|s| pod.at(&["spec"]).is_some_and(|p| !of_container(p, *s).is_empty()));
    if by_pod {
        return missing;
    }
    for container in ["containers", "initContainers"].into_iter().flat_map(|list| pod.list_at(&["spec", list])) {
        let said = computing(&of_container(container, Side::Requests), &of_container(container, Side::Limits));
        for name in names.iter().filter(|n| BOUNDED.contains(*n) && !said.contains_key(**n)) {
            missing.entry((*name).to_owned()).or_default().push(container.str_at(&["name"]).to_owned());
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretty;
    use trireme_schema::json;

    fn of(plural: &str, text: &str) -> String {
        pretty(&usage("", plural, &json::parse(text.as_bytes()).unwrap()))
    }

    #[test]
    fn a_pod_takes_what_its_containers_ask_for() {
        let spec = r#"{"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1"}}},
            {"name": "b", "resources": {"requests": {"cpu": "250m", "x.io/gpu": "1"}}}],
            "initContainers": [{"name": "i", "resources": {"requests": {"memory": "2Gi"}}}]}"#;
        let expected = "count/pods=1,cpu=750m,limits.cpu=1,memory=2Gi,pods=1,requests.cpu=750m,requests.memory=2Gi,\
                        requests.x.io/gpu=1";
        assert_eq!(of("pods", &format!(r#"{{"spec": {spec}}}"#)), expected);
        assert_eq!(of("pods", &format!(r#"{{"spec": {spec}, "status": {{"phase": "Failed"}}}}"#)), "count/pods=1");
    }

    #[test]
    fn services_and_claims_take_ports_and_storage() {
        let ports = of("services", r#"{"spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}}"#);
        assert_eq!(ports, "count/services=1,services=1,services.nodeports=2");
        let claim = r#"{"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}}"#;
        assert!(of("persistentvolumeclaims", claim).contains("gold.storageclass.storage.k8s.io/requests.storage=1Gi"));
        assert_eq!(pretty(&usage("apps", "deployments", &Value::object())), "count/deployments.apps=1");
    }

    #[test]
    fn containers_speak_of_what_a_quota_bounds() {
        let pod = json::parse(
            br#"{"spec": {"containers": [{"name": "a"},
            {"name": "b", "resources": {"requests": {"cpu": "1"}}}]}}"#,
        )
        .unwrap();
        let missing = unnamed(&pod, &["requests.cpu", "limits.memory", "pods"]);
        assert_eq!(missing["requests.cpu"], ["a"]);
        assert_eq!(missing["limits.memory"], ["a", "b"]);
        assert_eq!(missing.len(), 2);
    }
}
