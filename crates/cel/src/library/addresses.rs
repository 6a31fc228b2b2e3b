//! IP addresses and ranges of them (CIDR).

use super::unreadable_address::unreadable;
use super::{Result, mismatch};
use crate::decl::{Functions, Implementation};
use crate::error::EvalError;
use crate::types::Type;
use crate::value::{Opaque, Value};
use std::any::Any;
use std::fmt;
use std::net::IpAddr;

/// The name of the type of addresses.
pub(super) const IP: &str = "net.IP";
/// The name of the type of ranges.
pub(super) const CIDR: &str = "net.CIDR";

/// An address.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Address(IpAddr);

/// An address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Prefix {
    address: IpAddr,
    bits: u8,
}

impl Opaque for Address {
    fn type_name(&self) -> &'static str {
        IP
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }

    fn size(&self) -> Option<u64> {
        Some(if self.0.is_ipv4() { 4 } else { 16 })
    }
}

impl Opaque for Prefix {
    fn type_name(&self) -> &'static str {
        CIDR
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }

    fn size(&self) -> Option<u64> {
        Some(u64::from(self.bits).div_ceil(8))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, Int, String};
    let ip = || Type::opaque(IP);
    f.global("ip", "string_to_ip", [String], ip(), |args| read(args, |text| Ok(Value::opaque(Address(parse(text)?)))));
    f.global("isIP", "is_ip", [String], Bool, |args| read(args, |text| Ok(Value::Bool(parse(text).is_ok()))));
    f.global("ip.isCanonical", "ip_is_canonical", [String], Bool, |args| {
        read(args, |text| Ok(Value::Bool(parse(text)?.to_string() == *text)))
    });
    f.global("string", "ip_to_string", [ip()], String, |args| with(args, |a: &Address| Value::text(a.0.to_string())));
    f.method("family", "ip_family", [ip()], Int, |args| {
        with(args, |a: &Address| Value::Int(if a.0.is_ipv4() { 4 } else { 6 }))
    });
    let tests: [(&'static str, &'static str, Implementation); 5] = [
        ("isUnspecified", "ip_is_unspecified", |args| test(args, |a| a.is_unspecified())),
        ("isLoopback", "ip_is_loopback", |args| test(args, |a| a.is_loopback())),
        ("isLinkLocalMulticast", "ip_is_link_local_multicast", |args| test(args, is_link_local_multicast)),
        ("isLinkLocalUnicast", "ip_is_link_local_unicast", |args| test(args, is_link_local_unicast)),
        ("isGlobalUnicast", "ip_is_global_unicast", |args| test(args, is_global_unicast)),
    ];
    for (name, id, call) in tests {
        f.method(name, id, [ip()], Bool, call);
    }
    ranges(f);
}

fn ranges(f: &mut Functions) {
    use Type::{Bool, Int, String};
    let (ip, cidr) = (|| Type::opaque(IP), || Type::opaque(CIDR));
    f.global("cidr", "string_to_cidr", [String], cidr(), |args| {
        read(args, |text| Ok(Value::opaque(parse_range(text)?)))
    });
    f.global("isCIDR", "is_cidr", [String], Bool, |args| read(args, |text| Ok(Value::Bool(parse_range(text).is_ok()))));
    f.global("string", "cidr_to_string", [cidr()], String, |args| with(args, |p: &Prefix| Value::text(p.to_string())));
    f.method("ip", "cidr_ip", [cidr()], ip(), |args| with(args, |p: &Prefix| Value::opaque(Address(p.address))));
    f.method("prefixLength", "cidr_prefix_length", [cidr()], Int, |args| {
        with(args, |p: &Prefix| Value::Int(i64::from(p.bits)))
    });
    f.method("masked", "cidr_masked", [cidr()], cidr(), |args| with(args, |p: &Prefix| Value::opaque(p.masked())));
    f.method("containsIP", "cidr_contains_ip_string", [cidr(), String], Bool, contains_ip);
    f.method("containsIP", "cidr_contains_ip_ip", [cidr(), ip()], Bool, contains_ip);
    f.method("containsCIDR", "cidr_contains_cidr_string", [cidr(), String], Bool, contains_range);
    f.method("containsCIDR", "cidr_contains_cidr", [cidr(), cidr()], Bool, contains_range);
}

fn read<'a>(args: &[Value<'a>], of: fn(&str) -> Result<'a>) -> Result<'a> {
    match args {
        [Value::String(text)] => of(text),
        _ => mismatch(),
    }
}

fn with<'a, T: 'static>(args: &[Value<'a>], of: fn(&T) -> Value<'a>) -> Result<'a> {
    match args {
        [value] => value.as_opaque().map_or_else(mismatch, |value| Ok(of(value))),
        _ => mismatch(),
    }
}

fn test<'a>(args: &[Value<'a>], holds: fn(IpAddr) -> bool) -> Result<'a> {
    match args {
        [value] => value.as_opaque().map_or_else(mismatch, |address: &Address| Ok(Value::Bool(holds(address.0)))),
        _ => mismatch(),
    }
}

fn parse(text: &str) -> std::result::Result<IpAddr, EvalError> {
    let bad = |what: String| Err(EvalError::new(what));
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    let why = match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) if zone.is_some_and(|zone| !zone.is_empty()) => {
            return bad(format!("IP address {text:?} with zone value is not allowed"));
        }
        Ok(IpAddr::V6(v6)) if zone.is_none() && v6.to_ipv4_mapped().is_some() => {
            return bad(format!("IPv4-mapped IPv6 address {text:?} is not allowed"));
        }
        Ok(address) if zone.is_none() => return Ok(address),
        Ok(IpAddr::V4(_)) => "unexpected character".to_owned(),
        Ok(IpAddr::V6(_)) => "zone must be a non-empty string".to_owned(),
        Err(_) => unreadable(address),
    };
    bad(format!("IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): {why}"))
}

fn parse_range(text: &str) -> std::result::Result<Prefix, EvalError> {
    const WHAT: &str = "network address parse error during conversion from string";
    let bad = |why: &str| EvalError::new(format!("{WHAT}: {WHAT}: netip.ParsePrefix({text:?}): {why}"));
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| bad("no '/'"))?;
    if address.contains('%') {
        return Err(bad("IPv6 zones cannot be present in a prefix"));
    }
    let parsed: IpAddr =
        address.parse().map_err(|_| bad(&format!("ParseAddr({address:?}): {}", unreadable(address))))?;
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    if !digits || bits.len() > 1 && bits.starts_with('0') {
        return Err(bad(&format!("bad bits after slash: {bits:?}")));
    }
    let most = if parsed.is_ipv4() { 32 } else { 128 };
    let bits = bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(|| bad("prefix length out of range"))?;
    if matches!(parsed, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(EvalError::new(format!("{WHAT}: IPv4-mapped IPv6 address {text:?} is not allowed")));
    }
    Ok(Prefix { address: parsed, bits })
}

impl Prefix {
    fn masked(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(a) => {
                IpAddr::V4((a.to_bits() & u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0)).into())
            }
            IpAddr::V6(a) => {
                IpAddr::V6((a.to_bits() & u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0)).into())
            }
        };
        Self { address, bits: self.bits }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let same_family = self.address.is_ipv4() == address.is_ipv4();
        same_family && Self { address, bits: self.bits }.masked().address == self.masked().address
    }
}

fn contains_ip<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [range, other] = args else { return mismatch() };
    let address = match other {
        Value::String(text) => Some(parse(text)?),
        other => other.as_opaque().map(|address: &Address| address.0),
    };
    match (range.as_opaque::<Prefix>(), address) {
        (Some(range), Some(address)) => Ok(Value::Bool(range.contains(address))),
        _ => mismatch(),
    }
}

fn contains_range<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [range, other] = args else { return mismatch() };
    let other = match other {
        Value::String(text) => Some(parse_range(text)?),
        other => other.as_opaque().copied(),
    };
    match (range.as_opaque::<Prefix>(), other) {
        (Some(range), Some(other)) => Ok(Value::Bool(range.bits <= other.bits && range.contains(other.address))),
        _ => mismatch(),
    }
}

fn is_link_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.octets()[..3] == [224, 0, 0],
        IpAddr::V6(a) => a.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_global_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(a) if a.is_broadcast());
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || broadcast
        || is_link_local_unicast(address))
}
