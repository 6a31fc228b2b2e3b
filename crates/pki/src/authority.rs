use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use crate::{Error, Identity};

/// Ten years, for authorities.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3_650 * 86_400);
/// Certificates are valid from a little before they are made, for clocks that are behind: so long, and at most a tenth
/// of their life.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A certificate authority.
pub struct Authority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Whom a certificate names: a Kubernetes user and his groups.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Common name: the user.
    pub common_name: String,
    /// Organizations: the groups.
    pub organizations: Vec<String>,
}

/// What a certificate is for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// A client proves who it is.
    Client,
    /// A server proves that it has these names and addresses.
    Server {
        /// DNS names.
        names: Vec<String>,
        /// Addresses.
        addresses: Vec<IpAddr>,
    },
}

/// A key usage of the certificates API (`certificates.k8s.io/v1` KeyUsage) that we sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// `digital signature`.
    DigitalSignature,
    /// `key encipherment`.
    KeyEncipherment,
    /// `client auth`.
    ClientAuth,
    /// `server auth`.
    ServerAuth,
}

impl Subject {
    /// A user in groups.
    pub fn new(common_name: &str, organizations: &[&str]) -> Self {
        Self {
            common_name: common_name.to_owned(),
            organizations: organizations.iter().map(|group| (*group).to_owned()).collect(),
        }
    }

    fn distinguished_name(&self) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        for organization in &self.organizations {
            name.push(DnType::OrganizationName, organization.as_str());
        }
        name.push(DnType::CommonName, self.common_name.as_str());
        name
    }

    fn failed(&self) -> impl FnOnce(rcgen::Error) -> Error {
        let subject = self.common_name.clone();
        move |source| Error::Certificate { subject, source }
    }
}

fn valid_for(params: &mut CertificateParams, life: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_SKEW.min(life / 10);
    params.not_after = now + life;
}

fn parameters(subject: &Subject, purpose: &Purpose) -> Result<CertificateParams, Error> {
    let (names, addresses) = match purpose {
        Purpose::Client => (Vec::new(), [].as_slice()),
        Purpose::Server { names, addresses } => (names.clone(), addresses.as_slice()),
    };
    let mut params = CertificateParams::new(names).map_err(subject.failed())?;
    params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
    params.distinguished_name = subject.distinguished_name();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![match purpose {
        Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Purpose::Server { .. } => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    Ok(params)
}

/// Makes a key and a certificate signing request for it, both PEM: (request, key).
pub fn request(subject: &Subject, purpose: &Purpose) -> Result<(String, String), Error> {
    let key = KeyPair::generate().map_err(subject.failed())?;
    let mut params = parameters(subject, purpose)?;
    // Usages are asked for in the object that carries the request, not in the request itself.
    params.key_usages.clear();
    params.extended_key_usages.clear();
    let request = params.serialize_request(&key).and_then(|request| request.pem()).map_err(subject.failed())?;
    Ok((request, key.serialize_pem()))
}

impl Authority {
    /// Makes a new authority.
    pub fn create(common_name: &str) -> Result<Self, Error> {
        let subject = Subject::new(common_name, &[]);
        let key = KeyPair::generate().map_err(subject.failed())?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject.distinguished_name();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
        valid_for(&mut params, AUTHORITY_LIFE);
        let certificate = params.self_signed(&key).map_err(subject.failed())?.pem();
        Self::load(certificate, key.serialize_pem())
    }

    /// Takes an existing authority, both PEM.
    pub fn load(certificate: String, key: String) -> Result<Self, Error> {
        let refused = |what: &str| {
            let what = what.to_owned();
            move |error: rcgen::Error| Error::Pem { what, reason: error.to_string() }
        };
        let pair = KeyPair::from_pem(&key).map_err(refused("the authority's key"))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, pair).map_err(refused("the authority's certificate"))?;
        Ok(Self { certificate, key, issuer })
    }

    /// PEM of the authority's own certificate.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// PEM of the authority's private key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Makes a key and a certificate for it.
    pub fn issue(&self, subject: &Subject, purpose: &Purpose, life: Duration) -> Result<Identity, Error> {
        let key = KeyPair::generate().map_err(subject.failed())?;
        let mut params = parameters(subject, purpose)?;
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, life);
        let certificate = params.signed_by(&key, &self.issuer).map_err(subject.failed())?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Signs a request (PEM) for the subject and the names that it asks for, with the usages given here, and gives the
    /// certificate as PEM. The caller has checked that the requester may have that subject.
    pub fn sign(&self, request: &str, usages: &[Usage], life: Duration) -> Result<String, Error> {
        let refused = |error: rcgen::Error| Error::Request(error.to_string());
        let mut request = CertificateSigningRequestParams::from_pem(request).map_err(refused)?;
        let params = &mut request.params;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages.clear();
        params.extended_key_usages.clear();
        for usage in usages {
            match usage {
                Usage::DigitalSignature => params.key_usages.push(KeyUsagePurpose::DigitalSignature),
                Usage::KeyEncipherment => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
                Usage::ClientAuth => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth),
                Usage::ServerAuth => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth),
            }
        }
        valid_for(params, life);
        Ok(request.signed_by(&self.issuer).map_err(refused)?.pem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, X509Certificate};

    #[test]
    fn a_signed_request_keeps_subject_and_names_and_gets_the_usages_of_the_signer() {
        let authority = Authority::create("test-ca").unwrap();
        let subject = Subject::new("system:node:a", &["system:nodes"]);
        let purpose = Purpose::Server { names: vec!["a".into()], addresses: vec!["10.0.0.1".parse().unwrap()] };
        let (request, key) = request(&subject, &purpose).unwrap();
        let usages = [Usage::DigitalSignature, Usage::ServerAuth];
        let certificate = authority.sign(&request, &usages, Duration::from_secs(3_600)).unwrap();
        let identity = Identity { certificate, key };
        identity.private_key().unwrap();
        let chain = identity.chain().unwrap();
        let (_, parsed) = X509Certificate::from_der(&chain[0]).unwrap();
        assert_eq!(parsed.subject().to_string(), "O=system:nodes, CN=system:node:a");
        assert!(!parsed.is_ca());
        assert!(parsed.extended_key_usage().unwrap().unwrap().value.server_auth);
        assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
        let left = identity.expires().unwrap().duration_since(std::time::SystemTime::now()).unwrap();
        assert!(left > Duration::from_secs(3_500) && left <= Duration::from_secs(3_600));
        assert!(authority.sign("garbage", &usages, Duration::from_secs(1)).is_err());
    }

    #[test]
    fn an_authority_survives_a_round_trip_through_its_files() {
        let made = Authority::create("test-ca").unwrap();
        let loaded = Authority::load(made.certificate().to_owned(), made.key().to_owned()).unwrap();
        let identity = loaded.issue(&Subject::new("admin", &[]), &Purpose::Client, Duration::from_secs(60)).unwrap();
        assert_eq!(identity.chain().unwrap().len(), 1);
    }
}
