//! LimitRanger and ResourceQuota.

use super::{Attributes, Operation};
use trireme_schema::{Map, Quantity, Status, Value};

fn quantity(value: Option<&Value>) -> Option<Quantity> {
    value.and_then(Value::as_str)?.parse().ok()
}

fn limit_items(attributes: &Attributes<'_>, kind: &str) -> Vec<Value> {
    let ranges = attributes.server.read_all("", "limitranges", &attributes.target.namespace);
    let items = ranges.iter().flat_map(|r| r.list_at(&["spec", "limits"]).to_vec());
    items.filter(|i| i.str_at(&["type"]) == kind).collect()
}

/// LimitRanger's defaults for containers that say nothing.
pub(super) fn defaults(attributes: &Attributes<'_>, object: &mut Value) {
    if attributes.operation != Operation::Create || !attributes.is("", "pods", "") {
        return;
    }
    let items = limit_items(attributes, "Container");
    if items.is_empty() {
        return;
    }
    for list in ["initContainers", "containers"] {
        let Some(containers) = object.at_mut(&["spec", list]).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            for item in &items {
                for (from, to) in [("default", "limits"), ("defaultRequest", "requests")] {
                    let Some(given) = item.at(&[from]).and_then(Value::as_object) else { continue };
                    for (resource, amount) in given.iter() {
                        if container.at(&["resources", to, resource]).is_none() {
                            container.set_at(&["resources", to, resource], amount.clone());
                        }
                    }
                }
            }
        }
    }
}

/// LimitRanger's bounds.
pub(super) fn limit_ranges(attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    let pods = attributes.is("", "pods", "") && attributes.operation == Operation::Create;
    let claims = attributes.is("", "persistentvolumeclaims", "") && attributes.operation != Operation::Delete;
    let mut wrong = Vec::new();
    if pods {
        for item in limit_items(attributes, "Container") {
            for list in ["containers", "initContainers"] {
                for container in object.list_at(&["spec", list]) {
                    bounds(&item, "Container", container.at(&["resources"]), &mut wrong);
                }
            }
        }
    } else if claims {
        for item in limit_items(attributes, "PersistentVolumeClaim") {
            bounds(&item, "PersistentVolumeClaim", object.at(&["spec", "resources"]), &mut wrong);
        }
    }
    match &wrong[..] {
        [] => Ok(()),
        [only] => Err(attributes.forbidden(object, only)),
        many => Err(attributes.forbidden(object, &format!("[{}]", many.join(", ")))),
    }
}

fn bounds(item: &Value, kind: &str, resources: Option<&Value>, wrong: &mut Vec<String>) {
    let amount = |of: &str, name: &str| quantity(resources.and_then(|r| r.at(&[of, name])));
    let each = |bound: &str| item.at(&[bound]).and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, value) in each("min").iter() {
        let (Some(bound), request) = (quantity(Some(value)), amount("requests", name)) else { continue };
        match request {
            None => wrong.push(format!("minimum {name} usage per {kind} is {bound}.  No request is specified")),
            Some(r) if r < bound => {
                wrong.push(format!("minimum {name} usage per {kind} is {bound}, but request is {r}"));
            }
            _ => {}
        }
    }
    for (name, value) in each("max").iter() {
        let Some(bound) = quantity(Some(value)) else { continue };
        let given = amount("limits", name).or_else(|| amount("requests", name).filter(|_| kind != "Container"));
        match given {
            None => wrong.push(format!("maximum {name} usage per {kind} is {bound}.  No limit is specified")),
            Some(l) if l > bound => {
                wrong.push(format!("maximum {name} usage per {kind} is {bound}, but limit is {l}"));
            }
            _ => {}
        }
    }
}

/// What an object adds to the quotas of its namespace.
fn usage(attributes: &Attributes<'_>, object: &Value) -> Map {
    let served = &attributes.target.served;
    let mut used = Map::new();
    let count = match served.group() {
        "" => format!("count/{}", served.plural()),
        group => format!("count/{}.{group}", served.plural()),
    };
    used.insert(count, "1");
    const COUNTED: [&str; 7] = [
        "pods",
        "services",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "replicationcontrollers",
        "resourcequotas",
    ];
    if served.group().is_empty() && COUNTED.contains(&served.plural()) {
        used.insert(served.plural(), "1");
    }
    match (served.group(), served.plural()) {
        ("", "pods") => {
            let mut sums: std::collections::BTreeMap<String, Quantity> = std::collections::BTreeMap::new();
            for container in object.list_at(&["spec", "containers"]) {
                for of in ["requests", "limits"] {
                    let Some(map) = container.at(&["resources", of]).and_then(Value::as_object) else { continue };
                    for (name, value) in map.iter() {
                        let Some(amount) = quantity(Some(value)) else { continue };
                        let mut add = |key: String| {
                            let sum = sums.entry(key).or_insert(Quantity::ZERO);
                            *sum = sum.plus(amount);
                        };
                        add(format!("{of}.{name}"));
                        if of == "requests" && matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
                            add(name.to_string());
                        }
                    }
                }
            }
            for (name, amount) in sums {
                used.insert(name, amount.to_string());
            }
        }
        ("", "persistentvolumeclaims") => {
            if let Some(amount) = object.at(&["spec", "resources", "requests", "storage"]) {
                used.insert("requests.storage", amount.clone());
            }
        }
        ("", "services") => {
            let kind = object.str_at(&["spec", "type"]);
            if kind == "LoadBalancer" {
                used.insert("services.loadbalancers", "1");
            }
            if kind == "NodePort" || kind == "LoadBalancer" {
                let ports = object.list_at(&["spec", "ports"]).len();
                used.insert("services.nodeports", ports.to_string());
            }
        }
        _ => {}
    }
    used
}

/// ResourceQuota: what the namespace's quotas still allow. The quota controller writes `status.used`; between its
/// writes what is counted here is the state itself.
pub(super) fn quota(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    let target = attributes.target;
    if attributes.operation != Operation::Create || !target.subresource.is_empty() || !target.served.resource.namespaced
    {
        return Ok(());
    }
    if old.is_some() || target.served.plural() == "resourcequotas" {
        return Ok(());
    }
    let quotas = attributes.server.read_all("", "resourcequotas", &target.namespace);
    if quotas.is_empty() {
        return Ok(());
    }
    let adds = usage(attributes, object);
    for quota in quotas {
        let Some(hard) = quota.at(&["spec", "hard"]).and_then(Value::as_object) else { continue };
        if !quota.list_at(&["spec", "scopes"]).is_empty() || quota.at(&["spec", "scopeSelector"]).is_some() {
            continue;
        }
        let name = quota.str_at(&["metadata", "name"]);
        let needed: Vec<&str> = hard
            .keys()
            .map(|k| k.as_str())
            .filter(|k| {
                let compute = matches!(*k, "cpu" | "memory")
                    || k.starts_with("requests.cpu")
                    || k.starts_with("requests.memory")
                    || k.starts_with("limits.");
                target.served.plural() == "pods" && compute && adds.get(k).is_none()
            })
            .collect();
        if !needed.is_empty() {
            let why = format!("failed quota: {name}: must specify {}", needed.join(","));
            return Err(attributes.forbidden(object, &why));
        }
        let (mut asked, mut used_now, mut limited) = (Vec::new(), Vec::new(), Vec::new());
        let everything = attributes.server.read_all(target.served.group(), target.served.plural(), &target.namespace);
        for (resource, bound) in hard.iter() {
            let (Some(bound), Some(add)) = (quantity(Some(bound)), quantity(adds.get(resource))) else { continue };
            let live = everything.iter().filter(|o| {
                !matches!(o.str_at(&["status", "phase"]), "Succeeded" | "Failed") || target.served.plural() != "pods"
            });
            let used = live.fold(Quantity::ZERO, |sum, o| {
                quantity(usage(attributes, o).get(resource)).map_or(sum, |q| sum.plus(q))
            });
            if used.plus(add) > bound {
                asked.push(format!("{resource}={add}"));
                used_now.push(format!("{resource}={used}"));
                limited.push(format!("{resource}={bound}"));
            }
        }
        if !asked.is_empty() {
            let why = format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                asked.join(","),
                used_now.join(","),
                limited.join(",")
            );
            return Err(attributes.forbidden(object, &why));
        }
    }
    Ok(())
}
