//! Whether the server of an APIService is there: its service, its endpoints, its answer (upstream's remote available
//! condition controller).

use super::condition::Availability;
use super::locate::{self, Backing};
use super::register::SERVICES;
use super::remote::Remote;
use super::service::Backend;
use super::write;
use crate::server::ApiServer;
use crate::user::User;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::sync::{Arc, Weak};
use std::time::Duration;
use trireme_client::Backoff;
use trireme_schema::Value;
use trireme_store::Store;

/// A server answers within this.
const WITHIN: Duration = Duration::from_secs(5);
/// So many ask at once, since behind one address there may be many servers; one that answers is enough.
const ATTEMPTS: usize = 5;
/// How soon a server that failed is asked again, at first and at last.
const AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(30));
/// A server is asked again after this, for the way to it may break without an event.
const RESYNC: Duration = Duration::from_secs(30);

/// Says of a server whether it is there, until its APIService is gone.
pub(super) async fn keep(server: Weak<ApiServer>, remote: Arc<Remote>) {
    let mut back_off = Backoff::new(AGAIN.0, AGAIN.1);
    loop {
        let Some(now) = server.upgrade() else { return };
        let revision = now.store.revision();
        let backing = Backing::of(&now, &remote.backend);
        let found = check(&now, &remote, &backing).await;
        let failed = found.reason == "FailedDiscoveryCheck";
        let wait = if say(&now, &remote, &found).await && !failed {
            back_off.reset();
            RESYNC
        } else {
            back_off.step()
        };
        let (stopping, store) = (now.stopping.clone(), now.store.clone());
        let seen = backing.revisions();
        drop(now);
        tokio::select! {
            () = stopping.cancelled() => return,
            () = remote.ended.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = remote.look.notified() => {}
            () = changed(&server, &store, &remote.backend, &seen, revision) => {}
        }
    }
}

/// Waits until the service or its slices are others than those that were seen.
async fn changed(server: &Weak<ApiServer>, store: &Store, backend: &Backend, seen: &[String], mut from: i64) {
    let topics = [store.topic("services"), store.topic("endpointslices.discovery.k8s.io")];
    let prefixes = [
        format!("services/{}/{}", backend.namespace, backend.name),
        // Slices are told apart by a label: those of others are looked at and passed over.
        format!("endpointslices.discovery.k8s.io/{}/", backend.namespace),
    ];
    loop {
        let open = |i: usize| {
            let (topic, prefix) = (topics.get(i)?, prefixes.get(i)?);
            topic.watch(prefix, from).or_else(|gone| topic.watch(prefix, gone.oldest)).ok()
        };
        let (Some(mut services), Some(mut slices)) = (open(0), open(1)) else { return };
        tokio::select! {
            _ = services.next() => {}
            _ = slices.next() => {}
        }
        let Some(server) = server.upgrade() else { return };
        from = store.revision();
        if Backing::of(&server, backend).revisions() != seen {
            return;
        }
    }
}

/// Writes what was found; false when that was refused.
async fn say(server: &Arc<ApiServer>, remote: &Remote, found: &Availability) -> bool {
    let name = remote.name();
    *remote.said.lock() = Some(found.clone());
    let Some(object) = server.read(SERVICES.0, SERVICES.1, "", &name) else { return true };
    server.aggregation.metrics.is(&name, found.is_true());
    if found.is_said_of(&object) {
        return true;
    }
    let was = super::service::ApiService::read(&object).available;
    let change = |old: &Value| {
        // It may have been led elsewhere meanwhile.
        let same = super::service::ApiService::read(old).backend.as_ref() == Some(&remote.backend);
        same.then(|| found.said_of(old))
    };
    match write::update(server, SERVICES, ("", &name, "status"), &change).await {
        Ok(()) => {
            if was && !found.is_true() {
                server.aggregation.metrics.unavailable(&name, found.reason);
            }
            tracing::debug!(
                name,
                status = found.status,
                reason = found.reason,
                message = found.message,
                "availability"
            );
            true
        }
        Err(status) => {
            tracing::debug!(name, %status, "the availability of an APIService is said again");
            false
        }
    }
}

async fn check(server: &ApiServer, remote: &Remote, backing: &Backing) -> Availability {
    if let Some(missing) = missing(backing, &remote.backend) {
        return missing;
    }
    let user = User { name: "system:kube-aggregator".into(), groups: vec!["system:masters".into()], ..User::default() };
    let mut attempts: FuturesUnordered<_> = (0..ATTEMPTS).map(|_| probe(server, remote, &user)).collect();
    let mut last = String::new();
    while let Some(result) = attempts.next().await {
        match result {
            Ok(()) => return Availability::passed(),
            Err(why) => last = why,
        }
    }
    Availability::new("False", "FailedDiscoveryCheck", last)
}

async fn probe(server: &ApiServer, remote: &Remote, user: &User) -> Result<(), String> {
    let url = remote.url(server)?;
    let answer = remote.ask(server, user, &remote.path(), &[], WITHIN).await;
    let failed = |why: String| format!("failing or missing response from {url}: {why}");
    match answer {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(failed(format!("bad status from {url}: {}", answer.status().as_u16()))),
        Err(why) => Err(failed(why)),
    }
}

/// What stands in the way before the server is asked at all.
fn missing(backing: &Backing, backend: &Backend) -> Option<Availability> {
    let (name, namespace) = (&backend.name, &backend.namespace);
    let Some(service) = &backing.service else {
        let message = format!("service/{name} in {namespace:?} is not present");
        return Some(Availability::new("False", "ServiceNotFound", message));
    };
    if service.str_at(&["spec", "type"]) != "ClusterIP" {
        return None;
    }
    let Some(port) = locate::port(service, backend.port) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {}", backend.port);
        return Some(Availability::new("False", "ServicePortError", message));
    };
    if backing.slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(Availability::new("False", "EndpointsNotFound", message));
    }
    let port = port.str_at(&["name"]);
    let serves = |slice: &Value| {
        let ready = slice.list_at(&["endpoints"]).iter().any(locate::is_ready);
        ready && slice.list_at(&["ports"]).iter().any(|p| p.str_at(&["name"]) == port && p.int_at(&["port"]).is_some())
    };
    if backing.slices.iter().any(serves) {
        return None;
    }
    let message =
        format!("endpointslices for service/{name} in {namespace:?} have no addresses with port name {port:?}");
    Some(Availability::new("False", "MissingEndpoints", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn what_is_missing_is_told_in_upstreams_words() {
        let backend =
            Backend { namespace: "n".into(), name: "s".into(), port: 443, authorities: Vec::new(), insecure: false };
        let value = |text: &str| json::parse(text.as_bytes()).unwrap();
        let service = r#"{"spec": {"type": "ClusterIP", "ports": [{"name": "p", "port": 443}]}}"#;
        let slice = |ready: &str, port: &str| {
            format!(
                r#"{{"endpoints": [{{"addresses": ["10.1.0.1"]{ready}}}], "ports": [{{"name": "{port}", "port": 1}}]}}"#
            )
        };
        let unready = r#", "conditions": {"ready": false}"#;
        for (service, slices, want) in [
            (None, vec![], Some(("ServiceNotFound", r#"service/s in "n" is not present"#))),
            (
                Some(r#"{"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}}"#),
                vec![],
                Some(("ServicePortError", r#"service/s in "n" is not listening on port 443"#)),
            ),
            (Some(service), vec![], Some(("EndpointsNotFound", r#"cannot find endpointslices for service/s in "n""#))),
            (
                Some(service),
                vec![slice(unready, "p"), slice("", "q")],
                Some((
                    "MissingEndpoints",
                    r#"endpointslices for service/s in "n" have no addresses with port name "p""#,
                )),
            ),
            (Some(service), vec![slice("", "p")], None),
            (Some(r#"{"spec": {"type": "ExternalName"}}"#), vec![], None),
        ] {
            let backing = Backing { service: service.map(value), slices: slices.iter().map(|s| value(s)).collect() };
            let found = missing(&backing, &backend);
            assert_eq!(found.as_ref().map(|f| (f.reason, f.message.as_str())), want);
        }
    }
}
