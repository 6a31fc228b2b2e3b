//! What a failed pod means to its job (KEP-3329).

use k8s_openapi::api::batch::v1::{PodFailurePolicy, PodFailurePolicyRule};

use crate::view::Pod;

/// What is done about a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It counts towards the limits.
    Count,
    /// It does not count.
    Ignore,
    /// Its index fails.
    FailIndex,
    /// The whole job fails, for this reason.
    FailJob(String),
}

/// Finds the first rule that fits a failed pod.
pub(crate) fn action(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Action {
    let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
    for (at, rule) in rules.iter().enumerate() {
        let Some(why) = fits(rule, pod) else { continue };
        return match rule.action.as_str() {
            "FailJob" => Action::FailJob(format!("{why} matching FailJob rule at index {at}")),
            "Ignore" => Action::Ignore,
            "FailIndex" => Action::FailIndex,
            _ => Action::Count,
        };
    }
    Action::Count
}

/// Why a rule fits a pod, if it does.
fn fits(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let name = format!("{}/{}", pod.metadata.namespace, pod.metadata.name);
    if let Some(codes) = &rule.on_exit_codes {
        let containers = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
        return containers
            .filter(|status| codes.container_name.as_ref().is_none_or(|wanted| *wanted == status.name))
            .find_map(|status| {
                let code = status.state.as_ref()?.terminated.as_ref()?.exit_code;
                let listed = codes.values.contains(&code);
                // Exit code 0 is no failure, whatever the operator.
                let fits = code != 0 && (codes.operator == "In") == listed;
                let container = &status.name;
                fits.then(|| format!("Container {container} for pod {name} failed with exit code {code}"))
            });
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    patterns.into_iter().find_map(|pattern| {
        let condition = pod.condition(&pattern.type_)?;
        let wanted = pattern.status.as_deref().unwrap_or("True");
        (condition.status == wanted).then(|| format!("Pod {name} has condition {}", pattern.type_))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_fitting_rule_decides() {
        let policy: PodFailurePolicy = serde_json::from_value(json!({"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42], "containerName": "main"}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1, 2]}},
        ]}))
        .unwrap();
        let pod = |container: &str, code: i32, conditions: serde_json::Value| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "n"},
                "status": {"phase": "Failed", "conditions": conditions, "containerStatuses": [{
                    "name": container, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": code}}}]}
            }))
            .unwrap()
        };
        let disrupted = json!([{"type": "DisruptionTarget", "status": "True"}]);
        for (pod, expected) in [
            (pod("main", 42, disrupted), Action::Ignore),
            (
                pod("main", 42, json!([])),
                Action::FailJob(
                    "Container main for pod n/p failed with exit code 42 matching FailJob rule at index 1".into(),
                ),
            ),
            (pod("side", 42, json!([])), Action::FailIndex),
            (pod("main", 1, json!([])), Action::Count),
            (pod("main", 0, json!([])), Action::Count),
        ] {
            assert_eq!(action(Some(&policy), &pod), expected);
        }
    }
}
