//! Autoscalers: stored as autoscaling/v2, served as autoscaling/v1 too.
//!
//! v1 knows one metric, the use of CPU. What else v2 has travels in annotations, so that a client of v1 that reads an
//! object and writes it back loses nothing.

use super::rename;
use trireme_schema::{Map, Value, builtin, decode, encode, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Whether an autoscaler of v1 says in its annotations what it goes by, so that it needs no default.
pub(crate) fn has_metrics(annotations: Option<&Value>) -> bool {
    annotations.is_some_and(|a| a.get(METRICS).is_some())
}

/// An annotation out of an object, read.
fn take(hpa: &mut Value, name: &str) -> Option<Value> {
    let text = hpa.remove_at(&["metadata", "annotations", name])?;
    json::parse(text.as_str()?.as_bytes()).ok()
}

fn drop_empty_annotations(hpa: &mut Value) {
    if hpa.at(&["metadata", "annotations"]).and_then(Value::as_object).is_some_and(Map::is_empty) {
        hpa.remove_at(&["metadata", "annotations"]);
    }
}

pub(super) fn to_v2(mut hpa: Value) -> Value {
    let (metrics, current) = (take(&mut hpa, METRICS), take(&mut hpa, CURRENT));
    let (conditions, behavior) = (take(&mut hpa, CONDITIONS), take(&mut hpa, BEHAVIOR));
    drop_empty_annotations(&mut hpa);
    let cpu = |of: &str, amount: Value| {
        let mut metric = Value::object();
        metric.set_at(&["type"], "Resource");
        metric.set_at(&["resource", "name"], "cpu");
        if of == "target" {
            metric.set_at(&["resource", of, "type"], "Utilization");
        }
        metric.set_at(&["resource", of, "averageUtilization"], amount);
        metric
    };
    let mut all = Vec::new();
    all.extend(hpa.remove_at(&["spec", "targetCPUUtilizationPercentage"]).map(|amount| cpu("target", amount)));
    all.extend(metrics.and_then(|m| read("autoscaling.v1.MetricSpec", m)).into_iter().flatten().map(spec_to_v2));
    if !all.is_empty() {
        hpa.set_at(&["spec", "metrics"], Value::Array(all));
    }
    let used = hpa.remove_at(&["status", "currentCPUUtilizationPercentage"]).map(|amount| vec![cpu("current", amount)]);
    // The annotation says more than the field does.
    let current = current.and_then(|m| read("autoscaling.v1.MetricStatus", m));
    let current = current.map(|all| all.into_iter().map(status_to_v2).collect()).or(used);
    if let Some(current) = current {
        hpa.set_at(&["status", "currentMetrics"], Value::Array(current));
    }
    if let Some(conditions) =
        conditions.and_then(|c| read("autoscaling.v1.HorizontalPodAutoscalerCondition", c)).filter(|c| !c.is_empty())
    {
        hpa.set_at(&["status", "conditions"], Value::Array(conditions));
    }
    if let Some(behavior) = behavior.map(small_letters)
        && let Some(behavior) = as_type("autoscaling.v2.HorizontalPodAutoscalerBehavior", behavior)
    {
        hpa.set_at(&["spec", "behavior"], behavior);
    }
    hpa
}

pub(super) fn to_v1(mut hpa: Value) -> Value {
    for name in [METRICS, CURRENT, CONDITIONS, BEHAVIOR] {
        hpa.remove_at(&["metadata", "annotations", name]);
    }
    drop_empty_annotations(&mut hpa);
    let taken = |value: Option<Value>| match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let metrics = taken(hpa.remove_at(&["spec", "metrics"]));
    if let Some(first) = metrics.iter().find(|m| is_cpu(m))
        && let Some(amount) = first.at(&["resource", "target", "averageUtilization"])
    {
        hpa.set_at(&["spec", "targetCPUUtilizationPercentage"], amount.clone());
    }
    let in_field = |m: &Value| is_cpu(m) && m.at(&["resource", "target", "averageUtilization"]).is_some();
    let others: Vec<Value> = metrics.into_iter().filter(|m| !in_field(m)).map(spec_to_v1).collect();
    if !others.is_empty() {
        hpa.set_at(&["metadata", "annotations", METRICS], written("autoscaling.v1.MetricSpec", others));
    }
    let current = taken(hpa.remove_at(&["status", "currentMetrics"]));
    let used = current.iter().rev().filter(|m| is_cpu(m));
    if let Some(amount) = used.filter_map(|m| m.at(&["resource", "current", "averageUtilization"])).next() {
        hpa.set_at(&["status", "currentCPUUtilizationPercentage"], amount.clone());
    }
    // Also what is in the field: the annotation has the amount as well as the percentage.
    if !current.is_empty() {
        let current = current.into_iter().map(status_to_v1).collect();
        hpa.set_at(&["metadata", "annotations", CURRENT], written("autoscaling.v1.MetricStatus", current));
    }
    let conditions = taken(hpa.remove_at(&["status", "conditions"]));
    if !conditions.is_empty() {
        hpa.set_at(
            &["metadata", "annotations", CONDITIONS],
            written("autoscaling.v1.HorizontalPodAutoscalerCondition", conditions),
        );
    }
    if let Some(behavior) = hpa.remove_at(&["spec", "behavior"]) {
        hpa.set_at(&["metadata", "annotations", BEHAVIOR], internal_behavior(&behavior));
    }
    hpa
}

fn is_cpu(metric: &Value) -> bool {
    metric.str_at(&["type"]) == "Resource" && metric.str_at(&["resource", "name"]) == "cpu"
}

fn as_type(name: &str, value: Value) -> Option<Value> {
    decode::decode(builtin(), builtin().type_named(name)?, value).ok().map(|d| d.value)
}

/// A list of a type out of an annotation; nothing if any of it does not fit, as upstream has it.
fn read(name: &str, value: Value) -> Option<Vec<Value>> {
    let Value::Array(items) = value else { return None };
    items.into_iter().map(|item| as_type(name, item)).collect()
}

/// A list of a type as text, its fields in the order of the type.
fn written(name: &str, items: Vec<Value>) -> String {
    let text = |item: Value| match builtin().type_named(name) {
        Some(id) => String::from_utf8_lossy(&encode::to_vec(builtin(), id, &item)).into_owned(),
        None => json::to_string(&item),
    };
    format!("[{}]", items.into_iter().map(text).collect::<Vec<_>>().join(","))
}

/// The names of a metric's parts in v1, for each of its types. The rest is the same.
fn spec_to_v1(mut metric: Value) -> Value {
    each_source(&mut metric, |source, part| {
        identifier_to_v1(source, part);
        let Some(target) = part.as_object_mut().and_then(|p| p.remove("target")) else { return };
        describe(source, part, "describedObject", "target");
        let mut put = |from: &str, to: &str| {
            if let Some(amount) = target.get(from) {
                part.set_at(&[to], amount.clone());
            }
        };
        match source {
            "object" => {
                put("value", "targetValue");
                put("averageValue", "averageValue");
            }
            "external" => {
                put("value", "targetValue");
                put("averageValue", "targetAverageValue");
            }
            "pods" => put("averageValue", "targetAverageValue"),
            _ => {
                put("averageUtilization", "targetAverageUtilization");
                put("averageValue", "targetAverageValue");
            }
        }
    });
    metric
}

fn spec_to_v2(mut metric: Value) -> Value {
    each_source(&mut metric, |source, part| {
        identifier_to_v2(source, part);
        describe(source, part, "target", "describedObject");
        let mut target = Map::new();
        let mut put = |from: &str, to: &str| {
            let amount = part.as_object_mut().and_then(|p| p.remove(from));
            let there = amount.is_some();
            if let Some(amount) = amount {
                target.insert(to, amount);
            }
            there
        };
        let kind = match source {
            "object" => {
                put("targetValue", "value");
                if put("averageValue", "averageValue") { "AverageValue" } else { "Value" }
            }
            "external" => {
                put("targetAverageValue", "averageValue");
                if put("targetValue", "value") { "Value" } else { "AverageValue" }
            }
            "pods" => {
                put("targetAverageValue", "averageValue");
                "AverageValue"
            }
            _ => {
                put("targetAverageValue", "averageValue");
                if put("targetAverageUtilization", "averageUtilization") { "Utilization" } else { "AverageValue" }
            }
        };
        target.insert("type", kind);
        part.set_at(&["target"], target);
    });
    metric
}

/// Where the amounts of a status stand: v2's name, v1's name.
fn amounts(source: &str) -> &'static [(&'static str, &'static str)] {
    match source {
        "object" => &[("value", "currentValue"), ("averageValue", "averageValue")],
        "external" => &[("value", "currentValue"), ("averageValue", "currentAverageValue")],
        "pods" => &[("averageValue", "currentAverageValue")],
        _ => &[("averageUtilization", "currentAverageUtilization"), ("averageValue", "currentAverageValue")],
    }
}

fn status_to_v1(mut metric: Value) -> Value {
    each_source(&mut metric, |source, part| {
        identifier_to_v1(source, part);
        describe(source, part, "describedObject", "target");
        let current = part.as_object_mut().and_then(|p| p.remove("current")).unwrap_or_default();
        for (v2, v1) in amounts(source) {
            if let Some(amount) = current.get(v2) {
                part.set_at(&[v1], amount.clone());
            }
        }
    });
    metric
}

fn status_to_v2(mut metric: Value) -> Value {
    each_source(&mut metric, |source, part| {
        identifier_to_v2(source, part);
        describe(source, part, "target", "describedObject");
        for (v2, v1) in amounts(source) {
            if let Some(amount) = part.as_object_mut().and_then(|p| p.remove(v1)) {
                part.set_at(&["current", v2], amount);
            }
        }
    });
    metric
}

fn each_source(metric: &mut Value, change: impl Fn(&str, &mut Value)) {
    for source in ["object", "pods", "resource", "containerResource", "external"] {
        if let Some(part) = metric.at_mut(&[source]) {
            change(source, part);
        }
    }
}

fn describe(source: &str, part: &mut Value, from: &str, to: &str) {
    if source == "object" {
        rename(part, from, to);
    }
}

/// v1 has a metric's name and selector beside the rest; an external one's selector has a name of its own.
fn selector_name(source: &str) -> &'static str {
    if source == "external" { "metricSelector" } else { "selector" }
}

fn identifier_to_v1(source: &str, part: &mut Value) {
    let Some(Value::Object(mut metric)) = part.as_object_mut().and_then(|p| p.remove("metric")) else { return };
    for (from, to) in [("name", "metricName"), ("selector", selector_name(source))] {
        if let Some(value) = metric.remove(from) {
            part.set_at(&[to], value);
        }
    }
}

fn identifier_to_v2(source: &str, part: &mut Value) {
    for (from, to) in [("metricName", "name"), (selector_name(source), "selector")] {
        if let Some(value) = part.as_object_mut().and_then(|p| p.remove(from)) {
            part.set_at(&["metric", to], value);
        }
    }
}

/// The behaviour as upstream writes it into the annotation: an internal type, with capital names and `null`.
fn internal_behavior(behavior: &Value) -> String {
    let text = |value: Option<&Value>| value.map_or_else(|| "null".to_owned(), json::to_string);
    let policy = |p: &Value| {
        let [kind, value, period] = ["type", "value", "periodSeconds"].map(|f| text(p.get(f)));
        format!(r#"{{"Type":{kind},"Value":{value},"PeriodSeconds":{period}}}"#)
    };
    let rules = |rules: Option<&Value>| {
        let Some(rules) = rules else { return "null".to_owned() };
        let [window, select, tolerance] =
            ["stabilizationWindowSeconds", "selectPolicy", "tolerance"].map(|f| text(rules.get(f)));
        let policies = match rules.get("policies") {
            Some(Value::Array(all)) => format!("[{}]", all.iter().map(policy).collect::<Vec<_>>().join(",")),
            _ => "null".to_owned(),
        };
        format!(
            r#"{{"StabilizationWindowSeconds":{window},"SelectPolicy":{select},"Policies":{policies},"Tolerance":{tolerance}}}"#
        )
    };
    let [up, down] = ["scaleUp", "scaleDown"].map(|direction| rules(behavior.get(direction)));
    format!(r#"{{"ScaleUp":{up},"ScaleDown":{down}}}"#)
}

/// Fields with their names as v2 has them.
fn small_letters(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let renamed = map.into_iter().map(|(key, value)| {
                let key = key.to_string();
                let mut letters = key.chars();
                let first = letters.next().map(|c| c.to_ascii_lowercase());
                (first.into_iter().collect::<String>() + letters.as_str(), small_letters(value))
            });
            Value::Object(renamed.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(small_letters).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::{Conversion, of};
    use trireme_schema::GroupVersion;

    fn conversion() -> &'static Conversion {
        of(&GroupVersion::parse("autoscaling/v1"), "horizontalpodautoscalers").unwrap()
    }

    const TARGET: &str = r#""scaleTargetRef":{"kind":"Deployment","name":"d","apiVersion":"apps/v1"}"#;

    #[test]
    fn the_use_of_cpu_is_a_field_of_v1() {
        let text = format!(
            r#"{{"metadata":{{"name":"x"}},"spec":{{{TARGET},"maxReplicas":3,"targetCPUUtilizationPercentage":50}}}}"#
        );
        let v1 = json::parse(text.as_bytes()).unwrap();
        let v2 = conversion().to_stored(&v1);
        let metric = &v2.list_at(&["spec", "metrics"])[0];
        assert_eq!(metric.int_at(&["resource", "target", "averageUtilization"]), Some(50));
        assert_eq!(metric.str_at(&["resource", "target", "type"]), "Utilization");
        assert_eq!(v2.str_at(&["apiVersion"]), "autoscaling/v2");
        let back = conversion().to_served(v2);
        assert_eq!(back.int_at(&["spec", "targetCPUUtilizationPercentage"]), Some(50));
        assert!(back.at(&["metadata", "annotations"]).is_none());
    }

    #[test]
    fn what_v1_has_no_field_for_comes_back_from_its_annotations() {
        let metrics = r#"[
            {"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}},
            {"type":"Resource","resource":{"name":"memory","target":{"type":"AverageValue","averageValue":"1Gi"}}},
            {"type":"ContainerResource","containerResource":{"name":"cpu","container":"c","target":{"type":"Utilization","averageUtilization":7}}},
            {"type":"Object","object":{"describedObject":{"kind":"Ingress","name":"i","apiVersion":"networking.k8s.io/v1"},"target":{"type":"Value","value":"10"},"metric":{"name":"m","selector":{"matchLabels":{"a":"b"}}}}},
            {"type":"Pods","pods":{"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"5"}}},
            {"type":"External","external":{"metric":{"name":"m","selector":{"matchLabels":{"a":"b"}}},"target":{"type":"AverageValue","averageValue":"5"}}}]"#;
        let status = r#"{"currentReplicas":1,"desiredReplicas":2,
            "currentMetrics":[{"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":9,"averageValue":"90m"}}},
                {"type":"Pods","pods":{"metric":{"name":"m"},"current":{"averageValue":"1"}}}],
            "conditions":[{"type":"AbleToScale","status":"True","lastTransitionTime":"2026-01-02T03:04:05Z","reason":"R","message":"m"}]}"#;
        let behavior = r#"{"scaleUp":{"stabilizationWindowSeconds":0,"selectPolicy":"Max","policies":[{"type":"Pods","value":4,"periodSeconds":15}]},
            "scaleDown":{"stabilizationWindowSeconds":300,"selectPolicy":"Max","policies":[{"type":"Percent","value":100,"periodSeconds":15}]}}"#;
        let text = format!(
            r#"{{"kind":"HorizontalPodAutoscaler","apiVersion":"autoscaling/v2","metadata":{{"name":"x"}},
            "spec":{{{TARGET},"minReplicas":2,"maxReplicas":3,"metrics":{metrics},"behavior":{behavior}}},"status":{status}}}"#
        );
        let v2 = json::parse(text.as_bytes()).unwrap();
        let v1 = conversion().to_served(v2.clone());
        assert_eq!(v1.int_at(&["spec", "targetCPUUtilizationPercentage"]), Some(50));
        assert_eq!(v1.int_at(&["status", "currentCPUUtilizationPercentage"]), Some(9));
        for (name, start) in [
            (METRICS, r#"[{"type":"Resource","resource":{"name":"memory","targetAverageValue":"1Gi"}},"#),
            (
                CURRENT,
                r#"[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":9,"currentAverageValue":"90m"}},"#,
            ),
            (
                BEHAVIOR,
                r#"{"ScaleUp":{"StabilizationWindowSeconds":0,"SelectPolicy":"Max","Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15}],"Tolerance":null},"ScaleDown":"#,
            ),
        ] {
            let text = v1.str_at(&["metadata", "annotations", name]);
            assert_eq!(&text[..start.len().min(text.len())], start);
        }
        let back = conversion().to_stored(&v1);
        let tree = |v: &Value| {
            encode::to_tree(builtin(), builtin().type_named("autoscaling.v2.HorizontalPodAutoscaler").unwrap(), v)
        };
        assert_eq!(json::to_string(&tree(&back)), json::to_string(&tree(&v2)));
    }

    #[test]
    fn annotations_that_make_no_sense_are_dropped() {
        for bad in ["x", "{}", "[1]", r#"[{"type":7}]"#] {
            let mut hpa = Value::object();
            hpa.set_at(&["metadata", "annotations", METRICS], bad);
            hpa.set_at(&["metadata", "annotations", BEHAVIOR], bad);
            let v2 = to_v2(hpa);
            assert!(v2.at(&["metadata", "annotations"]).is_none(), "{bad}");
            assert!(v2.at(&["spec", "metrics"]).is_none(), "{bad}");
        }
    }
}
