//! Who a request comes from: client certificates, bearer tokens, or nobody.

mod config;
mod issuers;
mod jwt;
mod request_header;
mod tokens;
mod webhook;

pub use config::{Options, read_tokens};
pub use request_header::RequestHeaders;
pub(crate) use request_header::tell as tell_who_asks;
pub use tokens::{Bound, TokenIssuer};

use crate::server::{ApiServer, Config, header_text};
use crate::user::User;
use arc_swap::ArcSwap;
use config::Anonymous;
use http::{HeaderMap, header};
use std::sync::Arc;
use trireme_schema::{Status, Value};

/// What the transport knows of the caller.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// From a verified client certificate: common name and organizations.
    pub certificate: Option<(String, Vec<String>)>,
    /// The common name of a verified certificate of a front proxy.
    pub proxy: Option<String>,
    /// A caller in this process, who is known already.
    pub known: Option<User>,
    /// The other end of the connection.
    pub address: Option<std::net::IpAddr>,
}

/// Finds out who asks.
pub struct Authenticator {
    pub(crate) issuer: TokenIssuer,
    tokens: Vec<(String, User)>,
    /// As the `AuthenticationConfiguration` says.
    configured: ArcSwap<Configured>,
    webhook: Option<webhook::Webhook>,
    request_headers: Option<RequestHeaders>,
}

/// What can be configured anew.
struct Configured {
    issuers: Vec<issuers::Issuer>,
    anonymous: Anonymous,
}

impl Configured {
    /// `own` is the issuer of this server's tokens.
    fn read(config: Option<&Value>, own: &str) -> Result<Self, String> {
        let entries = config.map(|c| c.list_at(&["jwt"])).unwrap_or_default();
        let roots = if entries.is_empty() { String::new() } else { config::system_roots() };
        let read = |(i, entry)| issuers::Issuer::read(entry, i, &roots);
        let issuers: Vec<issuers::Issuer> = entries.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        for (i, one) in issuers.iter().enumerate() {
            if one.url == own || issuers.iter().take(i).any(|other| other.url == one.url) {
                return Err(format!("jwt[{i}].issuer.url: there is another issuer {:?}", one.url));
            }
        }
        Ok(Self { issuers, anonymous: Anonymous::read(config)? })
    }
}

impl Authenticator {
    /// Reads the keys and how users prove who they are.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(config: &Config) -> Result<Self, String> {
        let issuer = TokenIssuer::new(config)?;
        let options = &config.authentication;
        if let Some(headers) = &options.request_headers {
            headers.check().map_err(|why| format!("request headers: {why}"))?;
        }
        Ok(Self {
            configured: ArcSwap::from_pointee(Configured::read(options.config.as_ref(), issuer.issuer())?),
            issuer,
            tokens: config.static_tokens.clone(),
            webhook: options.webhook.clone().map(webhook::Webhook::new),
            request_headers: options.request_headers.clone(),
        })
    }

    /// Goes by another configuration from now on.
    ///
    /// # Errors
    /// What is wrong with it; the one before holds.
    pub(crate) fn reload(&self, config: &Value) -> Result<(), String> {
        self.configured.store(Arc::new(Configured::read(Some(config), self.issuer.issuer())?));
        Ok(())
    }

    /// The user of a request.
    ///
    /// # Errors
    /// 401 when credentials are given and do not hold.
    pub async fn authenticate(
        &self,
        server: &ApiServer,
        headers: &HeaderMap,
        path: &str,
        peer: &Credentials,
    ) -> Result<User, Status> {
        if let Some(user) = &peer.known {
            return Ok(user.clone());
        }
        if let Some(user) = self.behind_proxy(headers, peer) {
            return Ok(user);
        }
        if let Some((name, organizations)) = &peer.certificate {
            let groups: Vec<&str> = organizations.iter().map(String::as_str).collect();
            return Ok(User::new(name, &groups));
        }
        let authorization = header_text(headers, header::AUTHORIZATION);
        let mut words = authorization.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some(scheme), Some(token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(self.token(server, token, &[]).await?.0)
            }
            (None, _) if self.configured.load().anonymous.may(path) => Ok(User::anonymous()),
            _ => Err(Status::unauthorized()),
        }
    }

    /// The user for whom a front proxy asks, if one asks that is believed.
    fn behind_proxy(&self, headers: &HeaderMap, peer: &Credentials) -> Option<User> {
        let (options, name) = (self.request_headers.as_ref()?, peer.proxy.as_ref()?);
        if !options.allows(name) {
            tracing::debug!(name, "a certificate of the front proxies' authority has a name that is not allowed");
            return None;
        }
        options.user(headers)
    }

    /// Takes away what a user proved himself with: nobody who gets the request later is to see or believe it.
    pub fn forget_proofs(&self, headers: &mut HeaderMap) {
        headers.remove(header::AUTHORIZATION);
        request_header::clear_usual(headers);
        if let Some(options) = &self.request_headers {
            options.clear(headers);
        }
    }

    /// The user of a bearer token that must be meant for one of `audiences` (empty: for this server), and for which of
    /// these it is meant.
    ///
    /// # Errors
    /// 401.
    pub async fn token(
        &self,
        server: &ApiServer,
        token: &str,
        audiences: &[String],
    ) -> Result<(User, Vec<String>), Status> {
        let same =
            |a: &str, b: &str| aws_lc_rs::constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok();
        let for_this_server = || {
            let own = self.issuer.issuer();
            let wanted = audiences.iter().any(|a| a == own) || audiences.is_empty();
            wanted.then(|| vec![own.to_owned()]).ok_or_else(Status::unauthorized)
        };
        if let Some((_, user)) = self.tokens.iter().find(|(known, _)| same(known, token)) {
            return Ok((user.clone(), for_this_server()?));
        }
        if let Some(user) = bootstrap_token(server, token, same) {
            return Ok((user, for_this_server()?));
        }
        let refuse = |why: String| {
            tracing::debug!(%why, "a bearer token was refused");
            Status::unauthorized()
        };
        let parsed = jwt::Token::read(token);
        let by = parsed.as_ref().map_or("", |token| token.claims.str_at(&["iss"]));
        if by == self.issuer.issuer() {
            return self.issuer.verify(server, token, audiences).map_err(refuse);
        }
        let configured = self.configured.load_full();
        if let (Some(issuer), Some(parsed)) = (configured.issuers.iter().find(|i| i.url == by), &parsed) {
            let user = issuer.user(parsed).await.map_err(refuse)?;
            return Ok((user, for_this_server()?));
        }
        match &self.webhook {
            Some(webhook) => {
                let wanted =
                    if audiences.is_empty() { vec![self.issuer.issuer().to_owned()] } else { audiences.to_vec() };
                webhook.user(token, &wanted).await.ok_or_else(|| refuse("the webhook does not know it".into()))
            }
            None => Err(refuse("nobody knows it".into())),
        }
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
