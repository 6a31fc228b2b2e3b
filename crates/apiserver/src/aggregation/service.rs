//! An APIService as it is read.

use base64::Engine as _;
use trireme_schema::Value;

/// Which server has a group and version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ApiService {
    /// The group.
    pub group: String,
    /// The version.
    pub version: String,
    /// `groupPriorityMinimum`, `versionPriority`.
    pub priority: (i64, i64),
    /// Where it is, unless it is this server.
    pub backend: Option<Backend>,
    /// The condition `Available` holds.
    pub available: bool,
}

/// Where a server is, and whom we believe to be it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    /// The service's namespace.
    pub namespace: String,
    /// The service's name.
    pub name: String,
    /// The service's port.
    pub port: u16,
    /// PEM of the authorities; empty: those that the machine trusts.
    pub authorities: Vec<u8>,
    /// Any certificate will do.
    pub insecure: bool,
}

/// The port of a reference that names none.
const PORT: u16 = 443;

impl ApiService {
    /// Reads an APIService as it is stored.
    pub fn read(object: &Value) -> Self {
        let spec = |field: &str| object.str_at(&["spec", field]).to_owned();
        let number = |field: &str| object.int_at(&["spec", field]).unwrap_or_default();
        let backend = object.at(&["spec", "service"]).filter(|s| !s.is_null()).map(|service| Backend {
            namespace: service.str_at(&["namespace"]).to_owned(),
            name: service.str_at(&["name"]).to_owned(),
            port: service.int_at(&["port"]).and_then(|port| u16::try_from(port).ok()).unwrap_or(PORT),
            // Validation lets only base64 in.
            authorities: base64::engine::general_purpose::STANDARD.decode(spec("caBundle")).unwrap_or_default(),
            insecure: object.bool_at(&["spec", "insecureSkipTLSVerify"]),
        });
        Self {
            group: spec("group"),
            version: spec("version"),
            priority: (number("groupPriorityMinimum"), number("versionPriority")),
            backend,
            available: super::condition::available(object).is_some_and(|c| c.str_at(&["status"]) == "True"),
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        name_of(&self.group, &self.version)
    }
}

/// The name of a group version's APIService.
pub(super) fn name_of(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

/// Where a group version is.
pub(super) fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// The name of the APIService whose part of the server a path lies in.
pub(super) fn of_path(path: &str) -> Option<String> {
    let mut parts = path.strip_prefix('/')?.split('/');
    match (parts.next(), parts.next(), parts.next()) {
        // The core group has one version, and its list of versions goes with it.
        (Some("api"), ..) => Some(name_of("", "v1")),
        (Some("apis"), Some(group), Some(version)) if !group.is_empty() && !version.is_empty() => {
            Some(name_of(group, version))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_a_group_and_version() {
        for (path, name) in [
            ("/apis/g.com/v1/namespaces/a/things", Some("v1.g.com")),
            ("/apis/g.com/v1", Some("v1.g.com")),
            ("/apis/g.com/v1/", Some("v1.g.com")),
            ("/apis/g.com", None),
            ("/apis/g.com/", None),
            ("/apis", None),
            ("/apis//v1", None),
            ("/api/v1/pods", Some("v1.")),
            ("/api", Some("v1.")),
            ("/version", None),
        ] {
            assert_eq!(of_path(path).as_deref(), name, "{path}");
        }
    }
}
