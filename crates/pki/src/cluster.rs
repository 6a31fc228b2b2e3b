use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::KeyPair;

use crate::{Authority, Error, Identity, JoinToken, Purpose, Role, Subject, digest};

/// The names and addresses under which the API server is reached.
#[derive(Clone, Debug, Default)]
pub struct ServingNames {
    /// DNS names.
    pub names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// The authorities and identities of a control plane.
pub struct ClusterPki {
    /// Signs what servers show: the API server, the kubelets.
    pub server_ca: Authority,
    /// Signs what clients show.
    pub client_ca: Authority,
    /// Signs what the API server shows to aggregated API servers.
    pub front_proxy_ca: Authority,
    /// The API server's own certificate.
    pub serving: Identity,
    /// The cluster administrator (`system:masters`).
    pub admin: Identity,
    /// The API server as a client of kubelets.
    pub kubelet_client: Identity,
    /// The API server as a client of aggregated API servers.
    pub front_proxy: Identity,
    /// PEM of the key that signs service-account tokens (ECDSA P-256).
    pub service_account_key: String,
    /// Secret of the tokens with which servers join.
    pub server_secret: String,
    /// Secret of the tokens with which nodes join.
    pub node_secret: String,
}

impl ClusterPki {
    /// How long certificates live: a year.
    pub const LIFE: Duration = Duration::from_secs(365 * 86_400);

    /// Reads everything from `dir`; makes what is missing, and anew what is [due](Identity::until_due) or does not cover
    /// `names`.
    pub fn open(dir: &Path, names: &ServingNames) -> Result<Self, Error> {
        Self::open_at(dir, names, Self::LIFE, SystemTime::now())
    }

    /// The same with certificates that live as long as is said, and a clock.
    pub fn open_at(dir: &Path, names: &ServingNames, life: Duration, now: SystemTime) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(|source| Error::File { path: dir.to_owned(), source })?;
        let files = Files { dir, life, now };
        let server_ca = files.authority("server-ca", "trireme-server-ca")?;
        let client_ca = files.authority("client-ca", "trireme-client-ca")?;
        let front_proxy_ca = files.authority("front-proxy-ca", "trireme-front-proxy-ca")?;
        let purpose = Purpose::Server { names: names.names.clone(), addresses: names.addresses.clone() };
        let client = &Purpose::Client;
        Ok(Self {
            serving: files.identity("serving", &server_ca, &Subject::new("kube-apiserver", &[]), &purpose)?,
            admin: files.identity("admin", &client_ca, &Subject::new("system:admin", &["system:masters"]), client)?,
            kubelet_client: files.identity(
                "kubelet-client",
                &client_ca,
                &Subject::new("kube-apiserver-kubelet-client", &["kubeadm:cluster-admins", "system:masters"]),
                client,
            )?,
            front_proxy: files.identity(
                "front-proxy-client",
                &front_proxy_ca,
                &Subject::new("front-proxy-client", &[]),
                client,
            )?,
            service_account_key: files.or_make("service-account.key", || {
                let failed = |source| Error::Certificate { subject: "service accounts".to_owned(), source };
                Ok(KeyPair::generate().map_err(failed)?.serialize_pem())
            })?,
            server_secret: files.or_make("server-secret", secret)?,
            node_secret: files.or_make("node-secret", secret)?,
            server_ca,
            client_ca,
            front_proxy_ca,
        })
    }

    /// How long until the first of its certificates is due.
    pub fn until_due(&self, now: SystemTime) -> Result<Duration, Error> {
        let mut first = Duration::MAX;
        for identity in [&self.serving, &self.admin, &self.kubelet_client, &self.front_proxy] {
            first = first.min(identity.until_due(now)?);
        }
        Ok(first)
    }

    /// The token with which a machine joins in this role.
    pub fn join_token(&self, role: Role) -> Result<JoinToken, Error> {
        let secret = match role {
            Role::Server => self.server_secret.clone(),
            Role::Node => self.node_secret.clone(),
        };
        Ok(JoinToken { authority: digest(self.server_ca.certificate())?, role, secret })
    }
}

/// 128 random bits in hexadecimal.
fn secret() -> Result<String, Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::File {
        path: PathBuf::from("the system's random source"),
        source: std::io::Error::other("gave no random bytes"),
    })?;
    Ok(hex::encode(bytes))
}

struct Files<'a> {
    dir: &'a Path,
    life: Duration,
    now: SystemTime,
}

impl Files<'_> {
    fn read(&self, name: &str) -> Result<Option<String>, Error> {
        let path = self.dir.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File { path, source }),
        }
    }

    /// Writes a file so that it is either wholly there or not at all; only its owner can read it.
    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.dir.join(name);
        let new = self.dir.join(format!(".{name}.new"));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&new, &path));
        written.map_err(|source| Error::File { path, source })
    }

    fn or_make(&self, name: &str, make: impl FnOnce() -> Result<String, Error>) -> Result<String, Error> {
        if let Some(text) = self.read(name)? {
            return Ok(text);
        }
        let text = make()?;
        self.write(name, &text)?;
        Ok(text)
    }

    fn authority(&self, name: &str, common_name: &str) -> Result<Authority, Error> {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        if let (Some(certificate), Some(key)) = (self.read(&certificate)?, self.read(&key)?) {
            return Authority::load(certificate, key);
        }
        let authority = Authority::create(common_name)?;
        self.write(&key, authority.key())?;
        self.write(&certificate, authority.certificate())?;
        Ok(authority)
    }

    fn identity(&self, name: &str, ca: &Authority, subject: &Subject, purpose: &Purpose) -> Result<Identity, Error> {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        if let (Some(certificate), Some(key)) = (self.read(&certificate)?, self.read(&key)?) {
            let identity = Identity { certificate, key };
            if !identity.until_due(self.now)?.is_zero() && identity.covers(purpose)? {
                return Ok(identity);
            }
        }
        let identity = ca.issue(subject, purpose, self.life)?;
        self.write(&key, &identity.key)?;
        self.write(&certificate, &identity.certificate)?;
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_kept_and_a_new_name_renews_only_the_serving_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let mut names =
            ServingNames { names: vec!["kubernetes".into()], addresses: vec!["127.0.0.1".parse().unwrap()] };
        let first = ClusterPki::open(dir.path(), &names).unwrap();
        let again = ClusterPki::open(dir.path(), &names).unwrap();
        assert_eq!(first.serving.certificate, again.serving.certificate);
        assert_eq!(first.join_token(Role::Node).unwrap(), again.join_token(Role::Node).unwrap());
        names.addresses.push("10.43.0.1".parse().unwrap());
        let renewed = ClusterPki::open(dir.path(), &names).unwrap();
        assert_ne!(first.serving.certificate, renewed.serving.certificate);
        assert_eq!(first.admin.certificate, renewed.admin.certificate);
    }

    #[test]
    fn what_is_due_or_has_ended_is_made_anew_and_the_authorities_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (names, life) = (ServingNames::default(), Duration::from_secs(1000));
        let open = |after: u64| {
            ClusterPki::open_at(dir.path(), &names, life, SystemTime::now() + Duration::from_secs(after)).unwrap()
        };
        let first = open(0);
        let wait = first.until_due(SystemTime::now()).unwrap();
        assert!(wait > Duration::from_secs(700) && wait < Duration::from_secs(790), "{wait:?}");
        assert_eq!(open(600).serving.certificate, first.serving.certificate);
        for after in [800, 2000] {
            let (before, renewed) = (open(0), open(after));
            assert_ne!(renewed.serving.certificate, before.serving.certificate);
            assert_ne!(renewed.admin.certificate, before.admin.certificate);
            assert_ne!(renewed.kubelet_client.certificate, before.kubelet_client.certificate);
            assert_eq!(renewed.server_ca.certificate(), first.server_ca.certificate());
        }
    }
}
