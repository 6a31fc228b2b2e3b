//! Bootstrap tokens: `cluster-info` is signed with them, and they go when they expire.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Map, Value, json};
use trireme_client::{Client, DeleteOptions, Entry, Informer, Key, Patch};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{Clock, Error};

const TYPE: &str = "bootstrap.kubernetes.io/token";
const TOKENS: &str = "kube-system";
const PUBLIC: &str = "kube-public";
const CLUSTER_INFO: &str = "cluster-info";
const KUBECONFIG: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";

/// A bootstrap token as its secret holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    id: String,
    secret: String,
    signs: bool,
    expires: Option<Timestamp>,
}

/// Reads a token; `None` for a secret that is none.
fn token(secret: &Secret) -> Option<Token> {
    if secret.type_.as_deref() != Some(TYPE) {
        return None;
    }
    let field = |name: &str| {
        let bytes = secret.data.as_ref()?.get(name)?;
        String::from_utf8(bytes.0.clone()).ok()
    };
    let id = field("token-id")?;
    let named = secret.metadata.name.as_deref() == Some(format!("bootstrap-token-{id}").as_str());
    let expires = field("expiration");
    // An expiration that cannot be read has expired: such a token must not live for ever.
    let expires = expires.map(|text| text.parse().unwrap_or(Timestamp::UNIX_EPOCH));
    let signs = field("usage-bootstrap-signing").as_deref() == Some("true");
    named.then_some(Token { id, secret: field("token-secret")?, signs, expires })
}

/// The detached JWS (RFC 7515 appendix F) of a text by a token.
fn signature(text: &str, token: &Token) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{}"}}"#, token.id));
    let payload = URL_SAFE_NO_PAD.encode(text);
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.secret.as_bytes());
    let tag = hmac::sign(&key, format!("{header}.{payload}").as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
}

/// The signatures that `cluster-info` should have.
fn signatures(kubeconfig: &str, tokens: &[Token], now: Timestamp) -> BTreeMap<String, String> {
    let valid = tokens.iter().filter(|token| token.signs && token.expires.is_none_or(|expires| expires > now));
    valid.map(|token| (format!("{SIGNATURE}{}", token.id), signature(kubeconfig, token))).collect()
}

/// Signs the public `cluster-info`, so that a joining machine can trust it by its token.
pub(crate) struct BootstrapSigner {
    client: Client,
    secrets: Informer<Secret>,
    maps: Informer<ConfigMap>,
    clock: Clock,
}

impl BootstrapSigner {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            secrets: context.informer(),
            maps: context.informer(),
            clock: context.clock.clone(),
        }
    }
}

fn is_token(entry: &Entry<Secret>) -> bool {
    &*entry.meta.key.namespace == TOKENS && entry.meta.key.name.starts_with("bootstrap-token-")
}

impl Controller for BootstrapSigner {
    const NAME: &'static str = "bootstrap-signer-controller";
    const ACCOUNT: Option<&'static str> = Some("bootstrap-signer");
    const WORKERS: usize = 1;

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        let info = Key::new(PUBLIC, CLUSTER_INFO);
        let touched = info.clone();
        watches.on(&self.maps, move |change| {
            let ours = change.latest().is_some_and(|entry| entry.meta.key == touched);
            if ours { vec![touched.clone()] } else { Vec::new() }
        });
        watches.on(&self.secrets, move |change| {
            if change.latest().is_some_and(|entry| is_token(entry)) { vec![info.clone()] } else { Vec::new() }
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.maps.find(key) else { return Ok(Requeue::Never) };
        let data = entry.decode()?.data.unwrap_or_default();
        let Some(kubeconfig) = data.get(KUBECONFIG) else { return Ok(Requeue::Never) };
        let mut tokens = Vec::new();
        for secret in self.secrets.in_namespace(TOKENS).iter().filter(|entry| is_token(entry)) {
            tokens.extend(token(&secret.decode()?));
        }
        let now = self.clock.now();
        let wanted = signatures(kubeconfig, &tokens, now);
        let mut change = Map::new();
        for name in data.keys().filter(|name| name.starts_with(SIGNATURE) && !wanted.contains_key(*name)) {
            change.insert(name.clone(), Value::Null);
        }
        for (name, signature) in wanted.iter().filter(|(name, signature)| data.get(*name) != Some(signature)) {
            change.insert(name.clone(), json!(signature));
        }
        if !change.is_empty() {
            let patch = Patch::Merge(json!({ "data": change }));
            self.client.namespaced::<ConfigMap>(PUBLIC).patch(CLUSTER_INFO, None, &patch).await?;
        }
        Ok(Requeue::Never)
    }
}

/// Deletes tokens that have expired.
pub(crate) struct TokenCleaner {
    client: Client,
    secrets: Informer<Secret>,
    clock: Clock,
}

impl TokenCleaner {
    pub(crate) fn new(context: &Context) -> Self {
        Self { client: context.client.clone(), secrets: context.informer(), clock: context.clock.clone() }
    }
}

impl Controller for TokenCleaner {
    const NAME: &'static str = "token-cleaner-controller";
    const ACCOUNT: Option<&'static str> = Some("token-cleaner");
    const WORKERS: usize = 1;

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on(&self.secrets, |change| {
            change.new.iter().filter(|entry| is_token(entry)).map(|entry| entry.meta.key.clone()).collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.secrets.find(key) else { return Ok(Requeue::Never) };
        let Some(expires) = token(&entry.decode()?).and_then(|token| token.expires) else {
            return Ok(Requeue::Never);
        };
        let left = expires.as_second() - self.clock.now().as_second();
        if left > 0 {
            return Ok(Requeue::seconds(left));
        }
        let options = DeleteOptions::default().uid(&*entry.meta.uid);
        self.client.namespaced::<Secret>(TOKENS).delete_if_present(&key.name, &options).await?;
        Ok(Requeue::Never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};
    use base64::engine::general_purpose::STANDARD;

    fn secret(id: &str, expires: &str) -> Value {
        let data = json!({
            "token-id": STANDARD.encode(id), "token-secret": STANDARD.encode("secret"),
            "usage-bootstrap-signing": STANDARD.encode("true"), "expiration": STANDARD.encode(expires),
        });
        json!({"metadata": {"name": format!("bootstrap-token-{id}"), "namespace": TOKENS}, "type": TYPE, "data": data})
    }

    #[tokio::test(start_paused = true)]
    async fn cluster_info_is_signed_by_living_tokens_and_expired_ones_go() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(BootstrapSigner::new(&context), context.shutdown.clone()));
        tokio::spawn(run(TokenCleaner::new(&context), context.shutdown.clone()));
        api.put::<ConfigMap>(json!({"metadata": {"name": CLUSTER_INFO, "namespace": PUBLIC},
            "data": {KUBECONFIG: "config", "jws-kubeconfig-forgot": "x"}}));
        api.put::<Secret>(secret("aaaaaa", "2027-01-01T00:00:00Z"));
        api.put::<Secret>(secret("bbbbbb", "2025-01-01T00:00:00Z"));
        let keys = || {
            let data = api.get::<ConfigMap>(PUBLIC, CLUSTER_INFO).unwrap().data.unwrap();
            data.into_keys().collect::<Vec<_>>()
        };
        eventually("the signature", || keys() == ["jws-kubeconfig-aaaaaa", KUBECONFIG]).await;
        eventually("one token", || api.all::<Secret>().len() == 1).await;
        let data = api.get::<ConfigMap>(PUBLIC, CLUSTER_INFO).unwrap().data.unwrap();
        let parts: Vec<&str> = data["jws-kubeconfig-aaaaaa"].split('.').collect();
        assert_eq!((parts.len(), parts[1]), (3, ""));
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[0]).unwrap(), br#"{"alg":"HS256","kid":"aaaaaa"}"#);
        context.shutdown.cancel();
    }
}
