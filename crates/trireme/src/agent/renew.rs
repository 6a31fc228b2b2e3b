//! New certificates before the old ones end.

use super::files::Files;
use super::join::{Joiner, Kind};
use super::pin::Pinned;
use crate::Failure;
use crate::shown::Shown;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;
use trireme_client::Client;

/// What is needed to ask again.
pub struct Keeper {
    /// Who asks.
    pub joiner: Joiner,
    /// Asks, as the node.
    pub client: Client,
    /// Where certificates are kept.
    pub files: Files,
    /// The server.
    pub pinned: Arc<Pinned>,
    /// Where the client certificate is shown.
    pub client_shown: Arc<Shown>,
    /// Where the serving certificate is shown.
    pub serving_shown: Arc<Shown>,
    /// When to end.
    pub stop: CancellationToken,
}

/// A try that failed is made again after this.
const AGAIN: Duration = Duration::from_secs(300);

/// Keeps both certificates young until told to stop.
pub async fn keep(keeper: Keeper) {
    loop {
        let wait = match keeper.due() {
            Ok(wait) => wait,
            Err(error) => {
                tracing::error!(%error, "the node's certificates cannot be read");
                AGAIN
            }
        };
        tokio::select! {
            () = keeper.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        if let Err(error) = keeper.renew().await {
            tracing::warn!(%error, "the node's certificates are not renewed yet");
            tokio::select! {
                () = keeper.stop.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
}

impl Keeper {
    fn due(&self) -> Result<Duration, Failure> {
        let now = SystemTime::now();
        let mut first = AGAIN;
        for (at, kind) in [Kind::Client, Kind::Serving].into_iter().enumerate() {
            let identity = self.files.identity(kind)?.ok_or("a certificate is missing")?;
            let wait = identity.until_due(now)?;
            first = if at == 0 { wait } else { first.min(wait) };
        }
        Ok(first)
    }

    async fn renew(&self) -> Result<(), Failure> {
        let now = SystemTime::now();
        for (kind, shown) in [(Kind::Client, &self.client_shown), (Kind::Serving, &self.serving_shown)] {
            let due = match self.files.identity(kind)? {
                Some(identity) => identity.until_due(now)?.is_zero(),
                None => true,
            };
            if due {
                let identity = self.joiner.ask(&self.client, kind).await?;
                self.files.keep(kind, &identity)?;
                shown.replace(&identity)?;
                if kind == Kind::Client {
                    self.files.kubeconfig(&self.pinned, &identity)?;
                }
                tracing::info!(?kind, "certificate renewed");
            }
        }
        Ok(())
    }
}
