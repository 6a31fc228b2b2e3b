//! Rows of who may do what, of admission, of certificates, and of the API itself.

use super::{NONE, UNSET, count, int};
use crate::human;
use trireme_schema::{Map, Value};

pub(super) fn cell(kind: &str, column: &str, o: &Value) -> Value {
    match (kind, column) {
        ("RoleBinding" | "ClusterRoleBinding", "Role") => {
            format!("{}/{}", o.str_at(&["roleRef", "kind"]), o.str_at(&["roleRef", "name"])).into()
        }
        ("RoleBinding" | "ClusterRoleBinding", "Users" | "Groups" | "ServiceAccounts") => {
            let wanted = column.trim_end_matches('s');
            let of_kind = o.list_at(&["subjects"]).iter().filter(|s| s.str_at(&["kind"]) == wanted);
            let names: Vec<String> = of_kind
                .map(|s| match wanted {
                    "ServiceAccount" => format!("{}/{}", s.str_at(&["namespace"]), s.str_at(&["name"])),
                    _ => s.str_at(&["name"]).to_owned(),
                })
                .collect();
            names.join(", ").into()
        }
        ("Lease", "Holder") => o.str_at(&["spec", "holderIdentity"]).into(),
        ("PriorityClass", "Value") => int(o, &["value"]),
        ("PriorityClass", "Global-Default") => o.bool_at(&["globalDefault"]).into(),
        ("PriorityClass", "PreemptionPolicy") => o.str_at(&["preemptionPolicy"]).into(),
        ("RuntimeClass", "Handler") => o.str_at(&["handler"]).into(),
        ("CertificateSigningRequest", _) => request(column, o),
        ("MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration", "Webhooks") => count(o.get("webhooks")),
        ("ValidatingAdmissionPolicy", "Validations") => count(o.at(&["spec", "validations"])),
        ("MutatingAdmissionPolicy", "Mutations") => count(o.at(&["spec", "mutations"])),
        ("ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy", "ParamKind") => match o.at(&["spec", "paramKind"]) {
            None => UNSET.into(),
            Some(kind) => format!("{}/{}", kind.str_at(&["apiVersion"]), kind.str_at(&["kind"])).into(),
        },
        ("ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding", "PolicyName") => {
            o.str_at(&["spec", "policyName"]).into()
        }
        ("ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding", "ParamRef") => {
            param_ref(o.at(&["spec", "paramRef"])).into()
        }
        ("FlowSchema", "PriorityLevel") => o.str_at(&["spec", "priorityLevelConfiguration", "name"]).into(),
        ("FlowSchema", "MatchingPrecedence") => int(o, &["spec", "matchingPrecedence"]),
        ("FlowSchema", "DistinguisherMethod") => super::or_none(o.str_at(&["spec", "distinguisherMethod", "type"])),
        ("FlowSchema", "MissingPL") => {
            let dangling = o.list_at(&["status", "conditions"]).iter().find(|c| c.str_at(&["type"]) == "Dangling");
            dangling.map_or("?", |c| c.str_at(&["status"])).into()
        }
        ("PriorityLevelConfiguration", "Type") => o.str_at(&["spec", "type"]).into(),
        ("PriorityLevelConfiguration", "NominalConcurrencyShares") => {
            number(o, &["spec", "limited", "nominalConcurrencyShares"])
        }
        ("PriorityLevelConfiguration", "Queues") => {
            number(o, &["spec", "limited", "limitResponse", "queuing", "queues"])
        }
        ("PriorityLevelConfiguration", "HandSize") => {
            number(o, &["spec", "limited", "limitResponse", "queuing", "handSize"])
        }
        ("PriorityLevelConfiguration", "QueueLengthLimit") => {
            number(o, &["spec", "limited", "limitResponse", "queuing", "queueLengthLimit"])
        }
        ("APIService", "Service") => match o.at(&["spec", "service"]) {
            Some(s) => format!("{}/{}", s.str_at(&["namespace"]), s.str_at(&["name"])).into(),
            None => "Local".into(),
        },
        ("APIService", "Available") => {
            let conditions = o.list_at(&["status", "conditions"]);
            let available = conditions.iter().find(|c| c.str_at(&["type"]) == "Available");
            available.map_or(Value::from(""), |c| match (c.str_at(&["status"]), c.str_at(&["reason"])) {
                ("True", _) => "True".into(),
                (status, reason) => format!("{status} ({reason})").into(),
            })
        }
        _ => Value::from(""),
    }
}

fn number(o: &Value, path: &[&str]) -> Value {
    o.int_at(path).map_or(NONE.into(), Value::Int)
}

fn request(column: &str, o: &Value) -> Value {
    match column {
        "SignerName" => o.str_at(&["spec", "signerName"]).into(),
        "Requestor" => o.str_at(&["spec", "username"]).into(),
        "RequestedDuration" => {
            o.int_at(&["spec", "expirationSeconds"]).map_or(NONE.into(), |s| human::duration(s).into())
        }
        "Condition" => {
            let has = |kind: &str| o.list_at(&["status", "conditions"]).iter().any(|c| c.str_at(&["type"]) == kind);
            let mut states = vec![if has("Denied") {
                "Denied"
            } else if has("Approved") {
                "Approved"
            } else {
                "Pending"
            }];
            if has("Failed") {
                states.push("Failed");
            }
            if !o.str_at(&["status", "certificate"]).is_empty() {
                states.push("Issued");
            }
            states.join(",").into()
        }
        _ => Value::from(""),
    }
}

/// Which parameters a binding gives its policy; selectors as Go prints the type.
fn param_ref(param: Option<&Value>) -> String {
    let Some(param) = param else { return UNSET.to_owned() };
    let (namespace, name) = (param.str_at(&["namespace"]), param.str_at(&["name"]));
    match (namespace, name) {
        ("", "") => {}
        ("", name) => return name.to_owned(),
        (namespace, name) if !name.is_empty() => return format!("{namespace}/{name}"),
        _ => {}
    }
    let Some(selector) = param.get("selector") else { return UNSET.to_owned() };
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let labels: String = labels
        .into_iter()
        .flat_map(Map::iter)
        .map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or_default()))
        .collect();
    let expression = |e: &Value| {
        let values: Vec<&str> = e.list_at(&["values"]).iter().filter_map(Value::as_str).collect();
        let (key, operator) = (e.str_at(&["key"]), e.str_at(&["operator"]));
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{}],}},", values.join(" "))
    };
    let expressions: String = selector.list_at(&["matchExpressions"]).iter().map(expression).collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}
