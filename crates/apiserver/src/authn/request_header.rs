//! Who a front proxy speaks for: its certificate says who it is, headers say who asks (`--requestheader-*`).

use crate::user::User;
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;

/// Which front proxies are believed, and in which headers they say who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeaders {
    /// PEM of the authorities of proxies' certificates.
    pub client_ca: String,
    /// Common names that may be proxies; empty: any that the authorities sign.
    pub allowed_names: Vec<String>,
    /// Headers with the user's name; the first that has a value wins.
    pub username_headers: Vec<String>,
    /// Headers with the user's unique id; the first that has a value wins.
    pub uid_headers: Vec<String>,
    /// Headers with groups; all count.
    pub group_headers: Vec<String>,
    /// What the names of headers with more begin with.
    pub extra_headers_prefix: Vec<String>,
}

/// The headers in which aggregators say who asks.
const USER: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
const EXTRA: &str = "x-remote-extra-";

impl RequestHeaders {
    /// The usual headers of proxies with certificates of these authorities.
    pub fn usual(client_ca: &str, allowed_names: &[&str]) -> Self {
        let owned = |text: &str| vec![text.to_owned()];
        Self {
            client_ca: client_ca.to_owned(),
            allowed_names: allowed_names.iter().map(|name| (*name).to_owned()).collect(),
            username_headers: owned("X-Remote-User"),
            uid_headers: owned("X-Remote-Uid"),
            group_headers: owned("X-Remote-Group"),
            extra_headers_prefix: owned("X-Remote-Extra-"),
        }
    }

    /// Looks at names of headers, so that a header that cannot be is told at the start.
    ///
    /// # Errors
    /// Which one cannot be.
    pub fn check(&self) -> Result<(), String> {
        let all = [&self.username_headers, &self.uid_headers, &self.group_headers, &self.extra_headers_prefix];
        let empty = all.iter().flat_map(|names| names.iter()).find(|name| {
            let name = name.trim();
            name.is_empty() || HeaderName::try_from(name).is_err()
        });
        match empty {
            Some(name) if name.trim().is_empty() => Err(format!("empty header {name:?}")),
            Some(name) => Err(format!("{name:?} is no name of a header")),
            None if self.username_headers.is_empty() => Err("there is no header with the user's name".into()),
            None => Ok(()),
        }
    }

    /// Whether a proxy with this common name is believed.
    pub(super) fn allows(&self, common_name: &str) -> bool {
        self.allowed_names.is_empty() || self.allowed_names.iter().any(|name| name == common_name)
    }

    /// The user that the headers name; `None` when they name nobody.
    pub(super) fn user(&self, headers: &HeaderMap) -> Option<User> {
        let first = |names: &[String]| {
            let mut values = names.iter().filter_map(|name| headers.get(name.trim())?.to_str().ok());
            values.find(|value| !value.is_empty()).unwrap_or_default().to_owned()
        };
        let name = first(&self.username_headers);
        if name.is_empty() {
            return None;
        }
        let all = self.group_headers.iter().flat_map(|name| headers.get_all(name.trim()));
        let groups: Vec<&str> = all.filter_map(|value| value.to_str().ok()).filter(|value| !value.is_empty()).collect();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in &self.extra_headers_prefix {
            let prefix = prefix.trim().to_ascii_lowercase();
            for (name, value) in headers {
                if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(&prefix), value.to_str()) {
                    extra.entry(unescaped(key)).or_default().push(value.to_owned());
                }
            }
        }
        // Who is nobody in particular stays so.
        let known = name != "system:anonymous" && !groups.contains(&"system:unauthenticated");
        let user = match known {
            true => User::new(&name, &groups),
            false => User { name, groups: groups.iter().map(|g| (*g).to_owned()).collect(), ..User::default() },
        };
        Some(User { uid: first(&self.uid_headers), extra, ..user })
    }

    /// Takes away the headers that say who asks, so that nobody behind this server believes what was not checked.
    pub(super) fn clear(&self, headers: &mut HeaderMap) {
        let names = [&self.username_headers, &self.uid_headers, &self.group_headers];
        for name in names.into_iter().flatten() {
            headers.remove(name.trim());
        }
        for prefix in &self.extra_headers_prefix {
            clear_prefix(headers, &prefix.trim().to_ascii_lowercase());
        }
    }
}

/// A key as it was before it was made fit for a header's name.
fn unescaped(key: &str) -> String {
    // Go keeps what it cannot decode as it is.
    let escapes = key.split('%').skip(1);
    let broken = |escape: &str| escape.bytes().take(2).filter(u8::is_ascii_hexdigit).count() != 2;
    if escapes.into_iter().any(broken) {
        return key.to_owned();
    }
    percent_decode_str(key).decode_utf8_lossy().into_owned()
}

/// Takes away the usual headers of proxies.
pub(crate) fn clear_usual(headers: &mut HeaderMap) {
    for name in [USER, UID, GROUP] {
        headers.remove(name);
    }
    clear_prefix(headers, EXTRA);
}

fn clear_prefix(headers: &mut HeaderMap, prefix: &str) {
    let found: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(prefix)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Says in the usual headers who asks. What cannot stand in a header is left out.
pub(crate) fn tell(headers: &mut HeaderMap, user: &User) {
    clear_usual(headers);
    let mut add = |name: &str, value: &str| {
        // Header values of Go may be UTF-8.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), http::HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    };
    add(USER, &user.name);
    if !user.uid.is_empty() {
        add(UID, &user.uid);
    }
    user.groups.iter().for_each(|group| add(GROUP, group));
    for (key, values) in &user.extra {
        let name = format!("{EXTRA}{}", escaped(key));
        values.iter().for_each(|value| add(&name, value));
    }
}

/// A key as a part of a header's name (RFC 7230 tokens; others, and percent signs, are escaped).
fn escaped(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b);
    key.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_comes_out_of_headers_as_he_went_in() {
        let mut user = User::new("ann", &["a", "b"]);
        user.uid = "u-1".into();
        user.extra.insert("example.com/x%y".into(), vec!["1".into(), "2".into()]);
        let mut headers = HeaderMap::new();
        headers.insert(USER, http::HeaderValue::from_static("root"));
        headers.insert("x-remote-extra-old", http::HeaderValue::from_static("1"));
        tell(&mut headers, &user);
        assert!(headers.contains_key("x-remote-extra-example.com%2fx%25y"), "{headers:?}");
        let usual = RequestHeaders::usual("", &["proxy"]);
        assert_eq!(usual.user(&headers), Some(user));
        assert!(usual.allows("proxy") && !usual.allows("other") && RequestHeaders::usual("", &[]).allows("other"));
        usual.clear(&mut headers);
        assert!(headers.is_empty(), "{headers:?}");
        assert_eq!(usual.user(&headers), None);
    }

    #[test]
    fn a_header_that_cannot_be_is_told() {
        let mut options = RequestHeaders::usual("", &[]);
        assert_eq!(options.check(), Ok(()));
        options.group_headers.push(" ".into());
        assert_eq!(options.check(), Err("empty header \" \"".into()));
        options.group_headers = vec!["a b".into()];
        assert!(options.check().unwrap_err().contains("is no name"));
    }
}
