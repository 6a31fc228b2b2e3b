//! Where a webhook listens.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::Uri;
use trireme_schema::Value;

/// Where a webhook listens, and which certificates it may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The URL; for a service its host is `NAME.NAMESPACE.svc`.
    pub uri: Uri,
    /// Whether the host is that of a service of the cluster.
    pub service: bool,
    /// PEM of the authorities; empty: those that the world trusts.
    pub authorities: Vec<u8>,
}

/// A `clientConfig` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadEndpoint(String);

/// The port of a service that names none.
const PORT: i64 = 443;

impl Endpoint {
    /// Reads a `WebhookClientConfig` (of admission and of conversion: both have the same shape).
    ///
    /// # Errors
    /// When it names neither a usable URL nor a service, or its `caBundle` is no base64.
    pub fn read(config: &Value) -> Result<Self, BadEndpoint> {
        let bad = |what: &str| BadEndpoint(what.to_owned());
        let authorities =
            BASE64_STANDARD.decode(config.str_at(&["caBundle"])).map_err(|_| bad("caBundle is no base64"))?;
        let service = config.at(&["service"]).filter(|s| !matches!(s, Value::Null));
        let text = match service {
            None => config.str_at(&["url"]).to_owned(),
            Some(service) => {
                let (name, namespace) = (service.str_at(&["name"]), service.str_at(&["namespace"]));
                let path = service.str_at(&["path"]);
                let port = service.int_at(&["port"]).unwrap_or(PORT);
                format!("https://{name}.{namespace}.svc:{port}/{}", path.trim_start_matches('/'))
            }
        };
        let uri: Uri = text.parse().map_err(|_| bad("invalid URL"))?;
        if uri.scheme_str() != Some("https") || uri.host().is_none() {
            return Err(bad("url is no https URL"));
        }
        Ok(Self { uri, service: service.is_some(), authorities })
    }
}

/// Name, namespace of a service by the host that stands for it.
pub(crate) fn service_of(host: &str) -> Option<(&str, &str)> {
    let (name, rest) = host.split_once('.')?;
    Some((name, rest.strip_suffix(".svc")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    fn read(text: &str) -> Result<Endpoint, BadEndpoint> {
        Endpoint::read(&json::parse(text.as_bytes()).unwrap_or_default())
    }

    #[test]
    fn a_service_becomes_a_url() {
        let endpoint = read(r#"{"service":{"name":"w","namespace":"n","path":"/p"},"caBundle":"YQ=="}"#).unwrap();
        assert_eq!(endpoint.uri.to_string(), "https://w.n.svc:443/p");
        assert_eq!((endpoint.service, endpoint.authorities.as_slice()), (true, b"a".as_slice()));
        assert_eq!(service_of("w.n.svc"), Some(("w", "n")));
        assert_eq!(service_of("example.com"), None);
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in ["{}", r#"{"url":"http://a/b"}"#, r#"{"url":"https://"}"#, r#"{"url":"https://a","caBundle":"%"}"#]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
