//! Taints and tolerations (core/v1 Taint, Toleration).

use k8s_openapi::api::core::v1::{Taint, Toleration};

pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub(crate) const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
pub(crate) const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
pub(crate) const PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
pub(crate) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub(crate) const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";
pub(crate) const NO_EXECUTE: &str = "NoExecute";
pub(crate) const NO_SCHEDULE: &str = "NoSchedule";

/// Whether a toleration tolerates a taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let own = |text: &Option<String>| text.clone().unwrap_or_default();
    let (effect, key, value) = (own(&toleration.effect), own(&toleration.key), own(&toleration.value));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    let tainted = taint.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => !key.is_empty() && value == tainted,
        "Exists" => true,
        // KEP-5471: the taint's value compared with the toleration's as numbers.
        operator @ ("Lt" | "Gt") => match (tainted.parse::<i64>(), value.parse::<i64>()) {
            (Ok(taint), Ok(bound)) => (operator == "Lt") == (taint < bound) && taint != bound,
            _ => false,
        },
        _ => false,
    }
}

/// A taint without a value.
pub(crate) fn taint(key: &str, effect: &str) -> Taint {
    Taint { key: key.to_owned(), effect: effect.to_owned(), value: None, time_added: None }
}

/// Whether two taints stand for the same thing: the key and the effect are what counts.
pub(crate) fn same(a: &Taint, b: &Taint) -> bool {
    a.key == b.key && a.effect == b.effect
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tolerations_match_as_the_api_says() {
        let taint = Taint { value: Some("5".into()), ..taint("k", NO_EXECUTE) };
        for (toleration, expected) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "value": "5"}), true),
            (json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), true),
            (json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), false),
            (json!({"key": "k", "value": "6"}), false),
            (json!({"key": "k", "operator": "Lt", "value": "6"}), true),
            (json!({"key": "k", "operator": "Gt", "value": "6"}), false),
            (json!({"key": "k", "operator": "Gt", "value": "5"}), false),
        ] {
            let parsed = serde_json::from_value(toleration.clone()).unwrap();
            assert_eq!(tolerates(&parsed, &taint), expected, "{toleration}");
        }
    }
}
