//! Secrets of the type `kubernetes.io/service-account-token`: they are filled with a token that does not expire, and go
//! with their account.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::json;
use trireme_client::{Client, DeleteOptions, Informer, Key};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{Error, Options, merge_patch};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// The issuer of tokens that live in secrets.
const ISSUER: &str = "kubernetes/serviceaccount";
/// The DER of a P-256 public key before its 65 bytes of point (RFC 5480).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

pub(crate) struct ServiceAccountTokens {
    client: Client,
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
    signer: Result<Signer, String>,
    root_ca: String,
}

/// Signs tokens with the key by which the API server verifies them (RFC 7515, ES256).
struct Signer {
    pair: EcdsaKeyPair,
    key_id: String,
}

impl Signer {
    fn new(pem: &str) -> Result<Self, String> {
        let (_, der) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der.contents)
            .map_err(|error| error.to_string())?;
        let mut public = SPKI_PREFIX.to_vec();
        public.extend_from_slice(pair.public_key().as_ref());
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &public);
        Ok(Self { pair, key_id: URL_SAFE_NO_PAD.encode(digest) })
    }

    fn token(&self, namespace: &str, account: &str, uid: &str, secret: &str) -> Result<String, String> {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let claims = json!({
            "iss": ISSUER,
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": account,
            "kubernetes.io/serviceaccount/service-account.uid": uid,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
        });
        let encode = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature =
            self.pair.sign(&SystemRandom::new(), signed.as_bytes()).map_err(|_| "no random bytes".to_owned())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl ServiceAccountTokens {
    pub(crate) fn new(context: &Context) -> Self {
        let key = context.options.service_account_key.as_deref().unwrap_or_default();
        Self {
            client: context.client.clone(),
            secrets: context.informer(),
            accounts: context.informer(),
            signer: Signer::new(key),
            root_ca: context.options.root_ca.clone(),
        }
    }
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

impl Controller for ServiceAccountTokens {
    const NAME: &'static str = "serviceaccount-token-controller";
    const ACCOUNT: Option<&'static str> = None;

    fn enabled(options: &Options) -> bool {
        options.service_account_key.is_some()
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.secrets);
        let this = Arc::clone(self);
        watches.on(&self.accounts, move |change| {
            let Some(latest) = change.latest().filter(|_| change.old.is_none() || change.new.is_none()) else {
                return Vec::new();
            };
            let secrets = this.secrets.in_namespace(&latest.meta.key.namespace);
            let of_account = secrets.iter().filter(|entry| {
                entry.decode().is_ok_and(|secret| annotation(&secret, ACCOUNT) == Some(&*latest.meta.key.name))
            });
            of_account.map(|entry| entry.meta.key.clone()).collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.secrets.find(key).filter(|entry| !entry.meta.deleting) else {
            return Ok(Requeue::Never);
        };
        let secret = entry.decode()?;
        if secret.type_.as_deref() != Some(TYPE) {
            return Ok(Requeue::Never);
        }
        let Some(account) = annotation(&secret, ACCOUNT) else { return Ok(Requeue::Never) };
        let api = self.client.namespaced::<Secret>(&key.namespace);
        let known = self.accounts.get(&key.namespace, account).map(|entry| entry.meta.uid.to_string());
        let uid = match known {
            Some(uid) => Some(uid),
            None => {
                let live = self.client.namespaced::<ServiceAccount>(&key.namespace).find(account).await?;
                live.and_then(|live| live.metadata.uid)
            }
        };
        let of_another = annotation(&secret, ACCOUNT_UID).is_some_and(|wanted| Some(wanted) != uid.as_deref());
        let Some(uid) = uid.filter(|_| !of_another) else {
            api.delete_if_present(&key.name, &DeleteOptions::default().uid(&*entry.meta.uid)).await?;
            return Ok(Requeue::Never);
        };
        let mut new = secret.clone();
        let annotations = new.metadata.annotations.get_or_insert_default();
        annotations.insert(ACCOUNT_UID.to_owned(), uid.clone());
        let data: &mut BTreeMap<String, ByteString> = new.data.get_or_insert_default();
        if data.get("token").is_none_or(|token| token.0.is_empty()) {
            let signed = self.signer.as_ref().map_err(Clone::clone);
            let token = signed.and_then(|signer| signer.token(&key.namespace, account, &uid, &key.name));
            let invalid = |reason| Error::Invalid { object: "options".to_owned(), field: "serviceAccountKey", reason };
            data.insert("token".to_owned(), ByteString(token.map_err(invalid)?.into_bytes()));
        }
        data.insert("namespace".to_owned(), ByteString(key.namespace.as_bytes().to_vec()));
        if !self.root_ca.is_empty() {
            data.insert("ca.crt".to_owned(), ByteString(self.root_ca.clone().into_bytes()));
        }
        if let Some(patch) = merge_patch::object(&secret, &new)? {
            api.patch(&key.name, None, &patch).await?;
        }
        Ok(Requeue::Never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    fn key() -> String {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der = pair.to_pkcs8v1().unwrap();
        let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_filled_for_its_account_and_goes_with_it() {
        let api = FakeApi::default();
        let pem = key();
        let options = Options { service_account_key: Some(pem.clone()), root_ca: "CA".into(), ..Options::default() };
        let context = api.context(options, clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(ServiceAccountTokens::new(&context), context.shutdown.clone()));
        api.put::<ServiceAccount>(json!({"metadata": {"name": "robot", "namespace": "n", "uid": "u"}}));
        api.put::<Secret>(
            json!({"metadata": {"name": "s", "namespace": "n", "annotations": {ACCOUNT: "robot"}}, "type": TYPE}),
        );
        let data = || api.get::<Secret>("n", "s").and_then(|secret| secret.data).unwrap_or_default();
        eventually("the token", || data().len() == 3).await;
        assert_eq!(data()["namespace"].0, b"n");
        let token = String::from_utf8(data()["token"].0.clone()).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        assert_eq!(claims["sub"], "system:serviceaccount:n:robot");
        let signer = Signer::new(&pem).unwrap();
        let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, signer.pair.public_key().as_ref());
        let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        verifier.verify(format!("{}.{}", parts[0], parts[1]).as_bytes(), &signature).unwrap();
        api.remove::<ServiceAccount>("n", "robot");
        eventually("the end", || api.all::<Secret>().is_empty()).await;
        context.shutdown.cancel();
    }
}
