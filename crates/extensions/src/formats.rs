//! Formats of texts (`kube-openapi/pkg/validation/strfmt`): which there are, and which texts have them.

use regex::Regex;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

const TEXT: [&str; 26] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

fn normal(format: &str) -> String {
    format.replace('-', "")
}

/// The format, if values of the type can have it; empty otherwise.
pub fn supported<'a>(kind: &str, format: &'a str) -> &'a str {
    let known = match kind {
        "" | "string" => is_known(format),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    };
    if known { format } else { "" }
}

/// Whether texts can have a format of this name.
pub fn is_known(format: &str) -> bool {
    TEXT.contains(&normal(format).as_str())
}

/// Whether a text has a format; unknown formats hold for all.
pub fn holds(format: &str, text: &str) -> bool {
    match normal(format).as_str() {
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "uri" => is_request_uri(text),
        "email" => is_email(text),
        "hostname" => is_hostname(text),
        "ipv4" => sloppy_v4(text).is_some(),
        "ipv6" => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some(b'3')),
        "uuid4" => is_uuid(text, Some(b'4')),
        "uuid5" => is_uuid(text, Some(b'5')),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "creditcard" => is_credit_card(text),
        "ssn" => SSN.is_match(text),
        "hexcolor" => HEX_COLOR.is_match(text),
        "rgbcolor" => RGB_COLOR.is_match(text),
        "byte" => BASE64.is_match(text),
        "date" => is_date(text),
        "duration" => is_duration(text),
        "datetime" => is_date_time(text),
        "k8sshortname" => text.len() <= 63 && text.split('.').count() == 1 && is_dns_name(text),
        "k8slongname" => text.len() <= 253 && is_dns_name(text),
        _ => true,
    }
}

fn pattern(text: &str) -> Regex {
    match Regex::new(text) {
        Ok(regex) => regex,
        // The patterns are part of the program; a test compiles them all.
        Err(error) => unreachable!("{error}"),
    }
}

static HOSTNAME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$",
    )
});
static SSN: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$"));
static HEX_COLOR: LazyLock<Regex> = LazyLock::new(|| pattern("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"));
static RGB_COLOR: LazyLock<Regex> = LazyLock::new(|| {
    const PART: &str = r"\s*(0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])\s*";
    pattern(&format!(r"^rgb\({PART},{PART},{PART}\)$"))
});
static BASE64: LazyLock<Regex> =
    LazyLock::new(|| pattern("^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$"));
static TIME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$"));
static SPAN: LazyLock<Regex> = LazyLock::new(|| pattern(r"([0-9]+)\s*([A-Za-zµ]+)"));
static CARD: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|(222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11}|6[27][0-9]{14})$",
    )
});

/// A URL as it stands in a request line: absolute, or a path from the root.
fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
        return false;
    }
    if text.starts_with('/') || text == "*" {
        return has_good_escapes(text);
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let authority = rest.strip_prefix("//").map(|r| r.split(['/', '?', '#']).next().unwrap_or_default());
    let port = authority.map(|a| a.rsplit_once('@').map_or(a, |(_, host)| host)).and_then(|host| {
        let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
        after.rsplit_once(':').map(|(_, port)| port)
    });
    good && !rest.is_empty() && port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit())) && has_good_escapes(rest)
}

fn has_good_escapes(text: &str) -> bool {
    let bytes = text.as_bytes();
    (0..bytes.len()).filter(|&i| bytes[i] == b'%').all(|i| {
        let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
        digit(i + 1) && digit(i + 2)
    })
}

/// An address of RFC 5322, alone or behind a name.
fn is_email(text: &str) -> bool {
    let text = text.trim();
    let address = match text.strip_suffix('>') {
        Some(rest) => match rest.rsplit_once('<') {
            Some((_, address)) => address,
            None => return false,
        },
        None => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let atom = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_alphanumeric() || !c.is_ascii() || "!#$%&'*+-/=?^_`{|}~".contains(c))
    };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let literal = domain.starts_with('[') && domain.ends_with(']');
    (quoted || local.split('.').all(atom)) && (literal || domain.split('.').all(atom))
}

fn is_hostname(text: &str) -> bool {
    HOSTNAME.is_match(text) && text.len() <= 255 && text.split('.').all(|label| label.len() <= 63)
}

/// An IPv4 address; leading zeros are let pass, as older Go did. An IPv6 form with dots counts too.
fn sloppy_v4(text: &str) -> Option<Ipv4Addr> {
    if text.contains(':') {
        return text.contains('.').then(|| text.parse::<Ipv6Addr>().ok().map(|_| Ipv4Addr::UNSPECIFIED)).flatten();
    }
    let parts: Vec<u8> = text
        .split('.')
        .map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            if digits {
                part.trim_start_matches('0')
                    .parse()
                    .or(if part.bytes().all(|b| b == b'0') { Ok(0) } else { Err(()) })
                    .ok()
            } else {
                None
            }
        })
        .collect::<Option<_>>()?;
    match parts[..] {
        [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d)),
        _ => None,
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = if address.contains(':') {
        if address.parse::<Ipv6Addr>().is_err() {
            return false;
        }
        128
    } else {
        if sloppy_v4(address).is_none() {
            return false;
        }
        32
    };
    !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) && length.parse::<u32>().is_ok_and(|n| n <= most)
}

/// 6, 8 or 20 bytes in groups of two digits (`:` or `-`) or four (`.`).
fn is_mac(text: &str) -> bool {
    let hex = |part: &str, digits: usize| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
    let grouped = |separator: char, digits: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|part| hex(part, digits))
    };
    grouped(':', 2, [6, 8, 20]) || grouped('-', 2, [6, 8, 20]) || grouped('.', 4, [3, 4, 10])
}

fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let mut digits = Vec::with_capacity(32);
    let mut rest = text.as_bytes();
    for (group, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if group > 0 {
            rest = rest.strip_prefix(b"-").unwrap_or(rest);
        }
        if rest.len() < length || !rest[..length].iter().all(u8::is_ascii_hexdigit) {
            return false;
        }
        digits.extend_from_slice(&rest[..length]);
        rest = &rest[length..];
    }
    let variant = matches!(digits[16].to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b');
    rest.is_empty()
        && match version {
            None => true,
            Some(version) => digits[12] == version && (version == b'3' || variant),
        }
}

fn isbn_digits(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect()
}

fn is_isbn10(text: &str) -> bool {
    let text = isbn_digits(text);
    if text.len() != 10 {
        return false;
    }
    let digits: Option<Vec<u32>> =
        text.chars().enumerate().map(|(i, c)| if i == 9 && c == 'X' { Some(10) } else { c.to_digit(10) }).collect();
    digits.is_some_and(|d| d.iter().enumerate().map(|(i, d)| (i as u32 + 1) * d).sum::<u32>() % 11 == 0)
}

fn is_isbn13(text: &str) -> bool {
    let text = isbn_digits(text);
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(10)).collect();
    text.len() == 13
        && digits.is_some_and(|d| {
            let sum: u32 = d.iter().take(12).enumerate().map(|(i, d)| if i % 2 == 0 { *d } else { 3 * d }).sum();
            d[12] == (10 - sum % 10) % 10
        })
}

fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, b)| match (i % 2, u32::from(b - b'0')) {
            (0, d) => d,
            (_, d) if d * 2 > 9 => d * 2 - 9,
            (_, d) => d * 2,
        })
        .sum();
    CARD.is_match(&digits) && sum.is_multiple_of(10)
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 10 && bytes[4] == b'-' && bytes[7] == b'-' && text.parse::<jiff::civil::Date>().is_ok()
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    let Some(found) = TIME.captures(time) else { return false };
    is_date(date) && &found[1] <= "23" && &found[2] <= "59" && &found[3] <= "59"
}

/// Go's durations, and Scala's: numbers with units, anything between them.
fn is_duration(text: &str) -> bool {
    const EXACT: [&str; 20] = [
        "ns", "nano", "us", "µs", "micro", "ms", "milli", "s", "sec", "m", "min", "h", "hr", "hour", "d", "day", "w",
        "wk", "week", "nanos",
    ];
    const BEGINNINGS: [&str; 8] = ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
    if trireme_schema::time::parse_duration(text).is_some() {
        return true;
    }
    let mut any = false;
    for found in SPAN.captures_iter(text) {
        if found[1].parse::<i64>().is_err() {
            return false;
        }
        let unit = found[2].to_lowercase();
        any |= EXACT.contains(&unit.as_str()) || BEGINNINGS.iter().any(|b| unit.starts_with(b));
    }
    any
}

/// Labels of lower-case letters, digits and dashes.
fn is_dns_name(text: &str) -> bool {
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.split('.').map(str::as_bytes).all(|label| {
        label.first().is_some_and(edge) && label.last().is_some_and(edge) && label.iter().all(|b| edge(b) || *b == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_formats_or_not() {
        for (format, good, bad) in [
            ("uri", &["https://a.b/c?d", "/a", "urn:x"][..], &[":::", "a b", "", "http://x:port"][..]),
            ("email", &["a@b.c", "A B <a.b@c>"], &["x", "a@", "a@b@c"]),
            ("hostname", &["a.example.com", "x1", "EXAMPLE.com"], &["_x_", "-a", "a..b"]),
            ("ipv4", &["1.2.3.4", "010.0.0.1"], &["999.1.1.1", "1.2.3", "::1"]),
            ("ipv6", &["::1", "fe80::1"], &["1.2.3.4", "::g"]),
            ("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33"]),
            ("mac", &["01:23:45:67:89:ab", "0123.4567.89ab"], &["zz", "01:23"]),
            ("uuid", &["123E4567-e89b-12d3-a456-426614174000"], &["x", "123e4567"]),
            ("uuid4", &["123e4567-e89b-42d3-a456-426614174000"], &["123e4567-e89b-12d3-a456-426614174000"]),
            ("isbn10", &["0321751043"], &["0321751044"]),
            ("isbn13", &["978-0321751041"], &["978-0321751042"]),
            ("creditcard", &["4111 1111 1111 1111"], &["4111111111111112"]),
            ("ssn", &["111-22-3333"], &["11-22-3333"]),
            ("hexcolor", &["#FFF", "a1b2c3"], &["#ggg"]),
            ("rgbcolor", &["rgb(1, 2,255)"], &["rgb(1,2,256)"]),
            ("byte", &["aGVsbG8=", "AAAA"], &["!!", "A"]),
            ("date", &["2020-01-31"], &["2020-13-01", "2020-1-1"]),
            ("date-time", &["2020-01-01T00:00:00Z", "2020-01-01t00:00:00.5+01:00"], &["x", "2020-01-01T24:00:00Z"]),
            ("duration", &["5m", "22 ns", "1 hour"], &["5x", ""]),
            ("k8s-short-name", &["a-b"], &["a.b", "A"]),
            ("password", &["anything"], &[]),
        ] {
            good.iter().for_each(|text| assert!(holds(format, text), "{format} {text}"));
            bad.iter().for_each(|text| assert!(!holds(format, text), "{format} {text}"));
        }
    }

    #[test]
    fn a_format_belongs_to_a_type() {
        assert_eq!(supported("string", "date-time"), "date-time");
        assert_eq!(supported("string", "int32"), "");
        assert_eq!(supported("integer", "int32"), "int32");
        assert_eq!(supported("object", "uri"), "");
    }
}
