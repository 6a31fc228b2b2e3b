use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::{Error, Purpose};

/// A certificate and its private key.
#[derive(Clone)]
pub struct Identity {
    /// PEM of the certificate chain, leaf first.
    pub certificate: String,
    /// PEM of the private key (PKCS #8).
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The certificates of a PEM text.
pub fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let refused = |reason: String| Error::Pem { what: what.to_owned(), reason };
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| refused(e.to_string()))?;
    if found.is_empty() { Err(refused("it holds no certificate".to_owned())) } else { Ok(found) }
}

impl Identity {
    /// The certificate chain for rustls.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        certificates(&self.certificate, "the certificate")
    }

    /// The private key for rustls.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|error| Error::Pem { what: "the private key".to_owned(), reason: error.to_string() })
    }

    fn leaf<T>(&self, read: impl FnOnce(&X509Certificate<'_>) -> T) -> Result<T, Error> {
        let chain = self.chain()?;
        let refused = |reason: String| Error::Pem { what: "the certificate".to_owned(), reason };
        let leaf = chain.first().ok_or_else(|| refused("it is empty".to_owned()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|error| refused(error.to_string()))?;
        Ok(read(&parsed))
    }

    /// When the certificate begins to be valid.
    pub fn begins(&self) -> Result<SystemTime, Error> {
        self.leaf(|leaf| system_time(leaf.validity().not_before.timestamp()))
    }

    /// When the certificate ends.
    pub fn expires(&self) -> Result<SystemTime, Error> {
        self.leaf(|leaf| system_time(leaf.validity().not_after.timestamp()))
    }

    /// How long until a new one should be made: a fifth of its life is left then, as kubelets have it (they take a point
    /// between 10 % and 30 %).
    pub fn until_due(&self, now: SystemTime) -> Result<Duration, Error> {
        let (begin, end) = (self.begins()?, self.expires()?);
        let life = end.duration_since(begin).unwrap_or_default();
        Ok((begin + life.mul_f64(0.8)).duration_since(now).unwrap_or_default())
    }

    /// The user that the certificate names.
    pub fn common_name(&self) -> Result<Option<String>, Error> {
        self.leaf(|leaf| leaf.subject().iter_common_name().next().and_then(|n| n.as_str().ok()).map(str::to_owned))
    }

    /// Whether the certificate names everything that it should.
    pub fn covers(&self, purpose: &Purpose) -> Result<bool, Error> {
        let Purpose::Server { names, addresses } = purpose else { return Ok(true) };
        if names.is_empty() && addresses.is_empty() {
            return Ok(true);
        }
        self.leaf(|leaf| {
            let Ok(Some(alternatives)) = leaf.subject_alternative_name() else { return false };
            let listed = &alternatives.value.general_names;
            let has_name = |name: &String| listed.iter().any(|n| matches!(n, GeneralName::DNSName(dns) if dns == name));
            let has_address = |address: &IpAddr| {
                let bytes = match address {
                    IpAddr::V4(v4) => v4.octets().to_vec(),
                    IpAddr::V6(v6) => v6.octets().to_vec(),
                };
                listed.iter().any(|n| matches!(n, GeneralName::IPAddress(ip) if **ip == *bytes))
            };
            names.iter().all(has_name) && addresses.iter().all(has_address)
        })
    }
}

fn system_time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// A certificate as PEM (RFC 7468).
pub fn to_pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, Subject};

    #[test]
    fn a_certificate_reads_as_it_was_written() {
        let authority = Authority::create("a").unwrap();
        let read = certificates(authority.certificate(), "it").unwrap();
        assert_eq!(certificates(&to_pem(&read[0]), "it").unwrap(), read);
    }

    #[test]
    fn a_certificate_says_whose_it_is_and_from_when() {
        let subject = Subject::new("system:node:a", &["system:nodes"]);
        let life = Duration::from_secs(3_600);
        let identity = Authority::create("a").unwrap().issue(&subject, &Purpose::Client, life).unwrap();
        assert_eq!(identity.common_name().unwrap().as_deref(), Some("system:node:a"));
        assert!(identity.begins().unwrap() < SystemTime::now());
    }

    #[test]
    fn a_certificate_is_due_when_a_fifth_of_its_life_is_left() {
        let life = Duration::from_secs(100_000);
        let identity = Authority::create("a").unwrap().issue(&Subject::new("n", &[]), &Purpose::Client, life).unwrap();
        let now = SystemTime::now();
        let wait = identity.until_due(now).unwrap();
        assert!(wait > Duration::from_secs(79_000) && wait < Duration::from_secs(80_500), "{wait:?}");
        assert!(identity.until_due(now + Duration::from_secs(90_000)).unwrap().is_zero());
    }
}
