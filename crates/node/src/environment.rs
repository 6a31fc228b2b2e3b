//! A container's environment.

use crate::calls;
use crate::sandbox::hostname;
use crate::spec::quantity;
use std::collections::BTreeMap;
use trireme_client::Client;
use trireme_schema::quantity::Format;
use trireme_schema::{Map, Quantity, Value};

/// Replaces `$(NAME)` by what is known; `$$` is a dollar, what is unknown stays.
pub(crate) fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match known.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// A field of the pod, as `fieldRef` names it; `None` for one that is not there.
pub(crate) fn field(pod: &Value, path: &str) -> Option<String> {
    if let Some((base, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let map: Vec<&str> = base.split('.').collect();
        return Some(pod.at(&map).map(|m| m.str_at(&[key]).to_owned()).unwrap_or_default());
    }
    let quoted = |value: Option<&Value>| {
        let map = value.and_then(Value::as_object).into_iter().flat_map(Map::iter);
        let mut lines: Vec<String> =
            map.map(|(k, v)| format!("{k}={}", trireme_schema::field::quote(v.as_str().unwrap_or_default()))).collect();
        lines.sort();
        lines.join("\n")
    };
    Some(match path {
        "metadata.labels" | "metadata.annotations" => quoted(pod.at(&path.split('.').collect::<Vec<_>>())),
        "status.podIPs" | "status.hostIPs" => {
            let ips = pod.list_at(&path.split('.').collect::<Vec<_>>()).iter().map(|i| i.str_at(&["ip"]).to_owned());
            ips.collect::<Vec<_>>().join(",")
        }
        "spec.hostname" => hostname(pod),
        _ => pod.str_at(&path.split('.').collect::<Vec<_>>()).to_owned(),
    })
}

/// A container's resource, as `resourceFieldRef` names it. A container without a limit has what the node has.
pub(crate) fn resource(container: &Value, reference: &Value, node: &Value) -> String {
    let name = reference.str_at(&["resource"]);
    let Some((of, what)) = name.split_once('.') else { return String::new() };
    let own = quantity(container.at(&["resources", of, what])).filter(|q| !q.is_zero());
    let amount = own.or_else(|| if of == "limits" { quantity(node.get(what)) } else { None });
    let divisor = quantity(reference.get("divisor")).filter(|d| !d.is_zero());
    let divisor = divisor.unwrap_or(Quantity::units(1, Format::DecimalSi));
    let number = |q: Quantity| if what == "cpu" { q.milli_value() } else { q.value() }.max(0);
    let (n, d) = (number(amount.unwrap_or(Quantity::ZERO)), number(divisor).max(1));
    (n / d + i64::from(n % d > 0)).to_string()
}

/// Bytes of a Secret's key as text.
pub(crate) fn secret_text(value: &Value) -> String {
    use base64::Engine as _;
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Variables that tell of the services of a namespace.
pub(crate) fn of_services(services: &[Value]) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for service in services {
        let ip = service.str_at(&["spec", "clusterIP"]);
        let ports = service.list_at(&["spec", "ports"]);
        let Some(first) = ports.first().filter(|_| !ip.is_empty() && ip != "None") else { continue };
        let name = service.str_at(&["metadata", "name"]).to_uppercase().replace('-', "_");
        let number = |p: &Value| p.int_at(&["port"]).unwrap_or_default();
        out.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
        out.insert(format!("{name}_SERVICE_PORT"), number(first).to_string());
        for port in ports {
            let label = port.str_at(&["name"]).to_uppercase().replace('-', "_");
            if !label.is_empty() {
                out.insert(format!("{name}_SERVICE_PORT_{label}"), number(port).to_string());
            }
            let protocol = port.str_at(&["protocol"]);
            let (n, lower) = (number(port), protocol.to_lowercase());
            let prefix = format!("{name}_PORT_{n}_{protocol}");
            out.insert(prefix.clone(), format!("{lower}://{ip}:{n}"));
            out.insert(format!("{prefix}_PROTO"), lower);
            out.insert(format!("{prefix}_PORT"), n.to_string());
            out.insert(format!("{prefix}_ADDR"), ip.to_owned());
        }
        let lower = first.str_at(&["protocol"]).to_lowercase();
        out.insert(format!("{name}_PORT"), format!("{lower}://{ip}:{}", number(first)));
    }
    out
}

/// The variables of a container, in order.
///
/// # Errors
/// What is missing, in upstream's words.
pub(crate) async fn of_container(
    client: &Client,
    pod: &Value,
    container: &Value,
    services: &BTreeMap<String, String>,
    node: &Value,
) -> Result<Vec<(String, String)>, String> {
    let namespace = pod.str_at(&["metadata", "namespace"]);
    let object = |plural: &'static str, name: String, optional: bool| async move {
        match calls::get(client, &format!("/api/v1/namespaces/{namespace}/{plural}/{name}")).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() && optional => Ok(None),
            Err(error) if error.is_not_found() => {
                let kind = if plural == "secrets" { "secret" } else { "configmap" };
                Err(format!("{kind} \"{name}\" not found"))
            }
            Err(error) => Err(error.to_string()),
        }
    };
    let mut known: BTreeMap<String, String> = services.clone();
    let mut out: Vec<(String, String)> = Vec::new();
    let mut set = |known: &mut BTreeMap<String, String>, key: String, value: String| {
        known.insert(key.clone(), value.clone());
        out.retain(|(have, _)| *have != key);
        out.push((key, value));
    };
    for source in container.list_at(&["envFrom"]) {
        let prefix = source.str_at(&["prefix"]);
        for (kind, plural) in [("configMapRef", "configmaps"), ("secretRef", "secrets")] {
            let Some(reference) = source.get(kind) else { continue };
            let (name, optional) = (reference.str_at(&["name"]).to_owned(), reference.bool_at(&["optional"]));
            let Some(found) = object(plural, name, optional).await? else { continue };
            for (key, value) in found.at(&["data"]).and_then(Value::as_object).into_iter().flat_map(Map::iter) {
                let text = if plural == "secrets" {
                    secret_text(value)
                } else {
                    value.as_str().unwrap_or_default().to_owned()
                };
                let name = format!("{prefix}{key}");
                // Such a name cannot be a variable's.
                if !name.is_empty() && !name.contains('=') {
                    set(&mut known, name, text);
                }
            }
        }
    }
    for variable in container.list_at(&["env"]) {
        let key = variable.str_at(&["name"]).to_owned();
        let Some(from) = variable.get("valueFrom") else {
            let value = expand(variable.str_at(&["value"]), &known);
            set(&mut known, key, value);
            continue;
        };
        if let Some(reference) = from.get("fieldRef") {
            let value = field(pod, reference.str_at(&["fieldPath"])).unwrap_or_default();
            set(&mut known, key, value);
        } else if let Some(reference) = from.get("resourceFieldRef") {
            let named = crate::spec::container(pod, reference.str_at(&["containerName"]));
            set(&mut known, key, resource(named.unwrap_or(container), reference, node));
        } else {
            for (kind, plural) in [("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")] {
                let Some(reference) = from.get(kind) else { continue };
                let (name, optional) = (reference.str_at(&["name"]).to_owned(), reference.bool_at(&["optional"]));
                let wanted = reference.str_at(&["key"]);
                let found = object(plural, name.clone(), optional).await?;
                match found.as_ref().and_then(|f| f.at(&["data", wanted])) {
                    Some(value) if plural == "secrets" => set(&mut known, key.clone(), secret_text(value)),
                    Some(value) => set(&mut known, key.clone(), value.as_str().unwrap_or_default().to_owned()),
                    None if optional => {}
                    None => {
                        let kind = if plural == "secrets" { "Secret" } else { "ConfigMap" };
                        return Err(format!("couldn't find key {wanted} in {kind} {namespace}/{name}"));
                    }
                }
            }
        }
    }
    let mut all: Vec<(String, String)> = services
        .iter()
        .filter(|(k, _)| !out.iter().any(|(have, _)| have == *k))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    all.extend(out);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded() {
        let known = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, want) in [("$(A)b", "1b"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("$x$", "$x$"), ("a$(A", "a$(A")] {
            assert_eq!(expand(text, &known), want);
        }
    }

    #[test]
    fn resources_are_rounded_up_and_default_to_the_nodes() {
        let value = |t: &str| trireme_schema::json::parse(t.as_bytes()).unwrap();
        let container = value(r#"{"resources":{"limits":{"memory":"100Mi"},"requests":{"cpu":"1500m"}}}"#);
        let node = value(r#"{"cpu":"2","memory":"1Gi"}"#);
        for (reference, want) in [
            (r#"{"resource":"limits.memory","divisor":"1Mi"}"#, "100"),
            (r#"{"resource":"limits.memory"}"#, "104857600"),
            (r#"{"resource":"requests.cpu"}"#, "2"),
            (r#"{"resource":"requests.cpu","divisor":"1m"}"#, "1500"),
            (r#"{"resource":"limits.cpu"}"#, "2"),
            (r#"{"resource":"requests.memory"}"#, "0"),
        ] {
            assert_eq!(resource(&container, &value(reference), &node), want, "{reference}");
        }
    }
}
