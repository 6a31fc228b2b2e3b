//! Service-account tokens: JSON Web Tokens signed with ECDSA P-256 (RFC 7519, KEP-1205).

use crate::server::{ApiServer, Config};
use crate::user::User;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use trireme_schema::{Map, Value, json};

/// What a token is bound to besides its account: it ends when that does.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    /// `Pod`, `Secret`, `Node`; empty for none.
    pub kind: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// The node of a pod, with its UID.
    pub node: Option<(String, String)>,
}

/// A new token.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// When it ends, in seconds since 1970.
    pub expires: i64,
}

/// Signs and verifies tokens.
pub struct TokenIssuer {
    key: EcdsaKeyPair,
    key_id: String,
    issuer: String,
    random: SystemRandom,
}

/// Whether an object should have been gone for a minute: its tokens end even where it stays (upstream's leeway).
fn is_long_deleted(object: &Value) -> bool {
    const LEEWAY: i64 = 60;
    let at = object.str_at(&["metadata", "deletionTimestamp"]);
    at.parse::<jiff::Timestamp>().is_ok_and(|at| at.as_second() + LEEWAY < jiff::Timestamp::now().as_second())
}

impl TokenIssuer {
    /// Reads the key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(config: &Config) -> Result<Self, String> {
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(config.service_account_key.as_bytes()).map_err(|e| e.to_string())?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
            .map_err(|e| e.to_string())?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.public_key().as_ref());
        let key_id = URL_SAFE_NO_PAD.encode(digest.as_ref());
        let issuer = format!("https://kubernetes.default.svc.{}", config.cluster_domain);
        Ok(Self { key, key_id, issuer, random: SystemRandom::new() })
    }

    /// The issuer, which is also the audience of tokens for this server.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The public keys as a JSON Web Key Set.
    pub fn key_set(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.key.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        let mut key = Map::from_iter([("use", "sig"), ("kty", "EC"), ("crv", "P-256"), ("alg", "ES256")]);
        key.insert("kid", self.key_id.as_str());
        key.insert("x", part(1..33));
        key.insert("y", part(33..65));
        Value::Object(Map::from_iter([("keys", vec![Value::Object(key)])]))
    }

    /// The OpenID Connect discovery document.
    pub fn discovery(&self, jwks: &str) -> Value {
        let mut map = Map::from_iter([("issuer", self.issuer.as_str()), ("jwks_uri", jwks)]);
        map.insert("response_types_supported", vec!["id_token"]);
        map.insert("subject_types_supported", vec!["public"]);
        map.insert("id_token_signing_alg_values_supported", vec!["ES256"]);
        Value::Object(map)
    }

    /// Signs a token for an account.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn issue(
        &self,
        (namespace, name, uid): (&str, &str, &str),
        audiences: &[String],
        bound: &Bound,
        seconds: i64,
    ) -> Result<Issued, String> {
        let now = jiff::Timestamp::now().as_second();
        let expires = now.saturating_add(seconds);
        let mut claims = Map::new();
        let audiences = if audiences.is_empty() { vec![self.issuer.clone()] } else { audiences.to_vec() };
        claims.insert("aud", audiences);
        claims.insert("exp", expires);
        claims.insert("iat", now);
        claims.insert("nbf", now);
        claims.insert("iss", self.issuer.as_str());
        claims.insert("jti", uuid::Uuid::new_v4().to_string());
        claims.insert("sub", format!("system:serviceaccount:{namespace}:{name}"));
        let mut own = Map::new();
        own.insert("namespace", namespace);
        own.insert("serviceaccount", Map::from_iter([("name", name), ("uid", uid)]));
        if !bound.kind.is_empty() {
            let reference = Map::from_iter([("name", bound.name.as_str()), ("uid", bound.uid.as_str())]);
            own.insert(bound.kind.to_lowercase(), reference);
        }
        if let Some((name, uid)) = &bound.node {
            own.insert("node", Map::from_iter([("name", name.as_str()), ("uid", uid.as_str())]));
        }
        claims.insert("kubernetes.io", own);
        let header = Map::from_iter([("alg", "ES256"), ("kid", self.key_id.as_str())]);
        let part = |map: Map| URL_SAFE_NO_PAD.encode(json::to_vec(&Value::Object(map)));
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&self.random, signed.as_bytes()).map_err(|_| "cannot sign a token".to_owned())?;
        Ok(Issued { token: format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())), expires })
    }

    /// The user of a token, and for which of the audiences it is meant.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn verify(&self, server: &ApiServer, token: &str, audiences: &[String]) -> Result<(User, Vec<String>), String> {
        let (signed, signature) = token.rsplit_once('.').ok_or("no JSON web token")?;
        let (header, claims) = signed.split_once('.').ok_or("no JSON web token")?;
        let part = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|e| e.to_string())?;
            json::parse(&bytes).map_err(|e| e.to_string())
        };
        // The algorithm is ours to choose, never the token's.
        if part(header)?.str_at(&["alg"]) != "ES256" {
            return Err("unknown algorithm".into());
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|e| e.to_string())?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| "bad signature")?;
        let claims = part(claims)?;
        if claims.str_at(&["iss"]) != self.issuer {
            return Err("another issuer".into());
        }
        let now = jiff::Timestamp::now().as_second();
        if claims.int_at(&["exp"]).is_none_or(|exp| exp <= now) {
            return Err("token has expired".into());
        }
        if claims.int_at(&["nbf"]).is_some_and(|nbf| nbf > now + 10) {
            return Err("token is not valid yet".into());
        }
        let given: Vec<&str> = claims.list_at(&["aud"]).iter().filter_map(Value::as_str).collect();
        let own = [self.issuer.clone()];
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        let meant: Vec<String> = wanted.iter().filter(|a| given.contains(&a.as_str())).cloned().collect();
        if meant.is_empty() {
            return Err(format!("token audiences {given:?} are others"));
        }
        let own = claims.get("kubernetes.io").ok_or("no service account")?;
        let (namespace, name) = (own.str_at(&["namespace"]), own.str_at(&["serviceaccount", "name"]));
        let uid = own.str_at(&["serviceaccount", "uid"]);
        let account = server.read("", "serviceaccounts", namespace, name).ok_or("the service account is gone")?;
        if account.str_at(&["metadata", "uid"]) != uid {
            return Err("the service account is another".into());
        }
        let mut user = User::new(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")],
        );
        user.uid = uid.to_owned();
        let mut extra = |key: &str, value: &str| {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        };
        if !claims.str_at(&["jti"]).is_empty() {
            extra("credential-id", &format!("JTI={}", claims.str_at(&["jti"])));
        }
        for (kind, plural) in [("pod", "pods"), ("secret", "secrets")] {
            let Some(reference) = own.get(kind) else { continue };
            let (name, uid) = (reference.str_at(&["name"]), reference.str_at(&["uid"]));
            let object = server.read("", plural, namespace, name).ok_or_else(|| format!("the {kind} is gone"))?;
            if object.str_at(&["metadata", "uid"]) != uid {
                return Err(format!("the {kind} is another"));
            }
            if is_long_deleted(&object) {
                return Err(format!("the {kind} has been deleted"));
            }
            if kind == "pod" {
                extra("pod-name", name);
                extra("pod-uid", uid);
            }
        }
        if let Some(node) = own.get("node") {
            let (name, uid) = (node.str_at(&["name"]), node.str_at(&["uid"]));
            // A token that is bound to the node itself ends with it (KEP-4193); one of a pod there does not.
            if own.get("pod").is_none() {
                let there = server.read("", "nodes", "", name).ok_or("the node is gone")?;
                if there.str_at(&["metadata", "uid"]) != uid {
                    return Err("the node is another".into());
                }
            }
            extra("node-name", name);
            extra("node-uid", uid);
        }
        Ok((user, meant))
    }
}
