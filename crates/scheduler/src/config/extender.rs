use serde::Deserialize;

use super::Duration;

/// A service that takes part in decisions.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Extender {
    /// Where it is.
    pub url_prefix: String,
    /// Path below it for filtering; empty when it does not filter.
    pub filter_verb: String,
    /// Path for preemption.
    pub preempt_verb: String,
    /// Path for scores.
    pub prioritize_verb: String,
    /// Weight of its scores.
    pub weight: i64,
    /// Path for bindings.
    pub bind_verb: String,
    /// Whether it is called over HTTPS.
    #[serde(rename = "enableHTTPS")]
    pub enable_https: bool,
    /// How HTTPS is spoken.
    pub tls_config: Option<ExtenderTls>,
    /// How long a call may take.
    pub http_timeout: Duration,
    /// Whether it knows nodes by their names.
    pub node_cache_capable: bool,
    /// It is asked only about pods that want one of these; about all when there are none.
    pub managed_resources: Vec<ManagedResource>,
    /// Whether decisions are made without it while it fails.
    pub ignorable: bool,
}

/// How HTTPS is spoken.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ExtenderTls {
    /// Whether the server's certificate is not looked at.
    pub insecure: bool,
    /// The name that the server's certificate must have.
    pub server_name: String,
    /// File of our certificate.
    pub cert_file: String,
    /// File of our key.
    pub key_file: String,
    /// File of the authority.
    pub ca_file: String,
    /// Our certificate, base64.
    pub cert_data: String,
    /// Our key, base64.
    pub key_data: String,
    /// The authority, base64.
    pub ca_data: String,
}

/// A resource that an extender knows about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ManagedResource {
    /// Name.
    pub name: String,
    /// Whether the scheduler does not look at it itself.
    pub ignored_by_scheduler: bool,
}

impl Default for Extender {
    fn default() -> Self {
        Self {
            url_prefix: String::new(),
            filter_verb: String::new(),
            preempt_verb: String::new(),
            prioritize_verb: String::new(),
            weight: 0,
            bind_verb: String::new(),
            enable_https: false,
            tls_config: None,
            http_timeout: Duration::seconds(5),
            node_cache_capable: false,
            managed_resources: Vec::new(),
            ignorable: false,
        }
    }
}
