use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use parking_lot::RwLock;
use trireme_client::{Change, Key};

use crate::selector::map_matches;

/// The selectors of all services, so that an event about a pod finds the services that it touches without decoding
/// them all.
#[derive(Clone, Default)]
pub(crate) struct ServiceSelectors(Arc<RwLock<HashMap<Box<str>, OfNamespace>>>);

/// Selectors by the name of their service.
type OfNamespace = HashMap<Box<str>, BTreeMap<String, String>>;

impl ServiceSelectors {
    /// Follows a change of a service.
    pub(crate) fn observe(&self, change: &Change<Service>) {
        let Some(latest) = change.latest() else { return };
        let key = &latest.meta.key;
        let service = change.new.as_ref().and_then(|entry| entry.decode().ok());
        let selector = service.and_then(|service| selector(&service).cloned());
        let mut all = self.0.write();
        let of_namespace = all.entry(key.namespace.clone()).or_default();
        match selector {
            Some(selector) => drop(of_namespace.insert(key.name.clone(), selector)),
            None => drop(of_namespace.remove(&key.name)),
        }
        if of_namespace.is_empty() {
            all.remove(&key.namespace);
        }
    }

    /// The services that a change of a pod touches: those that select it now or selected it before.
    pub(crate) fn touched(&self, change: &Change<Pod>) -> Vec<Key> {
        let Some(latest) = change.latest() else { return Vec::new() };
        let namespace = &latest.meta.key.namespace;
        let all = self.0.read();
        let states: Vec<_> = change.old.iter().chain(&change.new).collect();
        let selecting = all
            .get(namespace)
            .into_iter()
            .flatten()
            .filter(|(_, selector)| states.iter().any(|state| map_matches(selector, &state.meta)));
        selecting.map(|(name, _)| Key::new(namespace, name)).collect()
    }
}

/// The selector of a service whose endpoints are its pods: not of one without a selector (somebody else keeps its
/// endpoints), nor of one that is only a DNS alias.
pub(crate) fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName"))?;
    spec.selector.as_ref().filter(|selector| !selector.is_empty())
}
