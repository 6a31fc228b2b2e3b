//! What a request asks for, and whether its signer may give it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use trireme_pki::Usage;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::{API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING};

/// The names in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) common_name: String,
    pub(crate) organizations: Vec<String>,
    /// DNS names.
    pub(crate) names: Vec<String>,
    /// Addresses, as text.
    pub(crate) addresses: Vec<String>,
    /// Mail addresses and URIs.
    pub(crate) others: usize,
}

/// Why a request cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the request is not a PEM-encoded certificate request: {0}")]
    Unreadable(String),
    #[error("organization must be exactly system:nodes")]
    Organization,
    #[error("common name must begin with system:node: and be that of the requester")]
    CommonName,
    #[error("a client certificate of a node has no alternative names")]
    AlternativeNames,
    #[error("a serving certificate needs a DNS name or an address, and nothing else")]
    NoHosts,
    #[error("a client of the group system:masters is not signed for")]
    Masters,
    #[error("the usages are not those of the signer: {0}")]
    Usages(String),
}

/// Reads a request.
pub(crate) fn names(pem: &[u8]) -> Result<Names, Refused> {
    let unreadable = |reason: String| Refused::Unreadable(reason);
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|error| unreadable(error.to_string()))?;
    let (_, request) =
        X509CertificationRequest::from_der(&pem.contents).map_err(|error| unreadable(error.to_string()))?;
    let subject = &request.certification_request_info.subject;
    let mut names = Names::default();
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().unwrap_or_default().to_owned();
    names.common_name = subject.iter_common_name().next().map(text).unwrap_or_default();
    names.organizations = subject.iter_organization().map(text).collect();
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(alternatives) = extension {
            for name in &alternatives.general_names {
                match name {
                    GeneralName::DNSName(name) => names.names.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => match address(bytes) {
                        Some(address) => names.addresses.push(address.to_string()),
                        None => names.others += 1,
                    },
                    _ => names.others += 1,
                }
            }
        }
    }
    Ok(names)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

impl Names {
    fn hosts(&self) -> usize {
        self.names.len() + self.addresses.len()
    }
}

/// Whether a serving certificate may be had without asking anybody: by the node of that name, for its own name and
/// addresses that are not those of the API server (`server`) or of other nodes (`taken`). Upstream leaves this to an
/// administrator, because a node could take the place of anybody else.
pub(crate) fn serves_itself(names: &Names, server: &BTreeSet<String>, taken: &BTreeSet<String>) -> bool {
    let Some(node) = names.common_name.strip_prefix("system:node:") else { return false };
    names.names.iter().all(|name| name == node && !server.contains(name))
        && names.addresses.iter().all(|address| !server.contains(address) && !taken.contains(address))
}

/// The usages that a certificate of this signer gets (certificates.k8s.io/v1 signerName).
pub(crate) fn check(spec: &CertificateSigningRequestSpec, names: &Names) -> Result<Vec<Usage>, Refused> {
    let asked: BTreeSet<&str> = spec.usages.iter().flatten().map(String::as_str).collect();
    let wrong = || Refused::Usages(asked.iter().copied().collect::<Vec<_>>().join(", "));
    let common = |usage: &&str| matches!(*usage, "digital signature" | "key encipherment");
    let auth: Vec<&str> = asked.iter().filter(|usage| !common(usage)).copied().collect();
    let for_clients = auth == ["client auth"];
    let usages = || {
        let known = [
            ("digital signature", Usage::DigitalSignature),
            ("key encipherment", Usage::KeyEncipherment),
            ("client auth", Usage::ClientAuth),
            ("server auth", Usage::ServerAuth),
        ];
        known.into_iter().filter(|(name, _)| asked.contains(name)).map(|(_, usage)| usage).collect()
    };
    let node = || {
        if names.organizations != ["system:nodes"] {
            return Err(Refused::Organization);
        }
        if !names.common_name.starts_with("system:node:") {
            return Err(Refused::CommonName);
        }
        Ok(())
    };
    match spec.signer_name.as_str() {
        KUBELET_CLIENT => {
            node()?;
            if names.hosts() + names.others > 0 {
                return Err(Refused::AlternativeNames);
            }
            if !for_clients || !asked.contains("digital signature") {
                return Err(wrong());
            }
        }
        KUBELET_SERVING => {
            node()?;
            if spec.username.as_ref() != Some(&names.common_name) {
                return Err(Refused::CommonName);
            }
            if names.hosts() == 0 || names.others > 0 {
                return Err(Refused::NoHosts);
            }
            if auth != ["server auth"] || !asked.contains("digital signature") {
                return Err(wrong());
            }
        }
        API_CLIENT => {
            if names.organizations.iter().any(|group| group == "system:masters") {
                return Err(Refused::Masters);
            }
            if !for_clients {
                return Err(wrong());
            }
        }
        _ => return Err(wrong()),
    }
    Ok(usages())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use trireme_pki::{Purpose, Subject, request};

    #[test]
    fn names_are_read_from_a_request() {
        let purpose = Purpose::Server { names: vec!["a".into()], addresses: vec!["10.0.0.1".parse().unwrap()] };
        let (pem, _) = request(&Subject::new("system:node:a", &["system:nodes"]), &purpose).unwrap();
        let expected = Names {
            common_name: "system:node:a".into(),
            organizations: vec!["system:nodes".into()],
            names: vec!["a".into()],
            addresses: vec!["10.0.0.1".into()],
            others: 0,
        };
        assert_eq!(names(pem.as_bytes()), Ok(expected));
        assert!(matches!(names(b"garbage"), Err(Refused::Unreadable(_))));
    }

    #[test]
    fn every_signer_has_its_rules() {
        let node = || Names {
            common_name: "system:node:a".into(),
            organizations: vec!["system:nodes".into()],
            ..Names::default()
        };
        let user = |groups: &[&str]| Names {
            common_name: "jane".into(),
            organizations: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..Names::default()
        };
        let client = ["digital signature", "key encipherment", "client auth"];
        let server = ["digital signature", "server auth"];
        for (signer, usages, names, allowed) in [
            (KUBELET_CLIENT, &client[..], node(), true),
            (KUBELET_CLIENT, &server, node(), false),
            (KUBELET_CLIENT, &client, Names { names: vec!["a".into()], ..node() }, false),
            (KUBELET_CLIENT, &client, user(&["system:nodes"]), false),
            (KUBELET_SERVING, &server, Names { names: vec!["a".into()], ..node() }, true),
            (KUBELET_SERVING, &server, node(), false),
            (KUBELET_SERVING, &client, Names { names: vec!["a".into()], ..node() }, false),
            (API_CLIENT, &client, user(&["dev"]), true),
            (API_CLIENT, &client, user(&["system:masters"]), false),
            (API_CLIENT, &["server auth"], user(&[]), false),
            ("example.com/own", &client, user(&[]), false),
        ] {
            let spec = serde_json::from_value(json!({
                "request": "", "signerName": signer, "usages": usages, "username": "system:node:a"}))
            .unwrap();
            assert_eq!(check(&spec, &names).is_ok(), allowed, "{signer} {usages:?} {names:?}");
        }
    }

    #[test]
    fn a_node_gets_a_serving_certificate_for_itself_and_not_for_the_api_server() {
        let set = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<BTreeSet<_>>();
        let (server, taken) = (set(&["kubernetes", "10.0.0.1"]), set(&["10.0.0.2"]));
        let allowed = |node: &str, name: &str, address: &str| {
            let names = Names {
                common_name: format!("system:node:{node}"),
                names: vec![name.into()],
                addresses: vec![address.into()],
                ..Names::default()
            };
            serves_itself(&names, &server, &taken)
        };
        assert!(allowed("a", "a", "10.0.0.3"));
        for (node, name, address) in [
            ("a", "b", "10.0.0.3"),
            ("a", "kubernetes", "10.0.0.3"),
            ("kubernetes", "kubernetes", "10.0.0.3"),
            ("a", "a", "10.0.0.1"),
            ("a", "a", "10.0.0.2"),
        ] {
            assert!(!allowed(node, name, address), "{node} {name} {address}");
        }
    }
}
