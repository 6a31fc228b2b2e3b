//! The selector of a metric as text.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// As a query carries it, in the order of labels (apimachinery `labels.Selector.String`); empty for none.
pub(super) fn as_query(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return String::new() };
    let equal = selector.match_labels.iter().flatten().map(|(key, value)| (key, format!("{key}={value}")));
    let more = selector.match_expressions.iter().flatten().map(|requirement| {
        let LabelSelectorRequirement { key, operator, values } = requirement;
        let mut values = values.clone().unwrap_or_default();
        values.sort();
        let text = match operator.as_str() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        };
        (key, text)
    });
    let mut all: Vec<_> = equal.chain(more).collect();
    all.sort_by(|a, b| a.0.cmp(b.0));
    all.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// As upstream's messages show it: Go's form of the type.
pub(super) fn as_go(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".to_owned() };
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},"));
    let labels: String = labels.collect();
    let expressions = selector.match_expressions.iter().flatten().map(|requirement| {
        let LabelSelectorRequirement { key, operator, values } = requirement;
        let values = values.as_deref().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
    });
    let expressions: String = expressions.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{\
         {expressions}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_are_written_for_queries_and_for_people() {
        let selector: LabelSelector =
            serde_json::from_value(json!({"matchLabels": {"queue": "a"}, "matchExpressions": [
            {"key": "env", "operator": "In", "values": ["b", "a"]}, {"key": "z", "operator": "DoesNotExist"}]}))
            .unwrap();
        assert_eq!(as_query(Some(&selector)), "env in (a,b),queue=a,!z");
        assert_eq!(as_query(None), "");
        assert_eq!(as_go(None), "nil");
        let plain: LabelSelector = serde_json::from_value(json!({"matchLabels": {"queue": "a"}})).unwrap();
        assert_eq!(
            as_go(Some(&plain)),
            "&LabelSelector{MatchLabels:map[string]string{queue: a,},MatchExpressions:[]LabelSelectorRequirement{},}"
        );
    }
}
