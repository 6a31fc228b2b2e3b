//! The webhooks that are configured, read once for each version of a configuration.

use crate::server::ApiServer;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use trireme_policies::Conditions;
use trireme_schema::json;
use trireme_store::Store;
use trireme_webhooks::admission::{Hook, Phase};
use trireme_webhooks::{Caller, Services};

/// A webhook with its conditions compiled.
#[derive(Debug)]
pub(super) struct Compiled {
    pub hook: Hook,
    pub conditions: Conditions,
}

/// What a configuration gave, and of which revision it was.
type Read = (i64, Arc<[Arc<Compiled>]>);

/// The webhooks that are configured, and who calls them.
pub(crate) struct Known {
    pub(crate) caller: Caller,
    /// By the configuration's key.
    read: Mutex<HashMap<Arc<str>, Read>>,
}

impl Known {
    /// None yet.
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { caller: Caller::new(services), read: Mutex::default() }
    }

    /// All webhooks of a phase: configurations by name, each one's webhooks in their order.
    pub(super) fn of(&self, server: &ApiServer, phase: Phase) -> Vec<Arc<Compiled>> {
        let plural = match phase {
            Phase::Mutating => "mutatingwebhookconfigurations",
            Phase::Validating => "validatingwebhookconfigurations",
        };
        let Some(served) = server.catalogue.stored("admissionregistration.k8s.io", plural) else { return Vec::new() };
        let snapshot = server.store.topic(&served.topic).snapshot();
        let mut all = Vec::new();
        let prefix = served.prefix("");
        let mut records = snapshot.range(&prefix, None).peekable();
        if records.peek().is_none() {
            return all;
        }
        let mut read = self.read.lock();
        let mut seen = 0;
        for record in records {
            seen += 1;
            let known = read.get(&record.key).filter(|(revision, _)| *revision == record.mod_revision);
            let hooks = match known {
                Some((_, hooks)) => hooks.clone(),
                None => {
                    let configuration = json::parse(&record.value).unwrap_or_default();
                    let compile = |hook: Hook| {
                        Arc::new(Compiled {
                            conditions: Conditions::of_webhook(hook.conditions.iter().map(|c| c.expression.as_str())),
                            hook,
                        })
                    };
                    let hooks: Arc<[_]> = Hook::all(&configuration).into_iter().map(compile).collect();
                    read.insert(record.key.clone(), (record.mod_revision, hooks.clone()));
                    hooks
                }
            };
            all.extend(hooks.iter().cloned());
        }
        // What was deleted is forgotten, by and by.
        if read.len() > 2 * seen + 64 {
            read.clear();
        }
        all
    }
}

/// Finds services in the store.
pub(crate) struct ServiceAddresses(pub Store);

impl Services for ServiceAddresses {
    fn address(&self, namespace: &str, name: &str) -> Result<IpAddr, String> {
        let record = self.0.get(&format!("services/{namespace}/{name}"));
        let record = record.ok_or_else(|| format!("service {name:?} not found"))?;
        let service = json::parse(&record.value).unwrap_or_default();
        match service.str_at(&["spec", "clusterIP"]) {
            "None" => Err("cannot route to service with ClusterIP \"None\"".into()),
            address => address.parse().map_err(|_| format!("service {name:?} has no cluster IP")),
        }
    }
}
