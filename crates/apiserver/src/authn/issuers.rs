//! Users of identity providers: OpenID Connect as an `AuthenticationConfiguration` sets it up (KEP-3331).

use super::jwt::{Keys, Token};
use crate::outbound::Outbound;
use crate::user::User;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trireme_cel::{Budget, Env, Program, Type};
use trireme_schema::Value;

/// Keys are asked for again when a token names one that is not known, but no sooner than this.
const PAUSE: Duration = Duration::from_secs(10);
/// How long documents may take.
const WITHIN: Duration = Duration::from_secs(10);
/// What evaluating an expression may cost (apiserver `cel.RuntimeCELCostBudget`, by far enough for claims).
const BUDGET: u64 = 1_000_000;
/// How far clocks may be apart.
const LEEWAY: i64 = 300;

/// Where a part of a user comes from.
enum Source {
    Nothing,
    Claim { name: String, prefix: String },
    Expression(Program),
}

/// A check of claims or of the user.
enum Check {
    Equal { claim: String, value: String },
    Holds { program: Program, message: String },
}

/// An issuer of tokens.
pub(super) struct Issuer {
    pub(super) url: String,
    audiences: Vec<String>,
    discovery: Outbound,
    checks: Vec<Check>,
    username: Source,
    groups: Source,
    uid: Source,
    extra: Vec<(String, Program)>,
    user_checks: Vec<Check>,
    keys: ArcSwap<Keys>,
    fetched: tokio::sync::Mutex<Option<Instant>>,
}

fn compile(variable: &str, text: &str, place: &str) -> Result<Program, String> {
    let object = Type::map(Type::String, Type::Dyn);
    let env = Env::kubernetes().with_variable(variable, object);
    env.compile(text).map_err(|e| format!("{place}: {e}"))
}

impl Source {
    fn read(mapping: Option<&Value>, place: &str) -> Result<Self, String> {
        let Some(mapping) = mapping else { return Ok(Self::Nothing) };
        let (claim, expression) = (mapping.str_at(&["claim"]), mapping.str_at(&["expression"]));
        match (claim, expression) {
            ("", "") => Ok(Self::Nothing),
            ("", text) => Ok(Self::Expression(compile("claims", text, &format!("{place}.expression"))?)),
            (name, "") => Ok(Self::Claim { name: name.to_owned(), prefix: mapping.str_at(&["prefix"]).to_owned() }),
            _ => Err(format!("{place}: claim and expression cannot both be set")),
        }
    }

    /// The texts that claims give.
    fn of(&self, claims: &Value) -> Result<Vec<String>, String> {
        match self {
            Self::Nothing => Ok(Vec::new()),
            Self::Claim { name, prefix } => {
                let value = claims.get(name).ok_or_else(|| format!("there is no claim {name:?}"))?;
                Ok(texts(value)?.into_iter().map(|text| format!("{prefix}{text}")).collect())
            }
            Self::Expression(program) => texts(&evaluate(program, "claims", claims)?),
        }
    }

    fn one(&self, claims: &Value) -> Result<String, String> {
        Ok(self.of(claims)?.into_iter().next().unwrap_or_default())
    }
}

/// A text or a list of texts.
fn texts(value: &Value) -> Result<Vec<String>, String> {
    let text = |v: &Value| v.as_str().map(str::to_owned).ok_or_else(|| "a claim is no text".to_owned());
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => items.iter().map(text).collect(),
        one => Ok(vec![text(one)?]),
    }
}

fn evaluate(program: &Program, variable: &str, json: &Value) -> Result<Value, String> {
    let value = trireme_cel::Value::from_json(json, None).map_err(|e| e.to_string())?;
    let variables = [(variable, value)];
    let result = program.evaluate(&variables, &mut Budget::new(BUDGET)).map_err(|e| e.to_string())?;
    trireme_cel::to_json(&result).map_err(|e| e.to_string())
}

impl Check {
    fn read_all(list: &[Value], variable: &str, place: &str) -> Result<Vec<Self>, String> {
        let read = |(i, rule): (usize, &Value)| {
            let text = |field: &str| rule.str_at(&[field]).to_owned();
            match (text("claim"), text("expression")) {
                (claim, expression) if expression.is_empty() && !claim.is_empty() => {
                    Ok(Self::Equal { claim, value: text("requiredValue") })
                }
                (claim, expression) if claim.is_empty() && !expression.is_empty() => {
                    let program = compile(variable, &expression, &format!("{place}[{i}].expression"))?;
                    Ok(Self::Holds { program, message: text("message") })
                }
                _ => Err(format!("{place}[{i}]: either claim or expression must be set")),
            }
        };
        list.iter().enumerate().map(read).collect()
    }

    fn holds(&self, variable: &str, value: &Value) -> Result<(), String> {
        match self {
            Self::Equal { claim, value: wanted } => match value.get(claim).and_then(Value::as_str) {
                Some(given) if given == wanted => Ok(()),
                given => Err(format!("claim {claim:?} is {given:?}")),
            },
            Self::Holds { program, message } => match evaluate(program, variable, value)?.as_bool() {
                Some(true) => Ok(()),
                _ => Err(format!("a check does not hold: {message}")),
            },
        }
    }
}

impl Issuer {
    /// Reads an entry of `jwt`.
    ///
    /// # Errors
    /// What is wrong with it, with the field.
    pub(super) fn read(entry: &Value, i: usize, system_roots: &str) -> Result<Self, String> {
        let place = format!("jwt[{i}]");
        let issuer = entry.get("issuer").cloned().unwrap_or_default();
        let url = issuer.str_at(&["url"]).to_owned();
        let audiences: Vec<String> =
            issuer.list_at(&["audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if audiences.is_empty() {
            return Err(format!("{place}.issuer.audiences: at least one is required"));
        }
        if audiences.len() > 1 && issuer.str_at(&["audienceMatchPolicy"]) != "MatchAny" {
            return Err(format!("{place}.issuer.audienceMatchPolicy: must be MatchAny for multiple audiences"));
        }
        let document = match issuer.str_at(&["discoveryURL"]) {
            "" => format!("{}/.well-known/openid-configuration", url.trim_end_matches('/')),
            other => other.to_owned(),
        };
        let roots = match issuer.str_at(&["certificateAuthority"]) {
            "" => system_roots,
            given => given,
        };
        let mappings = entry.get("claimMappings").cloned().unwrap_or_default();
        let source = |name: &str| Source::read(mappings.get(name), &format!("{place}.claimMappings.{name}"));
        let username = source("username")?;
        if matches!(username, Source::Nothing) {
            return Err(format!("{place}.claimMappings.username: claim or expression is required"));
        }
        let extra = mappings.list_at(&["extra"]).iter().enumerate().map(|(n, e)| {
            let place = format!("{place}.claimMappings.extra[{n}]");
            let key = e.str_at(&["key"]).to_owned();
            let domain = key.split_once('/').map(|(domain, _)| domain);
            let Some(domain) = domain else { return Err(format!("{place}.key: must be a domain-prefixed path")) };
            if domain.ends_with("kubernetes.io") || domain.ends_with("k8s.io") {
                return Err(format!(
                    "{place}.key: k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
                ));
            }
            Ok((key, compile("claims", e.str_at(&["valueExpression"]), &format!("{place}.valueExpression"))?))
        });
        Ok(Self {
            discovery: Outbound::new(&document, roots).map_err(|why| format!("{place}.issuer: {why}"))?,
            checks: Check::read_all(
                entry.list_at(&["claimValidationRules"]),
                "claims",
                &format!("{place}.claimValidationRules"),
            )?,
            user_checks: Check::read_all(
                entry.list_at(&["userValidationRules"]),
                "user",
                &format!("{place}.userValidationRules"),
            )?,
            groups: source("groups")?,
            uid: source("uid")?,
            extra: extra.collect::<Result<_, _>>()?,
            username,
            url,
            audiences,
            keys: ArcSwap::default(),
            fetched: tokio::sync::Mutex::new(None),
        })
    }

    /// Asks for the issuer's keys.
    async fn fetch(&self) -> Result<Keys, String> {
        let document = self.discovery.get(WITHIN).await.map_err(|e| e.to_string())?;
        if document.str_at(&["issuer"]) != self.url {
            return Err(format!("the document is of another issuer, {:?}", document.str_at(&["issuer"])));
        }
        let keys = self.discovery.at(document.str_at(&["jwks_uri"]))?;
        Ok(Keys::read(&keys.get(WITHIN).await.map_err(|e| e.to_string())?))
    }

    /// The keys, among them that of an id if the issuer has it.
    async fn keys(&self, id: &str) -> Arc<Keys> {
        let known = self.keys.load_full();
        if known.has(id) {
            return known;
        }
        let mut fetched = self.fetched.lock().await;
        let now = self.keys.load_full();
        if now.has(id) || fetched.is_some_and(|at| at.elapsed() < PAUSE) {
            return now;
        }
        *fetched = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => self.keys.store(Arc::new(keys)),
            Err(why) => tracing::warn!(issuer = self.url, why, "the keys of an issuer cannot be had"),
        }
        self.keys.load_full()
    }

    /// The user of a token, and the audiences that it is for.
    ///
    /// # Errors
    /// Why it does not hold.
    pub(super) async fn user(&self, token: &Token) -> Result<User, String> {
        if !self.keys(&token.key_id).await.verify(token) {
            return Err("the signature is not the issuer's".into());
        }
        self.user_of(&token.claims, jiff::Timestamp::now().as_second())
    }

    fn user_of(&self, claims: &Value, now: i64) -> Result<User, String> {
        let meant = claims.get("aud").map(texts).transpose()?.unwrap_or_default();
        if !meant.iter().any(|audience| self.audiences.contains(audience)) {
            return Err(format!("it is for {meant:?}"));
        }
        let at = |name: &str| match claims.get(name) {
            Some(Value::Float(seconds)) => Some(*seconds as i64),
            other => other.and_then(Value::as_int),
        };
        if at("exp").is_none_or(|exp| exp <= now) {
            return Err("it has expired".into());
        }
        if at("nbf").is_some_and(|nbf| nbf > now + LEEWAY) {
            return Err("it is not valid yet".into());
        }
        for check in &self.checks {
            check.holds("claims", claims)?;
        }
        if matches!(&self.username, Source::Claim { name, .. } if name == "email")
            && claims.get("email_verified").is_some_and(|v| v.as_bool() != Some(true))
        {
            return Err("the email address is not verified".into());
        }
        let name = self.username.one(claims)?;
        if name.is_empty() {
            return Err("the user has no name".into());
        }
        let groups = match &self.groups {
            // Who is in no group has no such claim.
            Source::Claim { name, .. } if claims.get(name).is_none() => Vec::new(),
            source => source.of(claims)?,
        };
        let mut user = User { name, uid: self.uid.one(claims)?, groups, extra: Default::default() };
        for (key, program) in &self.extra {
            let values = texts(&evaluate(program, "claims", claims)?)?;
            let values: Vec<String> = values.into_iter().filter(|v| !v.is_empty()).collect();
            if !values.is_empty() {
                user.extra.insert(key.clone(), values);
            }
        }
        if !self.user_checks.is_empty() {
            let shown = crate::reviews::user_value(&user);
            for check in &self.user_checks {
                check.holds("user", &shown)?;
            }
        }
        user.groups.push("system:authenticated".into());
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::{json, yaml};

    const ENTRY: &str = r#"
issuer: {url: "https://id.example.com", audiences: [a, b], audienceMatchPolicy: MatchAny}
claimValidationRules:
- {claim: hd, requiredValue: example.com}
- {expression: "claims.exp - claims.nbf <= 86400", message: too long}
claimMappings:
  username: {expression: "'oidc:' + claims.sub"}
  groups: {claim: groups, prefix: "oidc:"}
  uid: {claim: sub}
  extra: [{key: example.com/tenant, valueExpression: "claims.?tenant.orValue('')"}]
userValidationRules:
- {expression: "!user.username.startsWith('oidc:system:')", message: reserved}
"#;

    fn user(claims: &str) -> Result<User, String> {
        let issuer = Issuer::read(&yaml::parse(ENTRY).unwrap(), 0, "").unwrap();
        issuer.user_of(&json::parse(claims.as_bytes()).unwrap(), 1000)
    }

    #[test]
    fn claims_become_a_user() {
        let user = user(r#"{"aud":"b","exp":2000,"nbf":900,"hd":"example.com","sub":"u","groups":["x"],"tenant":"t"}"#)
            .unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("oidc:u", "u"));
        assert_eq!(user.groups, ["oidc:x", "system:authenticated"]);
        assert_eq!(user.extra["example.com/tenant"], ["t"]);
    }

    #[test]
    fn claims_that_do_not_hold_are_refused() {
        for (claims, why) in [
            (r#"{"aud":["c"],"exp":2000,"nbf":900,"hd":"example.com","sub":"u"}"#, "it is for"),
            (r#"{"aud":"a","exp":1000,"nbf":900,"hd":"example.com","sub":"u"}"#, "expired"),
            (r#"{"aud":"a","exp":2000,"nbf":900,"hd":"other.com","sub":"u"}"#, "claim \"hd\""),
            (r#"{"aud":"a","exp":200000,"nbf":900,"hd":"example.com","sub":"u"}"#, "too long"),
            (r#"{"aud":"a","exp":2000,"nbf":900,"hd":"example.com","sub":"system:x"}"#, "reserved"),
        ] {
            let refused = user(claims).unwrap_err();
            assert!(refused.contains(why), "{claims}: {refused}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_issuer_is_told_with_its_place() {
        let read = |text: &str| Issuer::read(&yaml::parse(text).unwrap(), 1, "").map(drop).unwrap_err();
        assert!(read("issuer: {url: 'https://a'}").starts_with("jwt[1].issuer.audiences"));
        assert!(read("issuer: {url: 'https://a', audiences: [x]}").starts_with("jwt[1].claimMappings.username"));
        let with = |m: &str| read(&format!("issuer: {{url: 'https://a', audiences: [x]}}\nclaimMappings: {m}"));
        assert!(with("{username: {expression: '1 +'}}").starts_with("jwt[1].claimMappings.username.expression"));
        assert!(
            with("{username: {claim: sub}, extra: [{key: a.k8s.io/b, valueExpression: '1'}]}").contains("reserved")
        );
    }

    /// Serves the documents of an issuer; gives its URL.
    async fn provider(keys: String) -> String {
        use http_body_util::Full;
        use hyper_util::rt::TokioIo;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let document = format!(r#"{{"issuer":"{url}","jwks_uri":"{url}/keys"}}"#);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (document, keys) = (document.clone(), keys.clone());
                let answer = move |request: http::Request<hyper::body::Incoming>| {
                    let text = if request.uri().path() == "/keys" { keys.clone() } else { document.clone() };
                    async move {
                        Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(bytes::Bytes::from(text))))
                    }
                };
                let service = hyper::service::service_fn(answer);
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        url
    }

    #[tokio::test]
    async fn keys_are_asked_for_and_tokens_of_others_refused() {
        let (signer, other) = (super::super::jwt::tests::Signer::new(), super::super::jwt::tests::Signer::new());
        let url = provider(signer.set()).await;
        let entry = format!(
            "issuer: {{url: '{url}', audiences: [me]}}\nclaimMappings: {{username: {{claim: sub, prefix: 'x:'}}}}"
        );
        let issuer = Issuer::read(&yaml::parse(&entry).unwrap(), 0, "").unwrap();
        let claims = format!(r#"{{"iss":"{url}","aud":"me","sub":"u","exp":4102444800}}"#);
        let user = issuer.user(&Token::read(&signer.sign(&claims)).unwrap()).await.unwrap();
        assert_eq!(user.name, "x:u");
        assert!(issuer.user(&Token::read(&other.sign(&claims)).unwrap()).await.unwrap_err().contains("signature"));
    }
}
