use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use rand::Rng;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Client, Error, EventKind, ObjectRef, Recorder};

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
    /// A leader that could not renew for this long gives up. What is left of the lease is for ending its work.
    pub renew: Duration,
    /// How often to try.
    pub retry: Duration,
}

/// What a leader does, until its token is cancelled. Aborting the task ends all of it.
pub type Work = Box<dyn Fn(CancellationToken) -> JoinHandle<()> + Send>;

/// Takes part in an election by a Lease (client-go `leaderelection`): of all candidates one leads, and works.
pub struct Elector {
    client: Client,
    config: ElectorConfig,
    recorder: Recorder,
    /// The lease as last observed, and when by our own clock: clocks of other machines are not trusted.
    observed: Option<(Option<String>, Option<MicroTime>, Instant)>,
    /// The lease as we wrote it last: it is renewed without reading it.
    held: Option<Lease>,
    /// When it was written last, by our own clock.
    renewed: Instant,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    /// The lease is ours.
    Leads,
    /// It is somebody else's.
    Follows,
}

/// Why a term ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// We are to stop.
    Stopped,
    /// The lease was not renewed in time.
    Lost,
    /// Somebody else has the lease already.
    Taken,
    /// There is no more work.
    Done,
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
        let recorder = Recorder::new(client.clone(), &config.name, "");
        Self { client, config, recorder, observed: None, held: None, renewed: Instant::now() }
    }

    /// Takes part until `shutdown`, and works whenever we lead. A lost lease ends the work before anybody else can have
    /// it: what does not end by itself in time is aborted. At the end a lease that we hold is released after the work,
    /// so that the next leader need not wait for it to expire.
    pub async fn lead(mut self, shutdown: CancellationToken, work: Work) {
        while self.acquire(&shutdown).await {
            self.say("became leader");
            let term = CancellationToken::new();
            let mut running = work(term.clone());
            let end = tokio::select! {
                () = shutdown.cancelled() => End::Stopped,
                end = self.hold() => end,
                _ = &mut running => End::Done,
            };
            term.cancel();
            let left = self.config.lease.saturating_sub(self.renewed.elapsed());
            match end {
                End::Done => {}
                End::Taken => self.end(running, Duration::ZERO).await,
                // A tenth stays for what is on its way already.
                End::Stopped | End::Lost => self.end(running, left.mul_f64(0.9)).await,
            }
            match end {
                End::Lost | End::Taken => {
                    tracing::warn!(lease = self.config.name, "the lease was lost, somebody else may lead now");
                    self.held = None;
                }
                End::Stopped | End::Done => {
                    self.say("stopped leading");
                    if !matches!(timeout(self.config.retry, self.release()).await, Ok(Ok(()))) {
                        tracing::debug!(lease = self.config.name, "the lease was not released and will expire");
                    }
                    return;
                }
            }
        }
    }

    /// Waits for work to end, and aborts it when it takes longer than the lease is ours.
    async fn end(&self, mut running: JoinHandle<()>, patience: Duration) {
        if timeout(patience, &mut running).await.is_err() {
            tracing::warn!(lease = self.config.name, "the work did not end in time and is aborted");
            running.abort();
            // It ends at its next step, and an aborted task is no failure.
            let _ = running.await;
        }
    }

    fn say(&self, what: &str) {
        let about = ObjectRef {
            api_version: "coordination.k8s.io/v1".to_owned(),
            kind: "Lease".to_owned(),
            namespace: self.config.namespace.clone(),
            name: self.config.name.clone(),
            uid: self.held.as_ref().and_then(|lease| lease.metadata.uid.clone()).unwrap_or_default(),
            ..ObjectRef::default()
        };
        let message = format!("{} {what}", self.config.identity);
        tracing::info!(lease = self.config.name, "{message}");
        self.recorder.record(&about, EventKind::Normal, "LeaderElection", message);
    }

    /// Tries until the lease is ours; false when we are to stop first.
    async fn acquire(&mut self, shutdown: &CancellationToken) -> bool {
        loop {
            let tried = tokio::select! {
                () = shutdown.cancelled() => return false,
                tried = timeout(self.config.renew, self.try_lead()) => tried,
            };
            match tried {
                Ok(Ok(Tried::Leads)) => return true,
                Ok(Ok(Tried::Follows)) => {}
                Ok(Err(error)) => tracing::debug!(%error, lease = self.config.name, "cannot take the lease"),
                Err(_) => tracing::debug!(lease = self.config.name, "no answer about the lease"),
            }
            // Candidates that began together do not try together.
            let pause = self.config.retry.mul_f64(rand::rng().random_range(1.0..2.2));
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Renews the lease until it is lost, or somebody else has it.
    async fn hold(&mut self) -> End {
        loop {
            tokio::time::sleep(self.config.retry).await;
            loop {
                let left = self.config.renew.saturating_sub(self.renewed.elapsed());
                if left.is_zero() {
                    return End::Lost;
                }
                match timeout(left, self.try_lead()).await {
                    Ok(Ok(Tried::Leads)) => break,
                    Ok(Ok(Tried::Follows)) => return End::Taken,
                    Err(_) => return End::Lost,
                    Ok(Err(error)) => tracing::debug!(%error, lease = self.config.name, "cannot renew the lease"),
                }
                tokio::time::sleep(self.config.retry.min(left)).await;
            }
        }
    }

    /// One try. A conflict is an error: it does not say who leads.
    async fn try_lead(&mut self) -> Result<Tried, Error> {
        let leases = self.client.namespaced::<Lease>(&self.config.namespace);
        let begun = Instant::now();
        if let Some(mut lease) = self.held.take() {
            let spec = lease.spec.take().unwrap_or_default();
            lease.spec = Some(self.claim(spec));
            match leases.update(&self.config.name, &lease).await {
                Ok(lease) => return Ok(self.holds(lease, begun)),
                // It was changed: read it.
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                Err(error) => {
                    self.held = Some(lease);
                    return Err(error);
                }
            }
        }
        let Some(mut lease) = leases.find(&self.config.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.config.name.clone()),
                    namespace: Some(self.config.namespace.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.claim(LeaseSpec::default())),
            };
            let lease = leases.create(&lease).await?;
            return Ok(self.holds(lease, begun));
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
        if holder.as_deref() != Some(&self.config.identity) && holder.is_some() {
            let seen = (holder, spec.renew_time.clone());
            let unchanged = self.observed.as_ref().filter(|(h, t, _)| (h, t) == (&seen.0, &seen.1)).map(|o| o.2);
            let Some(since) = unchanged else {
                self.observed = Some((seen.0, seen.1, Instant::now()));
                return Ok(Tried::Follows);
            };
            let term = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
            if since.elapsed() < term.unwrap_or(self.config.lease) {
                return Ok(Tried::Follows);
            }
        }
        lease.spec = Some(self.claim(spec));
        let lease = leases.update(&self.config.name, &lease).await?;
        Ok(self.holds(lease, begun))
    }

    /// The lease counts from before it was asked for: others may have seen it from then on.
    fn holds(&mut self, lease: Lease, begun: Instant) -> Tried {
        self.held = Some(lease);
        self.renewed = begun;
        Tried::Leads
    }

    fn claim(&self, mut spec: LeaseSpec) -> LeaseSpec {
        let now = MicroTime(jiff::Timestamp::now());
        if spec.holder_identity.as_deref() != Some(&self.config.identity) {
            spec.holder_identity = Some(self.config.identity.clone());
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |n| n.saturating_add(1)));
            spec.acquire_time = Some(now.clone());
        }
        // A term of less than a second is none to others.
        spec.lease_duration_seconds = Some(i32::try_from(self.config.lease.as_secs().max(1)).unwrap_or(i32::MAX));
        spec.renew_time = Some(now);
        spec
    }

    async fn release(&mut self) -> Result<(), Error> {
        let leases = self.client.namespaced::<Lease>(&self.config.namespace);
        let mut lease = leases.get(&self.config.name).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.config.identity) {
            let now = MicroTime(jiff::Timestamp::now());
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(now.clone());
            spec.acquire_time = Some(now);
            leases.update(&self.config.name, &lease).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Request, Response, Selection, Transport, WatchStream};
    use bytes::Bytes;
    use futures::StreamExt;
    use futures::future::BoxFuture;
    use http::{Method, StatusCode};
    use parking_lot::Mutex;
    use serde_json::{Value, json};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// One lease, with its revisions; and whether the way to it is open.
    #[derive(Clone, Default)]
    struct Store(Arc<Mutex<(u64, Option<Value>)>>);

    struct Way {
        store: Store,
        open: Arc<AtomicBool>,
    }

    impl Transport for Way {
        fn send(&self, request: Request) -> BoxFuture<'static, Result<Response, Error>> {
            if !self.open.load(Ordering::SeqCst) {
                return Box::pin(futures::future::pending());
            }
            let answer = self.store.answer(&request);
            Box::pin(async move { Ok(answer) })
        }

        fn watch(&self, _: Selection, _: Option<String>) -> WatchStream {
            futures::stream::pending().boxed()
        }
    }

    impl Store {
        fn answer(&self, request: &Request) -> Response {
            let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
            let failed = |code: u16, reason: &str| {
                let status = json!({"code": code, "reason": reason, "message": reason});
                http::Response::builder().status(code).body(Bytes::from(status.to_string())).unwrap()
            };
            if !request.uri().path().contains("/leases") {
                return failed(404, "NotFound");
            }
            let mut state = self.0.lock();
            let known = state.1.clone();
            let stored = match (request.method(), known) {
                (&Method::GET, Some(lease)) => lease,
                (&Method::POST, Some(_)) => return failed(409, "AlreadyExists"),
                (&Method::PUT, Some(lease))
                    if lease["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] =>
                {
                    return failed(409, "Conflict");
                }
                (&Method::GET | &Method::PUT, None) => return failed(404, "NotFound"),
                _ => {
                    state.0 += 1;
                    let mut lease = body;
                    lease["metadata"]["resourceVersion"] = json!(state.0.to_string());
                    state.1 = Some(lease.clone());
                    lease
                }
            };
            http::Response::builder().status(StatusCode::OK).body(Bytes::from(stored.to_string())).unwrap()
        }

        fn spec(&self) -> Value {
            self.0.lock().1.clone().map(|lease| lease["spec"].clone()).unwrap_or_default()
        }
    }

    /// Candidates that count who works at once.
    struct Race {
        store: Store,
        working: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    struct Candidate {
        open: Arc<AtomicBool>,
        works: Arc<AtomicBool>,
        shutdown: CancellationToken,
        task: JoinHandle<()>,
    }

    /// Counts while it lives, also when it is aborted.
    struct Worker(Arc<AtomicUsize>, Arc<AtomicBool>);

    impl Drop for Worker {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
            self.1.store(false, Ordering::SeqCst);
        }
    }

    impl Race {
        fn new() -> Self {
            Self { store: Store::default(), working: Arc::default(), most: Arc::default() }
        }

        /// A candidate whose work ends so long after it is told to.
        fn enter(&self, identity: &str, ends_after: Duration) -> Candidate {
            let (open, works) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
            let way = Way { store: self.store.clone(), open: Arc::clone(&open) };
            let client = Client::new(Arc::new(way), identity);
            let shutdown = CancellationToken::new();
            let (working, most, does) = (self.working.clone(), self.most.clone(), works.clone());
            let work: Work = Box::new(move |term| {
                let (working, most, does) = (working.clone(), most.clone(), does.clone());
                tokio::spawn(async move {
                    most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    does.store(true, Ordering::SeqCst);
                    let worker = Worker(working, does);
                    term.cancelled().await;
                    tokio::time::sleep(ends_after).await;
                    drop(worker);
                })
            });
            let elector = Elector::new(client, ElectorConfig::new("kube-scheduler", identity));
            let task = tokio::spawn(elector.lead(shutdown.clone(), work));
            Candidate { open, works, shutdown, task }
        }
    }

    async fn until(what: &str, most: u64, holds: impl Fn() -> bool) -> Duration {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(most), "{what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_stops_hands_over_after_its_work() {
        let race = Race::new();
        let first = race.enter("a", Duration::from_secs(3));
        until("the first to lead", 5, || first.works.load(Ordering::SeqCst)).await;
        let second = race.enter("b", Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!second.works.load(Ordering::SeqCst));
        assert_eq!(race.store.spec()["holderIdentity"], "a");
        first.shutdown.cancel();
        first.task.await.unwrap();
        assert_eq!(
            (&race.store.spec()["holderIdentity"], &race.store.spec()["leaseDurationSeconds"]),
            (&json!(""), &json!(1))
        );
        // It need not wait for the lease to expire.
        until("the second to lead", 5, || second.works.load(Ordering::SeqCst)).await;
        assert_eq!(race.store.spec()["leaseTransitions"], 1);
        assert_eq!(race.most.load(Ordering::SeqCst), 1);
        second.shutdown.cancel();
        second.task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_is_cut_off_ends_its_work_before_another_begins() {
        for ends_after in [0, 3, 600] {
            let race = Race::new();
            let first = race.enter("a", Duration::from_secs(ends_after));
            until("the first to lead", 5, || first.works.load(Ordering::SeqCst)).await;
            let second = race.enter("b", Duration::ZERO);
            tokio::time::sleep(Duration::from_secs(30)).await;
            first.open.store(false, Ordering::SeqCst);
            let took = until("the second to lead", 25, || second.works.load(Ordering::SeqCst)).await;
            assert!(took >= Duration::from_secs(10), "{took:?}");
            assert!(!first.works.load(Ordering::SeqCst));
            assert_eq!(race.most.load(Ordering::SeqCst), 1, "two worked at once");
            // The first comes back as a follower.
            first.open.store(true, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(!first.works.load(Ordering::SeqCst) && second.works.load(Ordering::SeqCst));
            first.shutdown.cancel();
            second.shutdown.cancel();
            first.task.await.unwrap();
            second.task.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_others_annotate_is_kept_and_is_written_once_per_try() {
        let race = Race::new();
        let only = race.enter("a", Duration::ZERO);
        until("it to lead", 5, || only.works.load(Ordering::SeqCst)).await;
        let before = race.store.0.lock().0;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let writes = race.store.0.lock().0 - before;
        assert!((29..=31).contains(&writes), "{writes} writes in a minute");
        {
            let mut state = race.store.0.lock();
            state.0 += 1;
            let revision = state.0.to_string();
            state.1.as_mut().unwrap()["metadata"]["resourceVersion"] = json!(revision);
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(only.works.load(Ordering::SeqCst));
        assert_eq!(race.store.spec()["leaseTransitions"], 0);
        only.shutdown.cancel();
        only.task.await.unwrap();
    }
}
