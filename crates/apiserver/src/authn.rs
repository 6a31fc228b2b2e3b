//! Who a request comes from: client certificates, bearer tokens, or nobody.

mod tokens;

pub use tokens::{Bound, TokenIssuer};

use crate::server::{ApiServer, Config, header_text};
use crate::user::User;
use http::{HeaderMap, header};
use trireme_schema::{Status, Value};

/// What the transport knows of the caller.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// From a verified client certificate: common name and organizations.
    pub certificate: Option<(String, Vec<String>)>,
    /// A caller in this process, who is known already.
    pub known: Option<User>,
    /// The other end of the connection.
    pub address: Option<std::net::IpAddr>,
}

/// Finds out who asks.
pub struct Authenticator {
    pub(crate) issuer: TokenIssuer,
    tokens: Vec<(String, User)>,
}

impl Authenticator {
    /// Reads the keys.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(config: &Config) -> Result<Self, String> {
        Ok(Self { issuer: TokenIssuer::new(config)?, tokens: config.static_tokens.clone() })
    }

    /// The user of a request.
    ///
    /// # Errors
    /// 401 when credentials are given and do not hold.
    pub async fn authenticate(
        &self,
        server: &ApiServer,
        headers: &HeaderMap,
        peer: &Credentials,
    ) -> Result<User, Status> {
        if let Some(user) = &peer.known {
            return Ok(user.clone());
        }
        if let Some((name, organizations)) = &peer.certificate {
            let groups: Vec<&str> = organizations.iter().map(String::as_str).collect();
            return Ok(User::new(name, &groups));
        }
        let authorization = header_text(headers, header::AUTHORIZATION);
        let mut words = authorization.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some(scheme), Some(token)) if scheme.eq_ignore_ascii_case("bearer") => self.token(server, token, &[]),
            (Some(_), _) => Err(Status::unauthorized()),
            (None, _) => Ok(User::anonymous()),
        }
    }

    /// The user of a bearer token that must be meant for one of `audiences` (empty: for this server).
    ///
    /// # Errors
    /// 401.
    pub fn token(&self, server: &ApiServer, token: &str, audiences: &[String]) -> Result<User, Status> {
        let same =
            |a: &str, b: &str| aws_lc_rs::constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok();
        if let Some((_, user)) = self.tokens.iter().find(|(known, _)| same(known, token)) {
            return Ok(user.clone());
        }
        if let Some(user) = bootstrap_token(server, token, same) {
            return Ok(user);
        }
        self.issuer.verify(server, token, audiences).map_err(|why| {
            tracing::debug!(%why, "a bearer token was refused");
            Status::unauthorized()
        })
    }
}

/// The user of a bootstrap token (`id.secret`), whose secret lies in kube-system.
fn bootstrap_token(server: &ApiServer, token: &str, same: impl Fn(&str, &str) -> bool) -> Option<User> {
    let (id, secret) = token.split_once('.')?;
    if id.len() != 6 || secret.len() != 16 {
        return None;
    }
    let object = server.read("", "secrets", "kube-system", &format!("bootstrap-token-{id}"))?;
    let text = |key: &str| decoded(object.at(&["data", key]));
    let live = match text("expiration").as_str() {
        "" => true,
        at => at.parse::<jiff::Timestamp>().is_ok_and(|at| at > jiff::Timestamp::now()),
    };
    let meant = text("usage-bootstrap-authentication") == "true";
    let typed = object.str_at(&["type"]) == "bootstrap.kubernetes.io/token";
    if !typed || !meant || !live || text("token-id") != id || !same(&text("token-secret"), secret) {
        return None;
    }
    let extra = text("auth-extra-groups");
    let mut groups = vec!["system:bootstrappers"];
    groups.extend(extra.split(',').map(str::trim).filter(|g| g.starts_with("system:bootstrappers:")));
    Some(User::new(&format!("system:bootstrap:{id}"), &groups))
}

fn decoded(value: Option<&Value>) -> String {
    use base64::Engine as _;
    let text = value.and_then(Value::as_str).unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
