//! What an autoscaler goes by, in short: where each metric is, and where it should be.

use trireme_schema::Value;

const UNKNOWN: &str = "<unknown>";
/// As many metrics are shown; of the others, how many there are.
const SHOWN: usize = 2;

/// `cpu: 12%/80%, 3/10 (avg) + 2 more...`
pub(super) fn targets(hpa: &Value) -> String {
    let (specs, states) = (hpa.list_at(&["spec", "metrics"]), hpa.list_at(&["status", "currentMetrics"]));
    let all: Vec<String> = specs.iter().enumerate().map(|(i, spec)| target(spec, states.get(i))).collect();
    match all.len() {
        0 => super::NONE.to_owned(),
        n if n > SHOWN => format!("{} + {} more...", all[..SHOWN].join(", "), n - SHOWN),
        _ => all.join(", "),
    }
}

fn target(spec: &Value, state: Option<&Value>) -> String {
    let (source, named) = match spec.str_at(&["type"]) {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let wanted = |amount: &str| spec.at(&[source, "target", amount]);
    let text = |value: Option<&Value>, unknown: &str, unit: &str| match value {
        Some(Value::Int(n)) => format!("{n}{unit}"),
        Some(Value::String(quantity)) => quantity.clone(),
        _ => unknown.to_owned(),
    };
    let pair = |amount: &str, unknown: &str, unit: &str| {
        let current = state.and_then(|s| s.at(&[source, "current", amount]));
        format!("{}/{}", text(current, UNKNOWN, unit), text(wanted(amount), unknown, unit))
    };
    let average = wanted("averageValue").is_some();
    if named {
        let resource = spec.str_at(&[source, "name"]);
        return match average {
            true => format!("{resource}: {}", pair("averageValue", "", "")),
            false => format!("{resource}: {}", pair("averageUtilization", "<auto>", "%")),
        };
    }
    match source {
        "pods" => pair("averageValue", "", ""),
        _ if average => format!("{} (avg)", pair("averageValue", "", "")),
        _ => pair("value", "", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn a_metric_is_shown_as_what_it_is_of_what_it_should_be() {
        let cases = [
            ("[]", "[]", "<none>"),
            (
                r#"[{"type":"Resource","resource":{"name":"cpu","target":{"averageUtilization":80}}}]"#,
                "[]",
                "cpu: <unknown>/80%",
            ),
            (
                r#"[{"type":"Resource","resource":{"name":"cpu","target":{"averageUtilization":80}}},
                    {"type":"Pods","pods":{"target":{"averageValue":"10"}}},
                    {"type":"Object","object":{"target":{"value":"1"}}}]"#,
                r#"[{"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":12,"averageValue":"1"}}},
                    {"type":"Pods","pods":{"current":{"averageValue":"7"}}}]"#,
                "cpu: 12%/80%, 7/10 + 1 more...",
            ),
            (r#"[{"type":"External","external":{"target":{"averageValue":"4"}}}]"#, "[]", "<unknown>/4 (avg)"),
        ];
        for (specs, states, want) in cases {
            let text = format!(r#"{{"spec":{{"metrics":{specs}}},"status":{{"currentMetrics":{states}}}}}"#);
            assert_eq!(targets(&json::parse(text.as_bytes()).unwrap()), want);
        }
    }
}
