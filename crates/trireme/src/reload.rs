//! Configurations that are read again when their files change: authentication, authorization, encryption at rest.

use crate::follow::follow;
use crate::security::Security;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trireme_apiserver::{ApiServer, AuthenticationOptions, Authorizers};
use trireme_sealing::Sealing;

/// What is done with the text of a file that has changed, or with why it cannot be read.
type Changed = Box<dyn FnMut(Result<&str, String>) + Send>;

/// What files hold before the server has read them, so that no change after that is missed.
pub struct Before {
    authorization: Option<(PathBuf, Vec<u8>)>,
    authentication: Option<(PathBuf, Vec<u8>)>,
    encryption: Option<(PathBuf, Vec<u8>)>,
}

impl Before {
    /// Reads them. What cannot be read is told when it is used.
    pub fn read(security: &Security) -> Self {
        let read =
            |path: &Option<PathBuf>| path.clone().map(|path| (path.clone(), std::fs::read(path).unwrap_or_default()));
        let reloads = security.encryption_provider_config_automatic_reload;
        Self {
            authorization: read(&security.authorization_config),
            authentication: read(&security.authentication_config),
            encryption: read(&security.encryption_provider_config).filter(|_| reloads),
        }
    }
}

/// Follows the files, until `stop`.
pub fn start(
    server: &Arc<ApiServer>,
    before: Before,
    sealing: Option<Arc<Sealing>>,
    stop: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    let mut each = |file: Option<(PathBuf, Vec<u8>)>, mut changed: Changed| {
        let Some((path, bytes)) = file else { return };
        let changed = move |read: io::Result<&[u8]>| {
            let text = read.map_err(|e| e.to_string());
            changed(text.and_then(|bytes| std::str::from_utf8(bytes).map_err(|e| e.to_string())));
        };
        tasks.push(tokio::spawn(follow(path, bytes, stop.clone(), changed)));
    };
    let of = server.clone();
    each(before.authorization, Box::new(move |text| of.reload_authorization(text.and_then(Authorizers::parse))));
    let of = server.clone();
    each(
        before.authentication,
        Box::new(move |text| of.reload_authentication(text.and_then(AuthenticationOptions::parse_config))),
    );
    if let Some(sealing) = sealing {
        let of = server.clone();
        each(
            before.encryption,
            Box::new(move |text| {
                let (of, sealing, text) = (of.clone(), sealing.clone(), text.map(str::to_owned));
                // A key service is waited for.
                tokio::task::spawn_blocking(move || {
                    let read = text.and_then(|text| Sealing::parse(&text).map_err(|e| e.to_string()));
                    let result = read.map(|other| sealing.replace(other));
                    of.encryption_reloaded(&result);
                });
            }),
        );
    }
    tasks
}
