//! Numbers about requests, under upstream's names and with its labels.

use crate::measure::Family;
use crate::request::{Query, RequestInfo};
use crate::server::ApiServer;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of requests' durations, in seconds.
const DURATIONS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
/// Upper bounds of answers' sizes, in bytes.
const SIZES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const ATTEMPTS: &[f64] =
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];

/// What a request is about, as labels tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    verb: &'static str,
    dry_run: &'static str,
    scope: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
}

impl About {
    /// Whether it is a watch.
    pub(crate) fn is_watch(&self) -> bool {
        self.verb == "WATCH"
    }

    /// Whether it ends soon.
    pub(crate) fn is_short(&self) -> bool {
        !matches!(self.verb, "WATCH" | "CONNECT")
    }

    /// The labels of a request. Whatever is `known` to nobody has no labels of its own, for who asks chooses it.
    pub(crate) fn of(info: &RequestInfo, query: &Query, content_type: &str, known: bool) -> Self {
        let verb = match info.verb.as_str() {
            "get" | "head" => "GET",
            "list" => "LIST",
            "watch" => "WATCH",
            _ if matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy") => "CONNECT",
            "create" | "post" => "POST",
            "update" | "put" => "PUT",
            "patch" if content_type.starts_with("application/apply-patch") => "APPLY",
            "patch" => "PATCH",
            "delete" => "DELETE",
            "deletecollection" => "DELETECOLLECTION",
            "proxy" => "CONNECT",
            _ => "other",
        };
        let dry_run = if query.has("dryRun") { "All" } else { "" };
        if !info.is_resource || !known {
            return Self { verb, dry_run, ..Self::default() };
        }
        let scope = match (info.name.is_empty(), info.namespace.is_empty()) {
            (false, _) => "resource",
            (true, _) if info.verb == "create" => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        let text = |text: &String| text.clone();
        Self {
            verb,
            dry_run,
            scope,
            group: text(&info.group),
            version: text(&info.version),
            resource: text(&info.resource),
            subresource: text(&info.subresource),
        }
    }

    /// `component`, `group`, `resource`, `scope`, `subresource`, `verb`, `version`.
    fn labels(&self) -> [&str; 7] {
        ["apiserver", &self.group, &self.resource, self.scope, &self.subresource, self.verb, &self.version]
    }
}

const LABELS: &[&str] = &["component", "group", "resource", "scope", "subresource", "verb", "version"];

/// Numbers of requests.
pub struct Metrics {
    requests: Family,
    durations: Family,
    sli: Family,
    sizes: Family,
    long: Family,
    inflight: [Arc<AtomicI64>; 2],
    attempts: Family,
    attempt_durations: Family,
    users: Family,
}

impl Default for Metrics {
    fn default() -> Self {
        const DRY: &[&str] = &["component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"];
        const CODE: &[&str] =
            &["code", "component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"];
        Self {
            requests: Family::counter("apiserver_request_total", CODE, "Requests"),
            durations: Family::histogram("apiserver_request_duration_seconds", DRY, DURATIONS, "Time to answer"),
            sli: Family::histogram(
                "apiserver_request_sli_duration_seconds",
                LABELS,
                DURATIONS,
                "Time to answer without that of waiting for a seat",
            ),
            sizes: Family::histogram("apiserver_response_sizes", LABELS, SIZES, "Bytes of answers"),
            long: Family::gauge("apiserver_longrunning_requests", LABELS, "Watches that are open"),
            inflight: Default::default(),
            attempts: Family::counter("authentication_attempts", &["result"], "Requests whose users were looked for"),
            attempt_durations: Family::histogram(
                "authentication_duration_seconds",
                &["result"],
                ATTEMPTS,
                "Time to find a request's user",
            ),
            users: Family::counter("authenticated_user_requests", &["username"], "Requests of users, by their sort"),
        }
    }
}

/// A request that runs, until it is dropped.
pub(crate) struct Running(Arc<AtomicI64>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A watch that is open, until it is dropped.
pub(crate) struct Watches {
    server: Arc<ApiServer>,
    about: About,
}

impl Watches {
    pub(crate) fn begun(server: Arc<ApiServer>, about: About) -> Self {
        server.metrics.watches(&about, 1.0);
        Self { server, about }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.server.metrics.watches(&self.about, -1.0);
    }
}

impl Metrics {
    /// A request's user was looked for.
    pub(crate) fn authenticated(&self, user: Option<&str>, took: Duration) {
        let result = if user.is_some() { "success" } else { "failure" };
        self.attempts.add(&[result]);
        self.attempt_durations.observe(&[result], took.as_secs_f64());
        if let Some(user) = user {
            // As upstream: few names, and one for all others.
            let known = ["admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"];
            self.users.add(&[if known.contains(&user) { user } else { "other" }]);
        }
    }

    /// A request that ends soon has begun.
    pub(crate) fn begun(&self, about: &About) -> Running {
        let reads = matches!(about.verb, "GET" | "LIST");
        let [reading, writing] = &self.inflight;
        let counter = if reads { reading } else { writing };
        counter.fetch_add(1, Relaxed);
        Running(counter.clone())
    }

    /// A watch is open from now on, or no longer.
    fn watches(&self, about: &About, by: f64) {
        self.long.add_by(&about.labels(), by);
    }

    /// A request was answered; `waited` for a seat. The size of an answer that comes in pieces is not known.
    pub(crate) fn answered(&self, about: &About, code: u16, took: Duration, waited: Duration, size: Option<u64>) {
        let [component, group, resource, scope, subresource, verb, version] = about.labels();
        let code = code.to_string();
        let dry = about.dry_run;
        self.requests.add(&[&code, component, dry, group, resource, scope, subresource, verb, version]);
        // How long somebody watches says nothing of the server.
        if !about.is_short() {
            return;
        }
        let labels = [component, dry, group, resource, scope, subresource, verb, version];
        self.durations.observe(&labels, took.as_secs_f64());
        self.sli.observe(&about.labels(), took.saturating_sub(waited).as_secs_f64());
        if let Some(size) = size.filter(|_| matches!(verb, "GET" | "LIST")) {
            self.sizes.observe(&about.labels(), size as f64);
        }
    }

    /// The exposition.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let Self { requests, durations, sli, sizes, long, attempts, attempt_durations, users, .. } = self;
        for family in [requests, durations, sli, sizes, long, attempts, attempt_durations, users] {
            family.write(&mut out);
        }
        let inflight = Family::gauge("apiserver_current_inflight_requests", &["request_kind"], "Requests that run");
        for (kind, counter) in ["readOnly", "mutating"].into_iter().zip(&self.inflight) {
            inflight.set(&[kind], counter.load(Relaxed) as f64);
        }
        inflight.write(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(method: &str, url: &str, known: bool) -> About {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let query = Query::parse(query);
        let info = RequestInfo::read(&method.parse().unwrap(), path, &query);
        About::of(&info, &query, "application/apply-patch+yaml", known)
    }

    #[test]
    fn labels_are_upstreams() {
        for (method, url, verb, scope) in [
            ("GET", "/api/v1/pods", "LIST", "cluster"),
            ("GET", "/api/v1/namespaces/a/pods", "LIST", "namespace"),
            ("GET", "/api/v1/namespaces/a/pods/b", "GET", "resource"),
            ("POST", "/api/v1/namespaces/a/pods?dryRun=All", "POST", "resource"),
            ("PATCH", "/api/v1/namespaces/a/pods/b", "APPLY", "resource"),
            ("DELETE", "/api/v1/namespaces/a/pods", "DELETECOLLECTION", "namespace"),
            ("POST", "/api/v1/namespaces/a/pods/b/exec", "CONNECT", "resource"),
            ("GET", "/healthz", "GET", ""),
        ] {
            let about = about(method, url, true);
            assert_eq!((about.verb, about.scope), (verb, scope), "{method} {url}");
        }
        assert_eq!(about("GET", "/api/v1/no-such-thing-42", false).resource, "", "nobody makes up labels");
    }

    #[test]
    fn requests_are_counted_with_all_labels() {
        let metrics = Metrics::default();
        let list = about("GET", "/api/v1/pods", true);
        let running = metrics.begun(&list);
        metrics.answered(&list, 200, Duration::from_millis(30), Duration::from_millis(20), Some(10));
        let text = metrics.text();
        let labels = r#"component="apiserver",dry_run="",group="",resource="pods",scope="cluster",subresource="",verb="LIST",version="v1""#;
        for line in [
            format!("apiserver_request_total{{code=\"200\",{labels}}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.05\"}} 1"),
            format!(
                "apiserver_request_sli_duration_seconds_bucket{{{},le=\"0.025\"}} 1",
                labels.replace("dry_run=\"\",", "")
            ),
            "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1".to_owned(),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
        drop(running);
        assert!(metrics.text().contains("apiserver_current_inflight_requests{request_kind=\"readOnly\"} 0"));
    }
}
