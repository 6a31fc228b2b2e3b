//! What texts may look like, by the names that `rules.txt` uses.

use crate::{Errors, Place};
use std::net::IpAddr;
use trireme_schema::names;

/// What is wrong with a text; nothing when it is fine.
pub type Format = fn(&str) -> Vec<String>;

/// The format of a name in the table.
pub(crate) fn named(name: &str) -> Option<Format> {
    Some(match name {
        "longName" => long_name,
        "label" => names::dns1123_label,
        "subdomain" => names::dns1123_subdomain,
        "dns1035" => names::dns1035_label,
        "qualified" => names::qualified_name,
        "labelValue" => names::label_value,
        "pathSegment" => names::path_segment,
        "configKey" => names::config_map_key,
        "envName" => names::env_name,
        "portName" => names::port_name,
        "ip" => ip,
        "cidr" => cidr,
        "any" => |_| Vec::new(),
        _ => return None,
    })
}

const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// A subdomain, in the words of kinds whose rules are declared.
pub fn long_name(text: &str) -> Vec<String> {
    let mut wrong = names::dns1123_subdomain(text);
    if text.len() > 253
        && let Some(first) = wrong.first_mut()
    {
        "must be no more than 253 bytes".clone_into(first);
    }
    wrong
}

/// A domain, a slash and a path: how those are named who look after an object.
pub(crate) fn domain_prefixed_path(place: &Place<'_>, errors: &mut Errors) {
    let text = place.str();
    match text.split_once('/') {
        _ if text.is_empty() => errors.required(place, ""),
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            errors.format(place, host, names::dns1123_subdomain(host));
            if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
                let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                errors.invalid_value(place, path, why);
            }
        }
        _ => errors.invalid(place, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
}

/// An IPv4 or IPv6 address.
pub fn ip(text: &str) -> Vec<String> {
    if text.parse::<IpAddr>().is_ok() { Vec::new() } else { vec![IP.to_owned()] }
}

/// An address and a prefix length.
pub fn cidr(text: &str) -> Vec<String> {
    if parse_cidr(text).is_some() { Vec::new() } else { vec![CIDR.to_owned()] }
}

/// The address and prefix length of a CIDR text; the host bits may be set.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    // Go refuses signs and leading zeros here.
    let plain = length.bytes().all(|b| b.is_ascii_digit()) && (length.len() == 1 || !length.starts_with('0'));
    let length: u8 = length.parse().ok().filter(|_| plain)?;
    (length <= longest).then_some((address, length))
}

/// An address of an interface, with its prefix length.
pub fn interface_address(text: &str) -> Vec<String> {
    let Some((address, length)) = parse_cidr(text) else {
        return vec!["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".to_owned()];
    };
    let canonical = format!("{address}/{length}");
    if text == canonical { Vec::new() } else { vec![format!("must be in canonical form (\"{canonical}\")")] }
}

/// A domain whose first label stands for any: `*.example.com`.
pub fn wildcard(text: &str) -> Vec<String> {
    const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
        consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. \
        '*.example.com', regex used for validation is \
        '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let mut wrong = Vec::new();
    if text.len() > 253 {
        wrong.push("must be no more than 253 characters".to_owned());
    }
    let rest = text.strip_prefix("*.").unwrap_or_default();
    // Length is told above.
    if rest.is_empty() || names::dns1123_subdomain(rest).iter().any(|why| !why.starts_with("must be no more")) {
        wrong.push(WILDCARD.to_owned());
    }
    wrong
}

/// A domain of at least two labels, which may end with a dot.
pub fn domain_name(text: &str) -> Vec<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return vec!["must not be empty".to_owned()];
    }
    let wrong = names::dns1123_subdomain(name);
    if !wrong.is_empty() {
        return wrong;
    }
    if name.split('.').count() < 2 {
        return vec!["should be a domain with at least two segments separated by dots".to_owned()];
    }
    name.split('.').flat_map(names::dns1123_label).collect()
}

/// A network without bits of hosts, in its one form.
pub fn canonical_cidr(text: &str) -> Vec<String> {
    let Some((address, length)) = parse_cidr(text) else { return cidr(text) };
    let network = network(address, length);
    if network != address {
        return vec!["must not have bits set beyond the prefix length".to_owned()];
    }
    let canonical = format!("{network}/{length}");
    if canonical == text { Vec::new() } else { vec![format!("must be in canonical form ({canonical:?})")] }
}

fn network(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(a) & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(a) & mask).into())
        }
    }
}

/// Whether a network is a part, and not all, of another.
pub(crate) fn is_within(part: (IpAddr, u8), whole: (IpAddr, u8)) -> bool {
    part.0.is_ipv4() == whole.0.is_ipv4() && part.1 > whole.1 && network(part.0, whole.1) == network(whole.0, whole.1)
}

/// How many bytes a base64 text stands for.
pub(crate) fn base64_size(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take_while(|b| *b == b'=').count()
}

/// What is wrong with PEM of a type, given in base64; in the words of upstream's parser of requests.
pub(crate) fn pem_problem(base64: &str, types: &[&str]) -> Option<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let label = text.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----")).map(|(label, _)| label);
    let ends = label.is_some_and(|label| text.contains(&format!("-----END {label}-----")));
    let fits = ends && label.is_some_and(|label| types.contains(&label));
    (!fits).then(|| format!("PEM block type must be {}", types.join(" or ")))
}

/// What is wrong with PEM of certificates, given in base64 (upstream's `validateCertificate`).
pub(crate) fn certificates_problem(base64: &str) -> Option<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let begun = text.split("-----BEGIN ").skip(1).filter_map(|rest| rest.split_once("-----"));
    let labels: Vec<&str> = begun
        .filter(|(label, rest)| rest.contains(&format!("-----END {label}-----")))
        .map(|(label, _)| label)
        .collect();
    match labels.iter().find(|label| **label != "CERTIFICATE") {
        Some(other) => Some(format!("only CERTIFICATE PEM blocks are allowed, found {other:?}")),
        None if labels.is_empty() => Some("must contain at least one CERTIFICATE PEM block".to_owned()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks() {
        for (text, fine) in [("10.0.0.1", true), ("::1", true), ("010.0.0.1", false), ("1.2.3", false), ("", false)] {
            assert_eq!(ip(text).is_empty(), fine, "{text}");
        }
        for (text, fine) in
            [("10.0.0.0/8", true), ("10.0.0.1/8", true), ("::/0", true), ("10.0.0.0/33", false), ("10.0.0.0/08", false)]
        {
            assert_eq!(cidr(text).is_empty(), fine, "{text}");
        }
    }

    #[test]
    fn domains_of_several_labels() {
        for (text, fine) in [("*.example.com", true), ("*", false), ("*.*.com", false), ("a.*.com", false)] {
            assert_eq!(wildcard(text).is_empty(), fine, "{text}");
        }
        for (text, fine) in [("a.b", true), ("a.b.", true), ("a", false), ("", false), ("A.b", false)] {
            assert_eq!(domain_name(text).is_empty(), fine, "{text}");
        }
    }

    #[test]
    fn networks_in_their_one_form() {
        for (text, fine) in
            [("10.0.0.0/8", true), ("10.0.0.1/8", false), ("fd00::/64", true), ("FD00::/64", false), ("x", false)]
        {
            assert_eq!(canonical_cidr(text).is_empty(), fine, "{text}");
        }
        let of = |text: &str| parse_cidr(text).unwrap();
        assert!(is_within(of("10.1.0.0/16"), of("10.0.0.0/8")));
        assert!(!is_within(of("10.0.0.0/8"), of("10.0.0.0/8")));
        assert!(!is_within(of("11.0.0.0/16"), of("10.0.0.0/8")));
    }

    #[test]
    fn requests_are_pem_of_their_type() {
        let of = |text: &str| {
            use base64::Engine as _;
            pem_problem(&base64::engine::general_purpose::STANDARD.encode(text), &["CERTIFICATE REQUEST"])
        };
        let good = "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n";
        assert_eq!(of(good), None);
        assert_eq!(of("x").as_deref(), Some("PEM block type must be CERTIFICATE REQUEST"));
        assert!(of(&good.replace("REQUEST", "")).is_some());
    }

    #[test]
    fn certificates_are_pem_and_at_least_one() {
        use base64::Engine as _;
        let of = |text: &str| certificates_problem(&base64::engine::general_purpose::STANDARD.encode(text));
        let block = |label: &str| format!("-----BEGIN {label}-----\nAA==\n-----END {label}-----\n");
        assert_eq!(of(&block("CERTIFICATE").repeat(2)), None);
        assert_eq!(of("xyz").as_deref(), Some("must contain at least one CERTIFICATE PEM block"));
        let key = of(&(block("CERTIFICATE") + &block("KEY")));
        assert_eq!(key.as_deref(), Some("only CERTIFICATE PEM blocks are allowed, found \"KEY\""));
    }
}
