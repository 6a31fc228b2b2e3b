//! Ciphers with a key of ours.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead, KeyInit};

/// A value that cannot be sealed or opened.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub(crate) struct CipherError(pub(crate) &'static str);

const TORN: CipherError = CipherError("the value is damaged, or another key has sealed it");

/// A cipher and its key.
pub(crate) enum Cipher {
    Gcm(LessSafeKey),
    Cbc { encrypt: Box<PaddedBlockEncryptingKey>, decrypt: Box<PaddedBlockDecryptingKey> },
    SecretBox(Box<XSalsa20Poly1305>),
}

/// So many random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], CipherError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| CipherError("the system gives no random numbers"))?;
    Ok(bytes)
}

impl Cipher {
    /// AES in Galois counter mode, with a key of 16, 24 or 32 bytes.
    pub(crate) fn gcm(key: &[u8]) -> Option<Self> {
        let algorithm: &Algorithm = match key.len() {
            16 => &AES_128_GCM,
            24 => &AES_192_GCM,
            32 => &AES_256_GCM,
            _ => return None,
        };
        UnboundKey::new(algorithm, key).ok().map(|key| Self::Gcm(LessSafeKey::new(key)))
    }

    /// AES in cipher block chaining mode, with a key of 16, 24 or 32 bytes.
    pub(crate) fn cbc(key: &[u8]) -> Option<Self> {
        let algorithm = match key.len() {
            16 => &AES_128,
            24 => &AES_192,
            32 => &AES_256,
            _ => return None,
        };
        let unbound = || UnboundCipherKey::new(algorithm, key).ok();
        Some(Self::Cbc {
            encrypt: Box::new(PaddedBlockEncryptingKey::cbc_pkcs7(unbound()?).ok()?),
            decrypt: Box::new(PaddedBlockDecryptingKey::cbc_pkcs7(unbound()?).ok()?),
        })
    }

    /// XSalsa20 and Poly1305, with a key of 32 bytes.
    pub(crate) fn secret_box(key: &[u8]) -> Option<Self> {
        XSalsa20Poly1305::new_from_slice(key).ok().map(|key| Self::SecretBox(Box::new(key)))
    }

    /// Seals a value for its place, which GCM holds to.
    pub(crate) fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, CipherError> {
        const FAILED: CipherError = CipherError("the value cannot be sealed");
        match self {
            Self::Gcm(key) => {
                let nonce: [u8; NONCE_LEN] = random()?;
                let mut sealed = plain.to_vec();
                let at = Nonce::assume_unique_for_key(nonce);
                key.seal_in_place_append_tag(at, Aad::from(place), &mut sealed).map_err(|_| FAILED)?;
                Ok([&nonce[..], &sealed].concat())
            }
            Self::Cbc { encrypt, .. } => {
                let mut sealed = plain.to_vec();
                let context = encrypt.encrypt(&mut sealed).map_err(|_| FAILED)?;
                let start: &[u8] = (&context).try_into().map_err(|_| FAILED)?;
                Ok([start, &sealed].concat())
            }
            Self::SecretBox(key) => {
                let nonce: [u8; 24] = random()?;
                let sealed = key.encrypt((&nonce).into(), plain).map_err(|_| FAILED)?;
                Ok([&nonce[..], &sealed].concat())
            }
        }
    }

    /// Opens what was sealed for a place.
    pub(crate) fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
        match self {
            Self::Gcm(key) => {
                let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(TORN)?;
                let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| TORN)?;
                let mut bytes = sealed.to_vec();
                let plain = key.open_in_place(nonce, Aad::from(place), &mut bytes).map_err(|_| TORN)?.len();
                bytes.truncate(plain);
                Ok(bytes)
            }
            Self::Cbc { decrypt, .. } => {
                let (start, sealed) = sealed.split_first_chunk::<16>().ok_or(TORN)?;
                let mut bytes = sealed.to_vec();
                let context = DecryptionContext::Iv128(FixedLength::from(start));
                Ok(decrypt.decrypt(&mut bytes, context).map_err(|_| TORN)?.to_vec())
            }
            Self::SecretBox(key) => {
                let (nonce, sealed) = sealed.split_first_chunk::<24>().ok_or(TORN)?;
                key.decrypt(nonce.into(), sealed).map_err(|_| TORN)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_can_be_opened_with_the_same_key_alone() {
        type Make = fn(&[u8]) -> Option<Cipher>;
        let sorts: [(&str, Make, &[usize]); 3] = [
            ("gcm", Cipher::gcm, &[16, 24, 32]),
            ("cbc", Cipher::cbc, &[16, 24, 32]),
            ("box", Cipher::secret_box, &[32]),
        ];
        for (name, make, lengths) in sorts {
            assert!(make(&[1; 7]).is_none(), "{name}");
            for length in lengths {
                let (one, other) = (make(&vec![1; *length]).unwrap(), make(&vec![2; *length]).unwrap());
                for plain in [&b""[..], b"secret", &[7; 1000]] {
                    let sealed = one.seal(b"a", plain).unwrap();
                    assert_eq!(one.open(b"a", &sealed).unwrap(), plain, "{name} {length}");
                    assert_ne!(other.open(b"a", &sealed).ok().as_deref(), Some(plain), "{name} {length}");
                    assert_ne!(sealed, one.seal(b"a", plain).unwrap(), "each time anew");
                    let half = sealed.get(..sealed.len() / 2).unwrap();
                    assert_ne!(one.open(b"a", half).ok().as_deref(), Some(plain));
                }
            }
        }
    }

    #[test]
    fn gcm_holds_a_value_to_its_place() {
        let key = Cipher::gcm(&[1; 32]).unwrap();
        let sealed = key.seal(b"secrets/a/b", b"x").unwrap();
        assert!(key.open(b"secrets/a/c", &sealed).is_err());
    }
}
