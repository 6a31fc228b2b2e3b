//! Every namespace has a config map `kube-root-ca.crt` with the authority by which pods trust the API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use trireme_client::{Client, Informer, Key, Patch};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{Error, Options};

const NAME: &str = "kube-root-ca.crt";
const FIELD: &str = "ca.crt";
const DESCRIPTION: (&str, &str) =
    ("kubernetes.io/description", "The certificates by which a pod verifies the API server's internal addresses.");

pub(crate) struct RootCa {
    client: Client,
    namespaces: Informer<Namespace>,
    maps: Informer<ConfigMap>,
    root_ca: String,
}

impl RootCa {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            namespaces: context.informer(),
            maps: context.informer(),
            root_ca: context.options.root_ca.clone(),
        }
    }
}

impl Controller for RootCa {
    const NAME: &'static str = "root-ca-certificate-publisher-controller";
    const ACCOUNT: Option<&'static str> = Some("root-ca-cert-publisher");

    fn enabled(options: &Options) -> bool {
        !options.root_ca.is_empty()
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.namespaces);
        watches.on(&self.maps, |change| {
            let ours = change.latest().filter(|map| &*map.meta.key.name == NAME);
            ours.map(|map| Key::new("", &map.meta.key.namespace)).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        if self.namespaces.find(key).is_none_or(|namespace| namespace.meta.deleting) {
            return Ok(Requeue::Never);
        }
        let maps = self.client.namespaced::<ConfigMap>(&key.name);
        let data: BTreeMap<String, String> = [(FIELD.to_owned(), self.root_ca.clone())].into();
        let result = match self.maps.get(&key.name, NAME) {
            Some(entry) if entry.decode()?.data.as_ref() == Some(&data) => return Ok(Requeue::Never),
            Some(entry) => {
                let old = entry.decode()?.data.unwrap_or_default();
                let mut wanted = json!(data);
                if let Some(fields) = wanted.as_object_mut() {
                    let foreign = old.into_keys().filter(|field| field != FIELD);
                    fields.extend(foreign.map(|field| (field, serde_json::Value::Null)));
                }
                maps.patch(NAME, None, &Patch::Merge(json!({ "data": wanted }))).await
            }
            None => {
                let annotations = [(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned())].into();
                let metadata = ObjectMeta {
                    name: Some(NAME.to_owned()),
                    namespace: Some(key.name.to_string()),
                    annotations: Some(annotations),
                    ..ObjectMeta::default()
                };
                maps.create(&ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }).await
            }
        };
        match result {
            Ok(_) => Ok(Requeue::Never),
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found() => {
                Ok(Requeue::Never)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};
    use k8s_openapi::api::core::v1::ServiceAccount;

    #[tokio::test]
    async fn every_namespace_gets_its_account_and_its_authority_and_keeps_them() {
        let api = FakeApi::default();
        let options = Options { root_ca: "PEM".into(), ..Options::default() };
        let context = api.context(options, clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(RootCa::new(&context), context.shutdown.clone()));
        let accounts = crate::service_account::ServiceAccounts::new(&context);
        tokio::spawn(run(accounts, context.shutdown.clone()));
        api.put::<Namespace>(json!({"metadata": {"name": "n"}}));
        let is_whole = || {
            let map = api.get::<ConfigMap>("n", NAME).and_then(|map| map.data);
            map.is_some_and(|data| data.len() == 1 && data[FIELD] == "PEM")
                && api.get::<ServiceAccount>("n", "default").is_some()
        };
        eventually("both", is_whole).await;
        api.change::<ConfigMap>("n", NAME, json!({"data": {FIELD: "forged", "more": "x"}}));
        api.remove::<ServiceAccount>("n", "default");
        eventually("both again", is_whole).await;
        context.shutdown.cancel();
    }
}
