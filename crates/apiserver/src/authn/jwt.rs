//! JSON Web Tokens of others (RFC 7515, 7517, 7519): taken apart, and checked against a set of public keys.

use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use trireme_schema::{Value, json};

/// A token, taken apart and not trusted yet.
pub(super) struct Token {
    algorithm: String,
    pub(super) key_id: String,
    pub(super) claims: Value,
    signed: String,
    signature: Vec<u8>,
}

impl Token {
    /// Takes a token apart; `None` when it is none.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let part = |text: &str| json::parse(&URL_SAFE_NO_PAD.decode(text).ok()?).ok();
        let header = part(header)?;
        Some(Self {
            algorithm: header.str_at(&["alg"]).to_owned(),
            key_id: header.str_at(&["kid"]).to_owned(),
            claims: part(claims)?,
            signed: signed.to_owned(),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }
}

/// A public key.
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point, or an Ed25519 key, for one algorithm.
    Point {
        algorithm: &'static str,
        bytes: Vec<u8>,
    },
}

struct Key {
    id: String,
    /// The only algorithm that it is for; empty for any of its sort.
    algorithm: String,
    material: Material,
}

/// Public keys of an issuer.
#[derive(Default)]
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// Reads a JSON Web Key Set; keys that are not for signatures, or of no known sort, are left out.
    pub(super) fn read(set: &Value) -> Self {
        let key = |jwk: &Value| {
            if !matches!(jwk.str_at(&["use"]), "" | "sig") {
                return None;
            }
            let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk.str_at(&[name])).ok().filter(|b| !b.is_empty());
            let material = match (jwk.str_at(&["kty"]), jwk.str_at(&["crv"])) {
                ("RSA", _) => Material::Rsa { n: part("n")?, e: part("e")? },
                ("EC", curve) => {
                    let (algorithm, size) = match curve {
                        "P-256" => ("ES256", 32),
                        "P-384" => ("ES384", 48),
                        "P-521" => ("ES512", 66),
                        _ => return None,
                    };
                    // An uncompressed point; each half of its whole length.
                    let mut bytes = vec![4];
                    for half in [part("x")?, part("y")?] {
                        bytes.extend(std::iter::repeat_n(0, size - half.len().min(size)));
                        bytes.extend(half);
                    }
                    Material::Point { algorithm, bytes }
                }
                ("OKP", "Ed25519") => Material::Point { algorithm: "EdDSA", bytes: part("x")? },
                _ => return None,
            };
            let text = |name: &str| jwk.str_at(&[name]).to_owned();
            Some(Key { id: text("kid"), algorithm: text("alg"), material })
        };
        Self(set.list_at(&["keys"]).iter().filter_map(key).collect())
    }

    /// Whether there is a key of this id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| id.is_empty() || key.id == id)
    }

    /// Whether one of the keys has signed a token.
    pub(super) fn verify(&self, token: &Token) -> bool {
        let fits = |key: &&Key| {
            (token.key_id.is_empty() || key.id == token.key_id)
                && (key.algorithm.is_empty() || key.algorithm == token.algorithm)
        };
        self.0.iter().filter(fits).any(|key| key.material.verify(token))
    }
}

impl Material {
    fn verify(&self, token: &Token) -> bool {
        let (message, signature) = (token.signed.as_bytes(), token.signature.as_slice());
        match self {
            Self::Rsa { n, e } => {
                let parameters = match token.algorithm.as_str() {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            Self::Point { algorithm, bytes } => {
                let how: &'static dyn VerificationAlgorithm = match *algorithm {
                    "ES256" => &ECDSA_P256_SHA256_FIXED,
                    "ES384" => &ECDSA_P384_SHA384_FIXED,
                    "ES512" => &ECDSA_P521_SHA512_FIXED,
                    _ => &ED25519,
                };
                // The key says the algorithm, never the token.
                *algorithm == token.algorithm && UnparsedPublicKey::new(how, bytes).verify(message, signature).is_ok()
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

    /// A key pair that signs tokens.
    pub(crate) struct Signer(EcdsaKeyPair);

    impl Signer {
        pub(crate) fn new() -> Self {
            let document =
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
            Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap())
        }

        pub(crate) fn sign(&self, claims: &str) -> String {
            let signed = [r#"{"alg":"ES256","kid":"k"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
            let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
        }

        pub(crate) fn set(&self) -> String {
            let point = self.0.public_key().as_ref();
            let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
            format!(
                r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","use":"sig","x":"{}","y":"{}"}}]}}"#,
                part(1..33),
                part(33..65)
            )
        }
    }

    #[test]
    fn a_token_holds_only_as_it_was_signed() {
        let (signer, other) = (Signer::new(), Signer::new());
        let keys = |signer: &Signer| Keys::read(&json::parse(signer.set().as_bytes()).unwrap());
        let text = signer.sign(r#"{"sub":"a"}"#);
        let token = Token::read(&text).unwrap();
        assert!(keys(&signer).verify(&token) && !keys(&other).verify(&token));
        let (head, signature) = text.rsplit_once('.').unwrap();
        let forged = format!("{}.{}.{signature}", head.split('.').next().unwrap(), URL_SAFE_NO_PAD.encode("{}"));
        assert!(!keys(&signer).verify(&Token::read(&forged).unwrap()));
        for text in ["", "a.b", "a.b.c", "....", "e30.e30.é"] {
            assert!(Token::read(text).is_none(), "{text}");
        }
    }
}
