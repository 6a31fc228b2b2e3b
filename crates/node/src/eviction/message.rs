//! Why a pod was evicted, in upstream's words.

use super::thresholds::Met;
use super::usage::Usage;
use crate::spec::{LISTS, quantity};
use trireme_schema::quantity::Format;
use trireme_schema::{Quantity, Value};

fn bytes(amount: u64) -> Quantity {
    Quantity::units(i64::try_from(amount).unwrap_or(i64::MAX), Format::BinarySi)
}

/// Why a pod goes so that a node gets something back.
pub(super) fn evicted(pod: &Value, met: &Met, usage: Option<&Usage>) -> String {
    let resource = met.signal.resource();
    let mut out = format!("The node was low on resource: {resource}. ");
    out += &format!("Threshold quantity: {}, available: {}. ", bytes(met.least), available(met));
    let containers = LISTS.iter().flat_map(|(list, _)| pod.list_at(&["spec", list]));
    for container in containers {
        let name = container.str_at(&["name"]);
        let asked = quantity(container.at(&["resources", "requests", resource])).unwrap_or(Quantity::ZERO);
        let used = usage.and_then(|u| u.of_container(name, resource)).map(bytes);
        if let Some(used) = used.filter(|used| *used > asked) {
            out += &format!(
                "Container {name} was using {used}, request is {asked}, has larger consumption of {resource}. "
            );
        }
    }
    out
}

/// Memory and disks are told in kibibytes, as upstream has them from its own measuring.
fn available(met: &Met) -> String {
    match met.signal.resource() {
        "memory" | "ephemeral-storage" => format!("{}Ki", met.available / 1024),
        _ => met.available.to_string(),
    }
}

/// Why a pod is not taken.
pub(crate) fn not_taken(conditions: &[&str]) -> String {
    format!("Pod was rejected: The node had condition: [{}]. ", conditions.join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::thresholds::Signal;
    use super::super::usage::Own;
    use super::*;
    use std::collections::BTreeMap;
    use trireme_schema::json;

    #[test]
    fn containers_that_used_more_than_was_asked_for_are_named() {
        let pod = json::parse(
            br#"{"spec":{"containers":[{"name":"a","resources":{"requests":{"memory":"100Mi"}}},{"name":"b"},
                {"name":"c","resources":{"requests":{"memory":"1Gi"}}}]}}"#,
        )
        .unwrap();
        let containers = [("a", 150_u64 << 20), ("b", 4096), ("c", 1 << 20)];
        let usage = Usage {
            containers: BTreeMap::from(containers.map(|(n, memory)| (n.to_owned(), Own { memory, disk: 0 }))),
            ..Usage::default()
        };
        let met = Met { signal: Signal::Memory, least: 100 << 20, available: 50 << 20 };
        assert_eq!(
            evicted(&pod, &met, Some(&usage)),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51200Ki. Container a was using \
             150Mi, request is 100Mi, has larger consumption of memory. Container b was using 4Ki, request is 0, has \
             larger consumption of memory. "
        );
    }
}
