//! Label selectors over labels as informers and objects hold them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use trireme_client::Meta;

/// Labels that can be looked up.
pub(crate) trait Labels {
    /// The value of a label.
    fn value(&self, key: &str) -> Option<&str>;
}

impl Labels for Meta {
    fn value(&self, key: &str) -> Option<&str> {
        self.label(key)
    }
}

impl Labels for BTreeMap<String, String> {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for Option<BTreeMap<String, String>> {
    fn value(&self, key: &str) -> Option<&str> {
        self.as_ref().and_then(|labels| labels.value(key))
    }
}

/// Whether a selector accepts labels. An empty selector accepts everything; an unknown operator nothing.
pub(crate) fn matches(selector: &LabelSelector, labels: &impl Labels) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.value(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let value = labels.value(&requirement.key);
            let listed = |value: &str| requirement.values.iter().flatten().any(|listed| listed == value);
            match requirement.operator.as_str() {
                "In" => value.is_some_and(listed),
                "NotIn" => !value.is_some_and(listed),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Whether a plain map selector, such as a Service's, accepts labels.
pub(crate) fn map_matches(selector: &BTreeMap<String, String>, labels: &impl Labels) -> bool {
    selector.iter().all(|(key, value)| labels.value(key) == Some(value))
}

/// Whether a selector has no requirement and so accepts everything.
pub(crate) fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requirements_are_all_needed() {
        let labels: BTreeMap<String, String> = [("a", "1"), ("b", "2")].map(|(k, v)| (k.into(), v.into())).into();
        for (selector, expected) in [
            (json!({}), true),
            (json!({"matchLabels": {"a": "1"}}), true),
            (json!({"matchLabels": {"a": "2"}}), false),
            (json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "3"]}]}), true),
            (json!({"matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["1"]}]}), true),
            (json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}), false),
            (json!({"matchExpressions": [{"key": "b", "operator": "Exists"}]}), true),
            (json!({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}), false),
            (json!({"matchExpressions": [{"key": "b", "operator": "?"}]}), false),
        ] {
            let parsed: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
            assert_eq!(matches(&parsed, &labels), expected, "{selector}");
        }
    }
}
