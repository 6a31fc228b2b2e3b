//! The certificates of a server and its own node: renewed before they end, while everything goes on.

use crate::Failure;
use crate::cli::{self, Server};
use crate::control_plane::ControlPlane;
use crate::instance::Instance;
use crate::node;
use crate::shown::Shown;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;
use trireme_pki::{Authority, ClusterPki, Identity, ServingNames};

/// A try that failed is made again after this.
const AGAIN: Duration = Duration::from_secs(300);
/// Waits are no longer than this: the clock may be set, the machine may sleep.
const LONGEST: Duration = Duration::from_secs(3600);

/// The keys of a control plane, and where they are shown.
#[derive(Clone)]
pub struct Certificates {
    dir: PathBuf,
    names: ServingNames,
    life: Duration,
    /// What the API server shows to its clients.
    pub serving: Arc<Shown>,
    /// What it shows to kubelets.
    pub kubelet_client: Arc<Shown>,
    /// What it shows to aggregated API servers.
    pub front_proxy: Arc<Shown>,
}

impl Certificates {
    /// Opens the keys of an instance.
    ///
    /// # Errors
    /// When they cannot be read or made.
    pub fn open(instance: &Instance, names: ServingNames, life: Duration) -> Result<(Self, ClusterPki), Failure> {
        let dir = instance.path("pki");
        let pki = ClusterPki::open_at(&dir, &names, life, SystemTime::now())?;
        let (serving, kubelet_client) = (Shown::new(&with_authority(&pki))?, Shown::new(&pki.kubelet_client)?);
        let front_proxy = Shown::new(&pki.front_proxy)?;
        Ok((Self { dir, names, life, serving, kubelet_client, front_proxy }, pki))
    }

    /// Shows new certificates in place of those that are due, and writes the files that carry them; tells how long all
    /// are good.
    fn renew(&self, instance: &Instance, args: &Server, url: &str) -> Result<Duration, Failure> {
        let pki = ClusterPki::open_at(&self.dir, &self.names, self.life, SystemTime::now())?;
        self.serving.replace(&with_authority(&pki))?;
        self.kubelet_client.replace(&pki.kubelet_client)?;
        self.front_proxy.replace(&pki.front_proxy)?;
        ControlPlane::write_files(instance, args, &pki, url)?;
        Ok(pki.until_due(SystemTime::now())?)
    }

    /// Keeps the control plane's certificates young until `stop`.
    pub async fn keep(self, instance: Instance, args: Server, url: String, stop: CancellationToken) {
        keep("the server's certificates", || self.renew(&instance, &args, &url), stop).await;
    }
}

/// The API server's certificate with its authority, so that a machine that joins can compare that with the digest in its
/// token.
fn with_authority(pki: &ClusterPki) -> Identity {
    Identity {
        certificate: format!("{}{}", pki.serving.certificate, pki.server_ca.certificate()),
        key: pki.serving.key.clone(),
    }
}

/// Keeps the certificate of the node in this process young until `stop`; gives where it is shown.
///
/// # Errors
/// When there cannot be a first one.
pub fn keep_own_node(
    authority: Authority,
    args: cli::Node,
    life: Duration,
    stop: CancellationToken,
) -> Result<Arc<Shown>, Failure> {
    let mut identity = node::own_identity(&authority, &args, life)?;
    let shown = Shown::new(&identity)?;
    let showing = shown.clone();
    tokio::spawn(async move {
        let renew = || {
            if identity.until_due(SystemTime::now())?.is_zero() {
                identity = node::own_identity(&authority, &args, life)?;
                showing.replace(&identity)?;
            }
            Ok(identity.until_due(SystemTime::now())?)
        };
        keep("the node's certificate", renew, stop).await;
    });
    Ok(shown)
}

/// Calls `renew`, which tells how long it need not be called, until `stop`.
async fn keep(what: &str, mut renew: impl FnMut() -> Result<Duration, Failure>, stop: CancellationToken) {
    loop {
        let wait = match renew() {
            Ok(wait) => wait.min(LONGEST),
            Err(error) => {
                tracing::error!(%error, "cannot renew {what}");
                AGAIN
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn renewal_is_tried_when_it_is_due_at_least_hourly_and_again_after_a_failure() {
        let stop = CancellationToken::new();
        let (start, mut calls) = (tokio::time::Instant::now(), Vec::new());
        let mut answers = vec![Ok(10), Err("no"), Ok(1_000_000), Ok(5)].into_iter();
        let (ended, noted) = (stop.clone(), &mut calls);
        let renew = move || {
            noted.push(start.elapsed().as_secs());
            match answers.next() {
                Some(answer) => answer.map(Duration::from_secs).map_err(Failure::from),
                None => {
                    ended.cancel();
                    Ok(LONGEST)
                }
            }
        };
        keep("a test", renew, stop).await;
        assert_eq!(calls, [0, 10, 310, 3910, 3915]);
    }
}
