//! Node selectors and node affinity.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use crate::{Cluster, Hint, NodeInfo, Plugin, PodInfo, Rejection, Scores};

/// A pod goes where its node selector and its required affinity allow, and rather where its preferences lie.
pub struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn concerns(&self, pod: &PodInfo, _cluster: &Cluster) -> bool {
        let asks =
            |wishes: &crate::pod::Wishes| !wishes.node_selector.is_empty() || wishes.affinity.node_affinity.is_some();
        pod.wishes.as_deref().is_some_and(asks)
    }

    fn only_nodes(&self, pod: &PodInfo) -> Option<Vec<String>> {
        let affinity = pod.wishes.as_ref()?.affinity.node_affinity.as_ref()?;
        let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
        // Terms are alternatives, so that every one of them must name its nodes; daemon pods have one that does.
        let mut names: Vec<String> = Vec::new();
        for term in terms {
            let named = term
                .match_fields
                .iter()
                .flatten()
                .find(|field| field.key == "metadata.name" && field.operator == "In")?;
            names.extend(named.values.iter().flatten().cloned());
        }
        names.sort();
        names.dedup();
        (!terms.is_empty()).then_some(names)
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, _cluster: &Cluster) -> Result<(), Rejection> {
        if pod.selects(node) {
            return Ok(());
        }
        Err(Rejection::of("node(s) didn't match Pod's node affinity/selector"))
    }

    fn score(&self, pod: &PodInfo, nodes: &[&NodeInfo], _cluster: &Cluster) -> Option<Scores> {
        let affinity = pod.wishes.as_ref()?.affinity.node_affinity.as_ref()?;
        let preferences = affinity.preferred_during_scheduling_ignored_during_execution.as_ref()?;
        let liked = |node: &&NodeInfo| {
            let matching = preferences.iter().filter(|preferred| term_matches(&preferred.preference, node));
            matching.map(|preferred| i64::from(preferred.weight)).sum()
        };
        super::normalize(nodes.iter().map(liked).collect(), false)
    }

    fn weight(&self) -> i64 {
        2
    }

    fn helped_by(&self, _pod: &PodInfo, hint: Hint) -> bool {
        hint == Hint::Node
    }
}

/// Whether a term of a node selector accepts a node. An empty term accepts none (core/v1 NodeSelectorTerm).
pub(crate) fn term_matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|requirement| holds(requirement, node.labels.get(&requirement.key).map(String::as_str)))
        && fields.iter().all(|requirement| requirement.key == "metadata.name" && holds(requirement, Some(&node.name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = || value.is_some_and(|value| values.iter().any(|v| v == value));
    let compared = || {
        let bound = values.first()?.parse::<i64>().ok()?;
        Some(value?.parse::<i64>().ok()?.cmp(&bound))
    };
    match requirement.operator.as_str() {
        "In" => among(),
        "NotIn" => !among(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => compared().is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn accepted(term: Value) -> bool {
        let node = NodeInfo {
            name: "n1".into(),
            labels: [("zone".to_owned(), "a".to_owned()), ("cores".to_owned(), "8".to_owned())].into(),
            ..NodeInfo::default()
        };
        term_matches(&serde_json::from_value(term).unwrap(), &node)
    }

    #[test]
    fn requirements_hold_as_the_api_says() {
        let expression = |key: &str, operator: &str, values: &[&str]| {
            accepted(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
        };
        for (key, operator, values, expected) in [
            ("zone", "In", &["a", "b"][..], true),
            ("zone", "In", &["b"], false),
            ("zone", "NotIn", &["b"], true),
            ("missing", "NotIn", &["b"], true),
            ("missing", "In", &["b"], false),
            ("zone", "Exists", &[], true),
            ("zone", "DoesNotExist", &[], false),
            ("cores", "Gt", &["4"], true),
            ("cores", "Lt", &["8"], false),
            ("zone", "Gt", &["1"], false),
        ] {
            assert_eq!(expression(key, operator, values), expected, "{key} {operator} {values:?}");
        }
        assert!(!accepted(json!({})));
        assert!(accepted(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]})));
    }
}
