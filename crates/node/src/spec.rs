//! Reading a pod's specification.

use trireme_client::ObjectRef;
use trireme_schema::{Quantity, Value};

/// The lists of a pod's containers, with the field of the status that tells of each.
pub(crate) const LISTS: [(&str, &str); 3] = [
    ("initContainers", "initContainerStatuses"),
    ("containers", "containerStatuses"),
    ("ephemeralContainers", "ephemeralContainerStatuses"),
];

/// A container of a pod by its name.
pub(crate) fn container<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    LISTS.into_iter().flat_map(|(list, _)| pod.list_at(&["spec", list])).find(|c| c.str_at(&["name"]) == name)
}

/// The path of a container's field, as events name it.
pub(crate) fn field_path(pod: &Value, name: &str) -> String {
    let here = |list: &str| pod.list_at(&["spec", list]).iter().any(|c| c.str_at(&["name"]) == name);
    let list = LISTS.into_iter().map(|(list, _)| list).find(|list| here(list)).unwrap_or("containers");
    format!("spec.{list}{{{name}}}")
}

/// A status of a container by its name.
pub(crate) fn status<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    LISTS.into_iter().flat_map(|(_, list)| pod.list_at(&["status", list])).find(|c| c.str_at(&["name"]) == name)
}

/// Whether an init container goes on beside the main ones.
pub fn is_sidecar(pod: &Value, name: &str) -> bool {
    let init = pod.list_at(&["spec", "initContainers"]).iter().find(|c| c.str_at(&["name"]) == name);
    init.is_some_and(|c| c.str_at(&["restartPolicy"]) == "Always")
}

/// Whether a container that ended with a code is to be started again: by its own rules, its own policy, or the pod's.
pub fn restarts(pod: &Value, container: &Value, code: i32) -> bool {
    let code = i64::from(code);
    for rule in container.list_at(&["restartPolicyRules"]) {
        let listed = rule.list_at(&["exitCodes", "values"]).iter().any(|v| v.as_int() == Some(code));
        let matched = match rule.str_at(&["exitCodes", "operator"]) {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        if matched {
            return rule.str_at(&["action"]).starts_with("Restart");
        }
    }
    let policy = match container.str_at(&["restartPolicy"]) {
        "" => pod.str_at(&["spec", "restartPolicy"]),
        own => own,
    };
    match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

/// Seconds that a pod's programs are given to end.
pub(crate) fn grace(pod: &Value) -> i64 {
    pod.int_at(&["spec", "terminationGracePeriodSeconds"]).unwrap_or(30)
}

/// Whether the pod has ended for good, as its status says.
pub(crate) fn is_over(pod: &Value) -> bool {
    matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed")
}

/// An amount that a text tells.
pub(crate) fn quantity(value: Option<&Value>) -> Option<Quantity> {
    match value? {
        Value::String(text) => text.parse().ok(),
        Value::Int(n) => n.to_string().parse().ok(),
        _ => None,
    }
}

/// What a pod asks for of a resource, or is limited to: the larger of what its main containers with their sidecars, and
/// each init container, take (KEP-753), or what is said of the pod as a whole (KEP-2837), and its overhead.
pub(crate) fn total(pod: &Value, of: &str, resource: &str) -> Option<Quantity> {
    let amount = |c: &Value| {
        let asked = quantity(c.at(&["resources", of, resource]));
        if of == "requests" { asked.or_else(|| quantity(c.at(&["resources", "limits", resource]))) } else { asked }
    };
    let sum = |a: Option<Quantity>, b: Option<Quantity>| match (a, b) {
        (Some(a), Some(b)) => Some(a.plus(b)),
        (a, b) => a.or(b),
    };
    let mut whole = pod.list_at(&["spec", "containers"]).iter().map(amount).fold(None, sum);
    let (mut sidecars, mut most) = (None, None);
    for container in pod.list_at(&["spec", "initContainers"]) {
        let own = amount(container);
        let beside = sum(sidecars, own);
        if container.str_at(&["restartPolicy"]) == "Always" {
            sidecars = beside;
        }
        most = most.max(beside);
    }
    whole = sum(whole, sidecars).max(most);
    if let Some(said) = quantity(pod.at(&["spec", "resources", of, resource])) {
        whole = Some(said);
    }
    match quantity(pod.at(&["spec", "overhead", resource])) {
        Some(overhead) if of == "requests" || whole.is_some() => sum(whole, Some(overhead)),
        _ => whole,
    }
}

/// A pod as events name it.
pub(crate) fn reference(pod: &Value) -> ObjectRef {
    let meta = |name| pod.str_at(&["metadata", name]).to_owned();
    ObjectRef {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: meta("namespace"),
        name: meta("name"),
        uid: meta("uid"),
        resource_version: meta("resourceVersion"),
        field_path: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn rules_of_a_container_come_before_its_policy_and_that_before_the_pods() {
        let pod = json::parse(br#"{"spec":{"restartPolicy":"Never"}}"#).unwrap();
        let rules = r#"{"restartPolicy":"Never","restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[42]}}]}"#;
        for (container, code, want) in [
            ("{}", 1, false),
            (r#"{"restartPolicy":"OnFailure"}"#, 1, true),
            (r#"{"restartPolicy":"OnFailure"}"#, 0, false),
            (rules, 42, true),
            (rules, 1, false),
        ] {
            let container = json::parse(container.as_bytes()).unwrap();
            assert_eq!(restarts(&pod, &container, code), want, "{code}");
        }
    }

    #[test]
    fn a_pod_takes_the_most_that_it_takes_at_a_time() {
        let text = br#"{"spec":{
            "initContainers":[{"resources":{"requests":{"cpu":"3"}}},
                {"restartPolicy":"Always","resources":{"requests":{"cpu":"1"}}}],
            "containers":[{"resources":{"requests":{"cpu":"500m"}}},{"resources":{"limits":{"cpu":"1"}}}],
            "overhead":{"cpu":"100m"}}}"#;
        let pod = json::parse(text).unwrap();
        assert_eq!(total(&pod, "requests", "cpu").unwrap().milli_value(), 3100);
        assert_eq!(total(&pod, "limits", "memory"), None);
    }
}
