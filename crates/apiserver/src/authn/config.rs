//! How users prove who they are: an `AuthenticationConfiguration`, files of tokens, services elsewhere.

use super::RequestHeaders;
use crate::outbound::Outbound;
use crate::user::User;
use std::path::Path;
use trireme_schema::{Value, yaml};

/// What the server is told of authentication.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// An `AuthenticationConfiguration` (apiserver.config.k8s.io).
    pub config: Option<Value>,
    /// A service that reviews tokens.
    pub webhook: Option<Outbound>,
    /// Front proxies that say who asks.
    pub request_headers: Option<RequestHeaders>,
}

impl Options {
    /// Reads the file of an `AuthenticationConfiguration`.
    ///
    /// # Errors
    /// What is wrong with it, with the file.
    pub fn read_config(path: &Path) -> Result<Value, String> {
        let wrong = |why: String| format!("{}: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        Self::parse_config(&text).map_err(wrong)
    }

    /// Reads an `AuthenticationConfiguration`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_config(text: &str) -> Result<Value, String> {
        let config = yaml::parse(text).map_err(|e| e.to_string())?;
        match config.str_at(&["kind"]) {
            "AuthenticationConfiguration" => Ok(config),
            kind => Err(format!("kind is {kind:?}, not AuthenticationConfiguration")),
        }
    }
}

/// Who may come without saying who he is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Anonymous {
    Everywhere,
    At(Vec<String>),
    Nowhere,
}

impl Anonymous {
    pub(super) fn read(config: Option<&Value>) -> Result<Self, String> {
        let Some(anonymous) = config.and_then(|c| c.get("anonymous")) else { return Ok(Self::Everywhere) };
        let conditions = anonymous.list_at(&["conditions"]);
        if !anonymous.bool_at(&["enabled"]) {
            return if conditions.is_empty() {
                Ok(Self::Nowhere)
            } else {
                Err("anonymous.conditions: enabled should be set to true when conditions are defined".into())
            };
        }
        if conditions.is_empty() {
            return Ok(Self::Everywhere);
        }
        Ok(Self::At(conditions.iter().map(|c| c.str_at(&["path"]).to_owned()).collect()))
    }

    /// Whether nobody in particular may come here.
    pub(super) fn may(&self, path: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::At(paths) => paths.iter().any(|p| p == path),
            Self::Nowhere => false,
        }
    }
}

/// Certificates that this machine trusts, where it has them.
pub(super) fn system_roots() -> String {
    const FILES: [&str; 3] =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    FILES.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default()
}

/// Reads a file of tokens (`--token-auth-file`): lines of token, user, uid and, in quotes, groups with commas between.
///
/// # Errors
/// What is wrong with it, with file and line.
pub fn read_tokens(path: &Path) -> Result<Vec<(String, User)>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|(i, line)| token(line).map_err(|why| format!("{}:{}: {why}", path.display(), i + 1))).collect()
}

fn token(line: &str) -> Result<(String, User), String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().map(|f| f.push(c)).unwrap_or_default(),
        }
    }
    let [token, name, uid, rest @ ..] = &fields[..] else {
        return Err(format!("a line must have at least token, user name and user uid, found {} fields", fields.len()));
    };
    if token.trim().is_empty() {
        return Err("the token is empty".into());
    }
    let groups: Vec<&str> =
        rest.first().map(|g| g.split(',').map(str::trim).filter(|g| !g.is_empty()).collect()).unwrap_or_default();
    let mut user = User::new(name.trim(), &groups);
    uid.trim().clone_into(&mut user.uid);
    Ok((token.trim().to_owned(), user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_token() {
        let (secret, user) = token(r#"t0k3n,alice,u1,"a,b""#).unwrap();
        assert_eq!((secret.as_str(), user.name.as_str(), user.uid.as_str()), ("t0k3n", "alice", "u1"));
        assert_eq!(user.groups, ["a", "b", "system:authenticated"]);
        assert!(token("t,alice").is_err() && token(",a,b").is_err());
    }

    #[test]
    fn nobody_comes_only_where_he_may() {
        let read = |text: &str| Anonymous::read(Some(&yaml::parse(text).unwrap()));
        let health = read("anonymous: {enabled: true, conditions: [{path: /livez}]}").unwrap();
        assert!(health.may("/livez") && !health.may("/livez/ping") && !health.may("/api"));
        assert_eq!(read("anonymous: {enabled: false}"), Ok(Anonymous::Nowhere));
        assert_eq!(read("jwt: []"), Ok(Anonymous::Everywhere));
        assert!(read("anonymous: {enabled: false, conditions: [{path: /a}]}").is_err());
    }
}
