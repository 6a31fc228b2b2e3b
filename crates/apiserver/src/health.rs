//! `/healthz`, `/livez`, `/readyz`, `/version`, `/metrics`.

use crate::answer::{self, Body};
use crate::request::{Query, RequestInfo};
use crate::server::ApiServer;
use http::Response;
use trireme_schema::{Map, Value};

const CHECKS: [&str; 4] = ["ping", "log", "store", "poststarthook/bootstrap"];

/// Answers the paths that are about the server itself; `None` for others.
pub fn answer(server: &ApiServer, info: &RequestInfo, query: &Query) -> Option<Response<Body>> {
    if !matches!(info.verb.as_str(), "get" | "head") {
        return None;
    }
    let path = info.path.trim_end_matches('/');
    match path {
        "/version" => return Some(version(server)),
        "/metrics" => {
            let mut text = server.metrics.text();
            server.flow.metrics(&mut text);
            server.policies.metrics(&mut text);
            server.aggregation.metrics.text(&mut text);
            server.authorization.metrics().write(&mut text);
            server.reloads.write(&mut text);
            server.own_metrics(&mut text);
            if let Some(audit) = &server.audit {
                audit.metrics(&mut text);
            }
            server.more_metrics.read().iter().for_each(|write| write(&mut text));
            return Some(answer::typed(
                200,
                "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
                answer::whole(text),
            ));
        }
        _ => {}
    }
    let (root, check) = ["/healthz", "/livez", "/readyz"]
        .into_iter()
        .find_map(|root| path.strip_prefix(root).map(|rest| (root, rest.trim_start_matches('/'))))?;
    let excluded = query.all("exclude");
    let checks: Vec<&str> = CHECKS.iter().copied().chain((root == "/readyz").then_some("shutdown")).collect();
    if !check.is_empty() {
        return checks.contains(&check).then(|| match holds(server, check) {
            true => answer::text(200, "ok"),
            false => answer::text(500, format!("internal server error: {check} failed\n")),
        });
    }
    let failed = checks.iter().any(|c| !excluded.iter().any(|e| e == c) && !holds(server, c));
    if !failed && !query.has("verbose") {
        return Some(answer::text(200, "ok"));
    }
    let mut text = String::new();
    for check in checks {
        let line = if excluded.iter().any(|e| e == check) {
            format!("[+]{check} excluded: ok\n")
        } else if holds(server, check) {
            format!("[+]{check} ok\n")
        } else {
            format!("[-]{check} failed: reason withheld\n")
        };
        text.push_str(&line);
    }
    let name = root.trim_start_matches('/');
    text.push_str(&format!("{name} check {}\n", if failed { "failed" } else { "passed" }));
    Some(answer::text(if failed { 500 } else { 200 }, text))
}

fn holds(server: &ApiServer, check: &str) -> bool {
    check != "shutdown" || !server.stopping.is_cancelled()
}

fn version(server: &ApiServer) -> Response<Body> {
    let text = answer::pretty(&trireme_schema::json::to_vec(&version_value(server)));
    answer::typed(200, "application/json", answer::whole(text))
}

/// As Go names it: `linux/amd64`.
pub(crate) fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{arch}")
}

fn version_value(server: &ApiServer) -> Value {
    let version = &server.config.version;
    let minor = version.split('.').nth(1).unwrap_or_default();
    let platform = platform();
    let fields = [
        ("major", "1"),
        ("minor", minor),
        ("emulationMajor", "1"),
        ("emulationMinor", minor),
        ("minCompatibilityMajor", "1"),
        ("minCompatibilityMinor", "35"),
        ("gitVersion", version.as_str()),
        ("gitCommit", ""),
        ("gitTreeState", ""),
        ("buildDate", ""),
        ("goVersion", ""),
        ("compiler", "rustc"),
        ("platform", platform.as_str()),
    ];
    Value::Object(Map::from_iter(fields))
}
