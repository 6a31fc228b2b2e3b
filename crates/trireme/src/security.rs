//! Flags about the API server's authentication, admission, auditing and encryption at rest, with kube-apiserver's names.

use crate::Failure;
use crate::shown::Shown;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trireme_apiserver::aggregation::Routing;
use trireme_apiserver::audit::{self, LogOptions, WebhookOptions};
use trireme_apiserver::outbound::Outbound;
use trireme_apiserver::{
    AdmissionOptions, AggregationOptions, AuthenticationOptions, AuthorizationWebhook, Authorizers, RequestHeaders,
    User, read_tokens,
};
use trireme_pki::{Authority, Identity};
use trireme_sealing::Sealing;

/// The name of the cluster's own front proxy.
const FRONT_PROXY: &str = "front-proxy-client";

fn read(flag: &str, file: &Path) -> Result<String, Failure> {
    Ok(std::fs::read_to_string(file).map_err(|e| format!("{flag}: {}: {e}", file.display()))?)
}

/// Who may do what, and what is looked at on the way.
#[derive(Args, Clone, Debug, Default)]
pub struct Security {
    /// Admission plugins to run besides the default ones.
    #[arg(long, env = "TRIREME_ENABLE_ADMISSION_PLUGINS", value_name = "NAME", value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    /// Default admission plugins not to run.
    #[arg(long, env = "TRIREME_DISABLE_ADMISSION_PLUGINS", value_name = "NAME", value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// How admission plugins are set up: a file with an AdmissionConfiguration.
    #[arg(long, env = "TRIREME_ADMISSION_CONTROL_CONFIG_FILE", value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,
    /// Tokens of users: lines of token, user, uid and, in quotes, groups.
    #[arg(long, env = "TRIREME_TOKEN_AUTH_FILE", value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// Identity providers, and where anonymous requests may go: a file with an AuthenticationConfiguration.
    #[arg(long, env = "TRIREME_AUTHENTICATION_CONFIG", value_name = "FILE")]
    pub authentication_config: Option<PathBuf>,
    /// A service that reviews tokens: a file with a kubeconfig.
    #[arg(long, env = "TRIREME_AUTHENTICATION_TOKEN_WEBHOOK_CONFIG_FILE", value_name = "FILE")]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// Authorities of front proxies' certificates, which say in headers who asks; the cluster's own are the default.
    #[arg(long, env = "TRIREME_REQUESTHEADER_CLIENT_CA_FILE", value_name = "FILE")]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of front proxies; empty is any that the authorities sign.
    #[arg(long, env = "TRIREME_REQUESTHEADER_ALLOWED_NAMES", value_name = "NAME", value_delimiter = ',')]
    pub requestheader_allowed_names: Option<Vec<String>>,
    /// Headers with the user's name.
    #[arg(long, env = "TRIREME_REQUESTHEADER_USERNAME_HEADERS", value_name = "HEADER", value_delimiter = ',')]
    pub requestheader_username_headers: Option<Vec<String>>,
    /// Headers with the user's unique id.
    #[arg(long, env = "TRIREME_REQUESTHEADER_UID_HEADERS", value_name = "HEADER", value_delimiter = ',')]
    pub requestheader_uid_headers: Option<Vec<String>>,
    /// Headers with the user's groups.
    #[arg(long, env = "TRIREME_REQUESTHEADER_GROUP_HEADERS", value_name = "HEADER", value_delimiter = ',')]
    pub requestheader_group_headers: Option<Vec<String>>,
    /// What the names of headers with more about the user begin with.
    #[arg(long, env = "TRIREME_REQUESTHEADER_EXTRA_HEADERS_PREFIX", value_name = "PREFIX", value_delimiter = ',')]
    pub requestheader_extra_headers_prefix: Option<Vec<String>>,
    /// Certificate that is shown to aggregated API servers; the cluster's own is the default.
    #[arg(long, env = "TRIREME_PROXY_CLIENT_CERT_FILE", value_name = "FILE", requires = "proxy_client_key_file")]
    pub proxy_client_cert_file: Option<PathBuf>,
    /// Key of that certificate.
    #[arg(long, env = "TRIREME_PROXY_CLIENT_KEY_FILE", value_name = "FILE", requires = "proxy_client_cert_file")]
    pub proxy_client_key_file: Option<PathBuf>,
    /// Reach aggregated API servers at their endpoints, not by the address of their service.
    #[arg(long, env = "TRIREME_ENABLE_AGGREGATOR_ROUTING")]
    pub enable_aggregator_routing: bool,
    /// Who decides what users may do, one after the other: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny.
    #[arg(long, env = "TRIREME_AUTHORIZATION_MODE", value_name = "MODE", value_delimiter = ',',
          default_values = ["Node", "RBAC"])]
    pub authorization_mode: Vec<String>,
    /// Who decides what users may do: a file with an AuthorizationConfiguration, read again when it changes.
    #[arg(long, env = "TRIREME_AUTHORIZATION_CONFIG", value_name = "FILE",
          conflicts_with_all = ["authorization_mode", "authorization_webhook_config_file"])]
    pub authorization_config: Option<PathBuf>,
    /// The service of the mode Webhook: a file with a kubeconfig.
    #[arg(long, env = "TRIREME_AUTHORIZATION_WEBHOOK_CONFIG_FILE", value_name = "FILE")]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// Version of the SubjectAccessReview that this service is sent: v1 or v1beta1.
    #[arg(long, env = "TRIREME_AUTHORIZATION_WEBHOOK_VERSION", value_name = "VERSION", default_value = "v1beta1")]
    pub authorization_webhook_version: String,
    /// How long it is remembered that this service allowed something; 0s is not at all.
    #[arg(long, env = "TRIREME_AUTHORIZATION_WEBHOOK_CACHE_AUTHORIZED_TTL", value_name = "TIME", default_value = "5m0s",
          value_parser = go_duration)]
    pub authorization_webhook_cache_authorized_ttl: Duration,
    /// How long it is remembered that it did not.
    #[arg(long, env = "TRIREME_AUTHORIZATION_WEBHOOK_CACHE_UNAUTHORIZED_TTL", value_name = "TIME",
          default_value = "30s", value_parser = go_duration)]
    pub authorization_webhook_cache_unauthorized_ttl: Duration,
    /// What is encrypted at rest, and how: a file with an EncryptionConfiguration.
    #[arg(long, env = "TRIREME_ENCRYPTION_PROVIDER_CONFIG", value_name = "FILE")]
    pub encryption_provider_config: Option<PathBuf>,
    /// Whether that file is read again when it changes.
    #[arg(long, env = "TRIREME_ENCRYPTION_PROVIDER_CONFIG_AUTOMATIC_RELOAD", requires = "encryption_provider_config")]
    pub encryption_provider_config_automatic_reload: bool,
    /// Which requests are noted, and how much of them: a file with an audit policy.
    #[arg(long, env = "TRIREME_AUDIT_POLICY_FILE", value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,
    /// File to which audit events are written; "-" is standard output.
    #[arg(long, env = "TRIREME_AUDIT_LOG_PATH", value_name = "FILE", requires = "audit_policy_file")]
    pub audit_log_path: Option<PathBuf>,
    /// Days for which old audit logs are kept; 0 is for ever.
    #[arg(long, env = "TRIREME_AUDIT_LOG_MAXAGE", value_name = "DAYS", default_value_t = 0)]
    pub audit_log_maxage: u64,
    /// Old audit logs that are kept; 0 is all.
    #[arg(long, env = "TRIREME_AUDIT_LOG_MAXBACKUP", value_name = "N", default_value_t = 0)]
    pub audit_log_maxbackup: usize,
    /// Megabytes after which a new audit log is begun.
    #[arg(long, env = "TRIREME_AUDIT_LOG_MAXSIZE", value_name = "MB", default_value_t = 100)]
    pub audit_log_maxsize: u64,
    /// Where audit events are sent: a file with a kubeconfig.
    #[arg(long, env = "TRIREME_AUDIT_WEBHOOK_CONFIG_FILE", value_name = "FILE", requires = "audit_policy_file")]
    pub audit_webhook_config_file: Option<PathBuf>,
}

/// A time as Go writes it: `5m0s`.
fn go_duration(text: &str) -> Result<Duration, String> {
    let nanos = trireme_schema::time::parse_duration(text).and_then(|nanos| u64::try_from(nanos).ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| format!("{text:?} is no time such as 5m0s"))
}

impl Security {
    /// Who decides, as the flags say.
    ///
    /// # Errors
    /// What is wrong with a mode or a file.
    pub fn authorization(&self) -> Result<Authorizers, Failure> {
        if let Some(file) = &self.authorization_config {
            let chain = Authorizers::read_config(file);
            return Ok(chain.map_err(|why| format!("--authorization-config: {why}"))?);
        }
        let webhook = self.authorization_webhook_config_file.clone().map(|kubeconfig| AuthorizationWebhook {
            kubeconfig,
            version: self.authorization_webhook_version.clone(),
            allowed_life: self.authorization_webhook_cache_authorized_ttl,
            denied_life: self.authorization_webhook_cache_unauthorized_ttl,
        });
        let chain = Authorizers::of_modes(&self.authorization_mode, webhook.as_ref());
        Ok(chain.map_err(|why| format!("--authorization-mode: {why}"))?)
    }

    /// Admission as the flags say.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn admission(&self) -> Result<AdmissionOptions, Failure> {
        let file = self.admission_control_config_file.as_deref();
        let config = file.map(AdmissionOptions::read_config).transpose();
        Ok(AdmissionOptions {
            enable: self.enable_admission_plugins.clone(),
            disable: self.disable_admission_plugins.clone(),
            config: config.map_err(|why| format!("--admission-control-config-file: {why}"))?,
        })
    }

    /// Tokens that stand for users: one, and those of the file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn tokens(&self, own: (String, User)) -> Result<Vec<(String, User)>, Failure> {
        let file = self.token_auth_file.as_deref().map(read_tokens).transpose();
        let mut all = file.map_err(|why| format!("--token-auth-file: {why}"))?.unwrap_or_default();
        all.push(own);
        Ok(all)
    }

    /// Authentication as the flags say; `front_proxy` is the authority of the cluster's own front proxy.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn authentication(&self, front_proxy: &Authority) -> Result<AuthenticationOptions, Failure> {
        let config = self.authentication_config.as_deref().map(AuthenticationOptions::read_config).transpose();
        let webhook = self.authentication_token_webhook_config_file.as_deref().map(Outbound::of_kubeconfig).transpose();
        Ok(AuthenticationOptions {
            config: config.map_err(|why| format!("--authentication-config: {why}"))?,
            webhook: webhook.map_err(|why| format!("--authentication-token-webhook-config-file: {why}"))?,
            request_headers: Some(self.request_headers(front_proxy)?),
        })
    }

    /// Front proxies that are believed: the cluster's own, unless the flags say others.
    fn request_headers(&self, front_proxy: &Authority) -> Result<RequestHeaders, Failure> {
        let usual = match &self.requestheader_client_ca_file {
            None => RequestHeaders::usual(front_proxy.certificate(), &[FRONT_PROXY]),
            Some(file) => RequestHeaders::usual(&read("--requestheader-client-ca-file", file)?, &[]),
        };
        trireme_pki::certificates(&usual.client_ca, "--requestheader-client-ca-file")?;
        let or = |given: &Option<Vec<String>>, usual: Vec<String>| given.clone().unwrap_or(usual);
        let any = |names: Vec<String>| names.into_iter().filter(|name| !name.is_empty()).collect();
        Ok(RequestHeaders {
            allowed_names: any(or(&self.requestheader_allowed_names, usual.allowed_names)),
            username_headers: or(&self.requestheader_username_headers, usual.username_headers),
            uid_headers: or(&self.requestheader_uid_headers, usual.uid_headers),
            group_headers: or(&self.requestheader_group_headers, usual.group_headers),
            extra_headers_prefix: or(&self.requestheader_extra_headers_prefix, usual.extra_headers_prefix),
            ..usual
        })
    }

    /// How aggregated API servers are asked; `own` is the cluster's own certificate of a front proxy.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn aggregation(&self, own: Arc<Shown>) -> Result<AggregationOptions, Failure> {
        let client: Arc<Shown> = match (&self.proxy_client_cert_file, &self.proxy_client_key_file) {
            (Some(certificate), Some(key)) => Shown::new(&Identity {
                certificate: read("--proxy-client-cert-file", certificate)?,
                key: read("--proxy-client-key-file", key)?,
            })?,
            _ => own,
        };
        let routing = if self.enable_aggregator_routing { Routing::Endpoint } else { Routing::ClusterAddress };
        Ok(AggregationOptions { client: Some(client), routing })
    }

    /// The store, whose values are encrypted at rest as the flag says.
    /// How values are encrypted at rest, if they are.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn sealing(&self) -> Result<Option<Arc<Sealing>>, Failure> {
        let sealing = self.encryption_provider_config.as_deref().map(Sealing::read).transpose();
        let sealing = sealing.map_err(|why| format!("--encryption-provider-config: {why}"))?;
        Ok(sealing.map(Arc::new))
    }

    /// Auditing as the flags say.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn audit(&self) -> Result<audit::Options, Failure> {
        let policy = self.audit_policy_file.as_deref().map(audit::Options::read_policy).transpose();
        let webhook = self.audit_webhook_config_file.as_deref().map(Outbound::of_kubeconfig).transpose();
        Ok(audit::Options {
            policy: policy.map_err(|why| format!("--audit-policy-file: {why}"))?,
            log: self.audit_log_path.clone().map(|path| LogOptions {
                path,
                max_bytes: self.audit_log_maxsize.max(1).saturating_mul(1 << 20),
                max_backups: self.audit_log_maxbackup,
                max_days: self.audit_log_maxage,
            }),
            webhook: webhook.map_err(|why| format!("--audit-webhook-config-file: {why}"))?.map(WebhookOptions::new),
        })
    }
}
