//! Pods that wrote more to the node's disk than they may.

use super::usage::Usage;
use crate::spec::{quantity, total};
use trireme_schema::{Quantity, Value};

/// What limits storage.
const STORAGE: &str = "ephemeral-storage";

/// The volumes of a pod that lie on the node's disk.
pub(super) fn on_disk(pod: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let empty = |v: &'_ Value| v.get("emptyDir").is_some_and(|e| e.str_at(&["medium"]).is_empty());
    let volumes = pod.list_at(&["spec", "volumes"]).iter().filter(move |v| empty(v));
    volumes.filter_map(|v| Some((v.str_at(&["name"]), v.get("emptyDir")?)))
}

/// Whether anything of a pod is limited, so that its use must be known.
pub(super) fn has_any(pod: &Value) -> bool {
    on_disk(pod).any(|(_, dir)| dir.get("sizeLimit").is_some()) || total(pod, "limits", STORAGE).is_some()
}

/// Why a pod is to go, in upstream's words, if it wrote too much.
pub(super) fn exceeded(pod: &Value, usage: &Usage) -> Option<String> {
    let more = |used: u64, limit: Quantity| i64::try_from(used).unwrap_or(i64::MAX) > limit.value();
    for (name, dir) in on_disk(pod) {
        let Some(limit) = quantity(dir.get("sizeLimit")).filter(|limit| !limit.is_zero()) else { continue };
        if usage.volumes.get(name).is_some_and(|used| more(*used, limit)) {
            return Some(format!("Usage of EmptyDir volume {name:?} exceeds the limit \"{limit}\". "));
        }
    }
    if let Some(limit) = total(pod, "limits", STORAGE)
        && more(usage.disk(), limit)
    {
        return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "));
    }
    for container in pod.list_at(&["spec", "containers"]) {
        let name = container.str_at(&["name"]);
        let limit = quantity(container.at(&["resources", "limits", STORAGE]));
        if let (Some(limit), Some(used)) = (limit, usage.of_container(name, STORAGE))
            && more(used, limit)
        {
            return Some(format!("Container {name} exceeded its local ephemeral storage limit \"{limit}\". "));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::usage::Own;
    use super::*;
    use std::collections::BTreeMap;
    use trireme_schema::json;

    #[test]
    fn volumes_containers_and_the_pod_have_their_limits() {
        let pod = |text: &str| json::parse(format!(r#"{{"spec":{text}}}"#).as_bytes()).unwrap();
        let volume = pod(r#"{"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Mi"}}],"containers":[{"name":"c"}]}"#);
        let limited = pod(r#"{"containers":[{"name":"c","resources":{"limits":{"ephemeral-storage":"1Mi"}}},
                {"name":"d","resources":{"limits":{"ephemeral-storage":"5Mi"}}}]}"#);
        let usage = |volume: u64, container: u64| Usage {
            volumes: BTreeMap::from([("v".to_owned(), volume)]),
            containers: BTreeMap::from([("c".to_owned(), Own { memory: 0, disk: container })]),
            ..Usage::default()
        };
        const MIB: u64 = 1 << 20;
        for (pod, usage, wanted) in [
            (&volume, usage(MIB, 0), None),
            (&volume, usage(MIB + 1, 0), Some("Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ")),
            (&limited, usage(0, MIB), None),
            (&limited, usage(0, 2 * MIB), Some("Container c exceeded its local ephemeral storage limit \"1Mi\". ")),
            (
                &limited,
                usage(6 * MIB, MIB),
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 6Mi. "),
            ),
        ] {
            assert_eq!(exceeded(pod, &usage).as_deref(), wanted, "{usage:?}");
        }
        assert!(has_any(&volume) && has_any(&limited));
        assert!(!has_any(&pod(r#"{"volumes":[{"name":"v","emptyDir":{}}],"containers":[{"name":"c"}]}"#)));
    }
}
