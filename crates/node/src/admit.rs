//! Whether a node can take a pod: what the scheduler has asked already, asked again at the place itself, since a pod may
//! come without it.

use crate::eviction::{self, Pressure};
use crate::spec::total;
use std::collections::BTreeSet;
use trireme_schema::selector::{Operator, Requirement};
use trireme_schema::{Quantity, Value};

/// Why a pod cannot run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// The status's reason.
    pub(crate) reason: String,
    /// The status's message.
    pub(crate) message: String,
}

/// Settings of the kernel that concern one pod only (those that upstream lists as safe).
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The resources that a node counts.
const COUNTED: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Says whether a node that is short of something takes a pod.
pub(crate) fn under_pressure(pod: &Value, short: &BTreeSet<Pressure>) -> Result<(), Rejection> {
    if eviction::takes(pod, short) {
        return Ok(());
    }
    let conditions: Vec<&str> = short.iter().map(|pressure| pressure.condition()).collect();
    Err(Rejection { reason: "Evicted".to_owned(), message: eviction::not_taken(&conditions) })
}

/// Says whether a pod may run beside others on a node.
pub(crate) fn admit(pod: &Value, others: &[&Value], node: &Value) -> Result<(), Rejection> {
    let rejected = |reason: &str, why: String| Rejection { reason: reason.to_owned(), message: why };
    for sysctl in pod.list_at(&["spec", "securityContext", "sysctls"]) {
        let name = sysctl.str_at(&["name"]).replace('/', ".");
        if !SAFE_SYSCTLS.contains(&name.as_str()) {
            let why = format!("forbidden sysctl: {name:?} not allowlisted");
            return Err(rejected("SysctlForbidden", format!("Pod was rejected: {why}")));
        }
    }
    fits(pod, others, node)?;
    if !matches_node(pod, node) {
        let why = "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        return Err(rejected("NodeAffinity", why.to_owned()));
    }
    let taken: Vec<Port> = others.iter().flat_map(|o| ports(o)).collect();
    if ports(pod).iter().any(|p| taken.iter().any(|t| t.conflicts(p))) {
        let why =
            "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return Err(rejected("NodePorts", why.to_owned()));
    }
    Ok(())
}

/// Says whether a pod's requests fit beside those of others.
pub(crate) fn fits(pod: &Value, others: &[&Value], node: &Value) -> Result<(), Rejection> {
    let capacity = |name: &str| crate::spec::quantity(node.at(&["status", "allocatable", name]));
    let short = |name: &str, requested: i64, used: i64, capacity: i64| {
        Err(Rejection {
            reason: format!("OutOf{name}"),
            message: format!(
                "Pod was rejected: Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            ),
        })
    };
    if let Some(pods) = capacity("pods")
        && others.len() as i64 + 1 > pods.value()
    {
        return short("pods", 1, others.len() as i64, pods.value());
    }
    for name in COUNTED {
        let (Some(wanted), Some(capacity)) = (total(pod, "requests", name), capacity(name)) else { continue };
        let used = others.iter().filter_map(|o| total(o, "requests", name)).fold(Quantity::ZERO, Quantity::plus);
        let number = |q: Quantity| if name == "cpu" { q.milli_value() } else { q.value() };
        if !wanted.is_zero() && number(wanted) + number(used) > number(capacity) {
            return short(name, number(wanted), number(used), number(capacity));
        }
    }
    Ok(())
}

fn matches_node(pod: &Value, node: &Value) -> bool {
    let labels = node.at(&["metadata", "labels"]);
    let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    let selector = pod.at(&["spec", "nodeSelector"]).and_then(Value::as_object);
    if selector.is_some_and(|s| s.iter().any(|(k, v)| label(k) != v.as_str())) {
        return false;
    }
    let path = ["spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];
    let Some(required) = pod.at(&path) else { return true };
    let holds = |e: &Value, value: Option<&str>| {
        let values = || e.list_at(&["values"]).iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        let number = || values().first().and_then(|v| v.parse().ok());
        let operator = match e.str_at(&["operator"]) {
            "In" => Some(Operator::In(values())),
            "NotIn" => Some(Operator::NotIn(values())),
            "Exists" => Some(Operator::Exists),
            "DoesNotExist" => Some(Operator::DoesNotExist),
            "Gt" => number().map(Operator::GreaterThan),
            "Lt" => number().map(Operator::LessThan),
            _ => None,
        };
        operator.is_some_and(|operator| Requirement { key: e.str_at(&["key"]).to_owned(), operator }.matches(value))
    };
    let name = node.str_at(&["metadata", "name"]);
    required.list_at(&["nodeSelectorTerms"]).iter().any(|term| {
        let (expressions, fields) = (term.list_at(&["matchExpressions"]), term.list_at(&["matchFields"]));
        let some = !expressions.is_empty() || !fields.is_empty();
        some && expressions.iter().all(|e| holds(e, label(e.str_at(&["key"]))))
            && fields.iter().all(|e| holds(e, Some(name)))
    })
}

struct Port {
    number: i64,
    protocol: String,
    ip: String,
}

impl Port {
    fn conflicts(&self, other: &Self) -> bool {
        let any = |p: &Self| matches!(p.ip.as_str(), "" | "0.0.0.0" | "::");
        self.number == other.number
            && self.protocol == other.protocol
            && (any(self) || any(other) || self.ip == other.ip)
    }
}

/// The host's ports that a pod takes.
fn ports(pod: &Value) -> Vec<Port> {
    let host = pod.bool_at(&["spec", "hostNetwork"]);
    let all = pod.list_at(&["spec", "containers"]).iter().chain(pod.list_at(&["spec", "initContainers"]));
    all.flat_map(|c| c.list_at(&["ports"]))
        .filter_map(|p| {
            let own = if host { p.int_at(&["containerPort"]) } else { None };
            let number = p.int_at(&["hostPort"]).filter(|n| *n > 0).or(own)?;
            Some(Port { number, protocol: p.str_at(&["protocol"]).to_owned(), ip: p.str_at(&["hostIP"]).to_owned() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    fn value(text: &str) -> Value {
        json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_refused_in_upstreams_words() {
        let node = value(
            r#"{"metadata":{"name":"n","labels":{"disk":"ssd"}},"status":{"allocatable":{"cpu":"2","memory":"1Gi","pods":"2"}}}"#,
        );
        let other = value(
            r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"1500m"}},"ports":[{"hostPort":80,"protocol":"TCP"}]}]}}"#,
        );
        let reason = |spec: &str| {
            let pod = value(&format!("{{\"spec\":{spec}}}"));
            admit(&pod, &[&other], &node).err().map(|r| r.reason).unwrap_or_default()
        };
        for (spec, want) in [
            (r#"{"containers":[{"resources":{"requests":{"cpu":"500m"}}}]}"#, ""),
            (r#"{"containers":[{"resources":{"requests":{"cpu":"501m"}}}]}"#, "OutOfcpu"),
            (r#"{"containers":[{"resources":{"requests":{"memory":"2Gi"}}}]}"#, "OutOfmemory"),
            (r#"{"nodeSelector":{"disk":"hdd"},"containers":[{}]}"#, "NodeAffinity"),
            (r#"{"containers":[{"ports":[{"hostPort":80,"protocol":"TCP","hostIP":"10.0.0.1"}]}]}"#, "NodePorts"),
            (r#"{"containers":[{"ports":[{"hostPort":80,"protocol":"UDP"}]}]}"#, ""),
            (r#"{"securityContext":{"sysctls":[{"name":"kernel.msgmax","value":"1"}]}}"#, "SysctlForbidden"),
            (r#"{"securityContext":{"sysctls":[{"name":"kernel.shm_rmid_forced","value":"1"}]}}"#, ""),
        ] {
            assert_eq!(reason(spec), want, "{spec}");
        }
        let pod = value(r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"1"}}}]}}"#);
        assert_eq!(
            admit(&pod, &[&other], &node).unwrap_err().message,
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000"
        );
    }

    #[test]
    fn required_affinity_is_asked_of_labels_and_of_the_name() {
        let node = value(r#"{"metadata":{"name":"n","labels":{"zone":"a"}}}"#);
        for (term, want) in [
            (r#"{"matchExpressions":[{"key":"zone","operator":"In","values":["a","b"]}]}"#, true),
            (r#"{"matchExpressions":[{"key":"zone","operator":"NotIn","values":["a"]}]}"#, false),
            (r#"{"matchFields":[{"key":"metadata.name","operator":"In","values":["n"]}]}"#, true),
            (r#"{"matchFields":[{"key":"metadata.name","operator":"In","values":["m"]}]}"#, false),
            ("{}", false),
        ] {
            let affinity = format!(
                r#"{{"spec":{{"affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":[{term}]}}}}}}}}}}"#
            );
            assert_eq!(matches_node(&value(&affinity), &node), want, "{term}");
        }
    }
}
