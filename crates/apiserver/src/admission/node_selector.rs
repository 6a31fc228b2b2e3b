//! PodNodeSelector: pods of a namespace go to the nodes that its annotation, or the cluster's default, names.

use super::Attributes;
use std::collections::BTreeMap;
use trireme_schema::{Status, Value};

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";

type Labels = BTreeMap<String, String>;

/// How the plugin is set up: selectors by namespace, and the default (`podNodeSelectorPluginConfig`).
#[derive(Debug, Default)]
pub(super) struct Settings {
    default: Labels,
    allowed: BTreeMap<String, Labels>,
}

/// Reads `a=b,c=d`.
fn parse(text: &str) -> Result<Labels, String> {
    let pairs = text.split(',').map(str::trim).filter(|p| !p.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not of the form key=value"))?;
            Ok((key.trim().to_owned(), value.trim_start_matches('=').trim().to_owned()))
        })
        .collect()
}

impl Settings {
    pub(super) fn read(config: Option<&Value>) -> Result<Self, String> {
        let map = config.and_then(|c| c.get("podNodeSelectorPluginConfig").or(Some(c))).and_then(Value::as_object);
        let mut settings = Self::default();
        for (namespace, text) in map.into_iter().flat_map(|m| m.iter()) {
            let Some(text) = text.as_str() else { continue };
            let labels = parse(text).map_err(|why| format!("PodNodeSelector: {namespace}: {why}"))?;
            if namespace.as_str() == "clusterDefaultNodeSelector" {
                settings.default = labels;
            } else {
                settings.allowed.insert(namespace.to_string(), labels);
            }
        }
        Ok(settings)
    }
}

fn conflicts(one: &Labels, other: &Labels) -> bool {
    one.iter().any(|(key, value)| other.get(key).is_some_and(|v| v != value))
}

fn of_pod(pod: &Value) -> Labels {
    let map = pod.at(&["spec", "nodeSelector"]).and_then(Value::as_object);
    let pairs = map.into_iter().flat_map(|m| m.iter());
    pairs.map(|(k, v)| (k.to_string(), v.as_str().unwrap_or_default().to_owned())).collect()
}

fn of_namespace(attributes: &Attributes<'_>, pod: &Value) -> Result<Labels, Status> {
    let namespace = attributes.server.read("", "namespaces", "", &attributes.target.namespace).unwrap_or_default();
    match namespace.at(&["metadata", "annotations", ANNOTATION]).and_then(Value::as_str) {
        None => Ok(attributes.server.admission.node_selectors.default.clone()),
        Some(text) => parse(text).map_err(|why| attributes.forbidden(pod, &why)),
    }
}

/// Adds the namespace's selector to a new pod's.
pub(super) fn merge(attributes: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    if !attributes.creates("", "pods") {
        return Ok(());
    }
    let wanted = of_namespace(attributes, object)?;
    if conflicts(&wanted, &of_pod(object)) {
        let why = "pod node label selector conflicts with its namespace node label selector";
        return Err(attributes.forbidden(object, why));
    }
    for (key, value) in wanted {
        object.set_at(&["spec", "nodeSelector", &key], value);
    }
    Ok(())
}

/// Refuses a pod that asks for nodes that are not its namespace's.
pub(super) fn check(attributes: &Attributes<'_>, object: &Value, _: Option<&Value>) -> Result<(), Status> {
    if !attributes.creates("", "pods") {
        return Ok(());
    }
    let pod = of_pod(object);
    if conflicts(&of_namespace(attributes, object)?, &pod) {
        let why = "pod node label selector conflicts with its namespace node label selector";
        return Err(attributes.forbidden(object, why));
    }
    let allowed = &attributes.server.admission.node_selectors.allowed;
    match allowed.get(&attributes.target.namespace) {
        Some(allowed) if pod.iter().any(|(key, value)| allowed.get(key) != Some(value)) => {
            let why = "pod node label selector labels conflict with its namespace whitelist";
            Err(attributes.forbidden(object, why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_and_compared() {
        let (a, b) = (parse("a=1, b=2").unwrap(), parse("b=3").unwrap());
        assert!(conflicts(&a, &b) && !conflicts(&a, &parse("c=1").unwrap()));
        assert!(parse("a").is_err());
    }
}
