//! LimitRanger: what containers, pods and claims of a namespace ask for, and at most may.

use super::{Attributes, Operation};
use trireme_quota::{Amounts, Side, of_container, read, totals};
use trireme_schema::{Quantity, Status, Value};

fn ranges(attributes: &Attributes<'_>) -> Vec<Value> {
    attributes.server.read_all("", "limitranges", &attributes.target.namespace)
}

fn limits_of<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    range.list_at(&["spec", "limits"]).iter().filter(move |limit| limit.str_at(&["type"]) == kind)
}

/// Defaults for containers that say nothing, and an annotation that tells of them.
pub(super) fn defaults(attributes: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    if !attributes.creates("", "pods") {
        return Ok(());
    }
    for range in ranges(attributes) {
        let mut told = Vec::new();
        for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
            let containers = object.at_mut(&["spec", list]).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                for (from, side) in [("defaultRequest", Side::Requests), ("default", Side::Limits)] {
                    let set = fill_in(container, &range, from, side);
                    if !set.is_empty() {
                        let side = if side == Side::Requests { "request" } else { "limit" };
                        told.push(format!("{} {side} for {what} {}", set.join(", "), container.str_at(&["name"])));
                    }
                }
            }
        }
        if !told.is_empty() {
            let text = format!("LimitRanger plugin set: {}", told.join("; "));
            object.set_at(&["metadata", "annotations", "kubernetes.io/limit-ranger"], text);
        }
    }
    Ok(())
}

/// Gives a container a range's defaults; tells of which resources.
fn fill_in(container: &mut Value, range: &Value, from: &str, side: Side) -> Vec<String> {
    let mut set = Vec::new();
    for limit in limits_of(range, "Container") {
        let given = limit.at(&[from]).and_then(Value::as_object);
        for (resource, amount) in given.into_iter().flat_map(|m| m.iter()) {
            if container.at(&["resources", side.field(), resource]).is_none() {
                container.set_at(&["resources", side.field(), resource], amount.clone());
                set.push(resource.to_string());
            }
        }
    }
    set.sort();
    set
}

/// The bounds.
pub(super) fn bounds(attributes: &Attributes<'_>, object: &Value, _: Option<&Value>) -> Result<(), Status> {
    let pods = attributes.creates("", "pods")
        || (attributes.operation == Operation::Update && attributes.is("", "pods", "resize"));
    let claims = attributes.writes() && attributes.is("", "persistentvolumeclaims", "");
    if !pods && !claims {
        return Ok(());
    }
    for range in ranges(attributes) {
        let wrong = if pods { pod_errors(&range, object) } else { claim_errors(&range, object) };
        match &wrong[..] {
            [] => {}
            [only] => return Err(attributes.forbidden(object, only)),
            many => return Err(attributes.forbidden(object, &format!("[{}]", many.join(", ")))),
        }
    }
    Ok(())
}

/// What something asks for, of one kind of thing that is bounded.
struct Asked<'a> {
    kind: &'a str,
    requests: Amounts,
    limits: Amounts,
}

fn pod_errors(range: &Value, pod: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(spec) = pod.at(&["spec"]) else { return wrong };
    for limit in limits_of(range, "Container") {
        for container in ["containers", "initContainers"].into_iter().flat_map(|list| spec.list_at(&[list])) {
            let [requests, limits] = [Side::Requests, Side::Limits].map(|side| of_container(container, side));
            Asked { kind: "Container", requests, limits }.check(limit, &mut wrong);
        }
    }
    for limit in limits_of(range, "Pod") {
        let [requests, limits] = [Side::Requests, Side::Limits].map(|side| totals(spec, side));
        Asked { kind: "Pod", requests, limits }.check(limit, &mut wrong);
    }
    wrong
}

fn claim_errors(range: &Value, claim: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let requests = read(claim.at(&["spec", "resources", "requests"]));
    for limit in limits_of(range, "PersistentVolumeClaim") {
        let asked = Asked { kind: "PersistentVolumeClaim", requests: requests.clone(), limits: Amounts::new() };
        for (name, least) in &read(limit.at(&["min"])) {
            wrong.extend(asked.minimum(name, *least));
        }
        for (name, most) in &read(limit.at(&["max"])) {
            let start = format!("maximum {name} usage per {} is {most}", asked.kind);
            match asked.requests.get(name) {
                None => wrong.push(format!("{start}.  No request is specified")),
                Some(r) if r > most => wrong.push(format!("{start}, but request is {r}")),
                _ => {}
            }
        }
    }
    wrong
}

impl Asked<'_> {
    fn check(&self, limit: &Value, wrong: &mut Vec<String>) {
        for (name, least) in &read(limit.at(&["min"])) {
            wrong.extend(self.minimum(name, *least));
        }
        for (name, most) in &read(limit.at(&["max"])) {
            wrong.extend(self.maximum(name, *most));
        }
        for (name, ratio) in &read(limit.at(&["maxLimitRequestRatio"])) {
            wrong.extend(self.ratio(name, *ratio));
        }
    }

    fn minimum(&self, name: &str, least: Quantity) -> Option<String> {
        let start = format!("minimum {name} usage per {} is {least}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => Some(format!("{start}.  No request is specified")),
            (Some(r), _) if *r < least => Some(format!("{start}, but request is {r}")),
            (_, Some(l)) if *l < least => Some(format!("{start}, but limit is {l}")),
            _ => None,
        }
    }

    fn maximum(&self, name: &str, most: Quantity) -> Option<String> {
        let start = format!("maximum {name} usage per {} is {most}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (_, None) => Some(format!("{start}.  No limit is specified")),
            (_, Some(l)) if *l > most => Some(format!("{start}, but limit is {l}")),
            (Some(r), _) if *r > most => Some(format!("{start}, but request is {r}")),
            _ => None,
        }
    }

    fn ratio(&self, name: &str, most: Quantity) -> Option<String> {
        let start = format!("{name} max limit to request ratio per {} is {most}", self.kind);
        let given = |amounts: &Amounts| amounts.get(name).filter(|q| !q.is_zero()).map(Quantity::as_f64);
        let Some(request) = given(&self.requests) else {
            return Some(format!("{start}, but no request is specified or request is 0."));
        };
        let Some(limit) = given(&self.limits) else {
            return Some(format!("{start}, but no limit is specified or limit is 0."));
        };
        let ratio = limit / request;
        (ratio > most.as_f64()).then(|| format!("{start}, but provided ratio is {ratio:.6}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn bounds_are_told_as_upstream_tells_them() {
        let range = json::parse(
            br#"{"spec":{"limits":[{"type":"Container","min":{"cpu":"100m"},"maxLimitRequestRatio":{"memory":"2"}},
                {"type":"Pod","max":{"cpu":"1"}}]}}"#,
        )
        .unwrap();
        let pod = |resources: &str| {
            let text = format!(r#"{{"spec":{{"containers":[{{"name":"c","resources":{resources}}}]}}}}"#);
            pod_errors(&range, &json::parse(text.as_bytes()).unwrap())
        };
        let fine = r#"{"requests":{"cpu":"1","memory":"1Mi"},"limits":{"cpu":"1","memory":"2Mi"}}"#;
        assert_eq!(pod(fine), [""; 0]);
        assert_eq!(
            pod(r#"{"requests":{"cpu":"2","memory":"1Mi"},"limits":{"cpu":"2","memory":"10Mi"}}"#),
            [
                "memory max limit to request ratio per Container is 2, but provided ratio is 10.000000",
                "maximum cpu usage per Pod is 1, but limit is 2"
            ]
        );
        assert_eq!(pod(r#"{"requests":{"memory":"1"},"limits":{"memory":"1","cpu":"1"}}"#).len(), 1);
    }
}
