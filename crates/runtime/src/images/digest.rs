//! Content addresses: the names of everything in the store.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A SHA-256 digest, written `sha256:<64 hex digits>` (OCI image-spec, descriptor.md). Registries serve no other
/// algorithm today; another one is refused by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon.
    #[error("invalid checksum digest format")]
    Format,
    /// The algorithm is another one.
    #[error("unsupported digest algorithm {0:?}")]
    Algorithm(String),
    /// The digits are not 64 lower-case hexadecimal ones.
    #[error("invalid checksum digest length or digits")]
    Digits,
}

/// Computes a digest piece by piece. By aws-lc-rs, which the binary has for TLS: several times faster than code
/// without assembly, and a layer is hashed twice on its way.
#[derive(Clone)]
pub struct Hasher(Context);

// === impl Digest ===

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Digest::from_output(digest(&SHA256, bytes).as_ref())
    }

    fn from_output(output: &[u8]) -> Self {
        let mut bytes = [0u8; 32];
        // SHA-256 gives 32 bytes.
        bytes.iter_mut().zip(output).for_each(|(to, from)| *to = *from);
        Digest(bytes)
    }

    /// The 64 digits without the algorithm: the name of the blob's file.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads the 64 digits without the algorithm.
    pub fn from_hex(digits: &str) -> Result<Self, DigestError> {
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(DigestError::Digits);
        }
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| DigestError::Digits)?;
        Ok(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, digits) = text.split_once(':').ok_or(DigestError::Format)?;
        if algorithm != "sha256" {
            return Err(DigestError::Algorithm(algorithm.to_owned()));
        }
        Digest::from_hex(digits)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

// === impl Hasher ===

impl Default for Hasher {
    fn default() -> Self {
        Hasher(Context::new(&SHA256))
    }
}

impl Hasher {
    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> Digest {
        Digest::from_output(self.0.finish().as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_its_text_and_refuses_others() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        assert_eq!("abc".parse::<Digest>(), Err(DigestError::Format));
        assert_eq!("md5:abc".parse::<Digest>(), Err(DigestError::Algorithm("md5".into())));
        assert_eq!("sha256:../../x".parse::<Digest>(), Err(DigestError::Digits));
        let upper = digest.to_string().to_uppercase().replace("SHA256", "sha256");
        assert_eq!(upper.parse::<Digest>(), Err(DigestError::Digits));
    }
}
