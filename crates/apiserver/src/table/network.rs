//! Rows of networking and discovery.

use super::{NONE, UNSET, joined, joined_some, or_none, selector};
use trireme_schema::Value;

pub(super) fn cell(kind: &str, column: &str, o: &Value) -> Value {
    match (kind, column) {
        ("EndpointSlice", "AddressType") => o.str_at(&["addressType"]).into(),
        ("EndpointSlice", "Ports") => {
            let port = |p: &Value| match p.int_at(&["port"]) {
                Some(number) => number.to_string(),
                None => p.at(&["name"]).and_then(Value::as_str).unwrap_or("*").to_owned(),
            };
            or_unset(joined_some(o.list_at(&["ports"]).iter().map(port), 3, ","))
        }
        ("EndpointSlice", "Endpoints") => {
            let addresses = o.list_at(&["endpoints"]).iter().flat_map(|e| e.list_at(&["addresses"]));
            or_unset(joined_some(addresses.filter_map(Value::as_str).map(str::to_owned), 3, ","))
        }
        ("Ingress", "Class") => match o.str_at(&["spec", "ingressClassName"]) {
            "" => or_none(o.str_at(&["metadata", "annotations", "kubernetes.io/ingress.class"])),
            class => class.into(),
        },
        ("Ingress", "Hosts") => {
            let hosts = o.list_at(&["spec", "rules"]).iter().map(|r| r.str_at(&["host"])).filter(|h| !h.is_empty());
            match joined_some(hosts.map(str::to_owned), 3, ",") {
                text if text.is_empty() => "*".into(),
                text => text.into(),
            }
        }
        ("Ingress", "Address") => super::core::load_balancer(o).into(),
        ("Ingress", "Ports") => (if o.list_at(&["spec", "tls"]).is_empty() { "80" } else { "80, 443" }).into(),
        ("IngressClass", "Controller") => o.str_at(&["spec", "controller"]).into(),
        ("IngressClass", "Parameters") => match o.at(&["spec", "parameters"]) {
            None => NONE.into(),
            Some(to) => {
                let group = to.get("apiGroup").and_then(Value::as_str).map(|g| format!(".{g}")).unwrap_or_default();
                format!("{}{group}/{}", to.str_at(&["kind"]), to.str_at(&["name"])).into()
            }
        },
        ("NetworkPolicy", "Pod-Selector") => selector(o.at(&["spec", "podSelector"])),
        ("ServiceCIDR", "CIDRs") => joined(o.list_at(&["spec", "cidrs"]).iter().filter_map(Value::as_str)).into(),
        ("IPAddress", "ParentRef") => {
            let of = |field| o.str_at(&["spec", "parentRef", field]);
            let resource = [of("resource"), of("group")].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>();
            let place = [of("namespace"), of("name")].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>();
            format!("{}/{}", resource.join("."), place.join("/")).into()
        }
        _ => Value::from(""),
    }
}

fn or_unset(text: String) -> Value {
    if text.is_empty() { UNSET.into() } else { text.into() }
}
