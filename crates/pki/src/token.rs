use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest as sha};

use crate::{Error, certificates};

/// What the bearer of a join token may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another server.
    Server,
    /// A node.
    Node,
}

/// A token with which a machine joins: it says which authority to trust, and proves that the bearer may join.
///
/// Its text, `K10<digest>::<role>:<secret>`, is the form that operators of small distributions know.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the server authority's certificate (DER), in hexadecimal.
    pub authority: String,
    /// What the bearer may become.
    pub role: Role,
    /// The shared secret.
    pub secret: String,
}

/// The digest by which a join token names an authority: SHA-256 over the DER of the first certificate.
pub fn digest(authority_pem: &str) -> Result<String, Error> {
    let found = certificates(authority_pem, "the authority's certificate")?;
    let first = found.first().map_or(&[][..], AsRef::as_ref);
    Ok(hex::encode(sha(&SHA256, first)))
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Server => "server",
            Role::Node => "node",
        };
        write!(f, "K10{}::{role}:{}", self.authority, self.secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({:?}, {})", self.role, self.authority)
    }
}

impl FromStr for JoinToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (authority, rest) = text.trim().strip_prefix("K10").and_then(|t| t.split_once("::")).ok_or(Error::Token)?;
        let (role, secret) = rest.split_once(':').ok_or(Error::Token)?;
        let role = match role {
            "server" => Role::Server,
            "node" => Role::Node,
            _ => return Err(Error::Token),
        };
        let is_digest = authority.len() == 64 && authority.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_digest || secret.is_empty() {
            return Err(Error::Token);
        }
        Ok(Self { authority: authority.to_ascii_lowercase(), role, secret: secret.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_as_it_was_written() {
        let token = JoinToken { authority: "ab".repeat(32), role: Role::Node, secret: "s:1".into() };
        assert_eq!(token.to_string().parse::<JoinToken>().unwrap(), token);
        for bad in ["", "K10", "K10ab::node:x", &format!("K10{}::king:x", "ab".repeat(32))] {
            assert!(bad.parse::<JoinToken>().is_err(), "{bad}");
        }
    }
}
