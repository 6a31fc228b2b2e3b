use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What a kubeconfig file of one cluster and one user says.
#[derive(Clone, Debug)]
pub struct Kubeconfig {
    /// Name of cluster, user and context.
    pub name: String,
    /// URL of the API server.
    pub server: String,
    /// PEM of the certificate authority.
    pub ca: String,
    /// How the user proves who he is.
    pub credentials: Credentials,
}

/// A user's credentials.
#[derive(Clone)]
pub enum Credentials {
    /// A client certificate and its key, both PEM.
    Certificate {
        /// Certificate chain.
        certificate: String,
        /// Private key.
        key: String,
    },
    /// A bearer token.
    Token(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Certificate { .. } => "Certificate",
            Self::Token(_) => "Token",
        })
    }
}

impl Kubeconfig {
    /// The file's text.
    pub fn to_yaml(&self) -> String {
        let Self { name, server, ca, credentials } = self;
        let user = match credentials {
            Credentials::Certificate { certificate, key } => format!(
                "    client-certificate-data: {}\n    client-key-data: {}\n",
                STANDARD.encode(certificate),
                STANDARD.encode(key)
            ),
            Credentials::Token(token) => format!("    token: {token}\n"),
        };
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: {name}\n  cluster:\n    server: {server}\n    \
             certificate-authority-data: {ca}\nusers:\n- name: {name}\n  user:\n{user}contexts:\n- name: {name}\n  \
             context:\n    cluster: {name}\n    user: {name}\ncurrent-context: {name}\npreferences: {{}}\n",
            ca = STANDARD.encode(ca),
        )
    }
}
