//! The scopes of quotas: which objects a quota counts.

use trireme_schema::Value;

/// Whether a quota's scopes (in its spec) include an object of a resource.
pub fn counts(spec: &Value, plural: &str, object: &Value) -> bool {
    let by_name = spec.list_at(&["scopes"]).iter().filter_map(Value::as_str);
    let expressions = spec.list_at(&["scopeSelector", "matchExpressions"]);
    by_name.into_iter().all(|scope| meets(scope, "Exists", &[], plural, object))
        && expressions
            .iter()
            .all(|e| meets(e.str_at(&["scopeName"]), e.str_at(&["operator"]), e.list_at(&["values"]), plural, object))
}

/// Which of some scopes (`scopeName`, `operator`, `values`) an object is in.
pub fn matching<'a>(scopes: &'a [Value], plural: &str, object: &Value) -> Vec<&'a Value> {
    let matches =
        |e: &&Value| meets(e.str_at(&["scopeName"]), e.str_at(&["operator"]), e.list_at(&["values"]), plural, object);
    scopes.iter().filter(matches).collect()
}

/// The names of the scopes of a quota's `spec` that an object is in.
pub fn scopes_of<'a>(spec: &'a Value, plural: &str, object: &Value) -> Vec<&'a str> {
    let by_name = spec.list_at(&["scopes"]).iter().filter_map(Value::as_str);
    let by_name = by_name.filter(|scope| meets(scope, "Exists", &[], plural, object));
    let selected = matching(spec.list_at(&["scopeSelector", "matchExpressions"]), plural, object);
    by_name.chain(selected.into_iter().map(|e| e.str_at(&["scopeName"]))).collect()
}

fn meets(scope: &str, operator: &str, values: &[Value], plural: &str, object: &Value) -> bool {
    // A class by name is matched as a label would be; the other scopes hold or do not.
    let class = match (plural, scope) {
        ("pods", "PriorityClass") => object.str_at(&["spec", "priorityClassName"]),
        ("persistentvolumeclaims", "VolumeAttributesClass") => object.str_at(&["spec", "volumeAttributesClassName"]),
        ("pods", _) => return has(scope, object) == (operator != "DoesNotExist"),
        _ => return false,
    };
    let listed = values.iter().any(|v| v.as_str() == Some(class));
    match operator {
        "In" => !class.is_empty() && listed,
        "NotIn" => !listed,
        "DoesNotExist" => class.is_empty(),
        _ => !class.is_empty(),
    }
}

fn has(scope: &str, pod: &Value) -> bool {
    let ends = pod.int_at(&["spec", "activeDeadlineSeconds"]).is_some_and(|seconds| seconds >= 0);
    match scope {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn is_best_effort(pod: &Value) -> bool {
    let asks = |container: &Value| {
        ["requests", "limits"].into_iter().any(|side| {
            let amounts = crate::read(container.at(&["resources", side]));
            amounts.iter().any(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && !amount.is_zero())
        })
    };
    let lists = ["containers", "initContainers"];
    !lists.into_iter().flat_map(|list| pod.list_at(&["spec", list])).any(asks) && !pod.at(&["spec"]).is_some_and(asks)
}

fn crosses_namespaces(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let terms = |when: &str| pod.list_at(&["spec", "affinity", kind, when]);
        let required = terms("requiredDuringSchedulingIgnoredDuringExecution").iter();
        let preferred =
            terms("preferredDuringSchedulingIgnoredDuringExecution").iter().filter_map(|w| w.get("podAffinityTerm"));
        required
            .chain(preferred)
            .any(|t| !t.list_at(&["namespaces"]).is_empty() || t.get("namespaceSelector").is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn scopes_choose_pods() {
        let plain = json::parse(br#"{"spec": {"containers": []}}"#).unwrap();
        let bounded = json::parse(
            br#"{"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}],
            "activeDeadlineSeconds": 5, "priorityClassName": "high"}}"#,
        )
        .unwrap();
        for (spec, for_plain, for_bounded) in [
            (r#"{}"#, true, true),
            (r#"{"scopes": ["BestEffort"]}"#, true, false),
            (r#"{"scopes": ["Terminating", "NotBestEffort"]}"#, false, true),
            (r#"{"scopes": ["NotTerminating"]}"#, true, false),
            (
                r#"{"scopeSelector": {"matchExpressions": [
                    {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}"#,
                false,
                true,
            ),
            (
                r#"{"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}}"#,
                true,
                false,
            ),
        ] {
            let parsed = json::parse(spec.as_bytes()).unwrap();
            let found = (counts(&parsed, "pods", &plain), counts(&parsed, "pods", &bounded));
            assert_eq!(found, (for_plain, for_bounded), "{spec}");
        }
        let scoped = json::parse(br#"{"scopes": ["BestEffort"]}"#).unwrap();
        assert!(!counts(&scoped, "services", &plain));
    }
}
