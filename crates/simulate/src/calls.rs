//! Calls to the API, counted: which, with what answer, and how long it took.

use crate::Histogram;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Method;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trireme_client::{Error, Request, Response, Selection, Transport, WatchStream};

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Resource, with its subresource; empty for those that nodes do not use.
    pub resource: &'static str,
    /// What was asked for, in the API's words.
    pub verb: &'static str,
    /// The answer's code; none when there was no answer.
    pub code: Option<u16>,
}

/// All calls of a simulation.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: BTreeMap<Call, Histogram>,
    /// Since somebody looked last.
    recent: Histogram,
    watches: u64,
}

impl Calls {
    fn add(&self, call: Call, took: Duration) {
        let mut counts = self.0.lock();
        counts.all.entry(call).or_default().add(took);
        counts.recent.add(took);
    }

    /// All calls, and how many watches were opened.
    pub(crate) fn all(&self) -> (BTreeMap<Call, Histogram>, u64) {
        let counts = self.0.lock();
        (counts.all.clone(), counts.watches)
    }

    /// The calls since this was asked last.
    pub(crate) fn recent(&self) -> Histogram {
        std::mem::take(&mut self.0.lock().recent)
    }
}

/// A transport whose calls are counted.
pub(crate) struct Counted {
    pub(crate) inner: Arc<dyn Transport>,
    pub(crate) calls: Arc<Calls>,
}

impl Transport for Counted {
    fn send(&self, request: Request) -> BoxFuture<'static, Result<Response, Error>> {
        let calls = Arc::clone(&self.calls);
        let (resource, verb) = (resource(request.uri().path()), verb(request.method()));
        let answer = self.inner.send(request);
        let began = Instant::now();
        async move {
            let answer = answer.await;
            let code = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            calls.add(Call { resource, verb, code }, began.elapsed());
            answer
        }
        .boxed()
    }

    fn watch(&self, selection: Selection, since: Option<String>) -> WatchStream {
        self.calls.0.lock().watches += 1;
        self.inner.watch(selection, since)
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

fn resource(path: &str) -> &'static str {
    // /api/v1/nodes/NAME/status, /api/v1/namespaces/NS/pods/NAME, /apis/GROUP/VERSION/namespaces/NS/leases/NAME
    let mut parts = path.trim_matches('/').split('/').skip_while(|part| !is_version(part)).skip(1);
    let mut plural = parts.next().unwrap_or_default();
    if plural == "namespaces" {
        plural = parts.nth(1).unwrap_or("namespaces");
    }
    let status = parts.nth(1) == Some("status");
    match (plural, status) {
        ("nodes", false) => "nodes",
        ("nodes", true) => "nodes/status",
        ("pods", false) => "pods",
        ("pods", true) => "pods/status",
        ("leases", _) => "leases",
        _ => "",
    }
}

fn is_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart_by_what_they_are_about() {
        for (path, want) in [
            ("/api/v1/nodes", "nodes"),
            ("/api/v1/nodes/s-1", "nodes"),
            ("/api/v1/nodes/s-1/status", "nodes/status"),
            ("/api/v1/namespaces/n/pods/p", "pods"),
            ("/api/v1/namespaces/n/pods/p/status", "pods/status"),
            ("/api/v1/pods", "pods"),
            ("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/s-1", "leases"),
            ("/metrics", ""),
        ] {
            assert_eq!(resource(path), want, "{path}");
        }
    }

    #[test]
    fn what_is_recent_is_told_once() {
        let calls = Calls::default();
        let call = Call { resource: "pods", verb: "get", code: Some(200) };
        calls.add(call, Duration::from_millis(3));
        assert_eq!(calls.recent().count(), 1);
        assert_eq!(calls.recent().count(), 0);
        assert_eq!(calls.all().0.get(&call).map(Histogram::count), Some(1));
    }
}
