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
}
