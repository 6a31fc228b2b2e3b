//! Where the server of an APIService is reached.

use super::service::Backend;
use crate::server::ApiServer;
use rand::seq::IteratorRandom;
use trireme_schema::Value;

/// How services are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// By their cluster address, which the service proxy of this machine leads to an endpoint.
    #[default]
    ClusterAddress,
    /// By an endpoint that is ready, for servers on machines without a service proxy (`--enable-aggregator-routing`).
    Endpoint,
}

/// A service with its slices, as they are now.
#[derive(Clone, Debug, Default)]
pub(super) struct Backing {
    pub service: Option<Value>,
    pub slices: Vec<Value>,
}

impl Backing {
    pub fn of(server: &ApiServer, backend: &Backend) -> Self {
        let service = server.read("", "services", &backend.namespace, &backend.name);
        let is_of = |slice: &Value| slice.str_at(&["metadata", "labels", "kubernetes.io/service-name"]) == backend.name;
        let slices = server.read_all("discovery.k8s.io", "endpointslices", &backend.namespace);
        Self { service, slices: slices.into_iter().filter(is_of).collect() }
    }

    /// The revisions of all of it: while they stay, nothing has changed.
    pub fn revisions(&self) -> Vec<String> {
        let revision = |object: &Value| object.str_at(&["metadata", "resourceVersion"]).to_owned();
        self.service.iter().chain(&self.slices).map(revision).collect()
    }

    /// Host and port.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn authority(&self, backend: &Backend, routing: Routing) -> Result<String, String> {
        let service = self.service.as_ref().ok_or_else(|| format!("service {:?} not found", backend.name))?;
        let kind = service.str_at(&["spec", "type"]);
        match (kind, routing) {
            ("ExternalName", Routing::ClusterAddress) => {
                Ok(host_port(service.str_at(&["spec", "externalName"]), backend.port.into()))
            }
            ("ClusterIP" | "NodePort" | "LoadBalancer", _) => {
                let address = service.str_at(&["spec", "clusterIP"]);
                if routing == Routing::ClusterAddress && kind == "ClusterIP" && address == "None" {
                    return Err("cannot route to service with ClusterIP \"None\"".into());
                }
                let port = port(service, backend.port);
                let missing = || format!("no service port {} found for service {:?}", backend.port, backend.name);
                let port = port.ok_or_else(missing)?;
                match routing {
                    Routing::ClusterAddress => Ok(host_port(address, backend.port.into())),
                    Routing::Endpoint => self
                        .endpoint(service, port.str_at(&["name"]))
                        .ok_or_else(|| format!("no endpoints available for service {:?}", backend.name)),
                }
            }
            (kind, _) => Err(format!("unsupported service type {kind:?}")),
        }
    }

    /// One of the endpoints that are ready, in the service's first family if there is one.
    fn endpoint(&self, service: &Value, port: &str) -> Option<String> {
        let family = service.list_at(&["spec", "ipFamilies"]).first().and_then(Value::as_str).unwrap_or_default();
        let in_family = |yes: bool| {
            let slices = self.slices.iter().filter(move |s| (s.str_at(&["addressType"]) == family) == yes);
            let all = slices.flat_map(|slice| {
                let port = slice.list_at(&["ports"]).iter().find(|p| p.str_at(&["name"]) == port);
                let number = port.and_then(|p| p.int_at(&["port"]));
                let ready = slice.list_at(&["endpoints"]).iter().filter(|e| is_ready(e));
                ready.filter_map(move |e| Some(host_port(e.list_at(&["addresses"]).first()?.as_str()?, number?)))
            });
            all.choose(&mut rand::rng())
        };
        in_family(true).or_else(|| in_family(false))
    }
}

/// The port of a service with a number.
pub(super) fn port(service: &Value, number: u16) -> Option<&Value> {
    service.list_at(&["spec", "ports"]).iter().find(|p| p.int_at(&["port"]) == Some(i64::from(number)))
}

/// Whether an endpoint takes connections; who does not say does.
pub(super) fn is_ready(endpoint: &Value) -> bool {
    endpoint.at(&["conditions", "ready"]).and_then(Value::as_bool).unwrap_or(true)
}

fn host_port(host: &str, port: i64) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    fn value(text: &str) -> Value {
        json::parse(text.as_bytes()).unwrap()
    }

    fn authority(service: &str, slices: &[&str], routing: Routing) -> Result<String, String> {
        let backing = Backing {
            service: Some(value(service)).filter(|s| !s.is_null()),
            slices: slices.iter().map(|s| value(s)).collect(),
        };
        let backend =
            Backend { namespace: "n".into(), name: "s".into(), port: 443, authorities: Vec::new(), insecure: false };
        backing.authority(&backend, routing)
    }

    #[test]
    fn services_are_reached_as_upstream_reaches_them() {
        let cluster = r#"{"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "ports": [{"name": "a", "port": 443}]}}"#;
        let by_address = |service: &str| authority(service, &[], Routing::ClusterAddress);
        assert_eq!(by_address(cluster), Ok("10.0.0.1:443".into()));
        let six = r#"{"spec": {"type": "NodePort", "clusterIP": "fd00::1", "ports": [{"port": 443}]}}"#;
        assert_eq!(by_address(six), Ok("[fd00::1]:443".into()));
        let external = r#"{"spec": {"type": "ExternalName", "externalName": "example.com"}}"#;
        assert_eq!(by_address(external), Ok("example.com:443".into()));
        for (service, why) in [
            ("null", "service \"s\" not found"),
            (
                r#"{"spec": {"type": "ClusterIP", "clusterIP": "None"}}"#,
                "cannot route to service with ClusterIP \"None\"",
            ),
            (
                r#"{"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1"}}"#,
                "no service port 443 found for service \"s\"",
            ),
            (r#"{"spec": {"type": "X"}}"#, "unsupported service type \"X\""),
        ] {
            assert_eq!(by_address(service), Err(why.into()));
        }
        let slice = |ready: bool, port: &str, address: &str, kind: &str| {
            format!(
                r#"{{"addressType": "{kind}", "ports": [{{"name": "{port}", "port": 8443}}], "endpoints": [{{"addresses": ["{address}"], "conditions": {{"ready": {ready}}}}}]}}"#
            )
        };
        let by_endpoint = |slices: &[String]| {
            let slices: Vec<&str> = slices.iter().map(String::as_str).collect();
            authority(cluster, &slices, Routing::Endpoint)
        };
        let none = Err("no endpoints available for service \"s\"".to_owned());
        assert_eq!(by_endpoint(&[slice(false, "a", "10.1.0.1", "IPv4"), slice(true, "b", "10.1.0.2", "IPv4")]), none);
        let both = [slice(true, "a", "fd00::2", "IPv6"), slice(true, "a", "10.1.0.1", "IPv4")];
        assert_eq!(by_endpoint(&both), Ok("10.1.0.1:8443".into()));
        assert_eq!(by_endpoint(&both[..1]), Ok("[fd00::2]:8443".into()));
        assert!(authority(external, &[], Routing::Endpoint).unwrap_err().contains("unsupported service type"));
    }
}
