use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Client, Error};

/// Timing and identity of an election. The defaults are upstream's: 15 s, 10 s, 2 s.
#[derive(Clone, Debug)]
pub struct ElectorConfig {
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease, such as `kube-scheduler`.
    pub name: String,
    /// Who we are; unique among the candidates.
    pub identity: String,
    /// How long a lease holds without renewal.
    pub lease: Duration,
    /// A leader that could not renew for this long gives up.
    pub renew: Duration,
    /// How often to try.
    pub retry: Duration,
}

/// Whether we lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// Somebody else leads, or nobody.
    Following,
    /// We lead.
    Leading,
}

/// Takes part in an election by a Lease.
pub struct Elector {
    client: Client,
    config: ElectorConfig,
    /// The lease as last observed, and when by our own clock: clocks of other machines are not trusted.
    observed: Option<(Option<String>, Option<MicroTime>, Instant)>,
}

impl ElectorConfig {
    /// The default timing for a lease in `kube-system`.
    pub fn new(name: &str, identity: &str) -> Self {
        Self {
            namespace: "kube-system".to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

impl Elector {
    /// A candidate.
    pub fn new(client: Client, config: ElectorConfig) -> Self {
        Self { client, config, observed: None }
    }

    /// Takes part until `shutdown`; the receiver tells whether we lead. At the end a lease that we hold is released, so
    /// that the next leader need not wait for it to expire.
    pub fn start(mut self, shutdown: CancellationToken) -> watch::Receiver<Leadership> {
        let (state, leadership) = watch::channel(Leadership::Following);
        tokio::spawn(async move {
            let mut renewed = Instant::now();
            loop {
                let tried = tokio::time::timeout(self.config.renew, self.try_lead()).await;
                let leading = match tried {
                    Ok(Ok(leading)) => {
                        renewed = Instant::now();
                        leading
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(%error, lease = self.config.name, "cannot renew the lease");
                        *state.borrow() == Leadership::Leading && renewed.elapsed() < self.config.renew
                    }
                    Err(_) => false,
                };
                let now = if leading { Leadership::Leading } else { Leadership::Following };
                state.send_if_modified(|was| std::mem::replace(was, now) != now);
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(self.config.retry) => {}
                }
            }
            if *state.borrow() == Leadership::Leading {
                state.send_replace(Leadership::Following);
                let released = tokio::time::timeout(Duration::from_secs(2), self.release()).await;
                if !matches!(released, Ok(Ok(()))) {
                    tracing::debug!(lease = self.config.name, "the lease was not released and will expire");
                }
            }
        });
        leadership
    }

    async fn try_lead(&mut self) -> Result<bool, Error> {
        let leases = self.client.namespaced::<Lease>(&self.config.namespace);
        let now = MicroTime(jiff::Timestamp::now());
        let Some(mut lease) = leases.find(&self.config.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.config.name.clone()),
                    namespace: Some(self.config.namespace.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.claim(LeaseSpec::default(), now)),
            };
            return match leases.create(&lease).await {
                Ok(_) => Ok(true),
                Err(error) if error.is_already_exists() => Ok(false),
                Err(error) => Err(error),
            };
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
        if holder.as_deref() != Some(&self.config.identity) && holder.is_some() {
            let seen = (holder, spec.renew_time.clone());
            let unchanged = self.observed.as_ref().filter(|(h, t, _)| (h, t) == (&seen.0, &seen.1)).map(|o| o.2);
            let Some(since) = unchanged else {
                self.observed = Some((seen.0, seen.1, Instant::now()));
                return Ok(false);
            };
            let term = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
            if since.elapsed() < term.unwrap_or(self.config.lease) {
                return Ok(false);
            }
        }
        lease.spec = Some(self.claim(spec, now));
        match leases.update(&self.config.name, &lease).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn claim(&self, mut spec: LeaseSpec, now: MicroTime) -> LeaseSpec {
        if spec.holder_identity.as_deref() != Some(&self.config.identity) {
            spec.holder_identity = Some(self.config.identity.clone());
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |n| n.saturating_add(1)));
            spec.acquire_time = Some(now.clone());
        }
        spec.lease_duration_seconds = i32::try_from(self.config.lease.as_secs()).ok();
        spec.renew_time = Some(now);
        spec
    }

    async fn release(&self) -> Result<(), Error> {
        let leases = self.client.namespaced::<Lease>(&self.config.namespace);
        let mut lease = leases.get(&self.config.name).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.config.identity) {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            leases.update(&self.config.name, &lease).await?;
        }
        Ok(())
    }
}
