//! Requests that open a stream to something that runs, or pass through to it, as admission sees them.

use crate::admission::{self, Attributes, Operation};
use crate::registry::Target;
use crate::request::{Query, RequestInfo};
use crate::server::ApiServer;
use trireme_schema::{Map, Status, Value};

/// Lets a request pass or not.
///
/// # Errors
/// What admission refuses.
pub(crate) async fn admit(
    server: &ApiServer,
    target: &Target,
    info: &RequestInfo,
    query: &Query,
) -> Result<(), Status> {
    let attributes = Attributes::new(server, target, Operation::Connect);
    admission::validate(&attributes, &options(target, info, query), None).await
}

/// What is asked of a subresource, as an object (`PodExecOptions` and its like); null where there is no such kind.
fn options(target: &Target, info: &RequestInfo, query: &Query) -> Value {
    let of = target.served.resource.subresources.iter().find(|s| s.name == target.subresource);
    let Some(kind) = of.map(|s| s.kind.as_str()).filter(|kind| kind.ends_with("Options")) else { return Value::Null };
    let mut options = Map::from_iter([("apiVersion", "v1"), ("kind", kind)]);
    let flags: &[&str] = match kind {
        "PodExecOptions" | "PodAttachOptions" => &["stdin", "stdout", "stderr", "tty"],
        _ => &[],
    };
    for flag in flags.iter().filter(|flag| query.flag(flag)) {
        options.insert(*flag, true);
    }
    let mut text = |name: &str, text: &str| {
        if !text.is_empty() {
            options.insert(name, text);
        }
    };
    match kind {
        "PodExecOptions" | "PodAttachOptions" => text("container", query.get("container")),
        "PodProxyOptions" | "ServiceProxyOptions" | "NodeProxyOptions" => text("path", &info.rest),
        _ => {}
    }
    if kind == "PodExecOptions" && query.has("command") {
        options.insert("command", query.all("command").to_vec());
    }
    let ports: Vec<Value> = query
        .all("ports")
        .iter()
        .filter_map(|port| port.parse::<i32>().ok())
        .map(|port| i64::from(port).into())
        .collect();
    if kind == "PodPortForwardOptions" && !ports.is_empty() {
        options.insert("ports", Value::Array(ports));
    }
    Value::Object(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;
    use crate::notes::Notes;
    use crate::user::User;
    use crate::warnings::Warnings;
    use std::sync::Arc;
    use trireme_schema::value;

    #[test]
    fn what_is_asked_is_an_object() {
        let options = |path: &str, text: &str| {
            let query = Query::parse(text);
            let info = RequestInfo::read(&http::Method::POST, path, &query);
            let served = Catalogue::builtin().find(&info.group, &info.version, &info.resource).unwrap();
            let target = Target {
                served,
                namespace: info.namespace.clone(),
                name: info.name.clone(),
                subresource: info.subresource.clone(),
                user: Arc::new(User::default()),
                warnings: Warnings::default(),
                empty: Default::default(),
                notes: Notes::default(),
            };
            super::options(&target, &info, &query)
        };
        let exec = "/api/v1/namespaces/n/pods/p/exec";
        assert_eq!(
            options(exec, "command=a&command=b&stdin=1&stdout=false&container=c"),
            value!({"apiVersion": "v1", "kind": "PodExecOptions", "command": ["a", "b"], "stdin": true, "container": "c"})
        );
        let proxy = "/api/v1/namespaces/n/services/s/proxy/a/b";
        let got = options(proxy, "");
        assert_eq!(
            (got.str_at(&["kind"]), got.str_at(&["path"]).trim_start_matches('/')),
            ("ServiceProxyOptions", "a/b")
        );
        let ports = options("/api/v1/namespaces/n/pods/p/portforward", "ports=80&ports=x");
        assert_eq!(ports, value!({"apiVersion": "v1", "kind": "PodPortForwardOptions", "ports": [80]}));
    }
}
