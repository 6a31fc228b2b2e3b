//! Which pod goes first.

use super::usage::Usage;
use crate::spec;
use std::cmp::Reverse;
use std::sync::Arc;
use trireme_schema::Value;

/// From here on a pod's priority is the system's: such pods are not evicted.
const SYSTEM: i64 = 2_000_000_000;

/// A pod with what it uses; nothing, where the runtime does not tell.
pub(super) type Candidate = (Arc<Value>, Option<Usage>);

/// Whether a pod is one that the cluster cannot do without.
pub(crate) fn is_critical(pod: &Value) -> bool {
    pod.int_at(&["spec", "priority"]).is_some_and(|p| p >= SYSTEM)
}

/// Those that may be evicted to get something back, the first to go before the others: of whose use nothing is known; who
/// uses more than was asked for; of lower priority; who uses most beyond what was asked for (upstream's order).
pub(super) fn rank<'a>(resource: &str, pods: &'a [Candidate]) -> Vec<&'a Candidate> {
    let mut ranked: Vec<&Candidate> = pods.iter().filter(|(pod, _)| !is_critical(pod)).collect();
    ranked.sort_by_key(|(pod, usage)| {
        let asked = spec::total(pod, "requests", resource).map_or(0, |q| q.value());
        let beyond = usage.as_ref().map(|u| i64::try_from(u.of(resource)).unwrap_or(i64::MAX).saturating_sub(asked));
        let priority = pod.int_at(&["spec", "priority"]).unwrap_or_default();
        (beyond.is_some(), Reverse(beyond.is_some_and(|b| b > 0)), priority, Reverse(beyond))
    });
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    fn pod(name: &str, priority: i64, request: &str, used: Option<u64>) -> Candidate {
        let text = format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"priority":{priority},
                "containers":[{{"name":"c","resources":{{"requests":{{"memory":"{request}"}}}}}}]}}}}"#
        );
        let usage = used.map(|memory| Usage { memory, ..Usage::default() });
        (Arc::new(json::parse(text.as_bytes()).unwrap()), usage)
    }

    #[test]
    fn who_uses_most_beyond_what_was_asked_for_goes_first_and_critical_pods_never_do() {
        let pods = [
            pod("within", 0, "1000", Some(900)),
            pod("beyond, important", 9, "0", Some(5000)),
            pod("beyond, little", 0, "100", Some(200)),
            pod("beyond, much", 0, "1000", Some(3000)),
            pod("critical", SYSTEM, "0", Some(9000)),
            pod("unknown", 9, "0", None),
            pod("within, less", 0, "1000", Some(100)),
        ];
        let names: Vec<&str> = rank("memory", &pods).iter().map(|(p, _)| p.str_at(&["metadata", "name"])).collect();
        let wanted = ["unknown", "beyond, much", "beyond, little", "beyond, important", "within", "within, less"];
        assert_eq!(names, wanted);
    }
}
