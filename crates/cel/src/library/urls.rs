//! URLs, as Go's `net/url` reads them.

use super::{Result, fail, mismatch};
use crate::decl::{Functions, Implementation};
use crate::types::Type;
use crate::value::{Key, Map, Opaque, Text, Value};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name of the type.
pub(super) const NAME: &str = "kubernetes.URL";

/// A URL, in its parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Url {
    scheme: String,
    opaque: String,
    user: String,
    host: String,
    /// As it is written.
    path: String,
    query: String,
    fragment: String,
}

impl Opaque for Url {
    fn type_name(&self) -> &'static str {
        NAME
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }
}

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, String};
    let t = || Type::object(NAME);
    f.global("url", "string_to_url", [String], t(), |args| match args {
        [Value::String(text)] => match parse_request(text).and_then(|_| parse(text, false)) {
            Ok(url) => Ok(Value::opaque(url)),
            Err(error) => fail(format!("URL parse error during conversion from string: {error}")),
        },
        _ => mismatch(),
    });
    f.global("isURL", "is_url_string", [String], Bool, |args| match args {
        [Value::String(text)] => Ok(Value::Bool(parse_request(text).is_ok())),
        _ => mismatch(),
    });
    let parts: [(&'static str, &'static str, Implementation); 5] = [
        ("getScheme", "url_get_scheme", |args| part(args, |url| url.scheme.clone())),
        ("getHost", "url_get_host", |args| part(args, |url| url.host.clone())),
        ("getHostname", "url_get_hostname", |args| part(args, |url| split_host(&url.host).0.to_owned())),
        ("getPort", "url_get_port", |args| part(args, |url| split_host(&url.host).1.to_owned())),
        ("getEscapedPath", "url_get_escaped_path", |args| part(args, |url| escaped_path(&url.path))),
    ];
    for (name, id, call) in parts {
        f.method(name, id, [t()], String, call);
    }
    f.method("getQuery", "url_get_query", [t()], Type::map(String, Type::list(String)), query);
}

fn part<'a>(args: &[Value<'a>], of: fn(&Url) -> String) -> Result<'a> {
    match args {
        [value] => value.as_opaque().map_or_else(mismatch, |url| Ok(Value::text(of(url)))),
        _ => mismatch(),
    }
}

fn query<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [value] = args else { return mismatch() };
    let Some(url) = value.as_opaque::<Url>() else { return mismatch() };
    let mut map: BTreeMap<Key<'a>, Vec<Value<'a>>> = BTreeMap::new();
    for pair in url.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| unescape(&text.replace('+', " ")).ok();
        let (Some(key), Some(value)) = (plain(key), plain(value)) else { continue };
        map.entry(Key::String(Text::Shared(key.into()))).or_default().push(Value::text(value));
    }
    let map = map.into_iter().map(|(key, values)| (key, Value::list(values))).collect();
    Ok(Value::Map(Map::Values(Arc::new(map))))
}

/// Reads what can be the target of a request: an absolute URL or an absolute path.
pub(super) fn parse_request(text: &str) -> std::result::Result<Url, String> {
    parse(text, true)
}

fn parse(text: &str, request: bool) -> std::result::Result<Url, String> {
    parts(text, request).map_err(|why| format!("parse {text:?}: {why}"))
}

fn parts(text: &str, request: bool) -> std::result::Result<Url, String> {
    if text.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    if text.is_empty() && request {
        return Err("empty url".to_owned());
    }
    let mut url = Url::default();
    let (text, fragment) = if request { (text, "") } else { text.split_once('#').unwrap_or((text, "")) };
    unescape(fragment)?;
    fragment.clone_into(&mut url.fragment);
    if text == "*" {
        "*".clone_into(&mut url.path);
        return Ok(url);
    }
    let (scheme, rest) = scheme(text)?;
    url.scheme = scheme.to_ascii_lowercase();
    let (mut rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    query.clone_into(&mut url.query);
    if !rest.starts_with('/') {
        if !url.scheme.is_empty() {
            rest.clone_into(&mut url.opaque);
            return Ok(url);
        }
        if request {
            return Err("invalid URI for request".to_owned());
        }
        if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let may_have_host = !url.scheme.is_empty() || !request && !rest.starts_with("///");
    if may_have_host && let Some(after) = rest.strip_prefix("//") {
        let end = after.find('/').unwrap_or(after.len());
        let (user, host) = after[..end].rsplit_once('@').unwrap_or(("", &after[..end]));
        if !user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b)) {
            return Err("net/url: invalid userinfo".to_owned());
        }
        unescape(user)?;
        user.clone_into(&mut url.user);
        url.host = self::host(host)?;
        rest = &after[end..];
    }
    unescape(rest)?;
    rest.clone_into(&mut url.path);
    Ok(url)
}

fn scheme(text: &str) -> std::result::Result<(&str, &str), String> {
    for (at, b) in text.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn host(text: &str) -> std::result::Result<String, String> {
    let after = match text.strip_prefix('[') {
        Some(_) => &text[text.rfind(']').ok_or("missing ']' in host")? + 1..],
        None => text.rfind(':').map_or("", |colon| &text[colon..]),
    };
    let good = after.is_empty() || after.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    if !good {
        return Err(format!("invalid port {after:?} after host"));
    }
    let bad =
        text.chars().find(|c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"-._~!$&'()*+,;=:[]<>\"%".contains(*c));
    match bad {
        Some(c) => Err(format!("invalid character {:?} in host name", c.to_string())),
        None => unescape(text),
    }
}

/// The name and the port.
fn split_host(host: &str) -> (&str, &str) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    };
    (name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name), port)
}

/// With bytes in the place of `%41`.
fn unescape(text: &str) -> std::result::Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        if b != b'%' {
            out.push(b);
            at += 1;
            continue;
        }
        let digits = bytes.get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        let Some(byte) = byte else {
            let end = (at + 3).min(bytes.len());
            return Err(format!("invalid URL escape {:?}", String::from_utf8_lossy(&bytes[at..end])));
        };
        out.push(byte);
        at += 3;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// The path as it is written if that is a good form of it, and otherwise escaped.
fn escaped_path(path: &str) -> String {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@[]%/".contains(&b);
    if path.bytes().all(good) {
        return path.to_owned();
    }
    let plain = unescape(path).unwrap_or_default();
    let mut escaped = String::with_capacity(plain.len() * 3);
    for b in plain.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b) {
            escaped.push(char::from(b));
        } else {
            escaped.push_str(&format!("%{b:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_their_parts() {
        let url = parse("https://user@Example.com:80/a%20b/c d?x=1&x=2#f", false).unwrap();
        assert_eq!((url.scheme.as_str(), url.host.as_str()), ("https", "Example.com:80"));
        assert_eq!(split_host(&url.host), ("Example.com", "80"));
        assert_eq!(escaped_path(&url.path), "/a%20b/c%20d");
        assert_eq!(split_host("[::1]:80"), ("::1", "80"));
    }

    #[test]
    fn what_is_no_url_is_told() {
        for (text, why) in [
            ("", "parse \"\": empty url"),
            ("../a", "parse \"../a\": invalid URI for request"),
            ("://x", "parse \"://x\": missing protocol scheme"),
            ("https://a:b", "parse \"https://a:b\": invalid port \":b\" after host"),
            ("/%zz", "parse \"/%zz\": invalid URL escape \"%zz\""),
        ] {
            assert_eq!(parse_request(text).unwrap_err(), why);
        }
        assert!(parse_request("/path").is_ok());
        assert!(parse_request("mailto:a@b").is_ok());
    }
}
