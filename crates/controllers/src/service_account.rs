//! Every namespace has a service account `default`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use trireme_client::{Client, Informer, Key};

use crate::Error;
use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};

const DEFAULT: &str = "default";

pub(crate) struct ServiceAccounts {
    client: Client,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
}

impl ServiceAccounts {
    pub(crate) fn new(context: &Context) -> Self {
        Self { client: context.client.clone(), namespaces: context.informer(), accounts: context.informer() }
    }
}

impl Controller for ServiceAccounts {
    const NAME: &'static str = "serviceaccount-controller";
    const ACCOUNT: Option<&'static str> = Some("service-account-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.namespaces);
        watches.on(&self.accounts, |change| {
            let gone = change.old.as_ref().filter(|old| change.new.is_none() && &*old.meta.key.name == DEFAULT);
            gone.map(|old| Key::new("", &old.meta.key.namespace)).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let alive = self.namespaces.find(key).is_some_and(|namespace| !namespace.meta.deleting);
        if !alive || self.accounts.get(&key.name, DEFAULT).is_some() {
            return Ok(Requeue::Never);
        }
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(DEFAULT.to_owned()),
                namespace: Some(key.name.to_string()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        match self.client.namespaced::<ServiceAccount>(&key.name).create(&account).await {
            Ok(_) => Ok(Requeue::Never),
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found() => {
                Ok(Requeue::Never)
            }
            Err(error) => Err(error.into()),
        }
    }
}
